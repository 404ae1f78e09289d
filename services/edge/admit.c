#include "admit.h"

#include <string.h>
#include <strings.h>

#include "auth.pb-c.h"
#include "auth_cache.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/wire.h"
#include "obs/metrics.h"
#include "obs/trace.h"

enum { TOKEN_MAX_BYTES = 16 << 10, AUTHENTICATE_MS = 5000, DENIED_MS = 1000, RENEW_MS = 20000 };

/* The b64token of `Authorization: Bearer ...`; RFC 6750. NULL: there is none that could be one. */
static const char *bearer_token(const char *authorization) {
    static const char ALLOWED[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=";
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    const char *token = authorization + 7;
    size_t len = strlen(token);
    return len >= 1 && len <= TOKEN_MAX_BYTES && strspn(token, ALLOWED) == len ? token : NULL;
}

/* What a request comes with: a token or a key in its header, or a browser's cookie. The header is meant, the cookie comes
 * by itself; so it counts alone, and with a change only beside what another site's page cannot know. */
struct credential {
    const char *token, *cookie;     /* one of them; the other "" */
    uint8_t key[32];                /* its digest; a cookie's is never a token's */
};

static bool is_change(const char *verb) {
    return !str_equal(verb, "GET") && !str_equal(verb, "HEAD");
}

static enum status read_credential(struct exchange *x, struct credential *ret_credential) {
    struct credential c = { .token = "", .cookie = "" };
    if (!x->framing.authorization && cookies_find(x->framing.cookie, COOKIE_SESSION, x->session)) {
        c.cookie = x->session;
        auth_cache_key(arena_printf(x->call.mem, "cookie %s", c.cookie), c.key);
        if (is_change(x->in->request_method) && !cookies_csrf_fits(c.cookie, x->framing.csrf_token))
            return fail_as(&x->call.why, ERR_AUTH_CSRF, "a change by cookie without its CSRF token");
    } else {
        c.token = bearer_token(x->framing.authorization);
        if (!c.token)
            return fail_as(&x->call.why, ERR_UNAUTHENTICATED, "no credential");
        auth_cache_key(c.token, c.key);
    }
    *ret_credential = c;
    return ST_OK;
}

static uint64_t scope_bits(char *const scopes[], size_t count) {
    uint64_t bits = SCOPE_NONE;
    for (size_t i = 0; i < count; i++)
        bits |= scope_from_text(scopes[i], strlen(scopes[i]));
    return bits;
}

static enum status ask(struct exchange *x, const struct credential *c, struct pass *ret_pass) {
    Auth__AuthenticateRequest req = AUTH__AUTHENTICATE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct call call = x->call;                     /* a shorter budget than the whole request's */
    int64_t until_ms = clock_mono_ms() + AUTHENTICATE_MS;
    req.bearer_token = (char *)c->token;
    req.session_cookie = (char *)c->cookie;
    req.is_passive = x->route->auth == AUTH_PASSIVE;
    req.remote_address = x->sender.text;
    call.ticket = "";
    call.deadline_ms = until_ms < call.deadline_ms ? until_ms : call.deadline_ms;
    enum status st = bus_ask(&call, "auth.Authenticate", &req.base, &auth__authenticate_reply__descriptor, &message);
    x->call.why = call.why;
    x->is_refusal_recorded = st != ST_OK;           /* if it was a refusal, auth has recorded it */
    if (x->call.why.code == ERR_AUTH_SESSION)
        x->cookies = cookies_end_session();
    if (st != ST_OK)
        return st;
    const Auth__AuthenticateReply *reply = (const void *)message;
    if (!*reply->ticket)
        return fail(&x->call.why, ST_INTERNAL, "auth gave no ticket");
    *ret_pass = (struct pass){ .ticket = reply->ticket, .scopes = scope_bits(reply->scopes, reply->n_scopes),
                               .withheld = scope_bits(reply->withheld_scopes, reply->n_withheld_scopes), .expires_at_us = reply->expires_at_us };
    (void)uuid_from_bytes(reply->tenant_id.data, reply->tenant_id.len, &ret_pass->tenant_id);
    (void)uuid_from_bytes(reply->user_id.data, reply->user_id.len, &ret_pass->user_id);
    (void)uuid_from_bytes(reply->session_id.data, reply->session_id.len, &ret_pass->session_id);
    return ST_OK;
}

static enum status check_scope(struct exchange *x, const struct pass *pass) {
    if (x->route->auth != AUTH_TOKEN)
        return ST_OK;
    uint64_t missing = x->route->scope & ~pass->scopes;
    if (missing && (missing & ~pass->withheld) == 0)
        return fail_as(&x->call.why, ERR_AUTH_MFA, "scope %s wants several factors", scope_text(x->route->scope));
    if (missing || x->route->scope == SCOPE_NONE)
        return fail_as(&x->call.why, ERR_FORBIDDEN, "scope %s is missing", scope_text(x->route->scope));
    return ST_OK;
}

/* Tell auth of a refusal, for the record. locked_s: who is locked out by it, and for how long; 0: nobody is. */
static void record(struct exchange *x, enum error_code code, int64_t locked_s, const char *whom) {
    Auth__DeniedRequest req = AUTH__DENIED_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct call call = x->call;
    req.code = (char *)error_text_code(code);
    req.http_method = (char *)x->route->verb;
    req.path = (char *)x->route->path;
    req.remote_address = x->sender.text;
    req.locked_s = (uint32_t)locked_s;
    req.locked = (char *)whom;
    req.user_id = wire_optional_id(call.mem, &x->user_id);
    call.deadline_ms = clock_mono_ms() + DENIED_MS;
    if (bus_ask(&call, "auth.Denied", &req.base, &auth__denied_reply__descriptor, &message) != ST_OK)
        counter_add(x->edge->denials_lost, 1);
}

/* What auth said of a credential, for who tries the next one. */
static void count_login(struct exchange *x, const uint8_t credential[32], enum status st) {
    const char *whom = "";
    bool is_guess = x->call.why.code == ERR_AUTH_TOKEN;         /* what an issuer signed, or a key that was, is none */
    if (st == ST_OK)
        quotas_logged_in(&x->edge->quotas, credential);
    if (st != ST_UNAUTHENTICATED && st != ST_FORBIDDEN)
        return;
    int64_t locked_s = quotas_login_failed(&x->edge->quotas, &x->sender, credential, is_guess, &whom);
    if (locked_s)
        record(x, ERR_LOCKED_OUT, locked_s, whom);
}

void admit_record_refusal(struct exchange *x, enum status st) {
    bool is_refusal = st == ST_UNAUTHENTICATED || st == ST_FORBIDDEN;
    if (!is_refusal || !x->route || x->route->auth == AUTH_NONE || x->route->auth == AUTH_LOGIN || x->is_refusal_recorded)
        return;
    record(x, x->call.why.code, 0, "");
}

static void begin_watch(struct exchange *x, const struct pass *pass) {
    x->watched.tenant_id = pass->tenant_id;
    x->watched.session_id = pass->session_id;
    x->watched.address = x->in->remote_addr;
    x->watched.port = x->in->remote_port;
    watch_begin(x->edge->watch, &x->watched);
}

enum status admit(struct exchange *x) {
    if (x->route->auth == AUTH_NONE)
        return ST_OK;
    x->call.bus = edge_bus(x->conn);
    if (x->route->auth == AUTH_LOGIN)
        return ST_OK;
    struct pass pass;
    struct credential c;
    int64_t asked_ms = clock_mono_ms();
    bool is_cached = x->route->auth != AUTH_PASSIVE;
    enum status st = read_credential(x, &c);
    if (st != ST_OK)
        return st;
    if (!is_cached || !auth_cache_find(x->edge->tickets, c.key, asked_ms, x->call.mem, &pass)) {
        st = quotas_may_log_in(&x->edge->quotas, &x->sender, c.key, &x->call.why);
        if (st != ST_OK)
            return st;
        st = ask(x, &c, &pass);
        count_login(x, c.key, st);
        if (st != ST_OK)
            return st;
        if (is_cached)
            auth_cache_keep(x->edge->tickets, c.key, asked_ms, &pass);
    }
    if (x->route->auth == AUTH_TOKEN)       /* the others may end their own session, and are short */
        begin_watch(x, &pass);
    x->call.ticket = pass.ticket;
    x->user_id = pass.user_id;
    trace_tenant(&pass.tenant_id);
    st = quotas_take_user(&x->edge->quotas, x->route->rate, &pass.tenant_id, &pass.user_id, &x->quotas, &x->call.why);
    return st == ST_OK ? check_scope(x, &pass) : st;
}

enum status admit_again(struct exchange *x, const char **ret_ticket) {
    struct pass pass;
    struct credential c;
    enum status st = read_credential(x, &c);
    if (st == ST_OK)
        st = ask(x, &c, &pass);
    if (st == ST_OK)
        st = check_scope(x, &pass);
    if (st == ST_OK)
        *ret_ticket = pass.ticket;
    return st;
}

bool admit_is_revoked(const struct exchange *x) {
    return atomic_load(&x->watched.is_ended);
}

enum status admit_renew(struct exchange *x, struct bus_stream *stream, int64_t *renewed_ms) {
    const char *ticket = NULL;
    if (clock_mono_ms() - *renewed_ms < RENEW_MS || !bus_stream_has_room(stream))
        return ST_OK;
    enum status st = admit_again(x, &ticket);
    *renewed_ms = clock_mono_ms();
    return st == ST_OK ? bus_stream_write(stream, "", 0, false, ticket) : st;
}
