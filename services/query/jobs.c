/* jobs — what may be read of background work. Rows of jobs hold ids, codes and counts only, but showing them is on the
 * record as everything is. */
#include <string.h>

#include "audit/client.h"
#include "columns.h"
#include "core/str.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "json/writer.h"
#include "query.h"
#include "query.pb-c.h"

enum { NAME_MAX_BYTES = 32 };

#define JOB_COLUMNS \
    "j.id, j.queue, j.kind, j.state, j.stage, j.document_id, j.attempt, j.max_attempts, j.reason_code, j.pages_done, j.chunks_done, " \
    "j.chunks_total, j.priority, j.created_at, j.updated_at, j.done_at, j.cancel_requested_at "

enum { COL_ID, COL_QUEUE, COL_KIND, COL_STATE, COL_STAGE, COL_DOCUMENT, COL_ATTEMPT, COL_MAX_ATTEMPTS, COL_REASON, COL_PAGES_DONE,
       COL_CHUNKS_DONE, COL_CHUNKS_TOTAL, COL_PRIORITY, COL_CREATED_AT, COL_UPDATED_AT, COL_DONE_AT, COL_CANCEL_REQUESTED_AT };

static Query__Job *job_from_row(struct arena *mem, const PGresult *rows, int row) {
    Query__Job *job = arena_alloc(mem, sizeof *job);
    query__job__init(job);
    job->id = column_id(mem, rows, row, COL_ID);
    job->queue = column_text(mem, rows, row, COL_QUEUE);
    job->kind = column_text(mem, rows, row, COL_KIND);
    job->state = column_text(mem, rows, row, COL_STATE);
    job->stage = column_text(mem, rows, row, COL_STAGE);
    job->document_id = column_id(mem, rows, row, COL_DOCUMENT);
    job->attempt = column_count(rows, row, COL_ATTEMPT);
    job->max_attempts = column_count(rows, row, COL_MAX_ATTEMPTS);
    job->reason_code = column_text(mem, rows, row, COL_REASON);
    job->pages_done = column_count(rows, row, COL_PAGES_DONE);
    job->chunks_done = column_count(rows, row, COL_CHUNKS_DONE);
    job->chunks_total = column_count(rows, row, COL_CHUNKS_TOTAL);
    job->priority = column_count(rows, row, COL_PRIORITY);
    job->created_at_us = db_micros(rows, row, COL_CREATED_AT);
    job->updated_at_us = db_micros(rows, row, COL_UPDATED_AT);
    job->done_at_us = db_micros(rows, row, COL_DONE_AT);
    job->cancel_requested_at_us = db_micros(rows, row, COL_CANCEL_REQUESTED_AT);
    return job;
}

static enum status find_jobs(struct query *q, struct call *call, const struct sql *sql, struct db_param params[], PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_READ, call->deadline_ms, &call->why);
    params[0] = DB_UUID(&tx.claims.tenant_id);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, sql, params, &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK)
        return st;
    *ret_rows = rows;
    rows = NULL;
    return ST_OK;
}

enum status on_get_job(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql FIND = { "find_job", "SELECT " JOB_COLUMNS "FROM jobs.jobs j WHERE j.tenant_id = $1 AND j.id = $2", 2 };
    const Query__GetJobRequest *req = (const void *)in;
    Query__GetJobReply *reply = (void *)out;
    struct uuid id;
    if (!uuid_from_bytes(req->job_id.data, req->job_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "job_id");
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = find_jobs(self, call, &FIND, (struct db_param[]){ DB_NULL, DB_UUID(&id) }, &rows);
    if (st == ST_OK && db_count(rows) == 0)
        st = fail(&call->why, ST_NOT_FOUND, "job");
    if (st == ST_OK)
        st = audit_append(call, &(struct audit_record){ .action = AUDIT_JOB_READ, .resource_id = id }, NULL);
    if (st == ST_OK)
        reply->job = job_from_row(call->mem, rows, 0);
    return st;
}

/* ---- lists ---- */

static bool is_state(const char *text) {
    static const char *const STATES[] = {
#define JOB_STATE(id, text, crash) text,
#include "db/job_states.def"
#undef JOB_STATE
    };
    for (size_t i = 0; i < sizeof STATES / sizeof *STATES; i++)
        if (str_equal(STATES[i], text))
            return true;
    return !*text;
}

static bool is_name(const char *text) {
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    return !text[len] && len <= NAME_MAX_BYTES;
}

static void put_text(struct json_writer *w, const char *name, const char *text) {
    if (!*text)
        return;
    json_put_name(w, name);
    json_put_text(w, text);
}

/* Put the page on the record: what was asked for, how many jobs are shown, on which documents. */
static enum status record_list(struct call *call, const Query__ListJobsRequest *req, const struct uuid *document, const PGresult *rows, size_t count) {
    struct uuid *documents = arena_alloc(call->mem, count * sizeof *documents);
    size_t document_count = 0;
    for (size_t i = 0; i < count; i++) {
        documents[document_count] = db_uuid(rows, (int)i, COL_DOCUMENT);
        document_count += !uuid_is_nil(&documents[document_count]);        /* a rotation's job has none */
    }
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    struct json_writer w;
    char text[UUID_TEXT_BYTES];
    json_begin(&w, &detail);
    json_open_object(&w);
    json_put_name(&w, "jobs");
    json_put_u64(&w, count);
    put_text(&w, "state", req->state);
    put_text(&w, "queue", req->queue);
    put_text(&w, "kind", req->kind);
    put_text(&w, "document_id", document ? uuid_format(document, text) : "");
    json_close_object(&w);
    if (!json_finish(&w))
        return fail(&call->why, ST_INTERNAL, "detail of a list");
    return audit_append(call, &(struct audit_record){ .action = AUDIT_JOB_LIST, .document_ids = documents, .document_count = document_count,
                        .detail_json = detail.data }, NULL);
}

enum status on_list_jobs(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_jobs",
        "SELECT " JOB_COLUMNS "FROM jobs.jobs j WHERE j.tenant_id = $1 AND ($2::uuid IS NULL OR j.id < $2::uuid) AND ($3 = '' OR j.state = $3) "
        "AND ($4 = '' OR j.queue = $4) AND ($5 = '' OR j.kind = $5) AND ($6::uuid IS NULL OR j.document_id = $6::uuid) "
        "ORDER BY j.id DESC LIMIT $7", 7 };
    const Query__ListJobsRequest *req = (const void *)in;
    Query__ListJobsReply *reply = (void *)out;
    if (!is_state(req->state) || !is_name(req->queue) || !is_name(req->kind))
        return fail_as(&call->why, ERR_REQ_FIELD, "state, queue or kind");
    struct uuid document_id;
    const struct uuid *document = req->document_id.len ? &document_id : NULL;
    if (document && !uuid_from_bytes(req->document_id.data, req->document_id.len, &document_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "document_id");
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    if (st != ST_OK)
        return st;

    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = find_jobs(self, call, &LIST, (struct db_param[]){ DB_NULL, PAGE_AFTER(&page), DB_TEXT(req->state), DB_TEXT(req->queue),
                   DB_TEXT(req->kind), DB_UUID(document), PAGE_ROWS(&page) }, &rows);
    if (st != ST_OK)
        return st;
    size_t count = list_page_end(&page, call->mem, rows, COL_ID, &reply->next_cursor);
    st = record_list(call, req, document, rows, count);
    if (st != ST_OK)
        return st;
    reply->jobs = arena_alloc(call->mem, count * sizeof *reply->jobs);
    for (size_t i = 0; i < count; i++)
        reply->jobs[reply->n_jobs++] = job_from_row(call->mem, rows, (int)i);
    return ST_OK;
}
