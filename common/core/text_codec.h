/* text_codec — bytes as hexadecimal, base64 and base64url text (RFC 4648). Decoders are strict:
 * no white space, no missing or surplus padding, no stray bits in the last character. */
#ifndef CORDON_CORE_TEXT_CODEC_H
#define CORDON_CORE_TEXT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"

int hex_value(char c);                                  /* 0..15, -1 when c is no digit */
/* out has 2 * len + 1 bytes; lower case; returns out. */
char *hex_encode(const void *data, size_t len, char *out);
/* len must be even; out has len / 2 bytes. */
bool hex_decode(const char *text, size_t len, void *out);

char *base64_encode(struct arena *mem, const void *data, size_t len);       /* padded */
char *base64url_encode(struct arena *mem, const void *data, size_t len);    /* not padded */
bool base64_decode(struct arena *mem, const char *text, size_t len, uint8_t **ret_data, size_t *ret_len);
bool base64url_decode(struct arena *mem, const char *text, size_t len, uint8_t **ret_data, size_t *ret_len);

#endif
