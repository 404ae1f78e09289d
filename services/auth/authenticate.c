/* authenticate — a bearer token or an API key, and the ticket that it gets. Nothing is cached here: a session
 * may be revoked at any moment, so each call asks the database, once. */
#include <string.h>

#include "api_keys.h"
#include "auth.h"
#include "auth.pb-c.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/wire.h"
#include "db/plain_tx.h"
#include "refusals.h"
#include "tokens.h"
#include "transact.h"

enum { FRESH_S = 15 * 60 };

/* The words that authz.admit() and admit_key() refuse with (SQLSTATE 28000), and what the client sees. */
static const struct mint_refusal { const char *word; enum error_code code; } MINT_REFUSALS[] = {
    { "tenant",  ERR_AUTH_TENANT },     /* unknown or suspended; or none, and no role of the platform */
    { "issuer",  ERR_AUTH_TENANT },     /* one that may not speak for this tenant */
    { "user",    ERR_AUTH_TENANT },     /* disabled, deleted, or not invited */
    { "session", ERR_AUTH_TENANT },     /* revoked */
    { "key",     ERR_AUTH_TOKEN },      /* nobody's API key */
    { "token",   ERR_AUTH_TOKEN },      /* by the database's clock it has expired meanwhile */
};

static const struct mint_refusal *mint_refusal(const struct why *why) {
    static const char PREFIX[] = "no ticket: ";
    static const struct mint_refusal OTHER = { "database", ERR_AUTH_TENANT };
    const char *said = strstr(why->text, PREFIX);
    for (size_t i = 0; said && i < sizeof MINT_REFUSALS / sizeof *MINT_REFUSALS; i++)
        if (str_equal(said + sizeof PREFIX - 1, MINT_REFUSALS[i].word))
            return &MINT_REFUSALS[i];
    return &OTHER;
}

/* Put the refusal on the record and answer. The record may fail; the refusal stands. */
static enum status refuse(struct auth *a, struct call *call, enum error_code code, const char *reason, const char *tenant,
                          const char *remote_address) {
    if (record_refused_token(a, call, code, reason, tenant, remote_address) != ST_OK)
        counter_add(a->unrecorded, 1);
    return fail_as(&call->why, code, "token refused: %s", reason);
}

#define TICKET_COLUMNS "m.ticket, m.tenant_id, m.user_id, m.session_id, m.scopes, m.expires_at, m.withheld"

static void fill_reply(struct arena *mem, const PGresult *rows, Auth__AuthenticateReply *reply) {
    enum { TICKET, TENANT_ID, USER_ID, SESSION_ID, SCOPES, EXPIRES_AT, WITHHELD };
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
    if (st == ST_UNAUTHENTICATED) {
        const struct mint_refusal *why = mint_refusal(&call->why);
        counter_add(a->refused_by_database, 1);
        return refuse(a, call, why->code, why->word, tenant, remote_address);
    }
    if (st != ST_OK)
        return st;
    if (db_count(rows) != 1)
        return fail(&call->why, ST_INTERNAL, "admit: %d rows", db_count(rows));
    fill_reply(call->mem, rows, reply);
    counter_add(a->accepted, 1);
    return ST_OK;
}

/* The one tenant of an issuer whose tokens name none. */
static const char *tenant_of(const struct believed *issuer, const struct jwt_claims *claims) {
    if (claims->tenant || issuer->tenant_count != 1 || str_equal(issuer->tenants[0], "*") || str_equal(issuer->tenants[0], "cordon-platform"))
        return claims->tenant;
    return issuer->tenants[0];
}

/* Did the person log in a moment ago? A token that does not say when was issued when it was issued. */
static bool is_fresh(const struct jwt_claims *claims) {
    int64_t since_s = claims->auth_time_s ? claims->auth_time_s : claims->issued_at_s;
    return since_s && clock_unix_us() / 1000000 - since_s <= FRESH_S;
}

static struct db_param bytes_or_null(const struct blob *blob) {
    return blob->data ? DB_BYTES(blob->data, blob->len) : DB_NULL;
}

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

    uint8_t profile[SHA256_BYTES], address[SHA256_BYTES];
    struct blob name = { 0 }, email = { 0 };
    directory_profile_blind(a->directory, claims.name, claims.email, profile);
    directory_email_blind(a->directory, claims.email, address);
    st = directory_seal(a->directory, DIRECTORY_NAME, claims.name, call->mem, &name, &call->why);
    if (st == ST_OK)
        st = directory_seal(a->directory, DIRECTORY_EMAIL, claims.email, call->mem, &email, &call->why);
    if (st != ST_OK)
        return st;

    const char *tenant = tenant_of(issuer, &claims);
    bool is_strong = claims.has_mfa || !a->settings->is_mfa_required;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct db_param params[] = { DB_TEXT(issuer->policy.issuer), DB_TEXT(claims.subject), DB_TEXT(claims.token_id),
        DB_INT(claims.accepted_until_s), DB_TEXT(tenant), DB_TEXT(text_array(call->mem, issuer->tenants, issuer->tenant_count)),
        DB_TEXT(text_array(call->mem, claims.roles, claims.roles_count)), DB_BOOL(is_strong), DB_BOOL(is_strong && is_fresh(&claims)),
        DB_BOOL(claims.is_email_verified), DB_BYTES(profile, sizeof profile), bytes_or_null(&name), bytes_or_null(&email),
        claims.email ? DB_BYTES(address, sizeof address) : DB_NULL };
    st = fault_status(FAULT_AUTH_BEFORE_MINT, &call->why);
    if (st == ST_OK)
        st = db_run(a->db, &ADMIT, params, call->deadline_ms, &rows, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_AUTH_MINTED, &call->why);
    return conclude(a, call, st, rows, tenant, req->remote_address, reply);
}

static enum status admit_api_key(struct auth *a, struct call *call, const Auth__AuthenticateRequest *req, const struct api_key *key,
                                 Auth__AuthenticateReply *reply) {
    static const struct sql ADMIT = { "admit_key", "SELECT " TICKET_COLUMNS " FROM authz.admit_key($1, $2) m", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(a->db, &ADMIT, (struct db_param[]){ DB_TEXT(key->prefix), DB_BYTES(key->secret_hash, sizeof key->secret_hash) },
                            call->deadline_ms, &rows, &call->why);
    return conclude(a, call, st, rows, NULL, req->remote_address, reply);
}

enum status on_authenticate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Auth__AuthenticateRequest *req = (const void *)in;
    struct api_key key;
    if (!api_key_is_meant(req->bearer_token))
        return admit_token(self, call, req, (void *)out);
    if (!api_key_parse(req->bearer_token, &key))
        return refuse(self, call, ERR_AUTH_TOKEN, "key", NULL, req->remote_address);
    return admit_api_key(self, call, req, &key, (void *)out);
}
