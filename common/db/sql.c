#include "db/sql.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"

struct db_param db_bytes_param(const void *data, size_t len) {
    if (len > INT_MAX)
        abort();                    /* every caller's own limit is far below */
    return (struct db_param){ data ? data : "", (int)len, true };
}

struct db_param db_uuid_param(const struct uuid *id) {
    return (struct db_param){ id ? id->bytes : NULL, UUID_BYTES, true };
}

struct db_param db_int_param(char text[DB_INT_TEXT_BYTES], int64_t value) {
    snprintf(text, DB_INT_TEXT_BYTES, "%" PRId64, value);
    return (struct db_param){ text, 0, false };
}

const char *uuid_array(struct arena *mem, const struct uuid ids[], size_t count) {
    char *out = arena_alloc(mem, count * UUID_TEXT_BYTES + 3), *p = out;
    *p++ = '{';
    for (size_t i = 0; i < count; i++) {
        (void)uuid_format(&ids[i], p);
        p += UUID_TEXT_BYTES - 1;
        *p++ = ',';
    }
    p[count > 0 ? -1 : 0] = '}';
    return out;
}
