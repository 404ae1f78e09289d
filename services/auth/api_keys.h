/* api_keys — cdn_<prefix>_<secret>: 12 characters that find the key's row, and 256 random bits as 64 hexadecimal
 * digits. Only the SHA-256 of the secret is kept: with that many bits nothing slower is needed. */
#ifndef CORDON_AUTH_API_KEYS_H
#define CORDON_AUTH_API_KEYS_H

#include <stdbool.h>

#include "crypto/digest.h"

enum { API_KEY_PREFIX_BYTES = 12, API_KEY_TEXT_BYTES = 4 + 12 + 1 + 64 + 1 };

struct api_key { char prefix[API_KEY_PREFIX_BYTES + 1]; uint8_t secret_hash[SHA256_BYTES]; };

/* Does it begin like one of ours? No JWS does: its first character stands for '{'. */
bool api_key_is_meant(const char *text);
/* False: it is not of the form. */
bool api_key_parse(const char *text, struct api_key *ret_key);
/* A fresh one; text is shown once and never kept. */
void api_key_make(char text[API_KEY_TEXT_BYTES], struct api_key *ret_key);

#endif
