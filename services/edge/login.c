/* login — a browser's way to the provider and back, and its logout. The edge keeps the browser's end: cookies and
 * redirects; auth does the rest. Failures are problem documents, here as everywhere. */
#include <string.h>

#include "answer.h"
#include "auth.pb-c.h"
#include "cookies.h"
#include "core/clock.h"
#include "edge.pb-c.h"
#include "exchange.h"
#include "rest/shape.h"

static enum status redirect(struct exchange *x, const char *location) {
    return answer_whole(x, &(struct answer_head){ .http_status = x->route->success, .location = location }, "", 0);
}

/* Ask auth, which records its own refusals. */
static enum status ask(struct exchange *x, const char *method, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *want,
                       ProtobufCMessage **ret_reply) {
    x->call.deadline_ms = clock_mono_ms() + x->route->budget_ms;
    enum status st = bus_ask(&x->call, method, req, want, ret_reply);
    x->is_refusal_recorded = st != ST_OK;
    return st;
}

enum status serve_login(struct exchange *x) {
    Auth__BeginLoginRequest req = AUTH__BEGIN_LOGIN_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    enum status st = exchange_fill(x, NULL);
    if (st != ST_OK)
        return st;
    const Edge__LoginForm *form = (const void *)x->fill.msg;
    req.return_to = form->return_to;
    req.tenant = form->tenant;
    req.issuer = form->issuer;
    req.is_fresh = form->is_fresh;
    st = ask(x, "auth.BeginLogin", &req.base, &auth__begin_login_reply__descriptor, &message);
    if (st != ST_OK)
        return st;
    const Auth__BeginLoginReply *reply = (const void *)message;
    x->cookies = cookies_begin_login(x->call.mem, reply->browser_secret);
    return redirect(x, reply->url);
}

/* Only what the form has: a provider may add to it what it likes (RFC 6749, 4.1.2). */
static const char *known_part(struct exchange *x, const char *query) {
    CLEANUP(buffer_end) struct buffer known = { .limit_bytes = GUARD_URI_MAX_BYTES };
    (void)buffer_add_str(&known, "");
    for (const char *p = query ? query : ""; *p;) {
        size_t len = strcspn(p, "&");
        const char *name = arena_strndup(x->call.mem, p, len < strcspn(p, "=") ? len : strcspn(p, "="));
        if (shape_find(x->route->req, name))
            (void)buffer_printf(&known, "%s%.*s", known.len ? "&" : "", (int)len, p);
        p += len + (p[len] == '&');
    }
    return arena_strndup(x->call.mem, known.data, known.len);
}

enum status serve_callback(struct exchange *x) {
    Auth__CompleteLoginRequest req = AUTH__COMPLETE_LOGIN_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    char browser[COOKIE_SECRET_BYTES + 1] = "";
    (void)cookies_find(x->framing.cookie, COOKIE_LOGIN, browser);
    x->cookies = cookies_end_login();               /* whatever comes of it, it was used */
    fill_init(&x->fill, x->call.mem, FIELDS, x->route->req, &x->call.why);
    enum status st = fill_query(&x->fill, known_part(x, x->in->query_string));
    if (st == ST_OK)
        st = fill_end(&x->fill);
    if (st != ST_OK)
        return fail_as(&x->call.why, ERR_AUTH_LOGIN, "the callback is not of its form");
    const Edge__CallbackForm *form = (const void *)x->fill.msg;
    req.state = form->state;
    req.code = form->code;
    req.issuer = form->iss;
    req.error = form->error;
    req.browser_secret = browser;
    req.remote_address = x->sender.text;
    st = ask(x, "auth.CompleteLogin", &req.base, &auth__complete_login_reply__descriptor, &message);
    if (st != ST_OK)
        return st;
    const Auth__CompleteLoginReply *reply = (const void *)message;
    x->cookies = cookies_begin_session(x->call.mem, reply->session_cookie);
    return redirect(x, reply->return_to);
}

enum status serve_logout(struct exchange *x) {
    x->cookies = cookies_end_session();
    return serve_unary(x);
}
