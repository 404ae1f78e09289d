/* subjects — patients, findable without being readable: the database holds a keyed hash of the record number, so a client
 * that knows the number learns the id that stands for the patient, and nobody else learns anything. */
#include <string.h>

#include "audit/client.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "db/tenant_tx.h"
#include "keystore/keystore.h"
#include "query.h"
#include "query.pb-c.h"

enum { MRN_MAX_BYTES = 64, BLIND_BYTES = 32 };
enum { COL_ID, COL_CREATED_AT };

/* As ingest-worker made it when the patient was first named. */
static enum status blind_of(struct query *q, struct call *call, const char *mrn, uint8_t blind[BLIND_BYTES]) {
    struct tenant_keys keys = { 0 };
    CLEANUP(tenant_key_release) struct tenant_key *search_key = NULL;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_READ, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = keystore_take_tenant(&tx, call->mem, &keys, &call->why);
    if (st == ST_OK)
        st = keystore_open_tenant(q->keyring, &keys, TENANT_KEY_SEARCH, 0, call->deadline_ms, &search_key, &call->why);
    if (st == ST_OK)
        tenant_key_blind(search_key, "mrn", mrn, strlen(mrn), blind);
    return st;
}

static enum status find(struct query *q, struct call *call, const uint8_t blind[BLIND_BYTES], PGresult **ret_rows) {
    static const struct sql FIND = { "find_subject", "SELECT s.id, s.created_at FROM app.subjects s WHERE s.tenant_id = $1 AND s.mrn_blind = $2", 2 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_READ, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_BYTES(blind, BLIND_BYTES) }, ret_rows, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

/* Asking for a patient who is not there is on the record too: somebody may be trying numbers. */
enum status on_find_subject(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__FindSubjectRequest *req = (const void *)in;
    Query__FindSubjectReply *reply = (void *)out;
    uint8_t blind[BLIND_BYTES];
    size_t len = strlen(req->mrn);
    if (len == 0 || len > MRN_MAX_BYTES || !utf8_is_text(req->mrn, len, NULL))
        return fail_as(&call->why, ERR_REQ_FIELD, "mrn");
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = blind_of(self, call, req->mrn, blind);
    if (st == ST_OK)
        st = find(self, call, blind, &rows);
    if (st != ST_OK)
        return st;
    bool is_found = db_count(rows) == 1;
    struct audit_record asked = { .action = AUDIT_SUBJECT_FIND, .outcome = is_found ? AUDIT_SUCCESS : AUDIT_FAILURE };
    if (is_found)
        asked.resource_id = db_uuid(rows, 0, COL_ID);
    st = audit_append(call, &asked, NULL);
    if (st == ST_OK && !is_found)
        st = fail(&call->why, ST_NOT_FOUND, "patient");
    if (st != ST_OK)
        return st;
    reply->subject_id = wire_id(call->mem, &asked.resource_id);
    reply->created_at_us = db_micros(rows, 0, COL_CREATED_AT);
    return ST_OK;
}
