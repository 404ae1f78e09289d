/* digest — SHA-256 and HMAC-SHA-256 over OpenSSL. The one-shot functions are pure; a struct sha256
 * belongs to one thread. A digest that OpenSSL cannot compute is a broken installation and aborts. */
#ifndef CORDON_CRYPTO_DIGEST_H
#define CORDON_CRYPTO_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "core/secret.h"

enum { SHA256_BYTES = 32, SHA256_HEX_BYTES = 65 };

void sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES]);
/* Of both, one behind the other. */
void sha256_joined(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t out[SHA256_BYTES]);
/* Lower-case hexadecimal with its NUL; returns out. */
char *sha256_hex(const void *data, size_t len, char out[SHA256_HEX_BYTES]);

struct sha256;

struct sha256 *sha256_new(void);
void sha256_destroy(struct sha256 **digest_p);
void sha256_update(struct sha256 *digest, const void *data, size_t len);
/* Of everything so far; the digest may go on afterwards. */
void sha256_peek(const struct sha256 *digest, uint8_t out[SHA256_BYTES]);

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[SHA256_BYTES]);

#endif
