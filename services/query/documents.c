/* documents — what may be read of documents. File names are ciphertext in the database, so even
 * a list is a disclosure: it is on the record before the keys that open the names are given. */
#include <string.h>

#include "audit/client.h"
#include "columns.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "disclosure.h"
#include "keystore/original.h"
#include "query.h"
#include "query.pb-c.h"

#define DOCUMENT_COLUMNS \
    "d.id, d.content_type, d.bytes, d.status, d.reason_code, d.pages, d.chunks, d.created_by, d.created_at, d.ready_at, " \
    "d.name_enc, d.key_version, j.id, j.stage, j.chunks_done, j.pages_done, j.chunks_total, NULL::bigint, NULL::bigint, d.subject_id "
#define LATEST_JOB \
    "LEFT JOIN LATERAL (SELECT k.id, k.stage, k.chunks_done, k.pages_done, k.chunks_total FROM jobs.jobs k " \
    "WHERE k.tenant_id = d.tenant_id AND k.document_id = d.id ORDER BY k.created_at DESC LIMIT 1) j ON true "

/* An upload that is not a document yet, in the same columns. */
#define UPLOAD_COLUMNS \
    "u.document_id, u.content_type, 0::bigint, 'uploading', NULL::text, NULL::integer, NULL::integer, u.user_id, u.started_at, " \
    "NULL::timestamptz, NULL::bytea, NULL::integer, NULL::uuid, NULL::text, NULL::integer, NULL::integer, NULL::integer, " \
    "u.bytes_received, u.bytes_announced, NULL::uuid "
static const char UPLOADING[] = "uploading";

enum { COL_ID, COL_TYPE, COL_BYTES, COL_STATUS, COL_REASON, COL_PAGES, COL_CHUNKS, COL_CREATED_BY, COL_CREATED_AT,
       COL_READY_AT, COL_NAME_ENC, COL_KEY_VERSION, COL_JOB_ID, COL_STAGE, COL_CHUNKS_DONE, COL_PAGES_DONE, COL_CHUNKS_TOTAL,
       COL_RECEIVED, COL_ANNOUNCED, COL_SUBJECT };

/* Everything but the name, which needs its key. */
static Query__Document *document_from_row(struct arena *mem, const PGresult *rows, int row) {
    Query__Document *d = arena_alloc(mem, sizeof *d);
    query__document__init(d);
    d->id = column_id(mem, rows, row, COL_ID);
    d->content_type = column_text(mem, rows, row, COL_TYPE);
    d->bytes = db_i64(rows, row, COL_BYTES);
    d->status = column_text(mem, rows, row, COL_STATUS);
    d->reason_code = column_text(mem, rows, row, COL_REASON);
    d->pages = column_count(rows, row, COL_PAGES);
    d->chunks = column_count(rows, row, COL_CHUNKS);
    d->created_by_id = column_id(mem, rows, row, COL_CREATED_BY);
    d->created_at_us = db_micros(rows, row, COL_CREATED_AT);
    d->ready_at_us = db_micros(rows, row, COL_READY_AT);
    d->job_id = column_id(mem, rows, row, COL_JOB_ID);
    d->stage = column_text(mem, rows, row, COL_STAGE);
    d->chunks_done = column_count(rows, row, COL_CHUNKS_DONE);
    d->pages_done = column_count(rows, row, COL_PAGES_DONE);
    d->chunks_total = column_count(rows, row, COL_CHUNKS_TOTAL);
    d->bytes_received = db_is_null(rows, row, COL_RECEIVED) ? d->bytes : db_i64(rows, row, COL_RECEIVED);
    d->bytes_announced = db_is_null(rows, row, COL_ANNOUNCED) ? d->bytes : db_i64(rows, row, COL_ANNOUNCED);
    d->subject_id = column_id(mem, rows, row, COL_SUBJECT);
    return d;
}

struct document_list { Query__Document **items; size_t count; };

/* Put the first n rows' documents on the record as `action`, then fill in their names. Those that were deleted
 * meanwhile are not among the result. */
static enum status reveal_documents(struct query *q, struct call *call, enum audit_action action, const PGresult *rows, size_t n,
                                    struct document_list *ret_list) {
    struct document_list list = { arena_alloc(call->mem, n * sizeof *list.items), 0 };
    struct uuid *ids = arena_alloc(call->mem, n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = db_uuid(rows, (int)i, COL_ID);
    CLEANUP(disclosure_end) struct disclosure shown = { 0 };
    enum status st = disclosure_begin(&shown, q, call, &(struct disclosed){ .action = action, .document_ids = ids,
                                      .document_count = n }, SCOPE_DOCUMENTS_READ);
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        if (!disclosure_has_key(&shown, &ids[i]))
            continue;
        Query__Document *d = document_from_row(call->mem, rows, (int)i);
        st = disclosure_open_text(&shown, call, &ids[i], FIELD_FILE_NAME, &ids[i], rows, (int)i, COL_NAME_ENC, &d->file_name);
        list.items[list.count++] = d;
    }
    if (st == ST_OK)
        *ret_list = list;
    return st;
}

/* Uploads under way have no name and no key: that they were shown is on the record, and there is nothing to open. */
static enum status reveal_uploads(struct call *call, enum audit_action action, const PGresult *rows, size_t n, struct document_list *ret_list) {
    struct document_list list = { arena_alloc(call->mem, n * sizeof *list.items), n };
    struct uuid *ids = arena_alloc(call->mem, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        ids[i] = db_uuid(rows, (int)i, COL_ID);
        list.items[i] = document_from_row(call->mem, rows, (int)i);
    }
    enum status st = audit_append(call, &(struct audit_record){ .action = action, .document_ids = ids, .document_count = n }, NULL);
    if (st == ST_OK)
        *ret_list = list;
    return st;
}

enum status on_list_documents(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_documents",
        "SELECT " DOCUMENT_COLUMNS "FROM app.documents d " LATEST_JOB
        "WHERE d.tenant_id = $1 AND d.status <> 'deleted' AND ($2::uuid IS NULL OR d.id < $2::uuid) "
        "AND ($3 = '' OR d.status = $3) AND ($5::uuid IS NULL OR d.subject_id = $5::uuid) ORDER BY d.id DESC LIMIT $4", 5 };
    static const struct sql LIST_UPLOADS = { "list_uploads",
        "SELECT " UPLOAD_COLUMNS "FROM app.uploads u WHERE u.tenant_id = $1 AND u.swept_at IS NULL "
        "AND ($2::uuid IS NULL OR u.document_id < $2::uuid) ORDER BY u.document_id DESC LIMIT $3", 3 };
    static const char *const STATUSES[] = { "", UPLOADING, "processing", "ready", "failed" };
    const Query__ListDocumentsRequest *req = (const void *)in;
    Query__ListDocumentsReply *reply = (void *)out;
    struct query *q = self;

    bool is_known = false, is_uploading = strcmp(req->status, UPLOADING) == 0;
    for (size_t i = 0; i < sizeof STATUSES / sizeof *STATUSES; i++)
        is_known |= strcmp(STATUSES[i], req->status) == 0;
    if (!is_known)
        return fail_as(&call->why, ERR_REQ_FIELD, "status");
    struct uuid subject_id;
    bool has_subject = req->subject_id.len > 0;
    if (has_subject && (is_uploading || !uuid_from_bytes(req->subject_id.data, req->subject_id.len, &subject_id)))
        return fail_as(&call->why, ERR_REQ_FIELD, "subject_id: of an upload under way it is not known");
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    if (st != ST_OK)
        return st;

    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_READ, call->deadline_ms, &call->why);
        if (st == ST_OK && is_uploading)
            st = tenant_tx_run(&tx, &LIST_UPLOADS, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), PAGE_AFTER(&page),
                               PAGE_ROWS(&page) }, &rows, &call->why);
        else if (st == ST_OK)
            st = tenant_tx_run(&tx, &LIST, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), PAGE_AFTER(&page),
                               DB_TEXT(req->status), PAGE_ROWS(&page), DB_UUID(has_subject ? &subject_id : NULL) }, &rows, &call->why);
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, &call->why);
        if (st != ST_OK)
            return st;
    }
    size_t count = list_page_end(&page, call->mem, rows, COL_ID, &reply->next_cursor);
    struct document_list list = { 0 };
    st = is_uploading ? reveal_uploads(call, AUDIT_DOCUMENT_LIST, rows, count, &list)
                      : reveal_documents(q, call, AUDIT_DOCUMENT_LIST, rows, count, &list);
    reply->documents = list.items;
    reply->n_documents = list.count;
    return st;
}

/* One row of a readable document, or ST_NOT_FOUND: absent, deleted and another tenant's are the same. */
static enum status find_document(struct query *q, struct call *call, uint64_t scopes, const ProtobufCBinaryData *id_bytes_in, bool has_uploads,
                                 struct claims *ret_claims, struct uuid *ret_id, PGresult **ret_rows) {
    static const struct sql FIND = { "find_document",
        "SELECT " DOCUMENT_COLUMNS "FROM app.documents d " LATEST_JOB
        "WHERE d.tenant_id = (SELECT authz.tenant()) AND d.id = $1 AND d.status <> 'deleted'", 1 };
    /* one statement, one moment: an upload that commits meanwhile is the one or the other */
    static const struct sql FIND_ANY = { "find_document_or_upload",
        "SELECT " DOCUMENT_COLUMNS "FROM app.documents d " LATEST_JOB
        "WHERE d.tenant_id = (SELECT authz.tenant()) AND d.id = $1 AND d.status <> 'deleted' UNION ALL "
        "SELECT " UPLOAD_COLUMNS "FROM app.uploads u WHERE u.tenant_id = (SELECT authz.tenant()) AND u.document_id = $1 AND u.swept_at IS NULL", 1 };
    if (!uuid_from_bytes(id_bytes_in->data, id_bytes_in->len, ret_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "document_id");
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_step find = { .sql = has_uploads ? &FIND_ANY : &FIND, .params = (struct db_param[]){ DB_UUID(ret_id) } };
    enum status st = tenant_tx_read(q->db, call->ticket, &call->request_id, scopes, &find, 1, &rows, ret_claims, call->deadline_ms, &call->why);
    if (st != ST_OK)
        return st;
    if (db_count(rows) == 0)
        return fail(&call->why, ST_NOT_FOUND, "document");
    *ret_rows = rows;
    rows = NULL;
    return ST_OK;
}

enum status on_get_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetDocumentRequest *req = (const void *)in;
    Query__GetDocumentReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct claims claims;
    struct uuid id;
    enum status st = find_document(self, call, SCOPE_DOCUMENTS_READ, &req->document_id, true, &claims, &id, &rows);
    if (st != ST_OK)
        return st;
    struct document_list list = { 0 };
    bool is_uploading = strcmp(db_text(rows, 0, COL_STATUS), UPLOADING) == 0;
    st = is_uploading ? reveal_uploads(call, AUDIT_DOCUMENT_READ, rows, 1, &list) : reveal_documents(self, call, AUDIT_DOCUMENT_READ, rows, 1, &list);
    if (st != ST_OK)
        return st;
    if (list.count == 0)
        return fail(&call->why, ST_NOT_FOUND, "document: deleted since it was found");
    reply->document = list.items[0];
    return ST_OK;
}

/* ---- the original's bytes ---- */

/* Between the document store's answer and the caller's stream. */
struct content_pipe {
    struct call *call;
    const Query__ContentHead *head;
    bool has_head;
    struct frames_opener *opener;
    struct buffer plain;
    size_t skip_bytes;              /* of the first frame, before the part */
    int64_t left_bytes;             /* of the part */
};

static enum status send_head(struct call *call, const Query__ContentHead *head) {
    size_t len = query__content_head__get_packed_size(head);
    uint8_t *packed = arena_alloc(call->mem, len);
    query__content_head__pack(head, packed);
    return call_write(call, packed, len);
}

/* The head goes out with the first bytes that authenticate: until then a failure has an answer of its own. Only whole parts
 * go while more is to come. */
static enum status pipe_flush(struct content_pipe *p, bool is_last) {
    size_t at = p->skip_bytes < p->plain.len ? p->skip_bytes : p->plain.len, end = p->plain.len;
    enum status st = p->has_head ? ST_OK : send_head(p->call, p->head);
    p->has_head = true;
    p->skip_bytes -= at;
    if ((int64_t)(end - at) > p->left_bytes)
        end = at + (size_t)p->left_bytes;
    while (st == ST_OK && at < end && (is_last || end - at >= BUS_PART_MAX_BYTES)) {
        size_t part = end - at < BUS_PART_MAX_BYTES ? end - at : BUS_PART_MAX_BYTES;
        st = call_write(p->call, p->plain.data + at, part);
        p->left_bytes -= (int64_t)part;
        at += part;
    }
    p->plain.len = end - at;
    memmove(p->plain.data, p->plain.data + at, p->plain.len);
    return st;
}

/* Called with each piece of the sealed original as it arrives. Only what authenticates is passed on. */
static enum status pipe_take(void *ctx, const void *data, size_t len, struct why *why) {
    struct content_pipe *p = ctx;
    enum status st = frames_open_add(p->opener, data, len, &p->plain, why);
    return st == ST_OK && p->plain.len >= BUS_PART_MAX_BYTES ? pipe_flush(p, false) : st;
}

/* Of the whole file all frames, of a part its own only: their place is known once the file's own header is here. */
static enum status pipe_run(struct content_pipe *p, struct query *q, const char *object) {
    struct call *call = p->call;
    struct frames_span span = { 0 };
    enum status st = ST_OK;
    p->left_bytes = p->head->length;
    if (p->head->length < p->head->bytes) {
        st = s3_get(q->s3, object, 0, FRAMES_HEADER_BYTES, pipe_take, p, call->deadline_ms, &call->why);
        if (st == ST_OK)
            st = frames_open_seek(p->opener, (uint64_t)p->head->bytes, (uint64_t)p->head->from, (uint64_t)p->head->length, &span, &call->why);
        p->skip_bytes = span.skip_bytes;
    }
    if (st == ST_OK)
        st = s3_get(q->s3, object, (int64_t)span.at, (int64_t)span.len, pipe_take, p, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = frames_open_end(p->opener, &p->plain, &call->why);
    return st == ST_OK ? pipe_flush(p, true) : st;
}

/* The bytes that are wanted of `bytes`; a range that is not satisfiable has a length of 0 (RFC 9110, 14.1.2). */
static enum status place_part(const Query__ContentWanted *wanted, int64_t bytes, Query__ContentHead *head, struct why *why) {
    head->bytes = head->length = bytes;
    if (!wanted || wanted->part != QUERY__CONTENT_PART__CONTENT_RANGE)
        return ST_OK;
    if (wanted->from < -1 || wanted->length < -1 || (wanted->from == -1 && wanted->length == -1))
        return fail_as(why, ERR_REQ_FIELD, "a range that is none");
    int64_t from = wanted->from >= 0 ? wanted->from : wanted->length < bytes ? bytes - wanted->length : 0;
    int64_t left = from < bytes ? bytes - from : 0;
    head->from = from;
    head->length = wanted->length >= 0 && wanted->length < left ? wanted->length : left;
    return ST_OK;
}

/* What the record says of a download that was not of all bytes. NULL: it was. */
static const char *content_detail(struct arena *mem, const Query__ContentWanted *wanted, const Query__ContentHead *head) {
    if (!wanted || wanted->part == QUERY__CONTENT_PART__CONTENT_WHOLE)
        return NULL;
    if (wanted->part == QUERY__CONTENT_PART__CONTENT_RANGE)
        return arena_printf(mem, "{\"bytes\":%lld,\"from\":%lld,\"part\":\"range\"}", (long long)head->length, (long long)head->from);
    return wanted->part == QUERY__CONTENT_PART__CONTENT_HEAD ? "{\"part\":\"head\"}" : "{\"part\":\"unchanged\"}";
}

/* One original that is asked for. */
struct content {
    const ProtobufCBinaryData *document_id;
    const Query__ContentWanted *wanted;     /* NULL: all of it */
    enum audit_action action;               /* what the record calls it */
    uint64_t scopes;                        /* all that the caller needs */
};

/* Is it whole, and what the caller takes it for? */
static enum status check_content(const struct content *c, const PGresult *rows, struct why *why) {
    bool is_package = strcmp(db_text(rows, 0, COL_TYPE), "application/x-tar") == 0;
    if (c->action == AUDIT_EVIDENCE_DOWNLOAD && !is_package)
        return fail(why, ST_NOT_FOUND, "package");
    if (is_package && strcmp(db_text(rows, 0, COL_STATUS), "ready") != 0)
        return fail_as(why, ERR_DOC_NOT_READY, "the package is not made");
    return ST_OK;
}

static enum status send_content(struct query *q, struct call *call, const struct content *c, int64_t *ret_sent_bytes) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    Query__ContentPart part = c->wanted ? c->wanted->part : QUERY__CONTENT_PART__CONTENT_WHOLE;
    Query__ContentHead head = QUERY__CONTENT_HEAD__INIT;
    struct claims claims;
    struct uuid id;
    enum status st = find_document(q, call, c->scopes, c->document_id, false, &claims, &id, &rows);
    if (st == ST_OK)
        st = check_content(c, rows, &call->why);
    if (st == ST_OK)
        st = place_part(c->wanted, db_i64(rows, 0, COL_BYTES), &head, &call->why);
    if (st != ST_OK)
        return st;
    if (part == QUERY__CONTENT_PART__CONTENT_REFUSED || head.length == 0)       /* how long it is, is all that is told */
        return send_head(call, &head);

    CLEANUP(disclosure_end) struct disclosure shown = { 0 };
    st = disclosure_begin(&shown, q, call, &(struct disclosed){ .action = c->action, .document_ids = &id, .document_count = 1,
                          .detail_json = content_detail(call->mem, c->wanted, &head) }, c->scopes);
    const struct document_key *key = NULL;
    if (st == ST_OK)
        st = disclosure_key(&shown, &id, &key, &call->why);
    if (st == ST_OK && part != QUERY__CONTENT_PART__CONTENT_UNCHANGED)
        st = disclosure_open_text(&shown, call, &id, FIELD_FILE_NAME, &id, rows, 0, COL_NAME_ENC, &head.file_name);
    head.content_type = (char *)db_text(rows, 0, COL_TYPE);
    if (st != ST_OK)
        return st;
    if (part == QUERY__CONTENT_PART__CONTENT_HEAD || part == QUERY__CONTENT_PART__CONTENT_UNCHANGED)
        return send_head(call, &head);

    struct content_pipe pipe = { .call = call, .head = &head };
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    st = document_key_open_original(key, &opener, &call->why);
    pipe.opener = opener;
    if (st == ST_OK)
        st = pipe_run(&pipe, q, original_object_key(call->mem, &claims.tenant_id, &id));
    buffer_end(&pipe.plain);
    *ret_sent_bytes = head.length - pipe.left_bytes;
    return st;
}

enum status on_get_content(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetContentRequest *req = (const void *)in;
    Query__GetContentReply *reply = (void *)out;
    return send_content(self, call, &(struct content){ &req->document_id, req->wanted, AUDIT_DOCUMENT_CONTENT_READ, SCOPE_DOCUMENTS_READ },
                        &reply->sent_bytes);
}

enum status on_get_evidence_content(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetEvidenceContentRequest *req = (const void *)in;
    Query__GetEvidenceContentReply *reply = (void *)out;
    return send_content(self, call, &(struct content){ &req->evidence_id, req->wanted, AUDIT_EVIDENCE_DOWNLOAD, SCOPE_DOCUMENTS_READ | SCOPE_EVIDENCE_MANAGE },
                        &reply->sent_bytes);
}
