/* labels — which a document carries: those that its upload's metadata names ("labels": "part2,vip"), and then whatever
 * somebody who may see it makes of them. What a label hides is the database's to decide (migrations/0010_policy.up.sql). */
#include <string.h>

#include "core/buffer.h"
#include "db/tenant_tx.h"
#include "ingest.h"
#include "ingest.pb-c.h"
#include "json/reader.h"

enum { LABELS_MAX = 8, LABEL_MAX_BYTES = 32, METADATA_MAX_BYTES = 8192 };

static bool is_label(const char *text) {
    size_t len = strlen(text);
    return len >= 1 && len <= LABEL_MAX_BYTES && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

enum status labels_of_metadata(struct call *call, const char *metadata_json, const char **ret_labels) {
    CLEANUP(json_destroy) json_t *metadata = NULL;
    const char *labels = "";
    enum status st = *metadata_json ? json_parse(metadata_json, strlen(metadata_json), METADATA_MAX_BYTES, &metadata, &call->why) : ST_OK;
    if (st == ST_OK && metadata)
        st = json_get_text(metadata, "labels", JSON_OPTIONAL, LABELS_MAX * (LABEL_MAX_BYTES + 1), &labels, &call->why);
    if (st == ST_OK)
        *ret_labels = arena_strdup(call->mem, labels);
    return st;
}

/* UpdateDocumentRequest -> {}. The caller must see the document, and go on seeing it. */
enum status on_update_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql RELABEL = { "relabel_document",
        "UPDATE app.documents SET labels = pg_catalog.string_to_array($3, ',') WHERE tenant_id = $1 AND id = $2 AND status <> 'deleted'", 3 };
    const Ingest__UpdateDocumentRequest *req = (const void *)in;
    struct ingest *g = self;
    struct uuid id;
    (void)out;
    if (!uuid_from_bytes(req->document_id.data, req->document_id.len, &id) || req->n_labels > LABELS_MAX)
        return fail_as(&call->why, ERR_REQ_FIELD, "document_id or labels");
    CLEANUP(buffer_end) struct buffer labels = { 0 };
    for (size_t i = 0; i < req->n_labels; i++)
        if (!is_label(req->labels[i]) || !buffer_printf(&labels, "%s%s", i ? "," : "", req->labels[i]))
            return fail_as(&call->why, ERR_REQ_FIELD, "labels");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &RELABEL, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&id),
                           DB_TEXT(labels.data ? labels.data : "") }, &rows, &call->why);
    if (st == ST_OK && db_affected(rows) == 0)
        return fail(&call->why, ST_NOT_FOUND, "document");
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}
