/* json_text — a text as a JSON string, into a buffer of fixed size. For log lines and health answers,
 * which must not allocate or fail; everything else writes JSON with common/json. Pure. */
#ifndef CORDON_OBS_JSON_TEXT_H
#define CORDON_OBS_JSON_TEXT_H

#include <stddef.h>

/* Write "text" with its quotes and a NUL into out (size at least 3). A text that does not fit is cut
 * between characters; bytes that are no UTF-8 become U+FFFD. Returns the length without the NUL. */
size_t json_text_put(char *out, size_t size, const char *text);

#endif
