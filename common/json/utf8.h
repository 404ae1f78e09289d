/* utf8 — is this text? Pure functions over bytes; no NUL is needed at the end. */
#ifndef CORDON_JSON_UTF8_H
#define CORDON_JSON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed sequence (RFC 3629: no overlong form, no surrogate, at most U+10FFFF) that s
 * begins with; 0 when it begins with none or len is 0. */
size_t utf8_sequence(const char *s, size_t len);

bool utf8_is_valid(const char *s, size_t len);

#endif
