/* offboarding — how far the end of a tenant is, and its certificate, for people of the platform: the tenant has nobody left. */
#include "audit/client.h"
#include "columns.h"
#include "core/wire.h"
#include "db/tenant_tx.h"
#include "event_proof.h"
#include "query.h"
#include "query.pb-c.h"

enum { ID, STAGE, APPROVALS, CREATED_AT, DELETE_AT, KEY_GONE_AT, DESTROYED_AT, CERTIFICATE };

static enum status find(struct query *q, struct call *call, const struct uuid *tenant_id, PGresult **ret_rows) {
    static const struct sql FIND = { "get_offboarding",
        "SELECT id, state, approvals, created_at, delete_at, key_gone_at, destroyed_at, certificate FROM keys.get_offboarding($1)", 1 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_TENANTS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(tenant_id) }, ret_rows, &call->why);
    if (st == ST_OK && db_count(*ret_rows) == 0)
        st = fail(&call->why, ST_NOT_FOUND, "nobody has asked for the end of this tenant");
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

enum status on_get_offboarding(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetOffboardingRequest *req = (const void *)in;
    Query__GetOffboardingReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct uuid tenant_id;
    struct event_proof proof;
    if (!uuid_from_bytes(req->tenant_id.data, req->tenant_id.len, &tenant_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "tenant_id");
    enum status st = find(self, call, &tenant_id, &rows);
    if (st == ST_OK)
        st = audit_append(call, &(struct audit_record){ .action = AUDIT_TENANT_READ, .resource_id = tenant_id, .detail_json = "{\"tenants\":1}" }, NULL);
    if (st == ST_OK)
        st = event_prove_ending(self, call, &tenant_id, &proof);
    if (st != ST_OK)
        return st;
    reply->certificate = column_text(call->mem, rows, 0, CERTIFICATE);
    EVENT_PROOF_SHOW(reply, proof);
    reply->offboarding_id = column_id(call->mem, rows, 0, ID);
    reply->stage = column_text(call->mem, rows, 0, STAGE);
    reply->approvals = column_count(rows, 0, APPROVALS);
    reply->requested_at_us = db_micros(rows, 0, CREATED_AT);
    reply->delete_at_us = db_micros(rows, 0, DELETE_AT);
    reply->key_gone_at_us = db_micros(rows, 0, KEY_GONE_AT);
    reply->destroyed_at_us = db_micros(rows, 0, DESTROYED_AT);
    return ST_OK;
}
