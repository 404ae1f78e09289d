/* ending — destroys what is left of a tenant whose KMS key is gone: its key shares, its originals in every version, its rows.
 * The operator's program has said that the key is gone (services/offboard); what comes next says the database, and each effect
 * is confirmed there after it was had, so a run that ends anywhere is followed by another that goes on there. An end that cannot
 * go on (its store refuses, it is held) is put off, and the others go on. The last step makes the certificate
 * (keys.finish_ending). No ticket is for a tenant that is suspended: this is the janitor's kind of work. */
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "db/plain_tx.h"
#include "ingest.h"
#include "keystore/original.h"
#include "obs/log.h"

enum { ROWS_COUNT = 50, STEP_MS = 30000, RECORD_MS = 5000 };    /* one tenant's turn at most; what a statement may take */

struct ending { struct uuid offboarding_id, tenant_id; const char *state; };

/* Each: *ret_count: how much was destroyed, also when the rest could not be. */
static enum status destroy_shares(struct ingest *g, const struct ending *e, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    enum status st = shares_delete_all(g->shares, &e->tenant_id, deadline_ms, ret_count, why);
    return st == ST_OK ? fault_status(FAULT_ENDING_SHARES_DESTROYED, why) : st;
}

static enum status destroy_objects(struct ingest *g, const struct ending *e, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *folder = tenant_folder(mem, &e->tenant_id);
    unsigned aborted = 0;
    enum status st = s3_abort_uploads(g->s3, folder, INT64_MAX, deadline_ms, &aborted, why);
    if (st == ST_OK)
        st = s3_delete_folder(g->s3, folder, true, deadline_ms, ret_count, why);
    return st == ST_OK ? fault_status(FAULT_ENDING_OBJECTS_DESTROYED, why) : st;
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
    enum status st = db_run(g->jobs_db, &STEP, params, clock_mono_ms() + RECORD_MS, NULL, destroyed == ST_OK ? why : &unused);
    if (st == ST_OK && destroyed == ST_OK)
        st = fault_status(FAULT_ENDING_CONFIRMED, why);
    return destroyed == ST_OK || (st == ST_OK && count > 0) ? st : destroyed;      /* what got on goes on when it is its turn again */
}

/* The rows, some at a time so that nobody waits for them, and with the last of them the end. */
static enum status destroy_rows(struct ingest *g, const struct ending *e, int64_t deadline_ms, struct why *why) {
    static const struct sql ROWS = { "ending_rows", "SELECT keys.ending_rows($1, $2)", 2 };
    static const struct sql FINISH = { "finish_ending", "SELECT keys.finish_ending($1, $2, $3)", 3 };
    const struct ingest_settings *s = g->settings;
    int64_t cache_ms = s->key_cache_ms > s->share_cache_ms ? s->key_cache_ms : s->share_cache_ms;
    for (bool has_more = true; has_more;) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        if (schedule_should_stop(g->schedule) || clock_mono_ms() >= deadline_ms - RECORD_MS)
            return ST_OK;       /* another time */
        enum status st = fault_status(FAULT_ENDING_BEFORE_ROWS, why);
        if (st == ST_OK)
            st = db_run(g->jobs_db, &ROWS, (struct db_param[]){ DB_UUID(&e->offboarding_id), DB_INT(ROWS_COUNT) }, deadline_ms, &rows, why);
        if (st == ST_OK)
            st = fault_status(FAULT_ENDING_ROWS_DESTROYED, why);
        if (st != ST_OK)
            return st;
        has_more = db_bool(rows, 0, 0);
    }
    enum status st = fault_status(FAULT_ENDING_BEFORE_CERTIFICATE, why);
    if (st == ST_OK)
        st = db_run(g->jobs_db, &FINISH, (struct db_param[]){ DB_UUID(&e->offboarding_id), DB_INT(s->backup_days), DB_INT(cache_ms / 1000 + 1) },
                    deadline_ms, NULL, why);
    return st == ST_OK ? fault_status(FAULT_ENDING_CERTIFIED, why) : st;
}

/* What is next of one tenant. */
static enum status go_on(struct ingest *g, const struct ending *e, int64_t deadline_ms, struct why *why) {
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
        if (str_equal(STEPS[i].state, e->state))
            return take_step(g, e, &STEPS[i], deadline_ms, why);
    return destroy_rows(g, e, deadline_ms, why);
}

static enum status put_off(struct ingest *g, const struct ending *e, const struct why *because, struct why *why) {
    static const struct sql PUT_OFF = { "ending_put_off", "SELECT refusals, wait_s FROM keys.ending_put_off($1, $2)", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const char *code = error_text_code(because->code);
    enum status st = db_run(g->jobs_db, &PUT_OFF, (struct db_param[]){ DB_UUID(&e->offboarding_id), DB_TEXT(code) },
                            clock_mono_ms() + RECORD_MS, &rows, why);
    char tenant[UUID_TEXT_BYTES];
    if (st == ST_OK && db_count(rows) == 1)
        log_event(LOG_WARN, "ending_put_off", LOG_TEXT("tenant", uuid_format(&e->tenant_id, tenant)), LOG_TEXT("done", e->state), LOG_TEXT("code", code),
                  LOG_NUMBER("refusals", db_i64(rows, 0, 0)), LOG_NUMBER("again_in_s", db_i64(rows, 0, 1)), LOG_TEXT("why", because->text));
    return st;
}

enum status ending_sweep(struct ingest *g, int64_t deadline_ms, struct why *why) {
    static const struct sql NEXT = { "ending_next", "SELECT offboarding_id, tenant_id, state FROM keys.ending_next()", 0 };
    enum status first = ST_OK;      /* of those that were put off: it is what the run has to say */
    deadline_ms -= RECORD_MS;
    for (int64_t now_ms = clock_mono_ms(); now_ms < deadline_ms && !schedule_should_stop(g->schedule); now_ms = clock_mono_ms()) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        struct why trouble = { 0 }, unused = { 0 };
        enum status st = db_run(g->jobs_db, &NEXT, NULL, deadline_ms, &rows, &trouble);
        if (st != ST_OK)
            *why = trouble;
        if (st != ST_OK || db_count(rows) == 0)
            return st == ST_OK ? first : st;
        struct ending e = { db_uuid(rows, 0, 0), db_uuid(rows, 0, 1), db_text(rows, 0, 2) };
        char tenant[UUID_TEXT_BYTES];
        st = go_on(g, &e, now_ms + STEP_MS < deadline_ms ? now_ms + STEP_MS : deadline_ms, &trouble);
        if (st == ST_OK) {
            log_event(LOG_INFO, "ending_step", LOG_TEXT("tenant", uuid_format(&e.tenant_id, tenant)), LOG_TEXT("done", e.state));
            continue;
        }
        if (first == ST_OK)
            *why = trouble;
        first = first == ST_OK ? st : first;
        if (schedule_should_stop(g->schedule) || put_off(g, &e, &trouble, &unused) != ST_OK)
            break;
    }
    return first;
}
