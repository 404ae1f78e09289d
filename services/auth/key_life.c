/* key_life — the life of a tenant's key: a new version of it, and the word of those who may end it.
 *
 * Rotation: KMS makes the new version, wrapped and unseen; key and job commit together, so
 * an attempt that ends earlier leaves nothing. ingest-worker does the job (services/ingest-worker/rotation.c). */
#include "auth.h"
#include "auth.pb-c.h"
#include "aws/kms.h"
#include "core/fault.h"
#include "core/wire.h"
#include "db/tenant_tx.h"

static enum status find_key(struct auth *a, struct call *call, struct uuid *ret_tenant, char **ret_key_id) {
    static const struct sql FIND = { "find_tenant_key", "SELECT kms_key_id FROM auth.tenants WHERE id = $1", 1 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_KEYS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id) }, &rows, &call->why);
    if (st == ST_OK && (db_count(rows) != 1 || db_is_null(rows, 0, 0)))
        st = fail(&call->why, ST_NOT_FOUND, "the tenant has no key");
    if (st != ST_OK)
        return st;
    *ret_tenant = tx.claims.tenant_id;
    *ret_key_id = arena_strdup(call->mem, db_text(rows, 0, 0));
    return tenant_tx_commit(&tx, &call->why);
}

enum status on_rotate_tenant_key(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ROTATE = { "rotate_tenant_key", "SELECT keys.rotate_tenant_key($1, $2, $3)", 3 };
    Auth__RotateTenantKeyReply *reply = (void *)out;
    struct auth *a = self;
    struct uuid tenant, job_id = uuid_v7();
    char *key_id = NULL;
    struct blob wrapped = { 0 };
    (void)in;
    enum status st = find_key(a, call, &tenant, &key_id);
    if (st == ST_OK)
        st = kms_generate_tenant_key(a->kms, key_id, &tenant, TENANT_KEY_DATA, call->deadline_ms, call->mem, &wrapped, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_ROTATION_KEY_MADE, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_KEYS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ROTATE, (struct db_param[]){ DB_UUID(&job_id), DB_TEXT(key_id), DB_BYTES(wrapped.data, wrapped.len) }, &rows, &call->why);
    if (st == ST_CONFLICT)
        return fail_as(&call->why, ERR_KMS_ROTATING, "a rotation is under way");
    if (st == ST_OK)
        st = fault_status(FAULT_ROTATION_BEFORE_COMMIT, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK)
        return st;
    reply->version = (uint32_t)db_i64(rows, 0, 0);
    reply->job_id = wire_id(call->mem, &job_id);
    return fault_status(FAULT_ROTATION_COMMITTED, &call->why);
}

enum status on_approve_offboarding(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql APPROVE = { "approve_offboarding", "SELECT keys.approve_offboarding($1)", 1 };
    const Auth__ApproveOffboardingRequest *req = (const void *)in;
    Auth__ApproveOffboardingReply *reply = (void *)out;
    struct auth *a = self;
    struct uuid id;
    if (!uuid_from_bytes(req->tenant_id.data, req->tenant_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "tenant_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_TENANTS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &APPROVE, (struct db_param[]){ DB_UUID(&id) }, &rows, &call->why);
    if (st == ST_OK)
        reply->approvals = (uint32_t)db_i64(rows, 0, 0);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}
