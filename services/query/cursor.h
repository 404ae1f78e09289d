/* cursor — the opaque text by which a list goes on. It names the last row that was given and nothing
 * else: filters come with each request, and row-level security decides what may be seen. */
#ifndef CORDON_QUERY_CURSOR_H
#define CORDON_QUERY_CURSOR_H

#include "core/arena.h"
#include "core/status.h"
#include "core/uuid.h"

/* base64url text in mem. */
const char *cursor_from_uuid(struct arena *mem, const struct uuid *last);
const char *cursor_from_number(struct arena *mem, int64_t last);
/* "" gives *ret_is_first true and leaves the output. ST_INVALID REQ_011. */
enum status cursor_to_uuid(struct arena *mem, const char *text, bool *ret_is_first, struct uuid *ret_last, struct why *why) MUST_USE;
enum status cursor_to_number(struct arena *mem, const char *text, bool *ret_is_first, int64_t *ret_last, struct why *why) MUST_USE;

#endif
