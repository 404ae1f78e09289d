/* directory — names and addresses of users, which are personal data: sealed under a key that only auth has
 * (CORDON_DIRECTORY_KEY), so that the database, its log and its backups hold ciphertext. An address is found
 * by a keyed digest of its lower-case form. Immutable; any thread. docs/adr/0008. */
#ifndef CORDON_AUTH_DIRECTORY_H
#define CORDON_AUTH_DIRECTORY_H

#include "crypto/aead.h"
#include "crypto/digest.h"

enum { DIRECTORY_KEY_HEX_BYTES = 64, DIRECTORY_TEXT_MAX_BYTES = 512 };

enum directory_field { DIRECTORY_NAME, DIRECTORY_EMAIL, DIRECTORY_REASON, DIRECTORY_REFRESH_TOKEN, DIRECTORY_ID_TOKEN };

struct directory;

/* hex: 64 hexadecimal digits. ST_INVALID: it is something else. */
enum status directory_new(const struct secret *hex, struct directory **ret_directory, struct why *why) MUST_USE;
void directory_destroy(struct directory **directory_p);

/* In mem; text NULL: {NULL, 0}. */
enum status directory_seal(const struct directory *directory, enum directory_field field, const char *text, struct arena *mem,
                           struct blob *ret_sealed, struct why *why) MUST_USE;
/* "" for nothing. ST_INTERNAL: not sealed by this key, or altered. */
enum status directory_open(const struct directory *directory, enum directory_field field, const void *sealed, size_t len, struct arena *mem,
                           const char **ret_text, struct why *why) MUST_USE;

/* The same for what belongs to the one row that has this hash, and opens for no other. */
enum status directory_seal_for(const struct directory *directory, enum directory_field field, const uint8_t row[SHA256_BYTES], const char *text,
                               struct arena *mem, struct blob *ret_sealed, struct why *why) MUST_USE;
enum status directory_open_for(const struct directory *directory, enum directory_field field, const uint8_t row[SHA256_BYTES], const void *sealed,
                               size_t len, struct arena *mem, const char **ret_text, struct why *why) MUST_USE;

/* A keyed digest of two texts, for one kind of use. */
void directory_blind(const struct directory *directory, const char *kind, const char *first, const char *second, uint8_t out[SHA256_BYTES]);
/* The keyed digest of an address; of a name and an address together. NULL counts as "". */
void directory_email_blind(const struct directory *directory, const char *email, uint8_t out[SHA256_BYTES]);
void directory_profile_blind(const struct directory *directory, const char *name, const char *email, uint8_t out[SHA256_BYTES]);

#endif
