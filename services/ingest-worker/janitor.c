/* janitor — removes what uploads that died have left in the document store. The database says which those are: their
 * intents have shown no life, are given up thereby, and can no more become documents (migrations/0009_uploads.up.sql).
 * What no intent tells of, because no process that made it lived to write one, is found by its age. */
#include "core/clock.h"
#include "db/plain_tx.h"
#include "ingest.h"
#include "intent.h"
#include "keystore/original.h"

/* No upload takes a day: edge and worker both have a deadline. */
enum { BATCH_COUNT = 20, FORGOTTEN_S = 24 * 3600, EXPIRE_COUNT = 10000 };

static enum status clear_store(struct ingest *g, const struct uuid *tenant_id, const struct uuid *document_id, int64_t deadline_ms,
                               struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *key = original_object_key(mem, tenant_id, document_id);
    unsigned aborted = 0;
    enum status st = s3_abort_uploads(g->s3, key, INT64_MAX, deadline_ms, &aborted, why);
    if (st == ST_OK)
        st = s3_delete_versions(g->s3, key, deadline_ms, &aborted, why);
    return st == ST_OK ? shares_delete(g->shares, tenant_id, document_id, deadline_ms, why) : st;
}

/* One batch; *ret_count: how many were due. A failure leaves the rest for another time. */
static enum status sweep_dead(struct ingest *g, int64_t deadline_ms, int *ret_count, struct why *why) {
    static const struct sql CLAIM = { "claim_uploads", "SELECT tenant_id, document_id, fence FROM jobs.claim_uploads($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(g->jobs_db, &CLAIM, (struct db_param[]){ DB_INT(BATCH_COUNT) }, deadline_ms, &rows, why);
    for (int i = 0; st == ST_OK && i < db_count(rows); i++) {
        struct uuid tenant_id = db_uuid(rows, i, 0), document_id = db_uuid(rows, i, 1), fence = db_uuid(rows, i, 2);
        st = clear_store(g, &tenant_id, &document_id, deadline_ms, why);
        if (st == ST_OK)
            st = intent_clear(g->jobs_db, &tenant_id, &document_id, &fence, deadline_ms, why);
    }
    *ret_count = db_count(rows);
    return st;
}

static enum status expire_keys(struct ingest *g, int64_t deadline_ms, struct why *why) {
    static const struct sql EXPIRE = { "expire_idempotency_keys", "SELECT jobs.expire_idempotency_keys($1)", 1 };
    return db_run(g->jobs_db, &EXPIRE, (struct db_param[]){ DB_INT(EXPIRE_COUNT) }, deadline_ms, NULL, why);
}

enum status janitor_sweep(struct ingest *g, int64_t deadline_ms, struct why *why) {
    enum status st = ST_OK;
    unsigned aborted = 0;
    for (int count = BATCH_COUNT; st == ST_OK && count == BATCH_COUNT;)
        st = sweep_dead(g, deadline_ms, &count, why);
    if (st == ST_OK)
        st = expire_keys(g, deadline_ms, why);
    if (st == ST_OK)
        st = s3_abort_uploads(g->s3, "tenants/", clock_unix_us() - FORGOTTEN_S * 1000000LL, deadline_ms, &aborted, why);
    return st;
}
