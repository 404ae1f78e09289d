/* disclosures — who saw a document, or the documents of a patient: the accounting of 45 CFR 164.528 and more, as it tells
 * of every reader and of every model. Only the log is asked, so that the report outlives what it is about: which documents
 * are a patient's says the log too, by the events of their making. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "archive/archive.h"
#include "audit/client.h"
#include "audit/event.h"
#include "columns.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/wire.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "detail.h"
#include "json/reader.h"
#include "query.h"
#include "query.pb-c.h"

enum { LIST_LIMIT_DEFAULT = 50, LIST_LIMIT_MAX = 200, CSV_PORTION = 200 };
enum { COL_ID, COL_SEQ, COL_OCCURRED_AT, COL_EVENT, COL_MODEL_EVENT, COL_MODEL_SEQ };

/* What a reader got to see; whatever is not here showed a state. */
static const struct shown { enum audit_action action; const char *shown, *recipient, *purpose; } SHOWN[] = {
    { AUDIT_DOCUMENT_LIST,         "names",    "user",  "" },
    { AUDIT_DOCUMENT_READ,         "names",    "user",  "" },
    { AUDIT_DOCUMENT_CONTENT_READ, "original", "user",  "" },
    { AUDIT_SEARCH_DISCLOSE,       "passages", "user",  "search" },
    { AUDIT_ANSWER_DISCLOSE,       "answer",   "user",  "answer" },
    { AUDIT_ANSWER_READ,           "answer",   "user",  "" },
    { AUDIT_CONVERSATION_READ,     "answer",   "user",  "" },
    { AUDIT_RECEIPT_READ,          "answer",   "user",  "receipt" },
    { AUDIT_MODEL_DISCLOSE,        "passages", "model", "" },
};
static const struct shown STATE = { AUDIT_ACTION_COUNT, "state", "user", "" };

static const struct shown *shown_by(const char *action) {
    for (size_t i = 0; i < sizeof SHOWN / sizeof *SHOWN; i++)
        if (str_equal(audit_action_name(SHOWN[i].action), action))
            return &SHOWN[i];
    return &STATE;
}

/* ---- what is asked for ---- */

struct report {
    const Query__ListDisclosuresRequest *req;
    struct uuid id;
    bool is_of_patient;
    const char *documents;          /* uuid[] as text */
    bool is_first;
    int64_t before_seq;
};

static enum status check_request(struct call *call, const Query__ListDisclosuresRequest *req, struct report *r) {
    *r = (struct report){ .req = req, .is_of_patient = req->subject_id.len > 0 };
    const ProtobufCBinaryData *id = r->is_of_patient ? &req->subject_id : &req->document_id;
    if (req->limit > LIST_LIMIT_MAX || req->from_us < 0 || req->to_us < 0)
        return fail_as(&call->why, ERR_REQ_FIELD, "limit, from or to");
    if ((req->document_id.len > 0) == r->is_of_patient || !uuid_from_bytes(id->data, id->len, &r->id))
        return fail_as(&call->why, ERR_REQ_FIELD, "one of document_id and subject_id");
    return cursor_to_number(call->mem, req->cursor, &r->is_first, &r->before_seq, &call->why);
}

/* The documents that the log says are, or were, the patient's. */
static enum status find_documents(struct tenant_tx *tx, struct call *call, struct report *r) {
    static const struct sql FIND = { "documents_of_subject",
        "SELECT coalesce(pg_catalog.array_agg(DISTINCT d), '{}')::text FROM audit.audit_logs l CROSS JOIN LATERAL pg_catalog.unnest(l.document_ids) d "
        "WHERE l.tenant_id = $1 AND l.resource_id = $2 AND l.kind = 'mutation'", 2 };
    char text[UUID_TEXT_BYTES];
    if (!r->is_of_patient) {
        r->documents = arena_printf(call->mem, "{%s}", uuid_format(&r->id, text));
        return ST_OK;
    }
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &FIND, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&r->id) }, &rows, &call->why);
    if (st == ST_OK)
        r->documents = column_text(call->mem, rows, 0, 0);
    return st;
}

struct page { PGresult *rows; struct archived archived; };

static void page_end(struct page *page) {
    pgrows_destroy(&page->rows);
}

static enum status find_page(struct query *q, struct call *call, struct report *r, uint32_t limit, struct arena *mem, struct page *page) {
    /* which model it was is known when it has answered: that is on the record under the answer's, or the job's, id */
    static const struct sql PAGE = { "list_disclosures",
        "SELECT l.event_id, l.seq, l.occurred_at, l.event, m.event, m.seq FROM audit.audit_logs l "
        "LEFT JOIN LATERAL (SELECT s.event, s.seq FROM audit.audit_logs s WHERE s.tenant_id = $1 AND s.resource_id = l.resource_id "
        "AND s.action = ANY ('{answer.store,model.use}') ORDER BY s.seq DESC LIMIT 1) m ON l.action = ANY ('{answer.disclose,answer.read,model.disclose}') "
        "WHERE l.tenant_id = $1 AND l.kind = 'disclosure' AND l.outcome = 'success' AND ($2::bigint IS NULL OR l.seq < $2::bigint) "
        "AND l.event_id IN (SELECT e.event_id FROM audit.document_events e WHERE e.tenant_id = $1 AND e.document_id = ANY ($3::uuid[]) "
        "AND ($2::bigint IS NULL OR e.seq < $2::bigint) UNION ALL SELECT r.event_id FROM audit.audit_logs r WHERE r.tenant_id = $1 "
        "AND r.resource_id = $4 AND r.kind = 'disclosure') "
        "AND ($5::bigint = 0 OR l.occurred_at >= pg_catalog.to_timestamp($5::bigint / 1000000.0)) "
        "AND ($6::bigint = 0 OR l.occurred_at < pg_catalog.to_timestamp($6::bigint / 1000000.0)) ORDER BY l.seq DESC LIMIT $7", 7 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->audit_db, call->ticket, &call->request_id, SCOPE_AUDIT_READ, call->deadline_ms, &call->why);
    if (st == ST_OK && !r->documents)
        st = find_documents(&tx, call, r);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PAGE, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), r->is_first ? DB_NULL : DB_INT(r->before_seq),
                           DB_TEXT(r->documents), DB_UUID(&r->id), DB_INT(r->req->from_us), DB_INT(r->req->to_us), DB_INT(limit) },
                           &page->rows, &call->why);
    if (st == ST_OK)
        st = archived_find(&tx, mem, page->rows, COL_SEQ, COL_EVENT, &page->archived, &call->why);
    if (st == ST_OK)
        st = archived_find(&tx, mem, page->rows, COL_MODEL_SEQ, COL_MODEL_EVENT, &page->archived, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

/* What is archived comes after the transaction. */
static enum status read_page(struct query *q, struct call *call, struct report *r, uint32_t limit, struct arena *mem, struct page *page) {
    enum status st = find_page(q, call, r, limit, mem, page);
    return st == ST_OK ? archived_read(q->anchor, mem, &page->archived, call->deadline_ms, &call->why) : st;
}

static enum status record(struct call *call, const struct report *r, const char *format, int64_t rows) {
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    struct json_writer w;
    json_begin(&w, &detail);
    json_open_object(&w);
    detail_put_code(&w, "format", format);
    if (rows >= 0)
        detail_put_number(&w, "rows", rows);
    detail_put_id(&w, "document_id", &r->req->document_id);
    detail_put_id(&w, "subject_id", &r->req->subject_id);
    detail_put_time(&w, "from", r->req->from_us);
    detail_put_time(&w, "to", r->req->to_us);
    if (!r->is_first)
        detail_put_number(&w, "before_seq", r->before_seq);
    json_close_object(&w);
    if (!json_finish(&w))
        return fail(&call->why, ST_INTERNAL, "detail of a report");
    return audit_append(call, &(struct audit_record){ .action = AUDIT_DISCLOSURE_REPORT, .detail_json = detail.data }, NULL);
}

/* ---- one disclosure ---- */

static const char *member(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static ProtobufCBinaryData member_id(struct arena *mem, const json_t *object, const char *name) {
    const char *text = member(object, name);
    struct uuid id;
    return uuid_parse(text, strlen(text), &id) ? wire_id(mem, &id) : (ProtobufCBinaryData){ 0 };
}

static void add_id(struct arena *mem, const json_t *value, ProtobufCBinaryData *ids, size_t *count) {
    const char *text = json_string_value(value);
    struct uuid id;
    if (text && uuid_parse(text, strlen(text), &id))
        ids[(*count)++] = wire_id(mem, &id);
}

/* Documents that were asked for, each once, and the chunks that are theirs: as many documents as chunks are named beside
 * each other, one document is that of all chunks. */
static void keep_ids(struct arena *mem, const struct report *r, const json_t *event, Query__Disclosure *d) {
    const json_t *documents = json_object_get(event, "document_ids"), *chunks = json_object_get(event, "chunk_ids");
    size_t n = json_array_size(documents), m = json_array_size(chunks);
    d->document_ids = arena_alloc(mem, n * sizeof *d->document_ids);
    d->chunk_ids = arena_alloc(mem, m * sizeof *d->chunk_ids);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(documents, i));
        bool is_repeat = false;
        if (!text || !strstr(r->documents, text))
            continue;
        for (size_t k = 0; k < i && !is_repeat; k++)
            is_repeat = str_equal(json_string_value(json_array_get(documents, k)), text);
        if (!is_repeat)
            add_id(mem, json_array_get(documents, i), d->document_ids, &d->n_document_ids);
        if (n == m)
            add_id(mem, json_array_get(chunks, i), d->chunk_ids, &d->n_chunk_ids);
    }
    for (size_t i = 0; n == 1 && m > 1 && i < m; i++)
        add_id(mem, json_array_get(chunks, i), d->chunk_ids, &d->n_chunk_ids);
}

/* *ret_event stays NULL when the row names none. */
static enum status parse(const struct page *page, int row, int seq_column, int column, json_t **ret_event, struct why *why) {
    size_t len = 0;
    const char *bytes = archived_event(&page->archived, page->rows, row, seq_column, column, &len);
    if (!bytes)
        return db_is_null(page->rows, row, seq_column) ? ST_OK
             : fail_as(why, ERR_AUDIT_ARCHIVE, "event %" PRId64 " is nowhere", db_i64(page->rows, row, seq_column));
    return json_parse(bytes, len, AUDIT_EVENT_MAX_BYTES, ret_event, why) == ST_OK ? ST_OK : fail(why, ST_INTERNAL, "an event of the log does not parse");
}

static enum status disclosure_from_row(struct arena *mem, const struct report *r, const struct page *page, int row, Query__Disclosure *d,
                                       struct why *why) {
    CLEANUP(json_destroy) json_t *event = NULL;
    CLEANUP(json_destroy) json_t *told = NULL;
    const PGresult *rows = page->rows;
    enum status st = parse(page, row, COL_SEQ, COL_EVENT, &event, why);
    if (st == ST_OK)
        st = parse(page, row, COL_MODEL_SEQ, COL_MODEL_EVENT, &told, why);
    if (st != ST_OK)
        return st;
    const json_t *detail = json_object_get(event, "detail");
    const struct shown *shown = shown_by(member(event, "action"));
    const char *model = member(told ? json_object_get(told, "detail") : detail, "model"), *purpose = member(detail, "purpose");
    query__disclosure__init(d);
    d->event_id = column_id(mem, rows, row, COL_ID);
    d->seq = db_i64(rows, row, COL_SEQ);
    d->occurred_at_us = db_micros(rows, row, COL_OCCURRED_AT);
    d->recipient = (char *)shown->recipient;
    d->shown = (char *)shown->shown;
    d->action = arena_strdup(mem, member(event, "action"));
    d->actor_id = member_id(mem, event, "actor_id");
    d->session_id = member_id(mem, event, "session_id");
    d->request_id = member_id(mem, event, "request_id");
    d->grant_id = member_id(mem, event, "grant_id");
    d->resource_id = member_id(mem, event, "resource_id");
    d->model = arena_strdup(mem, str_equal(model, "none") ? "" : model);
    d->purpose = arena_strdup(mem, *purpose ? purpose : shown->purpose);
    keep_ids(mem, r, event, d);
    return ST_OK;
}

enum status on_list_disclosures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__ListDisclosuresRequest *req = (const void *)in;
    Query__ListDisclosuresReply *reply = (void *)out;
    struct report r;
    uint32_t limit = req->limit ? req->limit : LIST_LIMIT_DEFAULT;
    CLEANUP(page_end) struct page page = { 0 };
    enum status st = check_request(call, req, &r);
    if (st == ST_OK)
        st = read_page(self, call, &r, limit + 1, call->mem, &page);
    if (st != ST_OK)
        return st;
    size_t found = (size_t)db_count(page.rows), bytes = 0;
    reply->disclosures = arena_alloc(call->mem, found * sizeof *reply->disclosures);
    for (size_t i = 0; st == ST_OK && i < found && i < limit; i++) {
        Query__Disclosure *d = arena_alloc(call->mem, sizeof *d);
        st = disclosure_from_row(call->mem, &r, &page, (int)i, d, &call->why);
        bytes += st == ST_OK ? query__disclosure__get_packed_size(d) : 0;
        if (i > 0 && bytes > QUERY_PAGE_MAX_BYTES)
            break;
        reply->disclosures[reply->n_disclosures++] = d;
    }
    if (st == ST_OK && found > reply->n_disclosures)
        reply->next_cursor = (char *)cursor_from_number(call->mem, reply->disclosures[reply->n_disclosures - 1]->seq);
    return st == ST_OK ? record(call, &r, "json", (int64_t)reply->n_disclosures) : st;
}

/* ---- CSV ---- */

static void put_ids(struct buffer *out, const ProtobufCBinaryData ids[], size_t count, const char *end) {
    for (size_t i = 0; i < count; i++) {
        struct uuid id;
        char text[UUID_TEXT_BYTES];
        if (uuid_from_bytes(ids[i].data, ids[i].len, &id))
            buffer_printf(out, "%s%s", i ? " " : "", uuid_format(&id, text));
    }
    buffer_add_str(out, end);
}

/* Ids, codes and times only, so there is nothing to quote. */
static void put_line(struct buffer *out, const Query__Disclosure *d) {
    char when[CLOCK_TEXT_BYTES];
    buffer_printf(out, "%s,%" PRId64 ",", clock_format(d->occurred_at_us, when), d->seq);
    put_ids(out, &d->event_id, 1, ",");
    buffer_printf(out, "%s,%s,%s,", d->recipient, d->shown, d->action);
    put_ids(out, &d->actor_id, 1, ",");
    put_ids(out, &d->session_id, 1, ",");
    put_ids(out, &d->request_id, 1, ",");
    put_ids(out, &d->grant_id, 1, ",");
    put_ids(out, &d->resource_id, 1, ",");
    buffer_printf(out, "%s,%s,", d->model, d->purpose);
    put_ids(out, d->document_ids, d->n_document_ids, ",");
    put_ids(out, d->chunk_ids, d->n_chunk_ids, "\r\n");
}

/* One portion in memory of its own, so that a long report needs no more than a short one. */
static enum status send_portion(struct query *q, struct call *call, struct report *r, int64_t *rows_sent, bool *ret_end) {
    CLEANUP(page_end) struct page page = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(BUS_BODY_CAP_BYTES);
    CLEANUP(buffer_end) struct buffer out = { 0 };
    call_take_tickets(call);
    enum status st = call_is_cancelled(call) ? fail(&call->why, ST_UNAVAILABLE, "report: nobody reads it any more")
                                             : read_page(q, call, r, CSV_PORTION, mem, &page);
    if (st != ST_OK)
        return st;
    *ret_end = db_count(page.rows) < CSV_PORTION;
    for (int i = 0; st == ST_OK && i < db_count(page.rows); i++) {
        Query__Disclosure d;
        st = disclosure_from_row(mem, r, &page, i, &d, &call->why);
        if (st != ST_OK)
            return st;
        put_line(&out, &d);
        r->before_seq = d.seq;
        r->is_first = false;
        ++*rows_sent;
        if (out.len >= BUS_PART_MAX_BYTES / 2) {
            st = call_write(call, out.data, out.len);
            buffer_clear(&out);
        }
    }
    return st == ST_OK && out.len ? call_write(call, out.data, out.len) : st;
}

enum status on_export_disclosures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const char HEAD[] = "occurred_at,seq,event_id,recipient,shown,action,actor_id,session_id,request_id,grant_id,resource_id,model,"
                               "purpose,document_ids,chunk_ids\r\n";
    Query__ExportDisclosuresReply *reply = (void *)out;
    struct report r;
    enum status st = check_request(call, (const void *)in, &r);
    if (st == ST_OK && !r.is_first)
        st = fail_as(&call->why, ERR_REQ_CURSOR, "a report as CSV has no pages");
    if (st == ST_OK)
        st = record(call, &r, "csv", -1);
    if (st == ST_OK)
        st = call_write(call, HEAD, sizeof HEAD - 1);
    for (bool is_end = false; st == ST_OK && !is_end;)
        st = send_portion(self, call, &r, &reply->disclosures, &is_end);
    return st;
}
