/* archive — closed months of the log as objects of the anchor bucket: JSON lines of one tenant's events, as they were hashed,
 * in the order of the log (docs/retention.md). The database keeps each event's leaf hash and where its line is; what comes
 * from the bucket counts only when it hashes to that. In-place values in a request's arena; any thread. */
#ifndef CORDON_ARCHIVE_ARCHIVE_H
#define CORDON_ARCHIVE_ARCHIVE_H

#include "audit/merkle.h"
#include "aws/s3.h"
#include "core/arena.h"
#include "core/uuid.h"
#include "db/tenant_tx.h"

enum { ARCHIVE_KEY_BYTES = 96, ARCHIVE_MONTH_BYTES = 8, ARCHIVE_OBJECT_BYTES = 8 << 20, ARCHIVE_OBJECT_EVENTS = 8192 };

/* Name of the object whose first event is `first`; month: "2026-01". */
const char *archive_key(char out[ARCHIVE_KEY_BYTES], const struct uuid *tenant_id, const char *month, int64_t first);

struct archived_event {
    int64_t seq, first, offset, bytes;
    char month[ARCHIVE_MONTH_BYTES];
    struct merkle_hash leaf;
    const char *text;           /* after archived_read; bytes long, and a NUL behind */
};
struct archived { struct uuid tenant_id; struct archived_event *items; size_t count; };

/* Inside a transaction of whoever may read the log: which of the rows have no bytes (event_column NULL, seq_column not), and
 * where those are. Adds to *archived; asks the database only when there are any. */
enum status archived_find(struct tenant_tx *tx, struct arena *mem, const PGresult *rows, int seq_column, int event_column,
                          struct archived *archived, struct why *why) MUST_USE;
/* The same of the event of a tenant's end, for people of the platform, where it is archived. */
enum status archived_find_ending(struct tenant_tx *tx, struct arena *mem, const struct uuid *tenant_id, struct archived *archived,
                                 struct why *why) MUST_USE;
/* After it: fetch them, as few requests as may be. s3: the anchor bucket; NULL fails unless there is nothing to fetch.
 * ST_UNAVAILABLE AUDIT_004: the bucket does not answer, or what it has is not what was hashed. */
enum status archived_read(struct s3 *s3, struct arena *mem, struct archived *archived, int64_t deadline_ms, struct why *why) MUST_USE;
/* The row's event, from the row or from the archive; NULL when it is in neither. */
const char *archived_event(const struct archived *archived, const PGresult *rows, int row, int seq_column, int event_column, size_t *ret_len);

#endif
