/* sql — a statement is data: static const, a name for log lines, a text with $n parameters, and their
 * count. Names in the text are schema-qualified (connections have search_path=pg_catalog); operators
 * of the vector extension are written OPERATOR(ext.<=>), its type ext.halfvec.
 *
 * Results are always in binary: read them with db/rows.h. */
#ifndef CORDON_DB_SQL_H
#define CORDON_DB_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/uuid.h"

struct sql {
    const char *name;       /* for log lines: "find_document" */
    const char *text;
    int n_params;
};

/* One parameter. Text (is_binary false) is NUL-terminated and its len ignored; the server reads it as
 * the type that the statement gives $n. Binary is that type's wire form: 16 bytes for a uuid, the bytes
 * themselves for a bytea. data NULL: SQL NULL. Borrowed for the call. */
struct db_param { const void *data; int len; bool is_binary; };

/* One statement with its parameters, among several of one round trip. */
struct db_step { const struct sql *sql; const struct db_param *params; };

enum { DB_STEPS_MAX = 5, DB_INT_TEXT_BYTES = 24 };     /* of ours, beside those that begin or end a transaction */

/* The forms that a parameter list is written with:
 *   tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&id), DB_INT(20) }, &rows, why)
 * DB_INT's text lives in the enclosing block. */
#define DB_NULL            ((struct db_param){ NULL, 0, false })
#define DB_TEXT(s)         ((struct db_param){ (s), 0, false })             /* NULL: SQL NULL */
#define DB_BYTES(p, n)     db_bytes_param((p), (n))                         /* never NULL, even when n is 0 */
#define DB_UUID(id)        db_uuid_param(id)                                /* NULL: SQL NULL */
#define DB_INT(v)          db_int_param((char[DB_INT_TEXT_BYTES]){ 0 }, (v))
#define DB_BOOL(b)         DB_TEXT((b) ? "true" : "false")

struct db_param db_bytes_param(const void *data, size_t len);
struct db_param db_uuid_param(const struct uuid *id);
struct db_param db_int_param(char text[DB_INT_TEXT_BYTES], int64_t value);

struct arena;
/* Ids as a uuid[] in text form, for a parameter; in mem. */
const char *uuid_array(struct arena *mem, const struct uuid ids[], size_t count);

#endif
