/* batch — several calls' events put on the log: whose tickets they are, and then, in one transaction, heads locked in
 * tenant order, events hashed into their trees, rows inserted, heads moved. Whoever remembers where it left the heads
 * does it in one round trip; when it was not so, or an id is on the log already, heads are locked, repeats found and
 * time read in one more before anything is hashed.
 * Of such batches of one process, one may be placed and sent while the one before it is not committed yet.
 * A call that is refused (its ticket, an id taken by other content) drops out alone. Any number of
 * batches, of any number of writers, may run side by side. One thread per batch. */
#ifndef CORDON_AUDIT_WRITER_BATCH_H
#define CORDON_AUDIT_WRITER_BATCH_H

#include "audit/event.h"
#include "db/plain_tx.h"
#include "db/pool.h"

enum { BATCH_EVENTS_MAX = 1024 };

/* What a process's batches remember of each other: tickets that were good, heads as they were left. Nothing that is
 * believed without the database. Thread-safe. */
struct batch_memory;
struct batch_memory *batch_memory_new(void);
void batch_memory_destroy(struct batch_memory **memory_p);

/* One call: its events are committed together or not at all. Filled by its maker up to seqs. */
struct batch_call {
    struct audit_event **events;
    size_t count;
    const char *ticket;         /* NULL: none, and stamps are already filled (the outbox, auth's denials) */
    struct audit_stamp *stamps; /* count of them; batch_append fills seq, recorded_at and, when 0, occurred_at */
    enum status status;         /* ST_OK: on the log. ST_UNAVAILABLE: not on it, or not known. Otherwise not on it. */
    struct why why;
    struct uuid conflict_id;    /* with ST_CONFLICT: the id that is on the log with other content */
};

/* Put the calls on the log. On ST_OK each call's status is its own outcome; otherwise nothing was
 * committed, or with ST_UNAVAILABLE it is not known, and every call that was not refused has the status.
 * memory: or NULL. Repeats by itself what may succeed the second time; a batch that the database refuses for reasons of
 * its content is committed call by call, so that one does not fail the rest. */
enum status batch_commit(struct db_pool *pool, struct batch_memory *memory, struct batch_call *calls[], size_t count,
                         int64_t deadline_ms, struct why *why) MUST_USE;

/* The middle part, inside a transaction of the caller's: everything after the tickets, before COMMIT. */
enum status batch_append(struct plain_tx *tx, struct batch_call *calls[], size_t count, struct why *why) MUST_USE;
/* The same and COMMIT, unless every call was refused. before_commit: asked before the last round trip; its failure is the batch's.
 * memory: or NULL. With it the events must be new; when what it remembers was wrong, *ret_guessed says so, nothing is committed,
 * and the same again in another transaction does not guess. */
typedef enum status batch_hook(struct why *why);
enum status batch_append_commit(struct plain_tx *tx, struct batch_memory *memory, struct batch_call *calls[], size_t count,
                                batch_hook *before_commit, bool *ret_guessed, struct why *why) MUST_USE;

#endif
