/* uuid — identifiers: 16 bytes inside, RFC 9562 text at the surface. Version 7 sorts by time. */
#ifndef CORDON_CORE_UUID_H
#define CORDON_CORE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UUID_BYTES = 16, UUID_TEXT_BYTES = 37 };     /* text with its NUL */

struct uuid { uint8_t bytes[UUID_BYTES]; };

struct uuid uuid_v7(void);      /* fresh, from the real-time clock and the kernel's random source; thread-safe */
int64_t uuid_v7_us(const struct uuid *id);      /* when it says that it was made, Unix time; 0: it is of another version */
bool uuid_is_nil(const struct uuid *id);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_among(const struct uuid *id, const struct uuid ids[], size_t count);

/* Lower-case hyphenated text into out; returns out. */
const char *uuid_format(const struct uuid *id, char out[UUID_TEXT_BYTES]);
/* Strict: 36 characters, hyphens in place, hexadecimal of either case. */
bool uuid_parse(const char *text, size_t len, struct uuid *ret_id);
/* Exactly 16 bytes, else false. For ids in protobuf messages. */
bool uuid_from_bytes(const void *data, size_t len, struct uuid *ret_id);

#endif
