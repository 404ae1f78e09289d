/* rotation — wraps under the newest version of the tenant's data key what is under an older one: keys of documents and
 * conversations, and patients' record numbers. Documents and texts stay as they are. A document's key that has no second
 * share yet is given one. Each row is put back by itself, if it is still what was read, so that whoever takes the job
 * over, or works beside it, loses nothing. */
#include <string.h>

#include "core/fault.h"
#include "core/str.h"
#include "job_run.h"

enum { BATCH_COUNT = 50 };
enum { COL_KIND, COL_ID, COL_VERSION, COL_WRAPPED };

/* A batch. */
struct rotation {
    struct job_run *run;
    struct arena *mem;
    struct tenant_keys keys;
    struct tenant_key *newest;
    PGresult *rows;
};

static void rotation_end(struct rotation *r) {
    tenant_key_release(&r->newest);
    pgrows_destroy(&r->rows);
    arena_destroy(&r->mem);
}

static enum status read_batch(struct rotation *r) {
    static const struct sql NEXT = { "rewrap_next", "SELECT kind, id, version, wrapped FROM keys.rewrap_next($1)", 1 };
    struct job_run *run = r->run;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = keystore_read_tenant(&tx, r->mem, &r->keys, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &NEXT, (struct db_param[]){ DB_INT(BATCH_COUNT) }, &r->rows, &run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

/* A share for a document that has none: in its place before the row that needs it. One that is there was put by another
 * attempt, which may have come further than it could tell: it is the one to use, and never replaced. */
static enum status make_share(struct job_run *run, const struct uuid *id, struct secret **ret_share) {
    struct secret *share = aead_key_new();
    enum status st = shares_put(run->ingest->shares, &run->claims.tenant_id, id, share, run->call.deadline_ms, &run->call.why);
    if (st == ST_OK) {
        *ret_share = share;
        return ST_OK;
    }
    secret_destroy(&share);
    return st == ST_CONFLICT ? shares_get(run->ingest->shares, &run->claims.tenant_id, id, run->call.deadline_ms, ret_share, &run->call.why) : st;
}

static enum status rewrap_field(struct rotation *r, const struct tenant_key *old, const struct uuid *id, const void *sealed, size_t len,
                                struct blob *ret_sealed) {
    struct blob plain = { 0 };
    enum status st = tenant_key_open(old, FIELD_MRN, id, sealed, len, r->mem, &plain, &r->run->call.why);
    return st == ST_OK ? tenant_key_seal(r->newest, FIELD_MRN, id, plain.data, plain.len, r->mem, ret_sealed, &r->run->call.why) : st;
}

static enum status rewrap_key(struct rotation *r, const struct tenant_key *old, const struct uuid *id, const void *wrapped, size_t len,
                              bool is_document, struct blob *ret_wrapped) {
    CLEANUP(secret_destroy) struct secret *share = NULL;
    enum status st = is_document && !document_key_has_share(wrapped, len) ? make_share(r->run, id, &share) : ST_OK;
    if (st == ST_OK)
        st = document_key_rewrap(old, r->newest, id, wrapped, len, share, r->mem, ret_wrapped, &r->run->call.why);
    return st == ST_OK ? fault_status(FAULT_REWRAP_BEFORE_PUT, &r->run->call.why) : st;
}

static const struct sql PROGRESS = { "rewrap_progress",
    "SELECT jobs.progress('rewrap', NULL, p.done::integer, p.total::integer) FROM keys.rewrap_progress() p", 0 };

static enum status rewrap_row(struct rotation *r, int row) {
    static const struct sql PUT = { "rewrap_put", "SELECT keys.rewrap_put($1, $2, $3, $4, $5, $6)", 6 };
    struct job_run *run = r->run;
    const char *kind = db_text(r->rows, row, COL_KIND);
    struct uuid id = db_uuid(r->rows, row, COL_ID);
    int64_t version = db_i64(r->rows, row, COL_VERSION);
    size_t len = 0;
    const uint8_t *wrapped = db_bytea(r->rows, row, COL_WRAPPED, &len);
    struct blob fresh = { 0 };
    CLEANUP(tenant_key_release) struct tenant_key *old = NULL;
    enum status st = job_run_step(run, STEP_KEYS, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = keystore_open_tenant(run->ingest->keyring, &r->keys, TENANT_KEY_DATA, (unsigned)version, run->call.deadline_ms, &old, &run->call.why);
    if (st == ST_OK)
        st = str_equal(kind, "subject") ? rewrap_field(r, old, &id, wrapped, len, &fresh)
                                        : rewrap_key(r, old, &id, wrapped, len, str_equal(kind, "document"), &fresh);
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PUT, (struct db_param[]){ DB_TEXT(kind), DB_UUID(&id), DB_INT(version), DB_BYTES(wrapped, len),
                           DB_INT(tenant_key_version(r->newest)), DB_BYTES(fresh.data, fresh.len) }, NULL, &run->call.why);
    if (st == ST_OK && row == 0)
        st = tenant_tx_run(&tx, &PROGRESS, NULL, NULL, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &run->call.why);
    return st == ST_OK ? fault_status(FAULT_REWRAP_PUT, &run->call.why) : st;
}

static enum status finish(struct job_run *run) {
    static const struct sql FINISH = { "finish_rewrap", "SELECT keys.finish_rewrap()", 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PROGRESS, NULL, NULL, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FINISH, NULL, NULL, &run->call.why);
    if (st == ST_OK)
        st = fault_status(FAULT_REWRAP_BEFORE_COMPLETE, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &run->call.why);
    if (st == ST_OK)
        fault_point(FAULT_REWRAP_COMPLETED);
    return st;
}

enum status rewrap_keys(struct job_run *run) {
    for (;;) {
        CLEANUP(rotation_end) struct rotation r = { .run = run, .mem = arena_new(0) };
        enum status st = read_batch(&r);
        if (st == ST_OK && db_count(r.rows) == 0)
            return finish(run);
        if (st == ST_OK)
            st = job_run_step(run, STEP_KEYS, STEP_BUDGET_MS);
        if (st == ST_OK)
            st = keystore_open_tenant(run->ingest->keyring, &r.keys, TENANT_KEY_DATA, 0, run->call.deadline_ms, &r.newest, &run->call.why);
        for (int i = 0; st == ST_OK && i < db_count(r.rows); i++)
            st = rewrap_row(&r, i);
        if (st != ST_OK)
            return st;
    }
}
