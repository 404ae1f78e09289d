/* arena — one request's memory, freed all at once. Not thread-safe: an arena belongs to one call.
 * Running out of the machine's memory aborts (the supervisor restarts the process), so results are
 * never checked; only the wire allocator, fed by a peer, has a cap and may refuse. */
#ifndef CORDON_CORE_ARENA_H
#define CORDON_CORE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cleanup.h"

struct arena;

/* wire_cap_bytes: how much a peer's message may make us allocate while it is unpacked. */
struct arena *arena_new(size_t wire_cap_bytes);
void arena_destroy(struct arena **arena_p);

void *arena_alloc(struct arena *a, size_t size);                    /* zeroed, aligned for any type */
void *arena_memdup(struct arena *a, const void *data, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t len);    /* copies len bytes, adds the NUL */
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);

/* Allocator for protobuf_c_message_unpack; returns NULL past the cap, and unpacking then fails. */
ProtobufCAllocator *arena_wire(struct arena *a);

/* Heap allocation outside requests: zeroed, aborts when memory is out. Release with free(). */
void *xalloc(size_t size);
char *xstrdup(const char *s);

#endif
