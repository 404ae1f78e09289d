/* rows — reading a result. Results are binary; these functions know the types that our statements
 * return: smallint, integer, bigint, boolean, double precision, uuid, bytea, text, timestamptz, text[].
 * Select jsonb and enums as ::text. A row or column that does not exist, a NULL where a value is
 * read, and a value of another type are our own bugs: they assert in debug builds and read as zero
 * otherwise; ask db_is_null() first where NULL may come. */
#ifndef CORDON_DB_ROWS_H
#define CORDON_DB_ROWS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/uuid.h"

void pgrows_destroy(PGresult **rows_p);

int db_count(const PGresult *rows);                     /* rows; 0 for NULL */
int64_t db_affected(const PGresult *rows);              /* rows that INSERT, UPDATE or DELETE touched */

bool db_is_null(const PGresult *rows, int row, int column);
int64_t db_i64(const PGresult *rows, int row, int column);
double db_f64(const PGresult *rows, int row, int column);
bool db_bool(const PGresult *rows, int row, int column);
struct uuid db_uuid(const PGresult *rows, int row, int column);         /* nil for NULL */
int64_t db_micros(const PGresult *rows, int row, int column);           /* timestamptz as Unix microseconds; 0 for NULL */
const char *db_text(const PGresult *rows, int row, int column);         /* borrowed from rows; "" for NULL */
/* A column's ids in mem, without those that repeat the row before. Returns how many. */
size_t db_uuids(struct arena *mem, const PGresult *rows, int column, struct uuid **ret_ids);
/* Borrowed from rows; *ret_len 0 for NULL. */
const uint8_t *db_bytea(const PGresult *rows, int row, int column, size_t *ret_len);

/* Element `index` of a text[]; its bytes are not NUL-terminated. False past the end or when it is NULL. */
bool db_text_item(const PGresult *rows, int row, int column, int index, const char **ret_text, size_t *ret_len);

#endif
