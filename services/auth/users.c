/* users — who belongs to a tenant. Names and addresses are opened here and nowhere else. */
#include <string.h>

#include "auth.pb-c.h"
#include "core/str.h"
#include "core/wire.h"
#include "transact.h"

enum { NAME_MAX_BYTES = 200, EMAIL_MAX_BYTES = 254 };

/* ListUsersRequest -> ListUsersReply, oldest first. */
enum status on_list_users(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct uuid FIRST = { { 0 } };
    static const struct id_list LIST = { { "list_users",
        "SELECT u.id, u.name_enc, u.email_enc, u.status, u.created_at, coalesce(u.issuer = 'urn:cordon:api-key', false), "
        "ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id ORDER BY 1) "
        "FROM auth.users u WHERE u.tenant_id = authz.tenant() AND u.id > $1 ORDER BY u.id LIMIT $2", 2 },
        SCOPE_USERS_MANAGE, "users", &FIRST };
    enum { ID, NAME, EMAIL, STATUS, CREATED_AT, IS_MACHINE, ROLES };
    const Auth__ListUsersRequest *req = (const void *)in;
    Auth__ListUsersReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    int count = 0;
    enum status st = show_list(self, call, &LIST, req->cursor, req->limit, &rows, &count, &reply->next_cursor);
    reply->users = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->users);
    for (int i = 0; st == ST_OK && i < count; i++) {
        Auth__User *user = arena_alloc(call->mem, sizeof *user);
        auth__user__init(user);
        user->id = id_column(call->mem, rows, i, ID);
        user->status = arena_strdup(call->mem, db_text(rows, i, STATUS));
        user->created_at_us = db_micros(rows, i, CREATED_AT);
        user->is_machine = db_bool(rows, i, IS_MACHINE);
        user->roles = read_texts(call->mem, rows, i, ROLES, &user->n_roles);
        st = read_sealed(self, call, DIRECTORY_NAME, rows, i, NAME, &user->name);
        if (st == ST_OK)
            st = read_sealed(self, call, DIRECTORY_EMAIL, rows, i, EMAIL, &user->email);
        reply->users[reply->n_users++] = user;
    }
    return st;
}

static bool is_email(const char *text) {
    const char *at = strrchr(text, '@');
    return is_line(text, EMAIL_MAX_BYTES) && at && at != text && at[1] && !strchr(text, ' ');
}

/* InviteUserRequest -> InviteUserReply. */
enum status on_invite_user(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql INVITE = { "invite_user",
        "INSERT INTO auth.users (tenant_id, id, status, name_enc, email_enc, email_index) "
        "VALUES (authz.tenant(), $1, 'invited', $2, $3, authz.email_index(authz.tenant(), $4))", 4 };
    static const struct sql ASSIGN = { "assign_roles",
        "INSERT INTO auth.user_roles (tenant_id, user_id, role) SELECT DISTINCT authz.tenant(), $1::pg_catalog.uuid, r FROM pg_catalog.unnest($2::pg_catalog.text[]) r", 2 };
    const Auth__InviteUserRequest *req = (const void *)in;
    Auth__InviteUserReply *reply = (void *)out;
    struct auth *a = self;
    if (!is_email(req->email) || (*req->name && !is_line(req->name, NAME_MAX_BYTES)))
        return fail_as(&call->why, ERR_REQ_FIELD, "email or name is not of the right form");
    uint8_t blind[SHA256_BYTES];
    struct blob name = { 0 }, email = { 0 };
    struct uuid id = uuid_v7();
    directory_email_blind(a->directory, req->email, blind);
    enum status st = directory_seal(a->directory, DIRECTORY_EMAIL, req->email, call->mem, &email, &call->why);
    if (st == ST_OK)
        st = directory_seal(a->directory, DIRECTORY_NAME, *req->name ? req->name : NULL, call->mem, &name, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_USERS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &INVITE, (struct db_param[]){ DB_UUID(&id), name.data ? DB_BYTES(name.data, name.len) : DB_NULL,
                           DB_BYTES(email.data, email.len), DB_BYTES(blind, sizeof blind) }, NULL, &call->why);
    if (st == ST_OK && req->n_roles)
        st = tenant_tx_run(&tx, &ASSIGN, (struct db_param[]){ DB_UUID(&id),
                           DB_TEXT(text_array(call->mem, (const char *const *)req->roles, req->n_roles)) }, NULL, &call->why);
    if (st != ST_OK)
        return st;
    reply->user_id = wire_id(call->mem, &id);
    return tenant_tx_commit(&tx, &call->why);
}

/* UpdateUserRequest -> {}. Whoever is disabled is refused from his next request on: the edge asks every second. */
enum status on_update_user(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql UPDATE_STATUS = { "update_user",
        "UPDATE auth.users u SET status = $2, updated_at = pg_catalog.now() WHERE u.tenant_id = authz.tenant() AND u.id = $1", 2 };
    const Auth__UpdateUserRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    if (!str_equal(req->status, "active") && !str_equal(req->status, "disabled") && !str_equal(req->status, "deleted"))
        return fail_as(&call->why, ERR_REQ_FIELD, "status");
    enum status st = read_id(call, &req->user_id, "user_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_USERS_MANAGE, &UPDATE_STATUS, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->status) }) : st;
}

/* AssignRoleRequest -> {}. Safe to repeat. */
enum status on_assign_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ASSIGN = { "assign_role",
        "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES (authz.tenant(), $1, $2) ON CONFLICT DO NOTHING", 2 };
    const Auth__AssignRoleRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->user_id, "user_id", &id);
    return st == ST_OK ? transact(self, call, SCOPE_USERS_MANAGE, &ASSIGN, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->role) }, NULL) : st;
}

enum status on_unassign_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql UNASSIGN = { "unassign_role",
        "DELETE FROM auth.user_roles r WHERE r.tenant_id = authz.tenant() AND r.user_id = $1 AND r.role = $2", 2 };
    const Auth__UnassignRoleRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->user_id, "user_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_USERS_MANAGE, &UNASSIGN, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->role) }) : st;
}
