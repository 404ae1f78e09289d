/* vectors — which model's vectors a tenant is searched by, and whether that changes. Ids and names of models only, so there is
 * nothing to put on the record. */
#include "columns.h"
#include "db/tenant_tx.h"
#include "query.h"
#include "query.pb-c.h"

enum status on_get_vectors(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql GET = { "get_vectors",
        "SELECT s.model, s.next_model, s.job_id, s.home = s.tenant_id FROM app.vector_sets s WHERE s.tenant_id = $1", 1 };
    Query__GetVectorsReply *reply = (void *)out;
    struct query *q = self;
    (void)in;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_VECTORS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &GET, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id) }, &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK || db_count(rows) == 0)
        return st;
    reply->model = column_text(call->mem, rows, 0, 0);
    reply->next_model = column_text(call->mem, rows, 0, 1);
    reply->job_id = db_is_null(rows, 0, 2) ? (ProtobufCBinaryData){ 0 } : column_id(call->mem, rows, 0, 2);
    reply->has_index = db_bool(rows, 0, 3);
    return ST_OK;
}
