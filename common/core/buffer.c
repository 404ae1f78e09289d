#include "core/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_init(struct buffer *b, size_t limit_bytes) {
    *b = (struct buffer){ .limit_bytes = limit_bytes };
}

void buffer_end(struct buffer *b) {
    if (b->data)
        explicit_bzero(b->data, b->size);
    free(b->data);
    *b = (struct buffer){ .limit_bytes = b->limit_bytes };
}

void buffer_clear(struct buffer *b) {
    b->len = 0;
    b->is_overfull = false;
    if (b->data)
        b->data[0] = '\0';
}

static void resize(struct buffer *b, size_t size) {
    char *grown = malloc(size);
    if (!grown)
        abort();
    if (b->data) {
        memcpy(grown, b->data, b->len);
        explicit_bzero(b->data, b->size);       /* realloc would leave a copy behind */
        free(b->data);
    }
    grown[b->len] = '\0';
    b->data = grown;
    b->size = size;
}

static bool reserve(struct buffer *b, size_t more) {
    size_t need;
    if (__builtin_add_overflow(b->len, more, &need) || need == SIZE_MAX || (b->limit_bytes && need > b->limit_bytes)) {
        b->is_overfull = true;
        return false;
    }
    if (need + 1 <= b->size)
        return true;
    size_t size = b->size ? b->size : 256;
    while (size < need + 1)
        size *= 2;
    resize(b, size);
    return true;
}

void buffer_reserve(struct buffer *b, size_t len) {
    if (len >= b->size && len < SIZE_MAX && (!b->limit_bytes || len <= b->limit_bytes))
        resize(b, len + 1);
}

void *buffer_grow(struct buffer *b, size_t len) {
    if (!reserve(b, len))
        return NULL;
    char *at = b->data + b->len;
    b->len += len;
    b->data[b->len] = '\0';
    return at;
}

bool buffer_add(struct buffer *b, const void *data, size_t len) {
    void *at = buffer_grow(b, len);
    if (at && len)
        memcpy(at, data, len);
    return at != NULL;
}

bool buffer_add_str(struct buffer *b, const char *s) {
    return buffer_add(b, s, strlen(s));
}

bool buffer_printf(struct buffer *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    bool fits = len >= 0 && reserve(b, (size_t)len);
    if (fits) {
        (void)vsnprintf(b->data + b->len, (size_t)len + 1, fmt, again);
        b->len += (size_t)len;
    }
    va_end(again);
    return fits;
}
