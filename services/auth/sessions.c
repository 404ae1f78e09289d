/* sessions — who I am, which sessions there are, and their ends. Every kind of credential has its session; only a
 * browser's has an idle time and something to say to the provider when it ends. */
#include <string.h>

#include "auth.pb-c.h"
#include "core/wire.h"
#include "db/cursor.h"
#include "db/plain_tx.h"
#include "provider.h"
#include "transact.h"

enum { CHECK_MAX = 2048, URL_MAX_BYTES = 24 << 10 };

#define SESSION_COLUMNS "s.id, s.id = authz.session_id(), l.session_id IS NOT NULL, s.created_at, " \
                        "greatest(s.last_seen_at, l.seen_at), s.expires_at, l.seen_at + l.idle_s * interval '1 s', l.authenticated_at"
#define SESSIONS "auth.sessions s LEFT JOIN auth.logins l ON l.tenant_id = s.tenant_id AND l.session_id = s.id"

static Auth__Session *read_session(struct arena *mem, const PGresult *rows, int row) {
    Auth__Session *session = arena_alloc(mem, sizeof *session);
    auth__session__init(session);
    session->id = id_column(mem, rows, row, 0);
    session->is_current = db_bool(rows, row, 1);
    session->is_browser = db_bool(rows, row, 2);
    session->created_at_us = db_micros(rows, row, 3);
    session->last_seen_at_us = db_micros(rows, row, 4);
    session->expires_at_us = db_micros(rows, row, 5);
    session->idle_at_us = db_micros(rows, row, 6);
    session->authenticated_at_us = db_micros(rows, row, 7);
    return session;
}

/* ---- mine ---- */

/* GetMeRequest -> GetMeReply. */
enum status on_get_me(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql FIND = { "get_me",
        "SELECT " SESSION_COLUMNS ", u.id, s.tenant_id, coalesce(t.slug, ''), coalesce(t.name, ''), u.name_enc, u.email_enc, (authz.current_claims()).scopes "
        "FROM " SESSIONS " JOIN auth.users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id LEFT JOIN auth.tenants t ON t.id = s.tenant_id "
        "WHERE s.id = authz.session_id() AND s.user_id = authz.user_id()", 0 };
    enum { USER_ID = 8, TENANT_ID, SLUG, TENANT_NAME, NAME, EMAIL, SCOPES };
    Auth__GetMeReply *reply = (void *)out;
    struct auth *a = self;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    (void)in;
    enum status st = transact(a, call, SCOPE_NONE, &FIND, NULL, &rows);
    if (st == ST_OK && db_count(rows) != 1)
        st = fail(&call->why, ST_INTERNAL, "get_me: %d rows", db_count(rows));
    if (st == ST_OK)
        st = read_sealed(a, call, DIRECTORY_NAME, rows, 0, NAME, &reply->name);
    if (st == ST_OK)
        st = read_sealed(a, call, DIRECTORY_EMAIL, rows, 0, EMAIL, &reply->email);
    if (st != ST_OK)
        return st;
    reply->user_id = id_column(call->mem, rows, 0, USER_ID);
    reply->tenant_id = id_column(call->mem, rows, 0, TENANT_ID);
    reply->tenant = arena_strdup(call->mem, db_text(rows, 0, SLUG));
    reply->tenant_name = arena_strdup(call->mem, db_text(rows, 0, TENANT_NAME));
    reply->scopes = read_texts(call->mem, rows, 0, SCOPES, &reply->n_scopes);
    reply->session = read_session(call->mem, rows, 0);
    return ST_OK;
}

/* A page of the sessions of a user that live, newest first; user_id NULL: of one's own. */
static enum status list(struct auth *a, struct call *call, uint64_t scope, const struct uuid *user_id, const struct list_page *page,
                        size_t *ret_count, Auth__Session ***ret_sessions, char **ret_next) {
    static const struct sql LIST = { "list_sessions",
        "SELECT " SESSION_COLUMNS " FROM " SESSIONS " WHERE s.user_id = coalesce($1::uuid, authz.user_id()) "
        "AND ($1::uuid IS NULL OR s.tenant_id = authz.tenant()) AND s.revoked_at IS NULL AND s.expires_at > pg_catalog.now() "
        "AND ($2::uuid IS NULL OR s.id < $2::uuid) ORDER BY s.id DESC LIMIT $3", 3 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = transact(a, call, scope, &LIST, (struct db_param[]){ DB_UUID(user_id), PAGE_AFTER(page), PAGE_ROWS(page) }, &rows);
    size_t count = st == ST_OK ? list_page_end(page, call->mem, rows, 0, ret_next) : 0;
    if (st == ST_OK)
        st = record_shown(call, "sessions", (int)count);
    if (st != ST_OK)
        return st;
    *ret_sessions = arena_alloc(call->mem, (count + 1) * sizeof **ret_sessions);
    for (; *ret_count < count; ++*ret_count)
        (*ret_sessions)[*ret_count] = read_session(call->mem, rows, (int)*ret_count);
    return ST_OK;
}

/* ValidateSessionRequest -> ValidateSessionReply. */
enum status on_validate_session(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql FIND = { "validate_session",
        "SELECT " SESSION_COLUMNS " FROM " SESSIONS " WHERE s.id = authz.session_id() AND s.user_id = authz.user_id()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    (void)in;
    enum status st = transact(self, call, SCOPE_NONE, &FIND, NULL, &rows);
    if (st == ST_OK && db_count(rows) != 1)
        st = fail(&call->why, ST_INTERNAL, "validate_session: %d rows", db_count(rows));
    if (st == ST_OK)
        ((Auth__ValidateSessionReply *)out)->session = read_session(call->mem, rows, 0);
    return st;
}

/* ListSessionsRequest -> ListSessionsReply, newest first. */
enum status on_list_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Auth__ListSessionsRequest *req = (const void *)in;
    Auth__ListSessionsReply *reply = (void *)out;
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    return st == ST_OK ? list(self, call, SCOPE_NONE, NULL, &page, &reply->n_sessions, &reply->sessions, &reply->next_cursor) : st;
}

/* EndSessionRequest -> {}. One's own. */
enum status on_end_session(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql END = { "end_session",
        "UPDATE auth.sessions s SET revoked_at = pg_catalog.clock_timestamp(), revoked_reason = 'user' "
        "WHERE s.id = $1 AND s.user_id = authz.user_id() AND s.revoked_at IS NULL", 1 };
    const Auth__EndSessionRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->session_id, "session_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_NONE, &END, (struct db_param[]){ DB_UUID(&id) }) : st;
}

/* ---- another's, for whoever manages users ---- */

/* ListUserSessionsRequest -> ListUserSessionsReply. */
enum status on_list_user_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Auth__ListUserSessionsRequest *req = (const void *)in;
    Auth__ListUserSessionsReply *reply = (void *)out;
    struct uuid id;
    struct list_page page;
    enum status st = read_id(call, &req->user_id, "user_id", &id);
    if (st == ST_OK)
        st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    return st == ST_OK ? list(self, call, SCOPE_USERS_MANAGE, &id, &page, &reply->n_sessions, &reply->sessions, &reply->next_cursor) : st;
}

/* EndUserSessionsRequest -> EndUserSessionsReply. Logs a user out everywhere; he may log in again. */
enum status on_end_user_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql END = { "end_user_sessions",
        "UPDATE auth.sessions s SET revoked_at = pg_catalog.clock_timestamp(), revoked_reason = 'admin' "
        "WHERE s.tenant_id = authz.tenant() AND s.user_id = $1 AND s.revoked_at IS NULL AND s.expires_at > pg_catalog.now()", 1 };
    const Auth__EndUserSessionsRequest *req = (const void *)in;
    struct uuid id;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = read_id(call, &req->user_id, "user_id", &id);
    if (st == ST_OK)
        st = transact(self, call, SCOPE_USERS_MANAGE, &END, (struct db_param[]){ DB_UUID(&id) }, &rows);
    if (st == ST_OK)
        ((Auth__EndUserSessionsReply *)out)->ended = (uint32_t)db_affected(rows);
    return st;
}

/* ---- the end ---- */

/* OpenID Connect RP-Initiated Logout 1.0. "" when the provider has none. */
static char *logout_url(struct auth *a, struct call *call, const struct believed *issuer, const char *id_token) {
    CLEANUP(buffer_end) struct buffer url = { .limit_bytes = URL_MAX_BYTES };
    struct issuer_endpoints at;
    if (issuer_endpoints(issuer->keys, call->deadline_ms, call->mem, &at, &call->why) != ST_OK || !at.end_session)
        return "";
    (void)buffer_add_str(&url, at.end_session);
    provider_add_param(&url, "client_id", issuer->login.id);
    provider_add_param(&url, "post_logout_redirect_uri", arena_printf(call->mem, "%s/", a->settings->public_url));
    if (*id_token)
        provider_add_param(&url, "id_token_hint", id_token);
    return url.is_overfull ? "" : arena_strdup(call->mem, url.data);
}

/* What is left to do once the session is over; nothing of it can bring it back, so nothing of it fails the call. */
static void tell_provider(struct auth *a, struct call *call, const PGresult *rows, Auth__LogoutReply *reply) {
    const struct believed *issuer = issuers_find(&a->issuers, db_text(rows, 0, 0));
    const char *refresh = "", *id_token = "";
    size_t hash_len = 0, refresh_len = 0, id_len = 0;
    const uint8_t *hash = db_bytea(rows, 0, 1, &hash_len), *sealed = db_bytea(rows, 0, 2, &refresh_len), *sealed_id = db_bytea(rows, 0, 3, &id_len);
    if (!issuer || !issuer->login.secret || hash_len != SHA256_BYTES)
        return;
    if (directory_open_for(a->directory, DIRECTORY_REFRESH_TOKEN, hash, sealed, refresh_len, call->mem, &refresh, &call->why) != ST_OK || !*refresh ||
        provider_revoke(a, issuer, call, refresh) != ST_OK)
        call->why = (struct why){ 0 };
    if (directory_open_for(a->directory, DIRECTORY_ID_TOKEN, hash, sealed_id, id_len, call->mem, &id_token, &call->why) == ST_OK)
        reply->logout_url = logout_url(a, call, issuer, id_token);
}

/* LogoutRequest -> LogoutReply. */
enum status on_logout(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LOG_OUT = { "log_out", "SELECT o.issuer, o.cookie_hash, o.refresh_enc, o.id_token_enc FROM authz.log_out() o", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    (void)in;
    enum status st = transact(self, call, SCOPE_NONE, &LOG_OUT, NULL, &rows);
    if (st == ST_OK && db_count(rows) == 1)
        tell_provider(self, call, rows, (void *)out);
    return st;
}

/* CheckSessionsRequest -> CheckSessionsReply. */
enum status on_check_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql CHECK = { "check_sessions",
        "SELECT e FROM authz.ended_sessions($1::pg_catalog.uuid[], $2::pg_catalog.uuid[]) e", 2 };
    const Auth__CheckSessionsRequest *req = (const void *)in;
    Auth__CheckSessionsReply *reply = (void *)out;
    struct auth *a = self;
    const char *tenants = NULL, *sessions = NULL;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (req->n_session_ids != req->n_tenant_ids || req->n_session_ids > CHECK_MAX)
        return fail_as(&call->why, ERR_REQ_FIELD, "not as many tenants as sessions, or too many");
    enum status st = id_array(call, req->tenant_ids, req->n_tenant_ids, &tenants);
    if (st == ST_OK)
        st = id_array(call, req->session_ids, req->n_session_ids, &sessions);
    if (st == ST_OK)
        st = db_run(a->db, &CHECK, (struct db_param[]){ DB_TEXT(tenants), DB_TEXT(sessions) }, call->deadline_ms, &rows, &call->why);
    if (st != ST_OK)
        return st;
    reply->ended_ids = arena_alloc(call->mem, (size_t)(db_count(rows) + 1) * sizeof *reply->ended_ids);
    for (int i = 0; i < db_count(rows); i++)
        reply->ended_ids[reply->n_ended_ids++] = id_column(call->mem, rows, i, 0);
    return ST_OK;
}
