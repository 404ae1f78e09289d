/* aead — AES-256-GCM: a sealed blob opens only under the same key and the same associated data. Pure
 * functions apart from the random nonce; any thread.
 *
 * Blob, version 1:  u8 version = 1 | 12 bytes random nonce | ciphertext | 16 bytes tag
 * The version byte is authenticated too. With random nonces one key may seal 2^32 blobs.
 *
 * Associated data is a sequence of typed parts, each u8 type | u32 length, big endian | bytes, so that no
 * byte can move from one part into its neighbour and still authenticate. */
#ifndef CORDON_CRYPTO_AEAD_H
#define CORDON_CRYPTO_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/secret.h"
#include "core/status.h"
#include "core/uuid.h"

enum { AEAD_KEY_BYTES = 32, AEAD_NONCE_BYTES = 12, AEAD_TAG_BYTES = 16, AEAD_OVERHEAD_BYTES = 1 + 12 + 16, AAD_MAX_BYTES = 512 };

/* Bytes with their length; who owns them is the function's to say. */
struct blob { uint8_t *data; size_t len; };

struct aad { uint8_t bytes[AAD_MAX_BYTES]; size_t len; bool is_overfull; };

/* Begins with the purpose ("cordon document key v1"), which keeps blobs of one use from opening in another. */
void aad_begin(struct aad *aad, const char *purpose);
void aad_add_uuid(struct aad *aad, const struct uuid *id);
void aad_add_u64(struct aad *aad, uint64_t number);
void aad_add_text(struct aad *aad, const char *text);
void aad_add_bytes(struct aad *aad, const void *data, size_t len);

/* A fresh random key. */
struct secret *aead_key_new(void);

/* Seal len bytes into mem. ST_INTERNAL: the key has not 32 bytes, or aad is overfull. */
enum status aead_seal(const struct secret *key, const struct aad *aad, const void *plain, size_t len,
                      struct arena *mem, struct blob *ret_sealed, struct why *why) MUST_USE;

/* Open into mem, with a NUL behind the plaintext for text. ST_INTERNAL: not this key, not this aad, altered,
 * cut, or of another version; nothing was written then. */
enum status aead_open(const struct secret *key, const struct aad *aad, const void *sealed, size_t len,
                      struct arena *mem, struct blob *ret_plain, struct why *why) MUST_USE;

/* GCM for those who lay out their own nonces: one cipher under one key for any number of operations of one thread, so that the
 * key is prepared once. Used by frames. */
struct gcm_cipher;
struct gcm_cipher *gcm_cipher_new(const struct secret *key, bool is_sealing);      /* NULL: the key has not 32 bytes */
void gcm_cipher_destroy(struct gcm_cipher **cipher_p);

/* One operation: out has len (+ tag) bytes and does not overlap. */
struct gcm { struct gcm_cipher *cipher; const uint8_t *nonce; const void *aad; size_t aad_len; };
bool gcm_seal(const struct gcm *gcm, const void *plain, size_t len, uint8_t *out);      /* out: len + 16 */
bool gcm_open(const struct gcm *gcm, const void *sealed, size_t len, uint8_t *out);     /* len incl. tag; out: len - 16 */

#endif
