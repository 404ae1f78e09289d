/* ending — destroys what is left of a tenant whose KMS key is gone: its key shares, its originals in every version, its rows.
 * The operator's program has said that the key is gone (services/offboard); what comes next says the database, and each effect
 * is confirmed there after it was had, so a run that ends anywhere is followed by another that goes on there. The last step
 * makes the certificate (keys.finish_ending). No ticket is for a tenant that is suspended: this is the janitor's kind of work. */
#include "core/clock.h"
#include "core/str.h"
#include "db/plain_tx.h"
#include "ingest.h"
#include "keystore/original.h"
#include "obs/log.h"

enum { ROWS_COUNT = 50 };

struct ending { struct uuid offboarding_id, tenant_id; const char *state; };

/* Each: *ret_count: how much was destroyed, also when the rest could not be. */
static enum status destroy_shares(struct ingest *g, const struct ending *e, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    return shares_delete_all(g->shares, &e->tenant_id, deadline_ms, ret_count, why);
}

static enum status destroy_objects(struct ingest *g, const struct ending *e, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *folder = tenant_folder(mem, &e->tenant_id);
    unsigned aborted = 0;
    enum status st = s3_abort_uploads(g->s3, folder, INT64_MAX, deadline_ms, &aborted, why);
    return st == ST_OK ? s3_delete_folder(g->s3, folder, true, deadline_ms, ret_count, why) : st;
}

static const struct step {
    const char *state;
    enum status (*destroy)(struct ingest *g, const struct ending *e, int64_t deadline_ms, unsigned *ret_count, struct why *why);
} STEPS[] = {
    { "key_destroyed",    destroy_shares },
    { "shares_destroyed", destroy_objects },
};

static enum status take_step(struct ingest *g, const struct ending *e, const struct step *step, int64_t deadline_ms, struct why *why) {
    static const struct sql STEP = { "ending_step", "SELECT keys.ending_step($1, $2, $3, $4)", 4 };
    unsigned count = 0;
    struct why unused = { 0 };
    enum status destroyed = step->destroy(g, e, deadline_ms, &count, why);
    const struct db_param params[] = { DB_UUID(&e->offboarding_id), DB_TEXT(e->state), DB_INT(count), DB_BOOL(destroyed == ST_OK) };
    enum status st = db_run(g->jobs_db, &STEP, params, deadline_ms, NULL, destroyed == ST_OK ? why : &unused);
    return destroyed == ST_OK ? st : destroyed;
}

/* The rows, some at a time so that nobody waits for them, and with the last of them the end. */
static enum status destroy_rows(struct ingest *g, const struct ending *e, int64_t deadline_ms, struct why *why) {
    static const struct sql ROWS = { "ending_rows", "SELECT keys.ending_rows($1, $2)", 2 };
    static const struct sql FINISH = { "finish_ending", "SELECT keys.finish_ending($1, $2, $3)", 3 };
    const struct ingest_settings *s = g->settings;
    int64_t cache_ms = s->key_cache_ms > s->share_cache_ms ? s->key_cache_ms : s->share_cache_ms;
    for (bool has_more = true; has_more;) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        if (schedule_should_stop(g->schedule))
            return fail(why, ST_UNAVAILABLE, "the process stops");
        enum status st = db_run(g->jobs_db, &ROWS, (struct db_param[]){ DB_UUID(&e->offboarding_id), DB_INT(ROWS_COUNT) }, deadline_ms, &rows, why);
        if (st != ST_OK)
            return st;
        has_more = db_bool(rows, 0, 0);
    }
    return db_run(g->jobs_db, &FINISH, (struct db_param[]){ DB_UUID(&e->offboarding_id), DB_INT(s->backup_days), DB_INT(cache_ms / 1000 + 1) },
                  deadline_ms, NULL, why);
}

enum status ending_sweep(struct ingest *g, int64_t deadline_ms, struct why *why) {
    static const struct sql NEXT = { "ending_next", "SELECT offboarding_id, tenant_id, state FROM keys.ending_next()", 0 };
    for (;;) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        enum status st = db_run(g->jobs_db, &NEXT, NULL, deadline_ms, &rows, why);
        if (st != ST_OK || db_count(rows) == 0)
            return st;
        struct ending e = { db_uuid(rows, 0, 0), db_uuid(rows, 0, 1), db_text(rows, 0, 2) };
        const struct step *step = NULL;
        for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
            if (str_equal(STEPS[i].state, e.state))
                step = &STEPS[i];
        st = step ? take_step(g, &e, step, deadline_ms, why) : destroy_rows(g, &e, deadline_ms, why);
        if (st != ST_OK)
            return st;
        char tenant[UUID_TEXT_BYTES];
        log_event(LOG_INFO, "ending_step", LOG_TEXT("tenant", uuid_format(&e.tenant_id, tenant)), LOG_TEXT("done", e.state));
    }
}
