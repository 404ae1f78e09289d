#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"
#include "crypto/tenant_key.h"

/* The wrapped key itself is used for nothing but to derive these two: fields have random nonces, the original
 * has counted ones, and no key sees both. */
struct document_key {
    struct uuid tenant, document;
    struct secret *fields, *original;
};

static void wrap_aad(struct aad *aad, const struct tenant_key *key, const struct uuid *document) {
    aad_begin(aad, "cordon document key v1");
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

enum status document_key_new(const struct tenant_key *key, const struct uuid *document, struct arena *mem,
                             struct document_key **ret_key, struct blob *ret_wrapped, struct why *why) {
    CLEANUP(secret_destroy) struct secret *root = aead_key_new();
    struct aad aad;
    wrap_aad(&aad, key, document);
    enum status st = aead_seal(key->bytes, &aad, root->bytes, root->len, mem, ret_wrapped, why);
    if (st != ST_OK)
        return st;
    *ret_key = from_root(key, document, root->bytes);
    return ST_OK;
}

enum status document_key_open(const struct tenant_key *key, const struct uuid *document, const void *wrapped,
                              size_t len, struct document_key **ret_key, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);    /* wipes the root when it goes */
    struct aad aad;
    struct blob root;
    wrap_aad(&aad, key, document);
    enum status st = aead_open(key->bytes, &aad, wrapped, len, mem, &root, why);
    if (st != ST_OK)
        return st;
    if (root.len != AEAD_KEY_BYTES)
        return fail(why, ST_INTERNAL, "document key: %zu bytes", root.len);
    *ret_key = from_root(key, document, root.data);
    return ST_OK;
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
