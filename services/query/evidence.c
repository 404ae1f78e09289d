/* evidence — what may be read of packages of evidence beside their content: how far they are, and their chain of custody as
 * the log tells it. Rows hold ids, codes and times only; showing them is on the record as everything is. */
#include "audit/client.h"
#include "columns.h"
#include "core/wire.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "query.h"
#include "query.pb-c.h"


/* The package's document hides with its labels, and so does the package. */
#define EVIDENCE_ROWS \
    "SELECT e.id, e.job_id, d.status, e.reason_code, e.reference, e.subject_id, e.from_at, e.to_at, e.documents, e.created_by, e.created_at, " \
    "e.expires_at, d.bytes, j.stage, j.chunks_done, d.reason_code, e.manifest FROM app.evidence e " \
    "JOIN app.documents d ON d.tenant_id = e.tenant_id AND d.id = e.id LEFT JOIN jobs.jobs j ON j.tenant_id = e.tenant_id AND j.id = e.job_id " \
    "WHERE e.tenant_id = $1 "

enum { COL_ID, COL_JOB, COL_STATUS, COL_REASON, COL_REFERENCE, COL_SUBJECT, COL_FROM, COL_TO, COL_DOCUMENTS, COL_CREATED_BY, COL_CREATED_AT,
       COL_EXPIRES_AT, COL_BYTES, COL_STAGE, COL_DONE, COL_FAILURE, COL_MANIFEST };

static Query__Evidence *from_row(struct arena *mem, const PGresult *rows, int row) {
    Query__Evidence *e = arena_alloc(mem, sizeof *e);
    query__evidence__init(e);
    e->id = column_id(mem, rows, row, COL_ID);
    e->job_id = column_id(mem, rows, row, COL_JOB);
    e->status = column_text(mem, rows, row, COL_STATUS);
    e->reason = column_text(mem, rows, row, COL_REASON);
    e->reference = column_text(mem, rows, row, COL_REFERENCE);
    e->subject_id = column_id(mem, rows, row, COL_SUBJECT);
    e->from_at_us = db_micros(rows, row, COL_FROM);
    e->to_at_us = db_micros(rows, row, COL_TO);
    e->documents = column_count(rows, row, COL_DOCUMENTS);
    e->created_by = column_id(mem, rows, row, COL_CREATED_BY);
    e->created_at_us = db_micros(rows, row, COL_CREATED_AT);
    e->expires_at_us = db_micros(rows, row, COL_EXPIRES_AT);
    e->bytes = db_i64(rows, row, COL_BYTES);
    e->stage = column_text(mem, rows, row, COL_STAGE);
    e->documents_done = column_count(rows, row, COL_DONE);
    e->failure_code = column_text(mem, rows, row, COL_FAILURE);
    size_t len = 0;
    const uint8_t *manifest = db_is_null(rows, row, COL_MANIFEST) ? NULL : db_bytea(rows, row, COL_MANIFEST, &len);
    e->manifest_sha256 = wire_bytes(mem, manifest, len);
    return e;
}

static enum status find(struct query *q, struct call *call, const struct sql *sql, struct db_param params[], PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_EVIDENCE_MANAGE, call->deadline_ms, &call->why);
    params[0] = DB_UUID(&tx.claims.tenant_id);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, sql, params, ret_rows, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

static enum status record(struct call *call, const PGresult *rows, size_t count) {
    struct uuid *ids = arena_alloc(call->mem, (count + 1) * sizeof *ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = db_uuid(rows, (int)i, COL_ID);
    return audit_append(call, &(struct audit_record){ .action = AUDIT_EVIDENCE_READ, .document_ids = ids, .document_count = count }, NULL);
}

enum status on_list_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_evidence",
        EVIDENCE_ROWS "AND d.status <> 'deleted' AND ($2::uuid IS NULL OR e.id < $2::uuid) ORDER BY e.id DESC LIMIT $3", 3 };
    const Query__ListEvidenceRequest *req = (const void *)in;
    Query__ListEvidenceReply *reply = (void *)out;
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (st == ST_OK)
        st = find(self, call, &LIST, (struct db_param[]){ DB_NULL, PAGE_AFTER(&page), PAGE_ROWS(&page) }, &rows);
    if (st != ST_OK)
        return st;
    size_t count = list_page_end(&page, call->mem, rows, COL_ID, &reply->next_cursor);
    st = record(call, rows, count);
    if (st != ST_OK)
        return st;
    reply->evidence = arena_alloc(call->mem, (count + 1) * sizeof *reply->evidence);
    for (; reply->n_evidence < count; reply->n_evidence++)
        reply->evidence[reply->n_evidence] = from_row(call->mem, rows, (int)reply->n_evidence);
    return ST_OK;
}

static enum status add_custody(struct query *q, struct call *call, const struct uuid *id, Query__Evidence *e) {
    static const struct sql CUSTODY = { "evidence_custody", "SELECT seq, action, actor_id, occurred_at FROM audit.evidence_custody($1)", 1 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, q->audit_db, call->ticket, &call->request_id, SCOPE_EVIDENCE_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &CUSTODY, (struct db_param[]){ DB_UUID(id) }, &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK)
        return st;
    size_t count = (size_t)db_count(rows);
    e->custody = arena_alloc(call->mem, (count + 1) * sizeof *e->custody);
    for (; e->n_custody < count; e->n_custody++) {
        int row = (int)e->n_custody;
        Query__Custody *c = arena_alloc(call->mem, sizeof *c);
        query__custody__init(c);
        c->seq = db_i64(rows, row, 0);
        c->action = column_text(call->mem, rows, row, 1);
        c->actor_id = column_id(call->mem, rows, row, 2);
        c->occurred_at_us = db_micros(rows, row, 3);
        e->custody[row] = c;
    }
    return ST_OK;
}

enum status on_get_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql FIND = { "find_evidence", EVIDENCE_ROWS "AND e.id = $2 AND d.status <> 'deleted'", 2 };
    const Query__GetEvidenceRequest *req = (const void *)in;
    Query__GetEvidenceReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct uuid id;
    if (!uuid_from_bytes(req->evidence_id.data, req->evidence_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "evidence_id");
    enum status st = find(self, call, &FIND, (struct db_param[]){ DB_NULL, DB_UUID(&id) }, &rows);
    if (st == ST_OK && db_count(rows) == 0)
        st = fail(&call->why, ST_NOT_FOUND, "package");
    if (st == ST_OK)
        st = record(call, rows, 1);
    if (st != ST_OK)
        return st;
    reply->evidence = from_row(call->mem, rows, 0);
    return add_custody(self, call, &id, reply->evidence);
}
