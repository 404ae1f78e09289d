/* transact — the shape that most of auth's handlers have: one statement under the caller's ticket, and lists that are
 * on the record before they are shown. */
#ifndef CORDON_AUTH_TRANSACT_H
#define CORDON_AUTH_TRANSACT_H

#include "auth.h"
#include "db/tenant_tx.h"

/* Run q in a transaction of its own as the holder of call's ticket, who must have scope. */
enum status transact(struct auth *a, struct call *call, uint64_t scope, const struct sql *q, const struct db_param params[],
                     PGresult **ret_rows) MUST_USE;
/* The same for a change of what the caller names: ST_NOT_FOUND when it touched no row. */
enum status transact_one(struct auth *a, struct call *call, uint64_t scope, const struct sql *q, const struct db_param params[]) MUST_USE;

/* Put on the record that rows of `list` are shown. */
enum status record_shown(struct call *call, const char *list, int rows) MUST_USE;

/* A text[] literal, a uuid[] literal. The second: ST_INVALID when an id has not 16 bytes. */
const char *text_array(struct arena *mem, const char *const items[], size_t count);
enum status id_array(struct call *call, const ProtobufCBinaryData ids[], size_t count, const char **ret_text) MUST_USE;
/* ST_INVALID (REQ_004): not the 16 bytes of an id. */
enum status read_id(struct call *call, const ProtobufCBinaryData *bytes, const char *name, struct uuid *ret_id) MUST_USE;
/* Elements of a text[] column, in mem. */
char **read_texts(struct arena *mem, const PGresult *rows, int row, int column, size_t *ret_count);
/* A sealed column of a user, opened; "" for NULL. */
enum status read_sealed(struct auth *a, struct call *call, enum directory_field field, const PGresult *rows, int row, int column,
                        char **ret_text) MUST_USE;
ProtobufCBinaryData id_column(struct arena *mem, const PGresult *rows, int row, int column);        /* no bytes for NULL */

/* Pages. How many rows are shown: what was asked for within limits; a statement takes one more, to know whether there are more. */
int page_limit(uint32_t asked);
/* An opaque cursor: the id, or another text, of the last row that was given. Without one *ret_after stays as it is.
 * ST_INVALID (REQ_011): not one of ours. */
enum status read_cursor(struct call *call, const char *text, struct uuid *ret_after) MUST_USE;
enum status read_text_cursor(struct call *call, const char *text, const char **ret_after) MUST_USE;
char *write_cursor(struct arena *mem, const ProtobufCBinaryData *last_id);
char *write_text_cursor(struct arena *mem, const char *last);
extern const struct uuid LAST_ID;      /* lists that go downwards begin behind it */

/* A list by ids, which are the statement's first column. Its parameters: the id to begin behind, how many rows. */
struct id_list {
    struct sql sql;
    uint64_t scope;
    const char *name;           /* on the record */
    const struct uuid *begins;  /* behind which its first page begins */
};
/* One page of it, shown on the record: *ret_count of *ret_rows (the caller's); *ret_next stays as it is on the last page. */
enum status show_list(struct auth *a, struct call *call, const struct id_list *list, const char *cursor, uint32_t limit, PGresult **ret_rows,
                      int *ret_count, char **ret_next) MUST_USE;

/* One line of UTF-8 text of 1 to max bytes. */
bool is_line(const char *text, size_t max);

#endif
