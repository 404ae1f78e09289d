/* jobs — what people do about work that is under way or was given up. */
#include "core/str.h"
#include "db/tenant_tx.h"
#include "ingest.h"
#include "ingest.pb-c.h"

/* Ask the database to move the job of job_id; its state then, in call->mem. ST_NOT_FOUND: none, or another tenant's. */
static enum status move_job(struct ingest *g, struct call *call, const struct sql *q, const ProtobufCBinaryData *job_id, char **ret_state) {
    struct uuid id;
    if (!uuid_from_bytes(job_id->data, job_id->len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "job_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, q, (struct db_param[]){ DB_UUID(&id) }, &rows, &call->why);
    if (st == ST_OK && db_is_null(rows, 0, 0))
        st = fail(&call->why, ST_NOT_FOUND, "job");
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st == ST_OK)
        *ret_state = arena_strdup(call->mem, db_text(rows, 0, 0));
    return st;
}

enum status on_cancel_job(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql CANCEL = { "cancel_job", "SELECT jobs.cancel($1)", 1 };
    const Ingest__CancelJobRequest *req = (const void *)in;
    Ingest__CancelJobReply *reply = (void *)out;
    enum status st = move_job(self, call, &CANCEL, &req->job_id, &reply->state);
    if (st == ST_OK && !str_equal(reply->state, "cancelled") && !str_equal(reply->state, "running"))
        return fail_as(&call->why, ERR_JOB_OVER, "the job is %s", reply->state);
    return st;
}

enum status on_retry_job(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql RETRY = { "retry_job", "SELECT jobs.retry($1)", 1 };
    const Ingest__RetryJobRequest *req = (const void *)in;
    Ingest__RetryJobReply *reply = (void *)out;
    enum status st = move_job(self, call, &RETRY, &req->job_id, &reply->state);
    if (st == ST_OK && str_equal(reply->state, "succeeded"))
        return fail_as(&call->why, ERR_JOB_DONE, "the job is done");
    return st;
}
