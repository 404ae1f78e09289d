/* arrays — PostgreSQL arrays in their binary form, built element by element, so that one statement
 * inserts a whole batch: INSERT … SELECT … FROM unnest($1::uuid[], …). In-place type; one thread. */
#ifndef CORDON_AUDIT_WRITER_ARRAYS_H
#define CORDON_AUDIT_WRITER_ARRAYS_H

#include <stdint.h>

#include "core/buffer.h"
#include "core/uuid.h"
#include "db/sql.h"

enum array_type {       /* pg_type.oid */
    ARRAY_BYTEA = 17, ARRAY_BIGINT = 20, ARRAY_TEXT = 25, ARRAY_TIMESTAMPTZ = 1184, ARRAY_UUID = 2950
};

struct array {
    enum array_type type;
    uint32_t count;
    bool has_null;
    struct buffer bytes;
};

void array_init(struct array *a, enum array_type type);
void array_reserve(struct array *a, size_t room_bytes);         /* as much as is likely to come */
void array_end(struct array *a);                                /* may run twice */

void array_add(struct array *a, const void *data, size_t len);  /* data NULL: SQL NULL */
void array_add_text(struct array *a, const char *text);
void array_add_uuid(struct array *a, const struct uuid *id);    /* nil: SQL NULL */
void array_add_i64(struct array *a, int64_t value);
void array_add_micros(struct array *a, int64_t unix_us);        /* timestamptz */

/* Writes the header; the array takes no more elements. Borrowed until array_end. */
struct db_param array_param(struct array *a);

#endif
