#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"
#include "crypto/tenant_key.h"

/* The key itself is used for nothing but to derive these two: fields have random nonces, the original has
 * counted ones, and no key sees both. */
struct document_key {
    struct uuid tenant, document;
    struct secret *fields, *original;
};

/* The first byte of a wrapped key. A key of one share is the aead blob itself; before the blob of the first of two
 * shares stands its number. The key is the two combined by exclusive or: each alone says nothing about it. */
enum { WRAPPED_WHOLE = 1, WRAPPED_SHARE = 2 };

static void wrap_aad(struct aad *aad, const struct tenant_key *key, const struct uuid *document, bool is_share) {
    aad_begin(aad, is_share ? "cordon document key share v1" : "cordon document key v1");
    aad_add_uuid(aad, &key->tenant);
    aad_add_uuid(aad, document);
    aad_add_u64(aad, key->version);
}

static struct secret *derive(const void *root, size_t len, const char *use) {
    uint8_t bytes[SHA256_BYTES];
    hmac_sha256(root, len, use, strlen(use), bytes);
    struct secret *key = secret_new(bytes, sizeof bytes);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return key;
}

static struct document_key *from_root(const struct tenant_key *key, const struct uuid *document, const uint8_t *root) {
    struct document_key *made = xalloc(sizeof *made);
    made->tenant = key->tenant;
    made->document = *document;
    made->fields = derive(root, AEAD_KEY_BYTES, "cordon fields v1");
    made->original = derive(root, AEAD_KEY_BYTES, "cordon original v1");
    return made;
}

static enum status wrap(const struct tenant_key *key, const struct uuid *document, bool is_share, const void *bytes, struct arena *mem,
                        struct blob *ret_wrapped, struct why *why) {
    struct aad aad;
    struct blob sealed = { 0 };
    wrap_aad(&aad, key, document, is_share);
    enum status st = aead_seal(key->bytes, &aad, bytes, AEAD_KEY_BYTES, mem, &sealed, why);
    if (st != ST_OK || !is_share) {
        *ret_wrapped = sealed;
        return st;
    }
    ret_wrapped->len = sealed.len + 1;
    ret_wrapped->data = arena_alloc(mem, ret_wrapped->len);
    ret_wrapped->data[0] = WRAPPED_SHARE;
    memcpy(ret_wrapped->data + 1, sealed.data, sealed.len);
    return ST_OK;
}

/* What wrap was given, in mem, which wipes it. */
static enum status unwrap(const struct tenant_key *key, const struct uuid *document, const uint8_t *wrapped, size_t len, struct arena *mem,
                          struct blob *ret_bytes, struct why *why) {
    struct aad aad;
    bool is_share = document_key_has_share(wrapped, len);
    wrap_aad(&aad, key, document, is_share);
    enum status st = aead_open(key->bytes, &aad, wrapped + is_share, len - is_share, mem, ret_bytes, why);
    if (st == ST_OK && ret_bytes->len != AEAD_KEY_BYTES)
        return fail(why, ST_INTERNAL, "document key: %zu bytes", ret_bytes->len);
    return st;
}

static void combine(uint8_t *bytes, const struct secret *share) {
    for (size_t i = 0; i < AEAD_KEY_BYTES; i++)
        bytes[i] ^= share->bytes[i];
}

bool document_key_has_share(const void *wrapped, size_t len) {
    return len > 0 && *(const uint8_t *)wrapped == WRAPPED_SHARE;
}

enum status document_key_new(const struct tenant_key *key, const struct uuid *document, struct arena *mem,
                             struct document_key **ret_key, struct blob *ret_wrapped, struct secret **ret_share, struct why *why) {
    CLEANUP(secret_destroy) struct secret *bytes = aead_key_new();
    CLEANUP(secret_destroy) struct secret *share = ret_share ? aead_key_new() : NULL;
    enum status st = wrap(key, document, share, bytes->bytes, mem, ret_wrapped, why);
    if (st != ST_OK)
        return st;
    if (share)
        combine(bytes->bytes, share);
    *ret_key = from_root(key, document, bytes->bytes);
    if (ret_share) {
        *ret_share = share;
        share = NULL;
    }
    return ST_OK;
}

enum status document_key_open(const struct tenant_key *key, const struct uuid *document, const void *wrapped, size_t len,
                              const struct secret *share, struct document_key **ret_key, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct blob root = { 0 };
    enum status st = unwrap(key, document, wrapped, len, mem, &root, why);
    if (st != ST_OK)
        return st;
    if (document_key_has_share(wrapped, len)) {
        if (!share || share->len != DOCUMENT_SHARE_BYTES)
            return fail(why, ST_INTERNAL, "document key: its second share is missing");
        combine(root.data, share);
    }
    *ret_key = from_root(key, document, root.data);
    return ST_OK;
}

enum status document_key_rewrap(const struct tenant_key *from, const struct tenant_key *to, const struct uuid *document,
                                const void *wrapped, size_t len, const struct secret *share, struct arena *mem,
                                struct blob *ret_wrapped, struct why *why) {
    CLEANUP(arena_destroy) struct arena *secrets = arena_new(0);
    struct blob bytes = { 0 };
    bool is_share = document_key_has_share(wrapped, len);
    enum status st = unwrap(from, document, wrapped, len, secrets, &bytes, why);
    if (st == ST_OK && share && !is_share)
        combine(bytes.data, share);
    return st == ST_OK ? wrap(to, document, is_share || share, bytes.data, mem, ret_wrapped, why) : st;
}

void document_key_destroy(struct document_key **key_p) {
    if (!*key_p)
        return;
    secret_destroy(&(*key_p)->fields);
    secret_destroy(&(*key_p)->original);
    free(*key_p);
    *key_p = NULL;
}

static void field_aad(struct aad *aad, const struct document_key *key, enum field_kind kind, const struct uuid *row) {
    aad_begin(aad, "cordon document field v1");
    aad_add_uuid(aad, &key->tenant);
    aad_add_uuid(aad, &key->document);
    aad_add_u64(aad, (uint64_t)kind);
    aad_add_uuid(aad, row);
}

enum status document_key_seal_field(const struct document_key *key, enum field_kind kind, const struct uuid *row,
                                    const void *plain, size_t len, struct arena *mem, struct blob *ret_sealed,
                                    struct why *why) {
    struct aad aad;
    field_aad(&aad, key, kind, row);
    return aead_seal(key->fields, &aad, plain, len, mem, ret_sealed, why);
}

enum status document_key_open_field(const struct document_key *key, enum field_kind kind, const struct uuid *row,
                                    const void *sealed, size_t len, struct arena *mem, struct blob *ret_plain,
                                    struct why *why) {
    struct aad aad;
    field_aad(&aad, key, kind, row);
    return aead_open(key->fields, &aad, sealed, len, mem, ret_plain, why);
}

static void original_aad(struct aad *aad, const struct document_key *key) {
    aad_begin(aad, "cordon original v1");
    aad_add_uuid(aad, &key->tenant);
    aad_add_uuid(aad, &key->document);
}

enum status document_key_seal_original(const struct document_key *key, struct frames_sealer **ret_sealer,
                                       struct why *why) {
    struct aad aad;
    original_aad(&aad, key);
    return frames_seal_begin(key->original, &aad, FRAME_LOG2, ret_sealer, why);
}

enum status document_key_open_original(const struct document_key *key, struct frames_opener **ret_opener,
                                       struct why *why) {
    struct aad aad;
    original_aad(&aad, key);
    return frames_open_begin(key->original, &aad, ret_opener, why);
}
