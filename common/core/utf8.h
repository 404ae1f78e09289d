/* utf8 — is it text, and where do its characters lie. Pure functions over borrowed bytes; none needs a NUL at
 * the end. utf8_sequence and utf8_is_text look at bytes that nobody has checked; the others want their blessing. */
#ifndef CORDON_CORE_UTF8_H
#define CORDON_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed sequence (RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF) that s
 * begins with; 0 when it begins with none or len is 0. NUL is a sequence of one. */
size_t utf8_sequence(const char *s, size_t len);
/* Well-formed throughout, and without NUL. When it is not, *ret_bad_offset (may be NULL) is the byte where the
 * first bad sequence begins. */
bool utf8_is_text(const void *data, size_t len, size_t *ret_bad_offset);

size_t utf8_count(const char *text, size_t len);            /* code points */
size_t utf8_step(const char *text);                         /* bytes of the character that begins here: 1..4 */
/* Greatest character boundary that is not beyond max_bytes: for cutting a text without breaking it. */
size_t utf8_floor(const char *text, size_t len, size_t max_bytes);

#endif
