#include "crypto/commitment.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"

void commitment_seed(uint8_t out[COMMITMENT_SALT_BYTES]) {
    if (RAND_priv_bytes(out, COMMITMENT_SALT_BYTES) != 1)
        abort();
}

void commitment_salt(const uint8_t seed[COMMITMENT_SALT_BYTES], const char *kind, const void *more, size_t more_len,
                     uint8_t out[COMMITMENT_SALT_BYTES]) {
    CLEANUP(buffer_end) struct buffer data = { 0 };
    if (!buffer_printf(&data, "cordon salt v1 %s\n", kind) || (more_len > 0 && !buffer_add(&data, more, more_len)))
        abort();
    hmac_sha256(seed, COMMITMENT_SALT_BYTES, data.data, data.len, out);
}

void commitment_make(const char *kind, const uint8_t salt[COMMITMENT_SALT_BYTES], const void *text, size_t len,
                     uint8_t out[COMMITMENT_BYTES]) {
    static const char DOMAIN[] = "cordon receipt v1 ";
    CLEANUP(sha256_destroy) struct sha256 *digest = sha256_new();
    sha256_update(digest, DOMAIN, strlen(DOMAIN));
    sha256_update(digest, kind, strlen(kind));
    sha256_update(digest, "\n", 1);
    sha256_update(digest, salt, COMMITMENT_SALT_BYTES);
    sha256_update(digest, text, len);
    sha256_peek(digest, out);
}
