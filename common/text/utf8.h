/* utf8 — is it text, and where do its characters lie. Pure functions over borrowed bytes.
 * Only utf8_is_text looks at bytes that nobody has checked; the others want its blessing. */
#ifndef CORDON_TEXT_UTF8_H
#define CORDON_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Strict UTF-8 (RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF) without NUL.
 * When it is not, *ret_bad_offset (may be NULL) is the byte where the first bad sequence begins. */
bool utf8_is_text(const void *data, size_t len, size_t *ret_bad_offset);

size_t utf8_count(const char *text, size_t len);            /* code points */
size_t utf8_step(const char *text);                         /* bytes of the character that begins here: 1..4 */
/* Greatest character boundary that is not beyond max_bytes: for cutting a text without breaking it. */
size_t utf8_floor(const char *text, size_t len, size_t max_bytes);

#endif
