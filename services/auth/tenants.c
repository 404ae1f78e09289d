#include <string.h>

#include "audit/client.h"
#include "auth.h"
#include "auth.pb-c.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/wire.h"
#include "tenant_kms.h"
#include "transact.h"

enum { SLUG_MIN_BYTES = 2, SLUG_MAX_BYTES = 40, NAME_MAX_BYTES = 200, KEY_VERSION = 1 };

/* Lower-case letters, digits and inner hyphens; never the form of an id, which a token's claim may have instead. */
static bool is_slug(const char *text) {
    struct uuid id;
    size_t len = strlen(text);
    return len >= SLUG_MIN_BYTES && len <= SLUG_MAX_BYTES && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len &&
           text[0] != '-' && text[len - 1] != '-' && !uuid_parse(text, len, &id);
}

/* Columns: id, slug, name, status, created_at. */
static Auth__Tenant *read_tenant(struct arena *mem, const PGresult *rows, int row) {
    enum { ID, SLUG, NAME, STATUS, CREATED_AT };
    struct uuid id = db_uuid(rows, row, ID);
    Auth__Tenant *tenant = arena_alloc(mem, sizeof *tenant);
    auth__tenant__init(tenant);
    tenant->id = wire_id(mem, &id);
    tenant->slug = arena_strdup(mem, db_text(rows, row, SLUG));
    tenant->name = arena_strdup(mem, db_text(rows, row, NAME));
    tenant->status = arena_strdup(mem, db_text(rows, row, STATUS));
    tenant->created_at_us = db_micros(rows, row, CREATED_AT);
    return tenant;
}

/* May the caller make tenants, and is the slug free? Asked before anything is made in KMS. */
static enum status check_free(struct auth *a, struct call *call, const char *slug) {
    static const struct sql FIND = { "find_slug", "SELECT id FROM auth.tenants WHERE slug = $1", 1 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_TENANTS_MANAGE, call->deadline_ms, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_TEXT(slug) }, &rows, &call->why);
    if (st == ST_OK && db_count(rows) > 0)
        return fail(&call->why, ST_CONFLICT, "the slug is taken");
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

/* The tenant and both its wrapped keys appear together. ST_CONFLICT: somebody was faster. */
static enum status store(struct auth *a, struct call *call, const Auth__CreateTenantRequest *req, const struct tenant_kms *made,
                         Auth__Tenant **ret_tenant) {
    static const struct sql INSERT = { "insert_tenant",
        "INSERT INTO auth.tenants (id, slug, name, kms_key_id) VALUES ($1, $2, $3, $4) RETURNING id, slug, name, status, created_at", 4 };
    static const struct sql PUT_KEY = { "put_tenant_key", "SELECT keys.put_tenant_key($1, $2, $3, $4, $5)", 5 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_TENANTS_MANAGE, call->deadline_ms, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = tenant_tx_run(&tx, &INSERT, (struct db_param[]){ DB_UUID(&made->tenant_id), DB_TEXT(req->slug), DB_TEXT(req->name),
                                                          DB_TEXT(made->key_id) }, &rows, &call->why);
    for (int kind = 0; st == ST_OK && kind < TENANT_KMS_KINDS; kind++)
        st = tenant_tx_run(&tx, &PUT_KEY, (struct db_param[]){ DB_UUID(&made->tenant_id), DB_TEXT(tenant_key_kind_text(kind)),
            DB_INT(KEY_VERSION), DB_TEXT(made->key_id), DB_BYTES(made->wrapped[kind].data, made->wrapped[kind].len) }, NULL, &call->why);
    if (st != ST_OK)
        return st;
    *ret_tenant = read_tenant(call->mem, rows, 0);
    st = fault_status(FAULT_TENANT_BEFORE_COMMIT, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    return st == ST_OK ? fault_status(FAULT_TENANT_COMMITTED, &call->why) : st;
}

/* CreateTenantRequest -> CreateTenantReply. Safe to repeat: what an earlier attempt left in KMS is found by
 * its alias and used. The event is written by the table's trigger, in the same transaction. */
enum status on_create_tenant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Auth__CreateTenantRequest *req = (const void *)in;
    Auth__CreateTenantReply *reply = (void *)out;
    struct auth *a = self;
    if (!is_slug(req->slug))
        return fail_as(&call->why, ERR_REQ_FIELD, "slug is not of the right form");
    if (!is_line(req->name, NAME_MAX_BYTES))
        return fail_as(&call->why, ERR_REQ_FIELD, "name is not of the right form");
    enum status st = check_free(a, call, req->slug);
    if (st != ST_OK)
        return st;
    struct tenant_kms made = { 0 };
    st = tenant_kms_make(a->kms, req->slug, call->deadline_ms, call->mem, &made, &call->why);
    return st == ST_OK ? store(a, call, req, &made, &reply->tenant) : st;
}

/* ListTenantsRequest -> ListTenantsReply, oldest first; on record before it is shown. */
enum status on_list_tenants(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_tenants",
        "SELECT id, slug, name, status, created_at FROM auth.tenants WHERE id > $1 ORDER BY id LIMIT $2", 2 };
    const Auth__ListTenantsRequest *req = (const void *)in;
    Auth__ListTenantsReply *reply = (void *)out;
    struct auth *a = self;
    struct uuid after = { { 0 } };
    int limit = page_limit(req->limit);
    enum status st = read_cursor(call, req->cursor, &after);
    if (st != ST_OK)
        return st;

    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_TENANTS_MANAGE, call->deadline_ms, &call->why);
        if (st == ST_OK)
            st = tenant_tx_run(&tx, &LIST, (struct db_param[]){ DB_UUID(&after), DB_INT(limit + 1) }, &rows, &call->why);
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, &call->why);
    }
    if (st != ST_OK)
        return st;
    bool has_more = db_count(rows) > limit;
    int count = has_more ? limit : db_count(rows);
    st = audit_append(call, &(struct audit_record){ .action = AUDIT_TENANT_READ, .outcome = AUDIT_SUCCESS,
        .detail_json = arena_printf(call->mem, "{\"tenants\":%d}", count) }, NULL);
    if (st != ST_OK)
        return st;
    reply->tenants = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->tenants);
    for (int i = 0; i < count; i++)
        reply->tenants[reply->n_tenants++] = read_tenant(call->mem, rows, i);
    if (has_more)
        reply->next_cursor = write_cursor(call->mem, &reply->tenants[count - 1]->id);
    return ST_OK;
}

/* UpdateTenantRequest -> UpdateTenantReply. */
enum status on_update_tenant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql UPDATE_TENANT = { "update_tenant",
        "UPDATE auth.tenants t SET name = coalesce(nullif($2, ''), t.name), status = coalesce(nullif($3, ''), t.status), updated_at = pg_catalog.now() "
        "WHERE t.id = $1 RETURNING t.id, t.slug, t.name, t.status, t.created_at", 3 };
    const Auth__UpdateTenantRequest *req = (const void *)in;
    Auth__UpdateTenantReply *reply = (void *)out;
    struct uuid id;
    if ((*req->name && !is_line(req->name, NAME_MAX_BYTES)) || !(*req->name || *req->status))
        return fail_as(&call->why, ERR_REQ_FIELD, "name or status");
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = read_id(call, &req->tenant_id, "tenant_id", &id);
    if (st == ST_OK)
        st = transact(self, call, SCOPE_TENANTS_MANAGE, &UPDATE_TENANT, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->name), DB_TEXT(req->status) }, &rows);
    if (st == ST_OK && db_count(rows) == 0)
        return fail(&call->why, ST_NOT_FOUND, "tenant");
    if (st == ST_OK)
        reply->tenant = read_tenant(call->mem, rows, 0);
    return st;
}

/* GetTenantUsageRequest -> GetTenantUsageReply. */
enum status on_get_tenant_usage(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql USAGE = { "tenant_usage", "SELECT u.users, u.documents, u.bytes FROM authz.tenant_usage($1) u WHERE u.users IS NOT NULL", 1 };
    const Auth__GetTenantUsageRequest *req = (const void *)in;
    Auth__GetTenantUsageReply *reply = (void *)out;
    struct uuid id;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = read_id(call, &req->tenant_id, "tenant_id", &id);
    if (st == ST_OK)
        st = transact(self, call, SCOPE_TENANTS_MANAGE, &USAGE, (struct db_param[]){ DB_UUID(&id) }, &rows);
    if (st == ST_OK && db_count(rows) == 0)
        return fail(&call->why, ST_NOT_FOUND, "tenant");
    if (st == ST_OK)
        st = record_shown(call, "usage", 1);
    if (st != ST_OK)
        return st;
    reply->users = db_i64(rows, 0, 0);
    reply->documents = db_i64(rows, 0, 1);
    reply->bytes = db_i64(rows, 0, 2);
    return ST_OK;
}

/* UpdateAccessRequest -> UpdateAccessReply: how people come into the caller's own tenant. */
enum status on_update_access(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql UPDATE_ACCESS = { "update_access",
        "UPDATE auth.tenants t SET provisions_users = $1, roles_from = $2, updated_at = pg_catalog.now() WHERE t.id = authz.tenant()", 2 };
    const Auth__UpdateAccessRequest *req = (const void *)in;
    Auth__UpdateAccessReply *reply = (void *)out;
    enum status st = transact_one(self, call, SCOPE_USERS_MANAGE, &UPDATE_ACCESS,
                                  (struct db_param[]){ DB_BOOL(req->provisions_users), DB_TEXT(req->roles_from) });
    if (st != ST_OK)
        return st;
    reply->provisions_users = req->provisions_users;
    reply->roles_from = req->roles_from;
    return ST_OK;
}
