#include "admit.h"

#include <string.h>
#include <strings.h>

#include "auth.pb-c.h"
#include "auth_cache.h"
#include "core/clock.h"
#include "core/wire.h"
#include "obs/metrics.h"
#include "obs/trace.h"

enum { TOKEN_MAX_BYTES = 16 << 10, AUTHENTICATE_MS = 5000, DENIED_MS = 1000 };

/* The b64token of `Authorization: Bearer ...`; RFC 6750. NULL: there is none that could be one. */
static const char *bearer_token(const char *authorization) {
    static const char ALLOWED[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=";
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    const char *token = authorization + 7;
    size_t len = strlen(token);
    return len >= 1 && len <= TOKEN_MAX_BYTES && strspn(token, ALLOWED) == len ? token : NULL;
}

static uint64_t scope_bits(char *const scopes[], size_t count) {
    uint64_t bits = SCOPE_NONE;
    for (size_t i = 0; i < count; i++)
        bits |= scope_from_text(scopes[i], strlen(scopes[i]));
    return bits;
}

static enum status ask(struct exchange *x, const char *token, struct pass *ret_pass) {
    Auth__AuthenticateRequest req = AUTH__AUTHENTICATE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    struct call call = x->call;                     /* a shorter budget than the whole request's */
    int64_t until_ms = clock_mono_ms() + AUTHENTICATE_MS;
    req.bearer_token = (char *)token;
    req.remote_address = x->sender.text;
    call.ticket = "";
    call.deadline_ms = until_ms < call.deadline_ms ? until_ms : call.deadline_ms;
    enum status st = bus_ask(&call, "auth.Authenticate", &req.base, &auth__authenticate_reply__descriptor, &message);
    x->call.why = call.why;
    x->is_refusal_recorded = st != ST_OK;           /* if it was a refusal, auth has recorded it */
    if (st != ST_OK)
        return st;
    const Auth__AuthenticateReply *reply = (const void *)message;
    if (!*reply->ticket)
        return fail(&x->call.why, ST_INTERNAL, "auth gave no ticket");
    *ret_pass = (struct pass){ .ticket = reply->ticket, .scopes = scope_bits(reply->scopes, reply->n_scopes),
                               .withheld = scope_bits(reply->withheld_scopes, reply->n_withheld_scopes), .expires_at_us = reply->expires_at_us };
    (void)uuid_from_bytes(reply->tenant_id.data, reply->tenant_id.len, &ret_pass->tenant_id);
    (void)uuid_from_bytes(reply->user_id.data, reply->user_id.len, &ret_pass->user_id);
    return ST_OK;
}

static enum status check_scope(struct exchange *x, const struct pass *pass) {
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
    if (!is_refusal || !x->route || x->route->auth == AUTH_NONE || x->is_refusal_recorded)
        return;
    record(x, x->call.why.code, 0, "");
}

enum status admit(struct exchange *x) {
    if (x->route->auth == AUTH_NONE)
        return ST_OK;
    x->call.bus = edge_bus(x->conn);
    const char *token = bearer_token(x->framing.authorization);
    if (!token)
        return fail_as(&x->call.why, ERR_UNAUTHENTICATED, "no bearer token");
    struct pass pass;
    uint8_t key[32];
    int64_t asked_ms = clock_mono_ms();
    auth_cache_key(token, key);
    if (!auth_cache_find(x->edge->tickets, key, asked_ms, x->call.mem, &pass)) {
        enum status st = quotas_may_log_in(&x->edge->quotas, &x->sender, key, &x->call.why);
        if (st != ST_OK)
            return st;
        st = ask(x, token, &pass);
        count_login(x, key, st);
        if (st != ST_OK)
            return st;
        auth_cache_keep(x->edge->tickets, key, asked_ms, &pass);
    }
    x->call.ticket = pass.ticket;
    x->user_id = pass.user_id;
    trace_tenant(&pass.tenant_id);
    enum status st = quotas_take_user(&x->edge->quotas, x->route->rate, &pass.tenant_id, &pass.user_id, &x->quotas, &x->call.why);
    return st == ST_OK ? check_scope(x, &pass) : st;
}

enum status admit_again(struct exchange *x, const char **ret_ticket) {
    struct pass pass;
    enum status st = ask(x, bearer_token(x->framing.authorization), &pass);
    if (st == ST_OK)
        st = check_scope(x, &pass);
    if (st == ST_OK)
        *ret_ticket = pass.ticket;
    return st;
}
