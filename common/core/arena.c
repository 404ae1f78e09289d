#include "core/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 16 << 10, ALIGN_BYTES = alignof(max_align_t) };

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

struct arena {
    struct block *head;             /* the block being filled; big ones are linked behind it */
    size_t wire_left;
    ProtobufCAllocator wire;
};

void *xalloc(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p)
        abort();
    return p;
}

char *xstrdup(const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(xalloc(n), s, n);
}

static struct block *block_new(size_t size) {
    size_t total;
    if (__builtin_add_overflow(sizeof(struct block), size, &total))
        abort();
    struct block *b = xalloc(total);
    b->size = size;
    return b;
}

void *arena_alloc(struct arena *a, size_t size) {
    size_t rounded;
    if (__builtin_add_overflow(size ? size : 1, (size_t)ALIGN_BYTES - 1, &rounded))
        abort();
    rounded &= ~((size_t)ALIGN_BYTES - 1);
    struct block *b = a->head;
    if (b && b->size - b->used >= rounded) {
        void *p = b->data + b->used;
        b->used += rounded;
        return p;
    }
    struct block *fresh = block_new(rounded > BLOCK_BYTES / 4 ? rounded : BLOCK_BYTES);
    fresh->used = rounded;
    if (b && rounded > BLOCK_BYTES / 4) {
        fresh->next = b->next;      /* keep filling the present block */
        b->next = fresh;
    } else {
        fresh->next = b;
        a->head = fresh;
    }
    return fresh->data;
}

void *arena_memdup(struct arena *a, const void *data, size_t size) {
    void *p = arena_alloc(a, size);
    if (size)
        memcpy(p, data, size);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len) {
    char *p = arena_alloc(a, len + 1);
    if (len)
        memcpy(p, s, len);
    return p;
}

char *arena_strdup(struct arena *a, const char *s) {
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len < 0)
        abort();
    char *p = arena_alloc(a, (size_t)len + 1);
    (void)vsnprintf(p, (size_t)len + 1, fmt, again);
    va_end(again);
    return p;
}

static void *wire_alloc(void *ctx, size_t size) {
    struct arena *a = ctx;
    if (size > a->wire_left)
        return NULL;
    a->wire_left -= size;
    return arena_alloc(a, size);
}

static void wire_free(void *ctx, void *p) {
    (void)ctx;
    (void)p;
}

struct arena *arena_new(size_t wire_cap_bytes) {
    struct arena *a = xalloc(sizeof *a);
    a->wire_left = wire_cap_bytes;
    a->wire = (ProtobufCAllocator){ wire_alloc, wire_free, a };
    return a;
}

void arena_destroy(struct arena **arena_p) {
    if (!*arena_p)
        return;
    for (struct block *b = (*arena_p)->head, *next; b; b = next) {
        next = b->next;
        explicit_bzero(b->data, b->used);       /* requests carry PHI: do not leave it on the heap */
        free(b);
    }
    free(*arena_p);
    *arena_p = NULL;
}

ProtobufCAllocator *arena_wire(struct arena *a) {
    return &a->wire;
}
