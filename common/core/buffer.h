/* buffer — bytes that grow, up to a limit. For building bodies and collecting answers.
 * In-place type: buffer_init or zero-initialise with a limit, buffer_end when done (wipes). */
#ifndef CORDON_CORE_BUFFER_H
#define CORDON_CORE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/cleanup.h"

struct buffer {
    char *data;             /* NUL-terminated once anything was added; NULL before */
    size_t len, size;
    size_t limit_bytes;     /* 0: none */
    bool is_overfull;       /* something did not fit and was dropped whole */
};

void buffer_init(struct buffer *b, size_t limit_bytes);
void buffer_end(struct buffer *b);                      /* wipes and frees; may run twice */
void buffer_clear(struct buffer *b);                    /* forgets the content, keeps the memory */
/* Append; false (and is_overfull) when the limit would be passed. */
bool buffer_add(struct buffer *b, const void *data, size_t len);
/* Take room for len bytes in all at once, for who knows how many will come: growing copies what there is. */
void buffer_reserve(struct buffer *b, size_t len);
/* Append len bytes for the caller to write, which are not initialised; NULL (and is_overfull) when the limit would be passed. */
void *buffer_grow(struct buffer *b, size_t len);
bool buffer_add_str(struct buffer *b, const char *s);
bool buffer_printf(struct buffer *b, const char *fmt, ...) PRINTF(2, 3);

#endif
