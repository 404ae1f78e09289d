#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "auth.pb-c.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/wire.h"
#include "db/boot_check.h"
#include "db/plain_tx.h"
#include "db/rows.h"
#include "refusals.h"
#include "tokens.h"

enum { BOOT_MS = 20000, READY_MS = 2000, ISSUER_FETCH_MS = 3000 };

/* A text[] literal: {"a","b"}. */
static const char *array_literal(struct arena *mem, const char *const items[], size_t count) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    bool fits = buffer_add_str(&out, "{");
    for (size_t i = 0; i < count; i++) {
        fits &= buffer_add_str(&out, i ? ",\"" : "\"");
        for (const char *c = items[i]; *c; c++)
            fits &= buffer_printf(&out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        fits &= buffer_add_str(&out, "\"");
    }
    fits &= buffer_add_str(&out, "}");
    return arena_strdup(mem, fits ? out.data : "{}");
}

/* The words that authz.mint() refuses with (SQLSTATE 28000), and what the client sees. */
static const struct mint_refusal { const char *word; enum error_code code; } MINT_REFUSALS[] = {
    { "tenant",  ERR_AUTH_TENANT },     /* unknown or suspended; or none, and no role of the platform */
    { "user",    ERR_AUTH_TENANT },     /* disabled */
    { "session", ERR_AUTH_TENANT },     /* revoked */
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
    if (record_refused_token(call, code, reason, tenant, remote_address) != ST_OK)
        counter_add(a->unrecorded, 1);
    return fail_as(&call->why, code, "token refused: %s", reason);
}

static void fill_reply(struct arena *mem, const PGresult *rows, Auth__AuthenticateReply *reply) {
    enum { TICKET, TENANT_ID, USER_ID, SESSION_ID, SCOPES, EXPIRES_AT };
    struct uuid tenant_id = db_uuid(rows, 0, TENANT_ID), user_id = db_uuid(rows, 0, USER_ID), session_id = db_uuid(rows, 0, SESSION_ID);
    reply->ticket = arena_strdup(mem, db_text(rows, 0, TICKET));
    reply->expires_at_us = db_micros(rows, 0, EXPIRES_AT);
    reply->tenant_id = wire_id(mem, &tenant_id);
    reply->user_id = wire_id(mem, &user_id);
    reply->session_id = wire_id(mem, &session_id);
    const char *text;
    size_t len;
    while (db_text_item(rows, 0, SCOPES, (int)reply->n_scopes, &text, &len))
        reply->n_scopes++;
    reply->scopes = arena_alloc(mem, (reply->n_scopes + 1) * sizeof *reply->scopes);
    for (size_t i = 0; i < reply->n_scopes && db_text_item(rows, 0, SCOPES, (int)i, &text, &len); i++)
        reply->scopes[i] = arena_strndup(mem, text, len);
}

/* AuthenticateRequest -> AuthenticateReply. Nothing is cached here: a session may be revoked at any
 * moment, so each call asks the database, once. */
enum status on_authenticate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql MINT = { "mint",
        "SELECT m.ticket, m.tenant_id, m.user_id, m.session_id, m.scopes, m.expires_at FROM authz.mint($1, $2, $3, "
        "pg_catalog.to_timestamp($4::pg_catalog.float8), $5, $6::pg_catalog.text[], $7, $8) m", 8 };
    const Auth__AuthenticateRequest *req = (const void *)in;
    struct auth *a = self;

    enum jwt_refusal refusal = JWT_ACCEPTED;
    struct jwt_claims claims = { 0 };
    enum status st = check_token(a, call, req->bearer_token, &refusal, &claims);
    if (st != ST_OK)
        return st;
    if (refusal != JWT_ACCEPTED) {
        counter_add(a->refused[refusal], 1);
        return refuse(a, call, jwt_refusal_error(refusal), jwt_refusal_name(refusal), NULL, req->remote_address);
    }

    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct db_param params[] = { DB_TEXT(a->policy.issuer), DB_TEXT(claims.subject), DB_TEXT(claims.token_id),
        DB_INT(claims.accepted_until_s), DB_TEXT(claims.tenant), DB_TEXT(array_literal(call->mem, claims.roles, claims.roles_count)),
        DB_TEXT(claims.name), DB_TEXT(claims.email) };
    st = fault_status(FAULT_AUTH_BEFORE_MINT, &call->why);
    if (st == ST_OK)
        st = db_run(a->db, &MINT, params, call->deadline_ms, &rows, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_AUTH_MINTED, &call->why);
    if (st == ST_UNAUTHENTICATED) {
        const struct mint_refusal *why = mint_refusal(&call->why);
        counter_add(a->refused_by_database, 1);
        return refuse(a, call, why->code, why->word, claims.tenant, req->remote_address);
    }
    if (st != ST_OK)
        return st;
    if (db_count(rows) != 1)
        return fail(&call->why, ST_INTERNAL, "mint: %d rows", db_count(rows));
    fill_reply(call->mem, rows, (void *)out);
    counter_add(a->accepted, 1);
    return ST_OK;
}

/* DeniedRequest -> {}. ST_UNAVAILABLE: not on record. */
enum status on_denied(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Auth__DeniedRequest *req = (const void *)in;
    (void)self;
    (void)out;
    return record_denial(call, error_from_text(req->code), req->http_method, req->path, req->remote_address);
}

static const struct route ROUTES[] = {
    /* method               who may call  scope                  request                                reply                                handler */
    { "auth.Authenticate",  PEER_EDGE,    SCOPE_NONE,            &auth__authenticate_request__descriptor,  &auth__authenticate_reply__descriptor,  on_authenticate },
    { "auth.Denied",        PEER_EDGE,    SCOPE_NONE,            &auth__denied_request__descriptor,        &auth__denied_reply__descriptor,        on_denied },
    { "auth.CreateTenant",  PEER_EDGE,    SCOPE_TENANTS_MANAGE,  &auth__create_tenant_request__descriptor, &auth__create_tenant_reply__descriptor, on_create_tenant },
    { "auth.ListTenants",   PEER_EDGE,    SCOPE_TENANTS_MANAGE,  &auth__list_tenants_request__descriptor,  &auth__list_tenants_reply__descriptor,  on_list_tenants },
    { 0 }
};

#define OFF(member) offsetof(struct auth_settings, member)

static const struct setting SETTINGS[] = {
    /* name                            type        default      min max   unit offset                     help */
    { "DATABASE_URL",                  SET_SECRET, NULL,        1,  2048, "",  OFF(database_url),         "PostgreSQL as role cordon_auth; sslmode=verify-full in production." },
    { "CORDON_DB_CONNECTIONS",         SET_INT,    "4",         1,  64,   "",  OFF(db_connections_count), "Connections as cordon_auth; about two for each core of the database." },
    { "OIDC_ISSUER_URL",               SET_TEXT,   NULL,        8,  512,  "",  OFF(issuer_url),           "Issuer of access tokens, exactly as in their iss; https in production." },
    { "OIDC_CLIENT_ID",                SET_TEXT,   NULL,        1,  255,  "",  OFF(audience),             "Audience that a token must be for." },
    { "CORDON_JWT_AUDIENCE_CLAIM_NAME", SET_TEXT,  "aud",       1,  255,  "",  OFF(audience_claim),       "Claim that names the audience; client_id for Amazon Cognito's access tokens." },
    { "JWT_TENANT_CLAIM_NAME",         SET_TEXT,   "tenant",    1,  255,  "",  OFF(tenant_claim),         "Claim that names the tenant, by slug or id." },
    { "CORDON_JWT_ROLES_CLAIM_NAME",   SET_TEXT,   "roles",     1,  255,  "",  OFF(roles_claim),          "Claim that lists the roles: an array, or names between spaces." },
    AWS_SETTINGS(struct auth_settings, aws),
    AWS_ENDPOINT_SETTING(struct auth_settings, kms_endpoint, "KMS"),
    { "CORDON_AWS_IDENTITY",           SET_TEXT,   "auth",      1,  64,   "",  OFF(aws_identity),         "User or role that AWS must say this process is." },
    { 0 }
};

static enum status check_database(void *self, struct why *why) {
    const struct auth *a = self;
    return db_boot_check(a->db, "cordon_auth", a->runtime->is_production, clock_mono_ms() + READY_MS, why);
}

static enum status check_issuer(void *self, struct why *why) {
    const struct auth *a = self;
    return issuer_check(a->issuer, why);
}

static enum status check_identity(void *self, struct why *why) {
    const struct auth *a = self;
    return sts_assert(a->aws, a->settings->aws.sts_endpoint, a->settings->aws_identity, clock_mono_ms() + READY_MS, why);
}

static const struct ready_check READY[] = {
    { "database", check_database },
    { "issuer_keys", check_issuer },
    { "aws_identity", check_identity },
    { 0 }
};

/* On the issuer's thread. */
static enum status fetch_document(void *ctx, const char *url, struct buffer *body, struct why *why) {
    static const char *const HEADERS[] = { "Accept: application/json", NULL };
    struct auth *a = ctx;
    CLEANUP(http_response_end) struct http_response response = { 0 };
    struct http_request request = { .method = "GET", .url = url, .headers = HEADERS, .max_bytes = body->limit_bytes,
                                    .deadline_ms = clock_mono_ms() + ISSUER_FETCH_MS };
    enum status st = http_send(a->http, &request, &response, why);
    if (st != ST_OK)
        return st;
    if (response.status != 200)
        return fail(why, ST_UNAVAILABLE, "the issuer answered with status %d", response.status);
    return buffer_add(body, response.body.data, response.body.len) ? ST_OK : fail(why, ST_UNAVAILABLE, "the issuer's answer is too large");
}

static void make_counters(struct auth *a, struct metrics *metrics) {
    static const char NAME[] = "cordon_auth_tokens_total", HELP[] = "Tokens by outcome.";
    char label[64];
    for (int i = 0; i < JWT_REFUSAL_COUNT; i++) {
        (void)snprintf(label, sizeof label, "outcome=\"%s\"", jwt_refusal_name((enum jwt_refusal)i));
        a->refused[i] = metrics_counter(metrics, NAME, HELP, label);
    }
    a->accepted = a->refused[JWT_ACCEPTED];
    a->refused_by_database = metrics_counter(metrics, NAME, HELP, "outcome=\"database\"");
    a->unrecorded = metrics_counter(metrics, "cordon_auth_refusals_unrecorded_total", "Refusals that the audit log did not take.", "");
}

static void auth_close(void **self_p) {
    struct auth *a = *self_p;
    if (!a)
        return;
    issuer_destroy(&a->issuer);
    http_client_destroy(&a->http);
    kms_destroy(&a->kms);
    aws_destroy(&a->aws);
    db_pool_destroy(&a->db);
    free(a);
    *self_p = NULL;
}

static enum status open_database(struct auth *a, struct why *why) {
    struct db_options options = { .url = secret_text(a->settings->database_url), .process = "auth", .metrics = a->runtime->metrics,
                                  .connections = (int)a->settings->db_connections_count, .is_production = a->runtime->is_production };
    enum status st = db_pool_new(&options, &a->db, why);
    return st == ST_OK ? db_boot_check(a->db, "cordon_auth", a->runtime->is_production, clock_mono_ms() + BOOT_MS, why) : st;
}

static enum status auth_open(void **ret_self, const void *settings, struct runtime *rt, struct why *why) {
    const struct auth_settings *s = settings;
    if (rt->is_production && !str_starts_with(s->issuer_url, "https://"))
        return fail(why, ST_INVALID, "OIDC_ISSUER_URL: needs https in production");
    struct auth *a = xalloc(sizeof *a);
    void *self = a;
    a->settings = s;
    a->runtime = rt;
    a->policy = (struct jwt_policy){ s->issuer_url, s->audience, s->audience_claim, s->tenant_claim, s->roles_claim };
    make_counters(a, rt->metrics);
    enum status st = open_database(a, why);
    if (st == ST_OK)
        st = aws_open(&s->aws, rt->is_production, rt->metrics, &a->aws, why);
    if (st != ST_OK) {
        auth_close(&self);
        return st;
    }
    a->kms = kms_new(a->aws, s->kms_endpoint);
    a->http = http_client_new(&(struct http_options){ .allow_plain = !rt->is_production });
    a->issuer = issuer_new(&(struct issuer_options){ .url = s->issuer_url, .allows_http = !rt->is_production,
                                                     .fetch = fetch_document, .fetch_ctx = a });
    *ret_self = a;
    return ST_OK;
}

const struct service AUTH = {
    .name = "auth", .peer = PEER_AUTH, .about = "Says who is asking and for which tenant; makes tenants and their keys.",
    .calls = PEER_AUDIT_WRITER, .settings = SETTINGS, .settings_size = sizeof(struct auth_settings),
    .routes = ROUTES, .ready = READY, .open = auth_open, .close = auth_close,
};
