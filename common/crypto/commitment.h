/* commitment — says now what a text is, without showing it, so that it can be shown to be that text later. Binding by
 * SHA-256; hiding as long as the salt is secret: who has neither salt nor text cannot try texts out. Salts of one
 * receipt derive from seeds, so that only seeds are kept. Pure functions apart from the random seed; any thread.
 *
 * commitment = SHA-256("cordon receipt v1 " || kind || 0x0a || salt || text)
 * salt       = HMAC-SHA-256(seed, "cordon salt v1 " || kind || 0x0a || more) */
#ifndef CORDON_CRYPTO_COMMITMENT_H
#define CORDON_CRYPTO_COMMITMENT_H

#include "crypto/digest.h"

enum { COMMITMENT_BYTES = SHA256_BYTES, COMMITMENT_SALT_BYTES = 32 };

/* A fresh random seed. */
void commitment_seed(uint8_t out[COMMITMENT_SALT_BYTES]);
/* kind: "question", "prompt", "chunk", "output". more: what tells salts of one kind apart; may be NULL when more_len is 0. */
void commitment_salt(const uint8_t seed[COMMITMENT_SALT_BYTES], const char *kind, const void *more, size_t more_len,
                     uint8_t out[COMMITMENT_SALT_BYTES]);
void commitment_make(const char *kind, const uint8_t salt[COMMITMENT_SALT_BYTES], const void *text, size_t len,
                     uint8_t out[COMMITMENT_BYTES]);

#endif
