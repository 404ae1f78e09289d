#include "crypto/aead.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { BLOB_VERSION = 1 };
enum part_type { PART_PURPOSE = 1, PART_UUID, PART_U64, PART_TEXT, PART_BYTES };

static void add_part(struct aad *aad, enum part_type type, const void *data, size_t len) {
    if (aad->is_overfull || len > AAD_MAX_BYTES || aad->len + 5 + len > AAD_MAX_BYTES) {
        aad->is_overfull = true;
        return;
    }
    uint8_t *p = aad->bytes + aad->len;
    *p++ = (uint8_t)type;
    for (int shift = 24; shift >= 0; shift -= 8)
        *p++ = (uint8_t)(len >> shift);
    if (len)
        memcpy(p, data, len);
    aad->len += 5 + len;
}

void aad_begin(struct aad *aad, const char *purpose) {
    aad->len = 0;
    aad->is_overfull = false;
    add_part(aad, PART_PURPOSE, purpose, strlen(purpose));
}

void aad_add_uuid(struct aad *aad, const struct uuid *id) {
    add_part(aad, PART_UUID, id->bytes, UUID_BYTES);
}

void aad_add_u64(struct aad *aad, uint64_t number) {
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    add_part(aad, PART_U64, bytes, sizeof bytes);
}

void aad_add_text(struct aad *aad, const char *text) {
    add_part(aad, PART_TEXT, text, strlen(text));
}

void aad_add_bytes(struct aad *aad, const void *data, size_t len) {
    add_part(aad, PART_BYTES, data, len);
}

struct secret *aead_key_new(void) {
    uint8_t bytes[AEAD_KEY_BYTES];
    if (RAND_priv_bytes(bytes, sizeof bytes) != 1)
        abort();
    struct secret *key = secret_new(bytes, sizeof bytes);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return key;
}

struct gcm_cipher { EVP_CIPHER_CTX *ctx; };

struct gcm_cipher *gcm_cipher_new(const struct secret *key, bool is_sealing) {
    struct gcm_cipher *c = xalloc(sizeof *c);
    c->ctx = EVP_CIPHER_CTX_new();
    bool is_ready = key->len == AEAD_KEY_BYTES && c->ctx &&
                    EVP_CipherInit_ex(c->ctx, EVP_aes_256_gcm(), NULL, key->bytes, NULL, is_sealing) == 1;
    if (!is_ready)
        gcm_cipher_destroy(&c);
    return c;
}

void gcm_cipher_destroy(struct gcm_cipher **cipher_p) {
    if (!*cipher_p)
        return;
    EVP_CIPHER_CTX_free((*cipher_p)->ctx);      /* wipes the key */
    free(*cipher_p);
    *cipher_p = NULL;
}

/* Nonce and associated data of the next operation. */
static bool begin(const struct gcm *gcm) {
    int n = 0;
    return gcm->aad_len <= INT_MAX && EVP_CipherInit_ex(gcm->cipher->ctx, NULL, NULL, NULL, gcm->nonce, -1) == 1 &&
           EVP_CipherUpdate(gcm->cipher->ctx, NULL, &n, gcm->aad, (int)gcm->aad_len) == 1;
}

bool gcm_seal(const struct gcm *gcm, const void *plain, size_t len, uint8_t *out) {
    EVP_CIPHER_CTX *ctx = gcm->cipher->ctx;
    int n = 0;
    return len <= INT_MAX && begin(gcm) && (len == 0 || EVP_EncryptUpdate(ctx, out, &n, plain, (int)len) == 1) &&
           EVP_EncryptFinal_ex(ctx, out + len, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, AEAD_TAG_BYTES, out + len) == 1;
}

bool gcm_open(const struct gcm *gcm, const void *sealed, size_t len, uint8_t *out) {
    EVP_CIPHER_CTX *ctx = gcm->cipher->ctx;
    if (len < AEAD_TAG_BYTES || len > INT_MAX)
        return false;
    size_t text_len = len - AEAD_TAG_BYTES;
    uint8_t tag[AEAD_TAG_BYTES];
    memcpy(tag, (const uint8_t *)sealed + text_len, sizeof tag);
    int n = 0;
    bool is_ours = begin(gcm) && (text_len == 0 || EVP_DecryptUpdate(ctx, out, &n, sealed, (int)text_len) == 1) &&
                   EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, AEAD_TAG_BYTES, tag) == 1 &&
                   EVP_DecryptFinal_ex(ctx, out + text_len, &n) == 1;
    if (!is_ours)
        OPENSSL_cleanse(out, text_len);     /* what did not authenticate is nobody's to read */
    return is_ours;
}

/* The version goes in front of the caller's parts: a blob of a later layout never opens as this one. */
static size_t whole_aad(const struct aad *aad, uint8_t out[1 + AAD_MAX_BYTES]) {
    out[0] = BLOB_VERSION;
    memcpy(out + 1, aad->bytes, aad->len);
    return 1 + aad->len;
}

static enum status check(const struct secret *key, const struct aad *aad, struct why *why) {
    if (!key || key->len != AEAD_KEY_BYTES)
        return fail(why, ST_INTERNAL, "aead: the key has not %d bytes", AEAD_KEY_BYTES);
    if (aad->is_overfull)
        return fail(why, ST_INTERNAL, "aead: associated data is over %d bytes", AAD_MAX_BYTES);
    return ST_OK;
}

enum status aead_seal(const struct secret *key, const struct aad *aad, const void *plain, size_t len,
                      struct arena *mem, struct blob *ret_sealed, struct why *why) {
    enum status st = check(key, aad, why);
    if (st != ST_OK)
        return st;
    if (len > INT_MAX - AEAD_OVERHEAD_BYTES)
        return fail(why, ST_INTERNAL, "aead: %zu bytes are too many for one blob", len);
    uint8_t bound[1 + AAD_MAX_BYTES];
    size_t bound_len = whole_aad(aad, bound);
    uint8_t *blob = arena_alloc(mem, len + AEAD_OVERHEAD_BYTES);
    blob[0] = BLOB_VERSION;
    if (RAND_bytes(blob + 1, AEAD_NONCE_BYTES) != 1)
        abort();
    CLEANUP(gcm_cipher_destroy) struct gcm_cipher *cipher = gcm_cipher_new(key, true);
    struct gcm gcm = { cipher, blob + 1, bound, bound_len };
    if (!cipher || !gcm_seal(&gcm, plain, len, blob + 1 + AEAD_NONCE_BYTES))
        return fail(why, ST_INTERNAL, "aead: cannot seal");
    *ret_sealed = (struct blob){ blob, len + AEAD_OVERHEAD_BYTES };
    return ST_OK;
}

enum status aead_open(const struct secret *key, const struct aad *aad, const void *sealed, size_t len,
                      struct arena *mem, struct blob *ret_plain, struct why *why) {
    enum status st = check(key, aad, why);
    if (st != ST_OK)
        return st;
    const uint8_t *blob = sealed;
    if (len < AEAD_OVERHEAD_BYTES || len > INT_MAX || blob[0] != BLOB_VERSION)
        return fail(why, ST_INTERNAL, "aead: not a blob of version %d", BLOB_VERSION);
    uint8_t bound[1 + AAD_MAX_BYTES];
    CLEANUP(gcm_cipher_destroy) struct gcm_cipher *cipher = gcm_cipher_new(key, false);
    struct gcm gcm = { cipher, blob + 1, bound, whole_aad(aad, bound) };
    size_t text_len = len - AEAD_OVERHEAD_BYTES;
    uint8_t *plain = arena_alloc(mem, text_len + 1);
    if (!cipher || !gcm_open(&gcm, blob + 1 + AEAD_NONCE_BYTES, text_len + AEAD_TAG_BYTES, plain))
        return fail(why, ST_INTERNAL, "aead: does not authenticate");
    plain[text_len] = 0;
    *ret_plain = (struct blob){ plain, text_len };
    return ST_OK;
}
