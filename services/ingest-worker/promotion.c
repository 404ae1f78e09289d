/* promotion — a big tenant's vectors move into a partition of their own, which has an index, a few at a time: each batch is a
 * transaction, so at any moment each vector is in one of the two places, and searches look in both. What is new goes there from
 * the first step on. It may be killed anywhere; whoever takes it over goes on with what is left. */
#include "core/fault.h"
#include "job_run.h"

enum { BATCH_COUNT = 64 };

static const struct sql PROGRESS = { "promote_progress",
    "SELECT jobs.progress('move', NULL, p.done::integer, p.total::integer) FROM keys.promote_progress() p", 0 };

static enum status move(struct job_run *run, int64_t *ret_moved, bool *ret_is_over) {
    static const struct sql STEP = { "promote_step", "SELECT moved, is_over FROM keys.promote_step($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = job_run_ask(run, &STEP, (struct db_param[]){ DB_INT(BATCH_COUNT) }, &rows);
    if (st != ST_OK)
        return st;
    *ret_moved = db_i64(rows, 0, 0);
    *ret_is_over = db_bool(rows, 0, 1);
    return ST_OK;
}

enum status promote_vectors(struct job_run *run) {
    static const struct sql BEGIN = { "promote_begin", "SELECT keys.promote_begin()", 0 };
    static const struct sql COMPLETE = { "promote_complete", "SELECT jobs.complete()", 0 };
    bool is_over = false;
    enum status st = job_run_ask(run, &BEGIN, NULL, NULL);
    for (unsigned batch = 0; st == ST_OK && !is_over; batch++) {
        int64_t moved = 0;
        st = fault_status(FAULT_PROMOTE_BEFORE_MOVE, &run->call.why);
        if (st == ST_OK)
            st = move(run, &moved, &is_over);
        if (st == ST_OK)
            st = fault_status(FAULT_PROMOTE_MOVED, &run->call.why);
        if (st == ST_OK && moved == 0 && !is_over)
            st = fail(&run->call.why, ST_UNAVAILABLE, "vectors that somebody else holds");
        if (st == ST_OK && (batch % 16 == 0 || is_over))
            st = job_run_ask(run, &PROGRESS, NULL, NULL);
    }
    if (st == ST_OK)
        st = fault_status(FAULT_PROMOTE_BEFORE_COMPLETE, &run->call.why);
    if (st == ST_OK)
        st = job_run_ask(run, &COMPLETE, NULL, NULL);
    return st == ST_OK ? fault_status(FAULT_PROMOTE_COMPLETED, &run->call.why) : st;
}
