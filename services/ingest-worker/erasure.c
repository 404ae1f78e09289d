/* erasure — ends documents for good, and what stands in the way of that: legal holds. Each effect outside the database
 * is intended there first and confirmed there after it: the database says what comes next, and every step may be repeated,
 * so whoever takes the job over goes on where it stood. What is destroyed, and in which order, is in
 * migrations/0018_erasure.up.sql. */
#include <string.h>

#include "core/buffer.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/wire.h"
#include "ingest.pb-c.h"
#include "job_run.h"
#include "keystore/original.h"

enum { DOCUMENTS_MAX = 100, CODE_MAX_BYTES = 32, REFERENCE_MAX_BYTES = 64 };

/* ---- what people ask for ---- */

static enum status optional_id(const ProtobufCBinaryData *bytes, struct uuid *ret_id, struct db_param *ret_param) {
    *ret_param = DB_NULL;
    if (bytes->len == 0)
        return ST_OK;
    if (!uuid_from_bytes(bytes->data, bytes->len, ret_id))
        return ST_INVALID;
    *ret_param = DB_UUID(ret_id);
    return ST_OK;
}

/* One statement of a user, in a transaction of its own. rows may be NULL. */
static enum status run(struct ingest *g, struct call *call, uint64_t scope, const struct sql *q, const struct db_param params[],
                       PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, scope, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, q, params, ret_rows, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

enum status on_create_erasure(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql BEGIN = { "begin_erasure", "SELECT keys.begin_erasure($1, $2::uuid[], $3, $4, $5)", 5 };
    const Ingest__CreateErasureRequest *req = (const void *)in;
    Ingest__CreateErasureReply *reply = (void *)out;
    struct uuid id = uuid_v7(), subject_id, document_id;
    struct db_param subject;
    CLEANUP(buffer_end) struct buffer documents = { 0 };
    char text[UUID_TEXT_BYTES];
    bool is_good = req->n_document_ids <= DOCUMENTS_MAX && (req->n_document_ids > 0) != (req->subject_id.len > 0) &&
                   optional_id(&req->subject_id, &subject_id, &subject) == ST_OK && buffer_add_str(&documents, "{");
    for (size_t i = 0; is_good && i < req->n_document_ids; i++)
        is_good = uuid_from_bytes(req->document_ids[i].data, req->document_ids[i].len, &document_id) &&
                  buffer_printf(&documents, "%s%s", i ? "," : "", uuid_format(&document_id, text));
    if (!is_good || !buffer_add_str(&documents, "}"))
        return fail_as(&call->why, ERR_REQ_FIELD, "document_ids or subject_id: one of the two");
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = run(self, call, SCOPE_ERASURES_MANAGE, &BEGIN, (struct db_param[]){ DB_UUID(&id), DB_TEXT(documents.data), subject,
                         DB_TEXT(req->reason), DB_TEXT(req->reference) }, &rows);
    if (st != ST_OK)
        return st;
    reply->erasure_id = wire_id(call->mem, &id);
    reply->documents = (uint32_t)db_i64(rows, 0, 0);
    return fault_status(FAULT_ERASURE_INTENDED, &call->why);
}

enum status on_place_hold(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql PLACE = { "place_hold", "SELECT keys.place_hold($1, $2, $3, $4, $5, $6)", 6 };
    const Ingest__PlaceHoldRequest *req = (const void *)in;
    Ingest__PlaceHoldReply *reply = (void *)out;
    struct uuid id = uuid_v7(), document_id, subject_id;
    struct db_param document, subject;
    if ((req->document_id.len > 0) + (req->subject_id.len > 0) + req->log != 1 || optional_id(&req->document_id, &document_id, &document) != ST_OK ||
        optional_id(&req->subject_id, &subject_id, &subject) != ST_OK)
        return fail_as(&call->why, ERR_REQ_FIELD, "document_id, subject_id or log: one of the three");
    reply->hold_id = wire_id(call->mem, &id);
    return run(self, call, SCOPE_HOLDS_MANAGE, &PLACE, (struct db_param[]){ DB_UUID(&id), document, subject, DB_BOOL(req->log),
               DB_TEXT(req->reason), DB_TEXT(req->reference) }, NULL);
}

enum status on_release_hold(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql RELEASE = { "release_hold", "SELECT keys.release_hold($1)", 1 };
    const Ingest__ReleaseHoldRequest *req = (const void *)in;
    (void)out;
    struct uuid id;
    if (!uuid_from_bytes(req->hold_id.data, req->hold_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "hold_id");
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = run(self, call, SCOPE_HOLDS_MANAGE, &RELEASE, (struct db_param[]){ DB_UUID(&id) }, &rows);
    return st == ST_OK && !db_bool(rows, 0, 0) ? fail(&call->why, ST_NOT_FOUND, "hold") : st;
}

/* ---- the job ---- */

struct item { struct uuid id; const char *state; };

/* The effect that comes after a state, outside the database. *ret_count: objects destroyed. */
static enum status destroy_share(struct job_run *run, const struct item *item, unsigned *ret_count) {
    *ret_count = 0;
    enum status st = shares_delete(run->ingest->shares, &run->claims.tenant_id, &item->id, run->call.deadline_ms, &run->call.why);
    return st == ST_OK ? fault_status(FAULT_ERASURE_SHARE_DESTROYED, &run->call.why) : st;
}

static enum status destroy_objects(struct job_run *run, const struct item *item, unsigned *ret_count) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *key = original_object_key(mem, &run->claims.tenant_id, &item->id);
    unsigned aborted = 0;
    enum status st = s3_abort_uploads(run->ingest->s3, key, INT64_MAX, run->call.deadline_ms, &aborted, &run->call.why);
    if (st == ST_OK)
        st = s3_delete_versions(run->ingest->s3, key, run->call.deadline_ms, ret_count, &run->call.why);
    return st == ST_OK ? fault_status(FAULT_ERASURE_OBJECTS_DESTROYED, &run->call.why) : st;
}

/* The rows go in the transaction that confirms. */
static enum status destroy_nothing(struct job_run *run, const struct item *item, unsigned *ret_count) {
    (void)item;
    *ret_count = 0;
    return fault_status(FAULT_ERASURE_BEFORE_ROWS, &run->call.why);
}

/* app.erasure_moves says what the next state is. */
static const struct { const char *state; enum status (*destroy)(struct job_run *run, const struct item *item, unsigned *ret_count); } STEPS[] = {
    { "intended",          destroy_share },
    { "share_destroyed",   destroy_objects },
    { "objects_destroyed", destroy_nothing },
};

static enum status confirm(struct job_run *run, const struct item *item, unsigned count) {
    static const struct sql STEP = { "erasure_step", "SELECT keys.erasure_step($1, $2, $3)", 3 };
    static const struct sql PROGRESS = { "erasure_progress",
        "SELECT jobs.progress('erase', NULL, p.done, p.total) FROM keys.erasure_progress() p", 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &STEP, (struct db_param[]){ DB_UUID(&item->id), DB_TEXT(item->state), DB_INT(count) }, NULL, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PROGRESS, NULL, NULL, &run->call.why);
    if (st == ST_OK)
        st = fault_status(FAULT_ERASURE_BEFORE_CONFIRM, &run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

static enum status take_step(struct job_run *run, const struct item *item) {
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        if (!str_equal(STEPS[i].state, item->state))
            continue;
        unsigned count = 0;
        enum status st = job_run_step(run, STEP_ORIGINAL, STEP_BUDGET_MS);
        if (st == ST_OK)
            st = STEPS[i].destroy(run, item, &count);
        if (st == ST_OK)
            st = confirm(run, item, count);
        return st == ST_OK ? fault_status(FAULT_ERASURE_CONFIRMED, &run->call.why) : st;
    }
    return fail(&run->call.why, ST_INTERNAL, "erasure: no step follows '%s'", item->state);
}

/* *ret_rows: the items that are next; none when everything is destroyed. */
static enum status find_next(struct job_run *run, PGresult **ret_rows) {
    static const struct sql NEXT = { "erasure_next", "SELECT id, state FROM keys.erasure_next()", 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &NEXT, NULL, ret_rows, &run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

static enum status finish(struct job_run *run) {
    static const struct sql FINISH = { "finish_erasure", "SELECT keys.finish_erasure($1, $2)", 2 };
    const struct ingest_settings *s = run->ingest->settings;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FINISH, (struct db_param[]){ DB_INT(s->backup_days), DB_INT(s->share_cache_ms / 1000 + 1) }, NULL, &run->call.why);
    if (st == ST_OK)
        st = fault_status(FAULT_ERASURE_BEFORE_COMPLETE, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &run->call.why);
    if (st == ST_OK)
        fault_point(FAULT_ERASURE_COMPLETED);
    return st;
}

enum status erase(struct job_run *run) {
    for (;;) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        enum status st = find_next(run, &rows);
        if (st == ST_OK && db_count(rows) == 0)
            return finish(run);
        for (int i = 0; st == ST_OK && i < db_count(rows); i++)
            st = take_step(run, &(struct item){ db_uuid(rows, i, 0), db_text(rows, i, 1) });
        if (st != ST_OK)
            return st;
    }
}
