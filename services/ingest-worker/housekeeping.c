/* housekeeping — what scheduled work there is. When each row is due is in jobs.schedules. */
#include "core/clock.h"
#include "db/plain_tx.h"
#include "ingest.h"

enum { PURGE_ROWS = 1000, EXPIRED_MAX = 100 };

/* Jobs that have been over for a month, a few at a time so that nobody waits for their locks. */
static enum status purge(void *self, int64_t deadline_ms, struct why *why) {
    static const struct sql PURGE = { "purge_jobs", "SELECT jobs.purge($1)", 1 };
    struct ingest *g = self;
    for (int64_t gone = PURGE_ROWS; gone == PURGE_ROWS && clock_mono_ms() < deadline_ms && !schedule_should_stop(g->schedule); ) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        enum status st = db_run(g->jobs_db, &PURGE, (struct db_param[]){ DB_INT(PURGE_ROWS) }, deadline_ms, &rows, why);
        if (st != ST_OK)
            return st;
        gone = db_i64(rows, 0, 0);
    }
    return ST_OK;
}

/* Packages of evidence whose time is over: each becomes an erasure, whose job does it. */
static enum status expire_evidence(void *self, int64_t deadline_ms, struct why *why) {
    static const struct sql EXPIRE = { "expire_evidence", "SELECT keys.expire_evidence($1)", 1 };
    struct ingest *g = self;
    return db_run(g->jobs_db, &EXPIRE, (struct db_param[]){ DB_INT(EXPIRED_MAX) }, deadline_ms, NULL, why);
}

static enum status janitor(void *self, int64_t deadline_ms, struct why *why) {
    enum status st = janitor_sweep(self, deadline_ms, why);
    return st == ST_OK ? expire_evidence(self, deadline_ms, why) : st;
}

/* Tenants that have become so big that a partition with an index serves them better: each gets a job. */
static enum status promote(void *self, int64_t deadline_ms, struct why *why) {
    static const struct sql DUE = { "promote_due", "SELECT keys.promote_due($1)", 1 };
    struct ingest *g = self;
    return db_run(g->jobs_db, &DUE, (struct db_param[]){ DB_INT(g->settings->partition_chunks_count) }, deadline_ms, NULL, why);
}

static enum status reconcile(void *self, int64_t deadline_ms, struct why *why) {
    return reconcile_originals(self, deadline_ms, why);
}

static enum status reconcile_keys(void *self, int64_t deadline_ms, struct why *why) {
    return reconcile_shares(self, deadline_ms, why);
}

static enum status endings(void *self, int64_t deadline_ms, struct why *why) {
    return ending_sweep(self, deadline_ms, why);
}

const struct schedule_row HOUSEKEEPING[] = {
    { "janitor", janitor },
    { "endings", endings },
    { "purge", purge },
    { "promote", promote },
    { "reconcile", reconcile },
    { "reconcile_shares", reconcile_keys },
    { 0 }
};
