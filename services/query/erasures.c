/* erasures — how far erasures are, their certificates, and what is held. Rows hold ids, codes and times only; showing them
 * is on the record as everything is. */
#include <string.h>

#include "audit/client.h"
#include "columns.h"
#include "core/str.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "event_proof.h"
#include "query.h"
#include "query.pb-c.h"

#define ERASURE_COLUMNS \
    "e.id, e.subject_id, e.reason_code, e.reference, e.requested_by, e.requested_at, e.done_at, " \
    "(SELECT pg_catalog.count(*) FROM app.erasure_items i WHERE i.tenant_id = e.tenant_id AND i.erasure_id = e.id AND i.state = 'destroyed'), " \
    "(SELECT pg_catalog.count(*) FROM app.erasure_items i WHERE i.tenant_id = e.tenant_id AND i.erasure_id = e.id), e.certificate "

enum { COL_ID, COL_SUBJECT, COL_REASON, COL_REFERENCE, COL_REQUESTED_BY, COL_REQUESTED_AT, COL_DONE_AT, COL_ITEMS_DONE, COL_ITEMS_TOTAL,
       COL_CERTIFICATE };

/* params[0] is the tenant's. */
static enum status find(struct query *q, struct call *call, uint64_t scope, const struct sql *sql, struct db_param params[], PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, scope, call->deadline_ms, &call->why);
    params[0] = DB_UUID(&tx.claims.tenant_id);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, sql, params, ret_rows, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

static Query__Erasure *erasure_from_row(struct arena *mem, const PGresult *rows, int row) {
    Query__Erasure *e = arena_alloc(mem, sizeof *e);
    query__erasure__init(e);
    e->id = column_id(mem, rows, row, COL_ID);
    e->subject_id = column_id(mem, rows, row, COL_SUBJECT);
    e->reason = column_text(mem, rows, row, COL_REASON);
    e->reference = column_text(mem, rows, row, COL_REFERENCE);
    e->requested_by = column_id(mem, rows, row, COL_REQUESTED_BY);
    e->requested_at_us = db_micros(rows, row, COL_REQUESTED_AT);
    e->done_at_us = db_micros(rows, row, COL_DONE_AT);
    e->state = (char *)(db_is_null(rows, row, COL_DONE_AT) ? "running" : "done");
    e->items_done = column_count(rows, row, COL_ITEMS_DONE);
    e->items_total = column_count(rows, row, COL_ITEMS_TOTAL);
    return e;
}

static enum status find_erasure(struct query *q, struct call *call, const ProtobufCBinaryData *bytes, struct uuid *ret_id, PGresult **ret_rows) {
    static const struct sql FIND = { "find_erasure", "SELECT " ERASURE_COLUMNS "FROM app.erasures e WHERE e.tenant_id = $1 AND e.id = $2", 2 };
    if (!uuid_from_bytes(bytes->data, bytes->len, ret_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "erasure_id");
    enum status st = find(q, call, SCOPE_ERASURES_MANAGE, &FIND, (struct db_param[]){ DB_NULL, DB_UUID(ret_id) }, ret_rows);
    return st == ST_OK && db_count(*ret_rows) == 0 ? fail(&call->why, ST_NOT_FOUND, "erasure") : st;
}

enum status on_get_erasure(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetErasureRequest *req = (const void *)in;
    Query__GetErasureReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct uuid id;
    enum status st = find_erasure(self, call, &req->erasure_id, &id, &rows);
    if (st == ST_OK)
        st = audit_append(call, &(struct audit_record){ .action = AUDIT_ERASURE_READ, .resource_id = id, .detail_json = "{\"erasures\":1}" }, NULL);
    if (st == ST_OK)
        reply->erasure = erasure_from_row(call->mem, rows, 0);
    return st;
}

enum status on_list_erasures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_erasures",
        "SELECT " ERASURE_COLUMNS "FROM app.erasures e WHERE e.tenant_id = $1 AND ($2::uuid IS NULL OR e.id < $2::uuid) ORDER BY e.id DESC LIMIT $3", 3 };
    const Query__ListErasuresRequest *req = (const void *)in;
    Query__ListErasuresReply *reply = (void *)out;
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (st == ST_OK)
        st = find(self, call, SCOPE_ERASURES_MANAGE, &LIST, (struct db_param[]){ DB_NULL, PAGE_AFTER(&page), PAGE_ROWS(&page) }, &rows);
    if (st != ST_OK)
        return st;
    size_t count = list_page_end(&page, call->mem, rows, COL_ID, &reply->next_cursor);
    st = audit_append(call, &(struct audit_record){ .action = AUDIT_ERASURE_READ, .detail_json = arena_printf(call->mem, "{\"erasures\":%zu}", count) }, NULL);
    if (st != ST_OK)
        return st;
    reply->erasures = arena_alloc(call->mem, (count + 1) * sizeof *reply->erasures);
    for (; reply->n_erasures < count; reply->n_erasures++)
        reply->erasures[reply->n_erasures] = erasure_from_row(call->mem, rows, (int)reply->n_erasures);
    return ST_OK;
}

enum status on_get_erasure_certificate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql EVENT = { "erasure_event", "SELECT seq, event FROM audit.erasure_event($1)", 1 };
    const Query__GetErasureCertificateRequest *req = (const void *)in;
    Query__GetErasureCertificateReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct uuid id;
    struct event_proof proof;
    enum status st = find_erasure(self, call, &req->erasure_id, &id, &rows);
    if (st == ST_OK && db_is_null(rows, 0, COL_CERTIFICATE))
        st = fail(&call->why, ST_NOT_FOUND, "the erasure is not done");
    if (st == ST_OK)
        st = audit_append(call, &(struct audit_record){ .action = AUDIT_ERASURE_READ, .resource_id = id, .detail_json = "{\"erasures\":1}" }, NULL);
    if (st == ST_OK)
        st = event_prove(self, call, SCOPE_ERASURES_MANAGE, &EVENT, &id, &proof);
    if (st != ST_OK)
        return st;
    reply->certificate = column_text(call->mem, rows, 0, COL_CERTIFICATE);
    EVENT_PROOF_SHOW(reply, proof);
    return ST_OK;
}

/* ---- holds ---- */

enum { HOLD_ID, HOLD_DOCUMENT, HOLD_SUBJECT, HOLD_REASON, HOLD_REFERENCE, HOLD_PLACED_BY, HOLD_PLACED_AT, HOLD_RELEASED_BY, HOLD_RELEASED_AT, HOLD_LOG };

static Query__Hold *hold_from_row(struct arena *mem, const PGresult *rows, int row) {
    Query__Hold *h = arena_alloc(mem, sizeof *h);
    query__hold__init(h);
    h->id = column_id(mem, rows, row, HOLD_ID);
    h->document_id = column_id(mem, rows, row, HOLD_DOCUMENT);
    h->subject_id = column_id(mem, rows, row, HOLD_SUBJECT);
    h->reason = column_text(mem, rows, row, HOLD_REASON);
    h->reference = column_text(mem, rows, row, HOLD_REFERENCE);
    h->placed_by = column_id(mem, rows, row, HOLD_PLACED_BY);
    h->placed_at_us = db_micros(rows, row, HOLD_PLACED_AT);
    h->released_by = column_id(mem, rows, row, HOLD_RELEASED_BY);
    h->released_at_us = db_micros(rows, row, HOLD_RELEASED_AT);
    h->log = db_bool(rows, row, HOLD_LOG);
    return h;
}

enum status on_list_holds(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_holds",
        "SELECT h.id, h.document_id, h.subject_id, h.reason_code, h.reference, h.placed_by, h.placed_at, h.released_by, h.released_at, h.is_log "
        "FROM app.holds h WHERE h.tenant_id = $1 AND ($2::uuid IS NULL OR h.id < $2::uuid) ORDER BY h.id DESC LIMIT $3", 3 };
    const Query__ListHoldsRequest *req = (const void *)in;
    Query__ListHoldsReply *reply = (void *)out;
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (st == ST_OK)
        st = find(self, call, SCOPE_HOLDS_MANAGE, &LIST, (struct db_param[]){ DB_NULL, PAGE_AFTER(&page), PAGE_ROWS(&page) }, &rows);
    if (st != ST_OK)
        return st;
    size_t count = list_page_end(&page, call->mem, rows, HOLD_ID, &reply->next_cursor);
    struct uuid *documents = arena_alloc(call->mem, (count + 1) * sizeof *documents);
    size_t n_documents = 0;
    for (size_t i = 0; i < count; i++)
        if (!db_is_null(rows, (int)i, HOLD_DOCUMENT))
            documents[n_documents++] = db_uuid(rows, (int)i, HOLD_DOCUMENT);
    st = audit_append(call, &(struct audit_record){ .action = AUDIT_HOLD_LIST, .document_ids = documents, .document_count = n_documents,
                      .detail_json = arena_printf(call->mem, "{\"holds\":%zu}", count) }, NULL);
    if (st != ST_OK)
        return st;
    reply->holds = arena_alloc(call->mem, (count + 1) * sizeof *reply->holds);
    for (; reply->n_holds < count; reply->n_holds++)
        reply->holds[reply->n_holds] = hold_from_row(call->mem, rows, (int)reply->n_holds);
    return ST_OK;
}
