#include "crypto/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/text_codec.h"

struct sha256 { EVP_MD_CTX *ctx; };

/* Fetched once, for the process: EVP_sha256() is looked for each time it is used, which takes as long as to hash a small text. */
static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;
static EVP_MD *fetched;

static void fetch(void) {
    fetched = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!fetched)
        abort();
}

static const EVP_MD *sha256_md(void) {
    (void)pthread_once(&fetch_once, fetch);
    return fetched;
}

void sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES]) {
    if (EVP_Digest(data, len, out, NULL, sha256_md(), NULL) != 1)
        abort();
}

void sha256_joined(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t out[SHA256_BYTES]) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestInit_ex(ctx, sha256_md(), NULL) != 1 || EVP_DigestUpdate(ctx, a, a_len) != 1 ||
        EVP_DigestUpdate(ctx, b, b_len) != 1 || EVP_DigestFinal_ex(ctx, out, NULL) != 1)
        abort();
    EVP_MD_CTX_free(ctx);
}

char *sha256_hex(const void *data, size_t len, char out[SHA256_HEX_BYTES]) {
    uint8_t digest[SHA256_BYTES];
    sha256(data, len, digest);
    return hex_encode(digest, sizeof digest, out);
}

struct sha256 *sha256_new(void) {
    struct sha256 *digest = xalloc(sizeof *digest);
    digest->ctx = EVP_MD_CTX_new();
    if (!digest->ctx || EVP_DigestInit_ex(digest->ctx, sha256_md(), NULL) != 1)
        abort();
    return digest;
}

void sha256_destroy(struct sha256 **digest_p) {
    if (!*digest_p)
        return;
    EVP_MD_CTX_free((*digest_p)->ctx);
    free(*digest_p);
    *digest_p = NULL;
}

void sha256_update(struct sha256 *digest, const void *data, size_t len) {
    if (EVP_DigestUpdate(digest->ctx, data, len) != 1)
        abort();
}

void sha256_peek(const struct sha256 *digest, uint8_t out[SHA256_BYTES]) {
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    if (!copy || EVP_MD_CTX_copy_ex(copy, digest->ctx) != 1 || EVP_DigestFinal_ex(copy, out, NULL) != 1)
        abort();
    EVP_MD_CTX_free(copy);
}

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[SHA256_BYTES]) {
    static const uint8_t NOTHING[1];
    unsigned out_len = SHA256_BYTES;
    if (!HMAC(sha256_md(), key, (int)key_len, len ? data : NOTHING, len, out, &out_len) || out_len != SHA256_BYTES)
        abort();
}
