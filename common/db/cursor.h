/* cursor — the opaque text by which a list goes on. It names the last row that was given and nothing
 * else: filters come with each request, and row-level security decides what may be seen. */
#ifndef CORDON_DB_CURSOR_H
#define CORDON_DB_CURSOR_H

#include "core/arena.h"
#include "core/status.h"
#include "core/uuid.h"
#include "db/rows.h"
#include "db/sql.h"

/* base64url text in mem. */
const char *cursor_from_uuid(struct arena *mem, const struct uuid *last);
const char *cursor_from_number(struct arena *mem, int64_t last);
/* "" gives *ret_is_first true and leaves the output. ST_INVALID REQ_011. */
enum status cursor_to_uuid(struct arena *mem, const char *text, bool *ret_is_first, struct uuid *ret_last, struct why *why) MUST_USE;
enum status cursor_to_number(struct arena *mem, const char *text, bool *ret_is_first, int64_t *ret_last, struct why *why) MUST_USE;

/* ---- pages of a list by ids, newest first ---- */

enum { PAGE_ROWS_DEFAULT = 50, PAGE_ROWS_MAX = 100 };

struct list_page { uint32_t limit; bool is_first; struct uuid last; };

/* What a list's request asks for; limit 0: PAGE_ROWS_DEFAULT. ST_INVALID REQ_011 or, for the limit, REQ_004. */
enum status list_page_read(struct arena *mem, const char *cursor, uint32_t limit, struct list_page *ret_page, struct why *why) MUST_USE;
/* Parameters of the statement: the id behind which the page begins, NULL for the first; and how many rows to ask for, one
 * more than are shown, which tells whether there is another page. */
#define PAGE_AFTER(page) DB_UUID((page)->is_first ? NULL : &(page)->last)
#define PAGE_ROWS(page) DB_INT((page)->limit + 1)
/* How many of rows to show. *ret_next is where the next page begins, in mem, and stays as it is when this is the last. */
size_t list_page_end(const struct list_page *page, struct arena *mem, const PGresult *rows, int id_column, char **ret_next);

#endif
