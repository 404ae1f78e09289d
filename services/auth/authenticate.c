/* authenticate — a credential and the ticket that it gets: a bearer token, an API key, or a browser's cookie. Nothing is
 * cached here: a session may be revoked at any moment, so each call asks the database, once. */
#include <string.h>

#include "admission.h"
#include "api_keys.h"
#include "auth.pb-c.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/wire.h"
#include "db/plain_tx.h"
#include "refresh.h"
#include "tokens.h"
#include "transact.h"

#define TICKET_COLUMNS "m.ticket, m.tenant_id, m.user_id, m.session_id, m.scopes, m.expires_at, m.withheld"
enum { TICKET, TENANT_ID, USER_ID, SESSION_ID, SCOPES, EXPIRES_AT, WITHHELD, ENDED, IS_DUE, ISSUER, REFRESH };

static void fill_reply(struct arena *mem, const PGresult *rows, Auth__AuthenticateReply *reply) {
    struct uuid tenant_id = db_uuid(rows, 0, TENANT_ID), user_id = db_uuid(rows, 0, USER_ID), session_id = db_uuid(rows, 0, SESSION_ID);
    reply->ticket = arena_strdup(mem, db_text(rows, 0, TICKET));
    reply->expires_at_us = db_micros(rows, 0, EXPIRES_AT);
    reply->tenant_id = wire_id(mem, &tenant_id);
    reply->user_id = wire_id(mem, &user_id);
    reply->session_id = wire_id(mem, &session_id);
    reply->scopes = read_texts(mem, rows, 0, SCOPES, &reply->n_scopes);
    reply->withheld_scopes = read_texts(mem, rows, 0, WITHHELD, &reply->n_withheld_scopes);
}

/* What the database made of it: a ticket, or a refusal to put on record. */
static enum status conclude(struct auth *a, struct call *call, enum status st, const PGresult *rows, const char *tenant,
                            const char *remote_address, Auth__AuthenticateReply *reply) {
    if (st == ST_UNAUTHENTICATED)
        return refuse_by_database(a, call, tenant, remote_address);
    if (st != ST_OK)
        return st;
    if (db_count(rows) != 1)
        return fail(&call->why, ST_INTERNAL, "admit: %d rows", db_count(rows));
    fill_reply(call->mem, rows, reply);
    counter_add(a->accepted, 1);
    return ST_OK;
}

/* ---- a token ---- */

static enum status admit_token(struct auth *a, struct call *call, const Auth__AuthenticateRequest *req, Auth__AuthenticateReply *reply) {
    static const struct sql ADMIT = { "admit",
        "SELECT " TICKET_COLUMNS " FROM authz.admit($1, $2, $3, pg_catalog.to_timestamp($4::pg_catalog.float8), $5, $6::pg_catalog.text[], "
        "$7::pg_catalog.text[], $8, $9, $10, $11, $12, $13, $14) m", 14 };
    enum jwt_refusal refusal = JWT_ACCEPTED;
    struct jwt_claims claims = { 0 };
    const struct believed *issuer = issuers_choose(&a->issuers, call->mem, req->bearer_token);
    enum status st = check_token(issuer, call, req->bearer_token, &refusal, &claims);
    if (st != ST_OK)
        return st;
    if (refusal != JWT_ACCEPTED) {
        counter_add(a->refused[refusal], 1);
        return refuse(a, call, jwt_refusal_error(refusal), jwt_refusal_name(refusal), NULL, req->remote_address);
    }
    struct db_param params[ADMISSION_PARAMS];
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = admission_params(a, call, issuer, &claims, claims.accepted_until_s, params);
    if (st == ST_OK)
        st = fault_status(FAULT_AUTH_BEFORE_MINT, &call->why);
    if (st == ST_OK)
        st = db_run(a->db, &ADMIT, params, call->deadline_ms, &rows, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_AUTH_MINTED, &call->why);
    return conclude(a, call, st, rows, admission_tenant(issuer, &claims), req->remote_address, reply);
}

/* ---- an API key ---- */

static enum status admit_api_key(struct auth *a, struct call *call, const Auth__AuthenticateRequest *req, Auth__AuthenticateReply *reply) {
    static const struct sql ADMIT = { "admit_key", "SELECT " TICKET_COLUMNS " FROM authz.admit_key($1, $2) m", 2 };
    struct api_key key;
    if (!api_key_parse(req->bearer_token, &key))
        return refuse(a, call, ERR_AUTH_TOKEN, "key", NULL, req->remote_address);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(a->db, &ADMIT, (struct db_param[]){ DB_TEXT(key.prefix), DB_BYTES(key.secret_hash, sizeof key.secret_hash) },
                            call->deadline_ms, &rows, &call->why);
    return conclude(a, call, st, rows, NULL, req->remote_address, reply);
}

/* ---- a cookie ---- */

static enum status ask_for_cookie(struct auth *a, struct call *call, const uint8_t cookie[SHA256_BYTES], bool is_activity, PGresult **ret_rows) {
    static const struct sql ADMIT = { "admit_cookie",
        "SELECT " TICKET_COLUMNS ", m.ended, m.is_due, m.issuer, m.refresh_enc FROM authz.admit_cookie($1, $2, $3) m", 3 };
    return db_run(a->db, &ADMIT, (struct db_param[]){ DB_BYTES(cookie, SHA256_BYTES), DB_BOOL(is_activity), DB_INT(ADMISSION_FRESH_S) },
                  call->deadline_ms, ret_rows, &call->why);
}

/* Before its last word runs out the provider is asked for the next one, by whoever comes then; while it does not answer the
 * last word counts until its end. */
static enum status admit_cookie(struct auth *a, struct call *call, const Auth__AuthenticateRequest *req, Auth__AuthenticateReply *reply) {
    uint8_t cookie[SHA256_BYTES];
    CLEANUP(pgrows_destroy) PGresult *rows = NULL, *again = NULL;
    sha256(req->session_cookie, strlen(req->session_cookie), cookie);
    enum status st = ask_for_cookie(a, call, cookie, !req->is_passive, &rows);
    const PGresult *last = rows;
    if (st == ST_OK && db_count(rows) == 1 && db_bool(rows, 0, IS_DUE)) {
        size_t len = 0;
        const uint8_t *sealed = db_bytea(rows, 0, REFRESH, &len);
        st = refresh_login(a, call, cookie, db_text(rows, 0, ISSUER), sealed, len);
        if (st == ST_UNAVAILABLE && !db_is_null(rows, 0, TICKET))
            st = ST_OK;
        else if (st == ST_OK || st == ST_UNAUTHENTICATED) {
            st = ask_for_cookie(a, call, cookie, !req->is_passive, &again);
            last = again;
        }
    }
    if (st == ST_OK && db_count(last) == 1 && !db_is_null(last, 0, ENDED))
        return refuse(a, call, ERR_AUTH_SESSION, db_text(last, 0, ENDED), NULL, req->remote_address);
    if (st == ST_OK && db_count(last) == 1 && db_is_null(last, 0, TICKET))
        return fail_as(&call->why, ERR_AUTH_PROVIDER, "another replica is asking the provider");
    return conclude(a, call, st, last, NULL, req->remote_address, reply);
}

/* ---- which ---- */

static bool is_cookie(const Auth__AuthenticateRequest *req) {
    return *req->session_cookie;
}

static bool is_api_key(const Auth__AuthenticateRequest *req) {
    return api_key_is_meant(req->bearer_token);
}

static bool is_anything(const Auth__AuthenticateRequest *req) {
    (void)req;
    return true;
}

static const struct credential_kind {
    bool (*is_meant)(const Auth__AuthenticateRequest *req);
    enum status (*admit)(struct auth *a, struct call *call, const Auth__AuthenticateRequest *req, Auth__AuthenticateReply *reply);
} KINDS[] = {
    { is_cookie, admit_cookie },
    { is_api_key, admit_api_key },
    { is_anything, admit_token },
};

enum status on_authenticate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const struct credential_kind *kind = KINDS;
    while (!kind->is_meant((const void *)in))
        kind++;
    return kind->admit(self, call, (const void *)in, (void *)out);
}
