/* committer — group commit: while a batch is in flight the calls that arrive gather into the next, which goes out
 * when that is decided, or beside it once it is worth it. Two threads hold the batches; handlers hand their call
 * over and wait, each with its deadline. Thread-safe. */
#ifndef CORDON_AUDIT_WRITER_COMMITTER_H
#define CORDON_AUDIT_WRITER_COMMITTER_H

#include "batch.h"
#include "obs/metrics.h"

struct committer;

/* Starts the threads. The pool outlives it. */
struct committer *committer_new(struct db_pool *pool, struct metrics *metrics);
/* What its batches remember, for others of this process that append. Lives as long as the committer. */
struct batch_memory *committer_memory(struct committer *c);
/* Commits what is queued, then ends the threads. Nobody may call or wait any more. */
void committer_destroy(struct committer **committer_p);

/* Put one call on the log and return its outcome, with the reason in call->why. Waits until the batch
 * it rides in is decided; only a call that no batch has taken yet leaves at deadline_ms.
 * ST_OK: committed. ST_TIMEOUT: not on the log. ST_UNAVAILABLE: not on the log or not known, safe to
 * repeat with the same event ids. ST_UNAUTHENTICATED, ST_CONFLICT: see batch.h. */
enum status committer_append(struct committer *c, struct batch_call *call, int64_t deadline_ms) MUST_USE;

#endif
