#include "login.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "admission.h"
#include "auth.pb-c.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "db/plain_tx.h"
#include "provider.h"
#include "tokens.h"

enum { SECRET_BYTES = 32, URL_MAX_BYTES = 8 << 10, PATH_MAX_BYTES = 512, PUBLIC_URL_MAX_BYTES = 255, LOGIN_MAX_S = 10 * 60 };

/* ---- where ---- */

enum status login_check_public_url(const char *url, bool is_production, struct why *why) {
    const char *host = str_starts_with(url, "https://") ? url + 8 : str_starts_with(url, "http://") && !is_production ? url + 7 : NULL;
    bool is_good = host && *host && strlen(url) <= PUBLIC_URL_MAX_BYTES &&
                   strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:[]") == strlen(host);
    return !*url || is_good ? ST_OK : fail(why, ST_INVALID, "CORDON_PUBLIC_URL: not an origin such as https://cordon.example; https in production");
}

const char *login_redirect_uri(const struct auth *a, struct arena *mem) {
    return arena_printf(mem, "%s/api/v1/auth/callback", a->settings->public_url);
}

bool login_is_local_path(const char *path) {
    static const char ALLOWED[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/?#%&=+,;:@!$'()*";
    return path[0] == '/' && path[1] != '/' && strlen(path) <= PATH_MAX_BYTES && strspn(path, ALLOWED) == strlen(path);
}

/* ---- secrets of one login ---- */

static char *random_hex(struct arena *mem) {
    uint8_t random[SECRET_BYTES];
    if (RAND_bytes(random, sizeof random) != 1)
        abort();
    char *text = hex_encode(random, sizeof random, arena_alloc(mem, 2 * SECRET_BYTES + 1));
    explicit_bzero(random, sizeof random);
    return text;
}

/* Nonce and PKCE verifier follow from what the browser keeps, by a key that only auth has: nothing of them is stored. */
static const char *derived(const struct auth *a, struct arena *mem, const char *kind, const char *browser, const char *state) {
    uint8_t made[SHA256_BYTES];
    directory_blind(a->directory, kind, browser, state, made);
    return hex_encode(made, sizeof made, arena_alloc(mem, 2 * SHA256_BYTES + 1));
}

static const char *challenge_of(struct arena *mem, const char *verifier) {
    uint8_t sum[SHA256_BYTES];
    sha256(verifier, strlen(verifier), sum);
    return base64url_encode(mem, sum, sizeof sum);
}

static struct db_param hash_param(struct arena *mem, const char *text) {
    uint8_t *sum = arena_alloc(mem, SHA256_BYTES);
    sha256(text, strlen(text), sum);
    return DB_BYTES(sum, SHA256_BYTES);
}

/* ---- the beginning ---- */

static char *authorization_url(const struct auth *a, struct arena *mem, const struct believed *issuer, const char *endpoint, const char *state,
                               const char *browser, bool is_fresh) {
    CLEANUP(buffer_end) struct buffer url = { .limit_bytes = URL_MAX_BYTES };
    (void)buffer_add_str(&url, endpoint);
    provider_add_param(&url, "response_type", "code");
    provider_add_param(&url, "client_id", issuer->login.id);
    provider_add_param(&url, "redirect_uri", login_redirect_uri(a, mem));
    provider_add_param(&url, "scope", issuer->login.scopes);
    provider_add_param(&url, "state", state);
    provider_add_param(&url, "nonce", derived(a, mem, "login nonce", browser, state));
    provider_add_param(&url, "code_challenge", challenge_of(mem, derived(a, mem, "login verifier", browser, state)));
    provider_add_param(&url, "code_challenge_method", "S256");
    if (is_fresh) {
        provider_add_param(&url, "prompt", "login");
        provider_add_param(&url, "max_age", "0");
    }
    for (const struct jwt_pair *p = issuer->login.parameters; p && p->name; p++)
        provider_add_param(&url, p->name, p->value);
    return url.is_overfull ? NULL : arena_strdup(mem, url.data);
}

/* BeginLoginRequest -> BeginLoginReply. */
enum status on_begin_login(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql BEGIN = { "begin_login", "SELECT FROM authz.begin_login($1, $2, $3, $4, $5)", 5 };
    const Auth__BeginLoginRequest *req = (const void *)in;
    Auth__BeginLoginReply *reply = (void *)out;
    struct auth *a = self;
    struct issuer_endpoints at;
    const char *return_to = *req->return_to ? req->return_to : "/";
    if (!login_is_local_path(return_to))
        return fail_as(&call->why, ERR_REQ_FIELD, "return_to is not a path of ours");
    const struct believed *issuer = *a->settings->public_url ? issuers_for_login(&a->issuers, req->issuer, req->tenant) : NULL;
    if (!issuer)
        return fail_as(&call->why, ERR_AUTH_NO_LOGIN, "no issuer to log in at");
    enum status st = issuer_endpoints(issuer->keys, call->deadline_ms, call->mem, &at, &call->why);
    if (st != ST_OK)
        return st;
    if (!at.authorization || !at.token)
        return fail_as(&call->why, ERR_AUTH_NO_LOGIN, "the issuer's discovery document lacks what a login needs");
    char *state = random_hex(call->mem), *browser = random_hex(call->mem);
    reply->url = authorization_url(a, call->mem, issuer, at.authorization, state, browser, req->is_fresh);
    if (!reply->url)
        return fail(&call->why, ST_INTERNAL, "the way to the provider is too long");
    reply->browser_secret = browser;
    return db_run(a->db, &BEGIN, (struct db_param[]){ hash_param(call->mem, state), hash_param(call->mem, browser), DB_TEXT(issuer->policy.issuer),
                  DB_TEXT(return_to), DB_BOOL(req->is_fresh) }, call->deadline_ms, NULL, &call->why);
}

/* ---- the callback ---- */

struct callback {
    const Auth__CompleteLoginRequest *req;
    const struct believed *issuer;
    const char *return_to;
    bool is_fresh;
    struct provider_tokens tokens;
    struct jwt_claims claims;               /* of the access token; the ID token fills in who it is */
};

static enum status refuse_login(struct auth *a, struct call *call, const struct callback *cb, const char *reason) {
    return refuse(a, call, ERR_AUTH_LOGIN, reason, NULL, cb->req->remote_address);
}

/* The login that this callback is of. It is gone after this, whatever comes. */
static enum status take(struct auth *a, struct call *call, struct callback *cb) {
    static const struct sql TAKE = { "take_login", "SELECT t.issuer, t.return_to, t.is_fresh FROM authz.take_login($1, $2) t", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(a->db, &TAKE, (struct db_param[]){ hash_param(call->mem, cb->req->state), hash_param(call->mem, cb->req->browser_secret) },
                            call->deadline_ms, &rows, &call->why);
    if (st != ST_OK)
        return st;
    if (db_count(rows) != 1 || db_is_null(rows, 0, 0))
        return refuse_login(a, call, cb, "state");
    cb->issuer = issuers_find(&a->issuers, db_text(rows, 0, 0));
    cb->return_to = arena_strdup(call->mem, db_text(rows, 0, 1));
    cb->is_fresh = db_bool(rows, 0, 2);
    return cb->issuer && cb->issuer->login.secret ? ST_OK : refuse_login(a, call, cb, "issuer");
}

/* RFC 9207: an answer of another provider than the one that was asked is a mix-up. */
static enum status check_origin(struct auth *a, struct call *call, const struct callback *cb) {
    struct issuer_endpoints at;
    enum status st = issuer_endpoints(cb->issuer->keys, call->deadline_ms, call->mem, &at, &call->why);
    if (st != ST_OK)
        return st;
    if (*cb->req->issuer ? !str_equal(cb->req->issuer, cb->issuer->policy.issuer) : at.names_itself)
        return refuse_login(a, call, cb, "mix_up");
    if (*cb->req->error)
        return refuse_login(a, call, cb, str_equal(cb->req->error, "access_denied") ? "access_denied" : "provider");
    return *cb->req->code ? ST_OK : refuse_login(a, call, cb, "code");
}

/* OpenID Connect Core, 3.1.3.7: for this client, from this issuer, and for this login of this browser. */
static enum status check_id_token(struct auth *a, struct call *call, const struct callback *cb, enum jwt_refusal *ret_refusal,
                                  struct jwt_claims *ret_claims) {
    const struct jwt_pair required[] = { { "nonce", derived(a, call->mem, "login nonce", cb->req->browser_secret, cb->req->state) }, { 0 } };
    struct believed issuer = *cb->issuer;
    issuer.policy.audience = issuer.policy.authorized_party = issuer.login.id;
    issuer.policy.audience_claim = "aud";
    issuer.policy.tenant_claim = issuer.policy.roles_claim = "";
    issuer.policy.required = required;
    return check_token(&issuer, call, cb->tokens.id, ret_refusal, ret_claims);
}

/* Both tokens are of the same person; what the access token leaves open the ID token says. */
static enum status check_tokens(struct auth *a, struct call *call, struct callback *cb) {
    enum jwt_refusal refusal = JWT_ACCEPTED;
    struct jwt_claims id = { 0 };
    if (!cb->tokens.id)
        return refuse_login(a, call, cb, "id_token");
    enum status st = check_id_token(a, call, cb, &refusal, &id);
    if (st == ST_OK && refusal != JWT_ACCEPTED)
        return refuse_login(a, call, cb, arena_printf(call->mem, "id_token_%s", jwt_refusal_name(refusal)));
    if (st == ST_OK)
        st = check_token(cb->issuer, call, cb->tokens.access, &refusal, &cb->claims);
    if (st != ST_OK)
        return st;
    if (refusal != JWT_ACCEPTED)
        return refuse_login(a, call, cb, arena_printf(call->mem, "access_token_%s", jwt_refusal_name(refusal)));
    if (!str_equal(id.subject, cb->claims.subject))
        return refuse_login(a, call, cb, "subject");
    if (!cb->claims.name)
        cb->claims.name = id.name;
    if (!cb->claims.email) {
        cb->claims.email = id.email;
        cb->claims.is_email_verified = id.is_email_verified;
    }
    if (!cb->claims.auth_time_s)
        cb->claims.auth_time_s = id.auth_time_s;
    cb->claims.has_mfa |= id.has_mfa;
    bool is_recent = cb->claims.auth_time_s && clock_unix_us() / 1000000 - cb->claims.auth_time_s <= LOGIN_MAX_S;
    return cb->is_fresh && !is_recent ? refuse_login(a, call, cb, "not_fresh") : ST_OK;
}

/* Make the session. Its secret is new with each login, so that nobody can have planted it before (session fixation). */
static enum status log_in(struct auth *a, struct call *call, struct callback *cb, Auth__CompleteLoginReply *reply) {
    static const struct sql LOG_IN = { "log_in",
        "SELECT m.session_id FROM authz.log_in($1, $2, $3, pg_catalog.to_timestamp($4::pg_catalog.float8), $5, $6::pg_catalog.text[], "
        "$7::pg_catalog.text[], $8, $9, $10, $11, $12, $13, $14, $15, $16, pg_catalog.to_timestamp($17::pg_catalog.float8), "
        "pg_catalog.to_timestamp($18::pg_catalog.float8), $19, $20) m", 20 };
    char *cookie = random_hex(call->mem);
    uint8_t hash[SHA256_BYTES];
    struct blob refresh = { 0 }, id_token = { 0 };
    struct db_param params[ADMISSION_PARAMS + 6];
    int64_t now_s = clock_unix_us() / 1000000;
    sha256(cookie, strlen(cookie), hash);
    cb->claims.token_id = arena_printf(call->mem, "login:%s", random_hex(call->mem));       /* a session of its own, not the access token's */
    enum status st = admission_params(a, call, cb->issuer, &cb->claims, now_s + a->settings->session_absolute_s, params);
    if (st == ST_OK)
        st = directory_seal_for(a->directory, DIRECTORY_REFRESH_TOKEN, hash, cb->tokens.refresh, call->mem, &refresh, &call->why);
    if (st == ST_OK)
        st = directory_seal_for(a->directory, DIRECTORY_ID_TOKEN, hash, cb->tokens.id, call->mem, &id_token, &call->why);
    if (st != ST_OK)
        return st;
    const struct db_param more[] = { DB_BYTES(hash, sizeof hash), DB_INT(a->settings->session_idle_s),
        DB_INT(cb->claims.auth_time_s ? cb->claims.auth_time_s : now_s), DB_INT(cb->claims.accepted_until_s),
        refresh.data ? DB_BYTES(refresh.data, refresh.len) : DB_NULL, DB_BYTES(id_token.data, id_token.len) };
    memcpy(params + ADMISSION_PARAMS, more, sizeof more);
    st = db_run(a->db, &LOG_IN, params, call->deadline_ms, NULL, &call->why);
    if (st == ST_UNAUTHENTICATED)
        return refuse_by_database(a, call, admission_tenant(cb->issuer, &cb->claims), cb->req->remote_address);
    reply->session_cookie = cookie;
    reply->return_to = (char *)cb->return_to;
    return st;
}

/* CompleteLoginRequest -> CompleteLoginReply. */
enum status on_complete_login(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    struct auth *a = self;
    struct callback cb = { .req = (const void *)in };
    enum status st = take(a, call, &cb);
    if (st == ST_OK)
        st = check_origin(a, call, &cb);
    if (st != ST_OK)
        return st;
    st = provider_exchange(a, cb.issuer, call, cb.req->code, derived(a, call->mem, "login verifier", cb.req->browser_secret, cb.req->state), &cb.tokens);
    if (st == ST_INVALID)
        return refuse_login(a, call, &cb, "code");
    if (st == ST_OK)
        st = check_tokens(a, call, &cb);
    return st == ST_OK ? log_in(a, call, &cb, (void *)out) : st;
}
