/* audit_events — the tenant's own audit log, for its auditors. Reading it is on it. */
#include <string.h>

#include "archive/archive.h"
#include "audit/client.h"
#include "columns.h"
#include "core/wire.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "detail.h"
#include "query.h"
#include "query.pb-c.h"

static const char ACTION_LETTERS[] = "abcdefghijklmnopqrstuvwxyz_.";

enum { LIST_LIMIT_DEFAULT = 50, LIST_LIMIT_MAX = 200, ACTION_MAX_BYTES = 64, ID_MARGIN_MS = 25 * 3600 * 1000 };
enum { COL_ID, COL_SEQ, COL_OCCURRED_AT, COL_ACTION, COL_OUTCOME, COL_ACTOR, COL_SESSION, COL_REQUEST, COL_DOCUMENTS, COL_EVENT,
       COL_LEAF };

static Query__AuditEvent *event_from_row(struct arena *mem, const PGresult *rows, int row, const struct archived *archived) {
    Query__AuditEvent *e = arena_alloc(mem, sizeof *e);
    query__audit_event__init(e);
    e->id = column_id(mem, rows, row, COL_ID);
    e->seq = db_i64(rows, row, COL_SEQ);
    e->occurred_at_us = db_micros(rows, row, COL_OCCURRED_AT);
    e->action = column_text(mem, rows, row, COL_ACTION);
    e->outcome = column_text(mem, rows, row, COL_OUTCOME);
    e->actor_id = column_id(mem, rows, row, COL_ACTOR);
    e->session_id = column_id(mem, rows, row, COL_SESSION);
    e->request_id = column_id(mem, rows, row, COL_REQUEST);
    const char *text = NULL;
    size_t len = 0, n = 0;
    while (db_text_item(rows, row, COL_DOCUMENTS, (int)n, &text, &len))
        n++;
    e->document_ids = arena_alloc(mem, n * sizeof *e->document_ids);
    for (size_t i = 0; i < n; i++) {
        struct uuid id;
        if (db_text_item(rows, row, COL_DOCUMENTS, (int)i, &text, &len) && uuid_parse(text, len, &id))
            e->document_ids[e->n_document_ids++] = wire_id(mem, &id);
    }
    const char *event = archived_event(archived, rows, row, COL_SEQ, COL_EVENT, &len);
    e->event_json = arena_strndup(mem, event ? event : "", len);
    e->leaf_hash = column_bytes(mem, rows, row, COL_LEAF);
    return e;
}

static enum status optional_id(struct call *call, const ProtobufCBinaryData *in, const char *name, struct uuid *ret_id,
                               const struct uuid **ret_used) {
    if (in->len == 0)
        return ST_OK;
    if (!uuid_from_bytes(in->data, in->len, ret_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "%s", name);
    *ret_used = ret_id;
    return ST_OK;
}

/* The first rows whose events fit into one reply, at least one, as events of the reply. */
static void add_events(struct arena *mem, const PGresult *rows, size_t count, const struct archived *archived, Query__ListAuditEventsReply *reply) {
    size_t bytes = 0;
    reply->events = arena_alloc(mem, count * sizeof *reply->events);
    for (size_t i = 0; i < count; i++) {
        Query__AuditEvent *e = event_from_row(mem, rows, (int)i, archived);
        bytes += query__audit_event__get_packed_size(e);
        if (i > 0 && bytes > QUERY_PAGE_MAX_BYTES)
            return;
        reply->events[reply->n_events++] = e;
    }
}

/* What was asked for and how much of it was shown. */
static enum status print_detail(struct call *call, const Query__ListAuditEventsRequest *req, const int64_t *before_seq,
                                size_t count, struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    detail_put_number(&w, "events", (int64_t)count);
    detail_put_code(&w, "action", req->action);
    detail_put_id(&w, "actor_id", &req->actor_id);
    detail_put_id(&w, "document_id", &req->document_id);
    detail_put_id(&w, "resource_id", &req->resource_id);
    detail_put_id(&w, "request_id", &req->request_id);
    detail_put_code(&w, "outcome", req->outcome);
    detail_put_time(&w, "from", req->from_us);
    detail_put_time(&w, "to", req->to_us);
    if (before_seq)
        detail_put_number(&w, "before_seq", *before_seq);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(&call->why, ST_INTERNAL, "detail of a read");
}

/* An id that nothing which happened at that time is beyond: ids are of when an event was made, which is its time, or, by the
 * clock of whoever reported it, at most a day from it. So months are passed over, and rows by the index alone. NULL: no bound. */
static const struct uuid *id_bound(int64_t unix_us, int sign, struct uuid *ret_id) {
    int64_t ms = unix_us / 1000 + sign * ID_MARGIN_MS;
    if (unix_us == 0)
        return NULL;
    ms = ms > 0 ? ms : 0;
    *ret_id = (struct uuid){ 0 };
    ms = ms >> 48 ? (INT64_C(1) << 48) - 1 : ms;
    for (int i = 5; i >= 0; i--, ms >>= 8)
        ret_id->bytes[i] = (uint8_t)ms;
    return ret_id;
}

enum status on_list_audit_events(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_audit_events",
        "SELECT l.event_id, l.seq, l.occurred_at, l.action, l.outcome, l.actor_id, l.session_id, l.request_id, "
        "l.document_ids::text[], l.event, l.leaf_hash FROM audit.audit_logs l "
        "WHERE l.tenant_id = $1 AND ($2::bigint IS NULL OR l.seq < $2::bigint) AND ($3 = '' OR l.action = $3) "
        "AND ($4::uuid IS NULL OR l.actor_id = $4::uuid) AND ($5::uuid IS NULL OR l.event_id IN "
        "(SELECT e.event_id FROM audit.document_events e WHERE e.tenant_id = $1 AND e.document_id = $5::uuid AND ($2::bigint IS NULL OR e.seq < $2::bigint))) "
        "AND ($6::bigint = 0 OR l.occurred_at >= pg_catalog.to_timestamp($6::bigint / 1000000.0)) "
        "AND ($7::bigint = 0 OR l.occurred_at < pg_catalog.to_timestamp($7::bigint / 1000000.0)) "
        "AND ($9::uuid IS NULL OR l.resource_id = $9::uuid) AND ($10::uuid IS NULL OR l.request_id = $10::uuid) "
        "AND ($11 = '' OR l.outcome = $11) AND ($12::uuid IS NULL OR l.event_id >= $12::uuid) AND ($13::uuid IS NULL OR l.event_id < $13::uuid) "
        "ORDER BY l.seq DESC LIMIT $8", 13 };
    const Query__ListAuditEventsRequest *req = (const void *)in;
    Query__ListAuditEventsReply *reply = (void *)out;
    struct query *q = self;

    uint32_t limit = req->limit ? req->limit : LIST_LIMIT_DEFAULT;
    if (limit > LIST_LIMIT_MAX || strlen(req->action) > ACTION_MAX_BYTES ||
        strspn(req->action, ACTION_LETTERS) != strlen(req->action) ||
        (*req->outcome && audit_outcome_find(req->outcome) == AUDIT_OUTCOME_COUNT) || req->from_us < 0 || req->to_us < 0)
        return fail_as(&call->why, ERR_REQ_FIELD, "limit, action, from or to");
    struct uuid actor_id, document_id, resource_id, request_id, low, high;
    const struct uuid *actor = NULL, *document = NULL, *resource = NULL, *request = NULL;
    bool is_first = true;
    int64_t last = 0;
    enum status st = cursor_to_number(call->mem, req->cursor, &is_first, &last, &call->why);
    if (st == ST_OK)
        st = optional_id(call, &req->actor_id, "actor_id", &actor_id, &actor);
    if (st == ST_OK)
        st = optional_id(call, &req->document_id, "document_id", &document_id, &document);
    if (st == ST_OK)
        st = optional_id(call, &req->resource_id, "resource_id", &resource_id, &resource);
    if (st == ST_OK)
        st = optional_id(call, &req->request_id, "request_id", &request_id, &request);
    if (st != ST_OK)
        return st;

    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct archived archived = { 0 };
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        st = tenant_tx_begin(&tx, q->audit_db, call->ticket, &call->request_id, SCOPE_AUDIT_READ, call->deadline_ms, &call->why);
        if (st == ST_OK)
            st = tenant_tx_run(&tx, &LIST, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), is_first ? DB_NULL : DB_INT(last),
                               DB_TEXT(req->action), DB_UUID(actor), DB_UUID(document), DB_INT(req->from_us), DB_INT(req->to_us),
                               DB_INT(limit + 1), DB_UUID(resource), DB_UUID(request), DB_TEXT(req->outcome),
                               DB_UUID(id_bound(req->from_us, -1, &low)), DB_UUID(id_bound(req->to_us, 1, &high)) }, &rows, &call->why);
        if (st == ST_OK)
            st = archived_find(&tx, call->mem, rows, COL_SEQ, COL_EVENT, &archived, &call->why);
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, &call->why);
        if (st != ST_OK)
            return st;
    }
    st = archived_read(q->anchor, call->mem, &archived, call->deadline_ms, &call->why);
    if (st != ST_OK)
        return st;
    size_t found = (size_t)db_count(rows);
    add_events(call->mem, rows, found < limit ? found : limit, &archived, reply);
    if (found > reply->n_events)
        reply->next_cursor = (char *)cursor_from_number(call->mem, reply->events[reply->n_events - 1]->seq);
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    st = print_detail(call, req, is_first ? NULL : &last, reply->n_events, &detail);
    return st == ST_OK ? audit_append(call, &(struct audit_record){ .action = AUDIT_AUDIT_READ, .detail_json = detail.data }, NULL) : st;
}
