/* ingest-worker/handlers — the table of what this process answers, and its life. */
#include <string.h>

#include "db/boot_check.h"
#include "db/plain_tx.h"
#include "db/tenant_tx.h"
#include "ingest.h"
#include "ingest.pb-c.h"

enum { BOOT_BUDGET_MS = 20000, READY_BUDGET_MS = 2000, TENANT_KEYS_MAX = 1024, DRAIN_MARGIN_MS = 200 };
static const char QUEUE[] = "ingest";

const char *document_object(struct arena *mem, const struct uuid *tenant, const struct uuid *document) {
    char t[UUID_TEXT_BYTES], d[UUID_TEXT_BYTES];
    return arena_printf(mem, "tenants/%s/%s", uuid_format(tenant, t), uuid_format(document, d));
}

enum status on_delete_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql DELETE = { "delete_document",
        "UPDATE app.documents SET status = 'deleted', reason_code = NULL, deleted_at = pg_catalog.now() "
        "WHERE tenant_id = $1 AND id = $2 AND status <> 'deleted'", 2 };
    static const struct sql DELETE_CHUNKS = { "delete_chunks", "DELETE FROM app.chunks WHERE tenant_id = $1 AND document_id = $2", 2 };
    const Ingest__DeleteDocumentRequest *req = (const void *)in;
    struct ingest *g = self;
    (void)out;
    struct uuid id;
    if (!uuid_from_bytes(req->document_id.data, req->document_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "document_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms,
                                     &call->why);
    struct db_param params[] = { DB_UUID(&tx.claims.tenant_id), DB_UUID(&id) };
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &DELETE, params, &rows, &call->why);
    if (st == ST_OK && db_affected(rows) == 0)
        st = fail(&call->why, ST_NOT_FOUND, "document");
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &DELETE_CHUNKS, params, NULL, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

static const struct route ROUTES[] = {
    /* method                  who may call  scope                  request                                     reply                                     handler */
    { "ingest.Upload",         PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__upload_request__descriptor,          &ingest__upload_reply__descriptor,          on_upload },
    { "ingest.DeleteDocument", PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__delete_document_request__descriptor, &ingest__delete_document_reply__descriptor, on_delete_document },
    { 0 }
};
