/* access — what a tenant's roles may do, and who may see which label. The database decides what the caller may give
 * away: its policies, not this file, know the rules. */
#include "auth.pb-c.h"
#include "core/str.h"
#include "core/wire.h"
#include "transact.h"

/* ListRolesRequest -> ListRolesReply: ours and the tenant's own. */
enum status on_list_roles(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_roles",
        "SELECT * FROM (SELECT r.role, ARRAY(SELECT s.scope FROM auth.role_scopes s WHERE s.role = r.role ORDER BY 1), false, "
        "('0' || r.role) COLLATE \"C\" AS key FROM auth.roles r WHERE r.realm = 'tenant' UNION ALL "
        "SELECT c.role, ARRAY(SELECT s.scope FROM auth.custom_role_scopes s WHERE s.tenant_id = c.tenant_id AND s.role = c.role ORDER BY 1), true, "
        "('1' || c.role) COLLATE \"C\" FROM auth.custom_roles c WHERE c.tenant_id = authz.tenant()) l WHERE l.key > $1 ORDER BY l.key LIMIT $2", 2 };
    const Auth__ListRolesRequest *req = (const void *)in;
    Auth__ListRolesReply *reply = (void *)out;
    const char *after = "";
    int limit = page_limit(req->limit);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = read_text_cursor(call, req->cursor, &after);
    if (st == ST_OK)
        st = transact(self, call, SCOPE_USERS_MANAGE, &LIST, (struct db_param[]){ DB_TEXT(after), DB_INT(limit + 1) }, &rows);
    int count = st != ST_OK ? 0 : db_count(rows) > limit ? limit : db_count(rows);
    if (st == ST_OK)
        st = record_shown(call, "roles", count);
    if (st != ST_OK)
        return st;
    reply->roles = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->roles);
    for (int i = 0; i < count; i++) {
        Auth__Role *role = arena_alloc(call->mem, sizeof *role);
        auth__role__init(role);
        role->role = arena_strdup(call->mem, db_text(rows, i, 0));
        role->scopes = read_texts(call->mem, rows, i, 1, &role->n_scopes);
        role->is_custom = db_bool(rows, i, 2);
        reply->roles[reply->n_roles++] = role;
    }
    if (db_count(rows) > limit)
        reply->next_cursor = write_text_cursor(call->mem, db_text(rows, count - 1, 3));
    return ST_OK;
}

/* PutRoleRequest -> {}. Safe to repeat. */
enum status on_put_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ADD = { "add_role",
        "INSERT INTO auth.custom_roles (tenant_id, role) VALUES (authz.tenant(), $1) ON CONFLICT DO NOTHING", 1 };
    static const struct sql REMOVE = { "remove_scopes",
        "DELETE FROM auth.custom_role_scopes s WHERE s.tenant_id = authz.tenant() AND s.role = $1 AND s.scope <> ALL ($2::pg_catalog.text[])", 2 };
    static const struct sql GIVE = { "give_scopes",
        "INSERT INTO auth.custom_role_scopes (tenant_id, role, scope) SELECT DISTINCT authz.tenant(), $1::pg_catalog.text, s "
        "FROM pg_catalog.unnest($2::pg_catalog.text[]) s ON CONFLICT DO NOTHING", 2 };
    const Auth__PutRoleRequest *req = (const void *)in;
    struct auth *a = self;
    (void)out;
    const struct db_param params[] = { DB_TEXT(req->role), DB_TEXT(text_array(call->mem, (const char *const *)req->scopes, req->n_scopes)) };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_USERS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ADD, params, NULL, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &REMOVE, params, NULL, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &GIVE, params, NULL, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

enum status on_delete_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql DELETE = { "delete_role",
        "DELETE FROM auth.custom_roles r WHERE r.tenant_id = authz.tenant() AND r.role = $1", 1 };
    const Auth__DeleteRoleRequest *req = (const void *)in;
    (void)out;
    return transact_one(self, call, SCOPE_USERS_MANAGE, &DELETE, (struct db_param[]){ DB_TEXT(req->role) });
}

enum status on_list_labels(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_labels",
        "SELECT * FROM (SELECT l.label, l.description, l.tenant_id = authz.tenant(), "
        "(l.label || CASE WHEN l.tenant_id = authz.tenant() THEN ' 1' ELSE ' 0' END) COLLATE \"C\" AS key FROM auth.labels l) l "
        "WHERE l.key > $1 ORDER BY l.key LIMIT $2", 2 };
    const Auth__ListLabelsRequest *req = (const void *)in;
    Auth__ListLabelsReply *reply = (void *)out;
    const char *after = "";
    int limit = page_limit(req->limit);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = read_text_cursor(call, req->cursor, &after);
    if (st == ST_OK)
        st = transact(self, call, SCOPE_USERS_MANAGE, &LIST, (struct db_param[]){ DB_TEXT(after), DB_INT(limit + 1) }, &rows);
    int count = st != ST_OK ? 0 : db_count(rows) > limit ? limit : db_count(rows);
    if (st == ST_OK)
        st = record_shown(call, "labels", count);
    if (st != ST_OK)
        return st;
    reply->labels = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->labels);
    for (int i = 0; i < count; i++) {
        Auth__Label *label = arena_alloc(call->mem, sizeof *label);
        auth__label__init(label);
        label->label = arena_strdup(call->mem, db_text(rows, i, 0));
        label->description = arena_strdup(call->mem, db_text(rows, i, 1));
        label->is_custom = db_bool(rows, i, 2);
        reply->labels[reply->n_labels++] = label;
    }
    if (db_count(rows) > limit)
        reply->next_cursor = write_text_cursor(call->mem, db_text(rows, count - 1, 3));
    return ST_OK;
}

enum status on_create_label(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ADD = { "create_label",
        "INSERT INTO auth.labels (tenant_id, label, description) VALUES (authz.tenant(), $1, $2)", 2 };
    const Auth__CreateLabelRequest *req = (const void *)in;
    (void)out;
    return transact(self, call, SCOPE_USERS_MANAGE, &ADD, (struct db_param[]){ DB_TEXT(req->label), DB_TEXT(req->description) }, NULL);
}

enum status on_list_label_grants(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct id_list LIST = { { "list_label_grants",
        "SELECT g.id, g.label, g.role, g.user_id, g.basis, g.expires_at, g.revoked_at, g.created_at FROM auth.label_grants g "
        "WHERE g.tenant_id = authz.tenant() AND g.id < $1 ORDER BY g.id DESC LIMIT $2", 2 }, SCOPE_USERS_MANAGE, "label_grants", &LAST_ID };
    const Auth__ListLabelGrantsRequest *req = (const void *)in;
    Auth__ListLabelGrantsReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    int count = 0;
    enum status st = show_list(self, call, &LIST, req->cursor, req->limit, &rows, &count, &reply->next_cursor);
    if (st != ST_OK)
        return st;
    reply->grants = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->grants);
    for (int i = 0; i < count; i++) {
        Auth__LabelGrant *grant = arena_alloc(call->mem, sizeof *grant);
        auth__label_grant__init(grant);
        grant->id = id_column(call->mem, rows, i, 0);
        grant->label = arena_strdup(call->mem, db_text(rows, i, 1));
        grant->role = arena_strdup(call->mem, db_text(rows, i, 2));
        grant->user_id = id_column(call->mem, rows, i, 3);
        grant->basis = arena_strdup(call->mem, db_text(rows, i, 4));
        grant->expires_at_us = db_micros(rows, i, 5);
        grant->revoked_at_us = db_micros(rows, i, 6);
        grant->created_at_us = db_micros(rows, i, 7);
        reply->grants[reply->n_grants++] = grant;
    }
    return ST_OK;
}

enum status on_create_label_grant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ADD = { "create_label_grant",
        "INSERT INTO auth.label_grants (tenant_id, id, label, role, user_id, basis, expires_at) VALUES (authz.tenant(), $1, $2, $3, $4, $5, "
        "pg_catalog.to_timestamp($6::pg_catalog.float8 / 1000000))", 6 };
    const Auth__CreateLabelGrantRequest *req = (const void *)in;
    Auth__CreateLabelGrantReply *reply = (void *)out;
    struct uuid id = uuid_v7(), user_id;
    bool is_for_user = req->user_id.len > 0;
    if (is_for_user == (*req->role != '\0') || (is_for_user && !uuid_from_bytes(req->user_id.data, req->user_id.len, &user_id)))
        return fail_as(&call->why, ERR_REQ_FIELD, "either role or user_id");
    if (str_equal(req->basis, "consent") && !req->expires_at_us)
        return fail_as(&call->why, ERR_REQ_FIELD, "expires_at: consent ends");
    enum status st = transact(self, call, SCOPE_USERS_MANAGE, &ADD, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->label),
        is_for_user ? DB_NULL : DB_TEXT(req->role), is_for_user ? DB_UUID(&user_id) : DB_NULL, DB_TEXT(req->basis),
        req->expires_at_us ? DB_INT(req->expires_at_us) : DB_NULL }, NULL);
    if (st == ST_OK)
        reply->grant_id = wire_id(call->mem, &id);
    return st;
}

enum status on_revoke_label_grant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql REVOKE = { "revoke_label_grant",
        "UPDATE auth.label_grants g SET revoked_at = pg_catalog.now() WHERE g.tenant_id = authz.tenant() AND g.id = $1 AND g.revoked_at IS NULL", 1 };
    const Auth__RevokeLabelGrantRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->grant_id, "grant_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_USERS_MANAGE, &REVOKE, (struct db_param[]){ DB_UUID(&id) }) : st;
}
