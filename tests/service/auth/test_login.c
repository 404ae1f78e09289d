/* Logins from a browser against a provider that answers what the test says: what is accepted, what is refused and on
 * record, when sessions end, and that nothing which opens one is kept in the clear. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "crypto/digest.h"
#include "login.h"
#include "rig.h"

#define CLINICIAN "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"clinician\"]"

TestSuite(login, .init = rig_open, .fini = rig_close, .timeout = 60);

struct way { char state[65], nonce[65], challenge[64], browser[65]; const char *url; };

static const char *param(const char *url, const char *name, char *out, size_t size) {
    const char *at = strstr(url, arena_printf(rig.mem, "&%s=", name));
    cr_assert_not_null(at, "%s in %s", name, url);
    at += strlen(name) + 2;
    (void)snprintf(out, size, "%.*s", (int)strcspn(at, "&"), at);
    return out;
}

static enum status begin(const char *return_to, const char *tenant, bool is_fresh, struct way *way) {
    Auth__BeginLoginRequest req = AUTH__BEGIN_LOGIN_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    req.return_to = (char *)return_to;
    req.tenant = (char *)tenant;
    req.is_fresh = is_fresh;
    enum status st = rig_call("auth.BeginLogin", "", &req.base, &message);
    if (st != ST_OK)
        return st;
    const Auth__BeginLoginReply *reply = (const void *)message;
    way->url = reply->url;
    param(reply->url, "state", way->state, sizeof way->state);
    param(reply->url, "nonce", way->nonce, sizeof way->nonce);
    param(reply->url, "code_challenge", way->challenge, sizeof way->challenge);
    (void)snprintf(way->browser, sizeof way->browser, "%s", reply->browser_secret);
    return ST_OK;
}

static const char *id_token(const char *subject, const char *nonce, const char *audience, const char *more) {
    long long now_s = (long long)time(NULL);
    return signer_token(rig.signer, rig.mem, "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"k1\"}",
        arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"%s\",\"sub\":\"%s\",\"iat\":%lld,\"exp\":%lld,\"nonce\":\"%s\"%s}", rig.issuer, audience, subject, now_s,
                     now_s + 300, nonce, more));
}

static const char *tokens(const char *access, const char *id, const char *refresh) {
    return arena_printf(rig.mem, "{\"token_type\":\"Bearer\",\"access_token\":\"%s\",\"id_token\":\"%s\"%s}", access, id,
                        refresh ? arena_printf(rig.mem, ",\"refresh_token\":\"%s\"", refresh) : "");
}

static enum status complete(const struct way *way, const char *issuer, const char *browser, Auth__CompleteLoginReply **ret_reply) {
    Auth__CompleteLoginRequest req = AUTH__COMPLETE_LOGIN_REQUEST__INIT;
    req.state = (char *)way->state;
    req.code = "the-code";
    req.issuer = (char *)issuer;
    req.browser_secret = (char *)browser;
    req.remote_address = "192.0.2.7";
    return rig_call("auth.CompleteLogin", "", &req.base, (ProtobufCMessage **)ret_reply);
}

/* A good login; its cookie. access_s: how long the access token lives. */
static const char *log_in(const char *subject, const char *refresh, long long access_s) {
    struct way way;
    Auth__CompleteLoginReply *reply = NULL;
    cr_assert_eq(begin("/app", "", false, &way), ST_OK, "%s", rig.why.text);
    long long now_s = (long long)time(NULL);
    const char *access = signer_token(rig.signer, rig.mem, "{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"k1\"}",
        arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"cordon\",\"sub\":\"%s\",\"iat\":%lld,\"exp\":%lld," CLINICIAN "}", rig.issuer, subject, now_s, now_s + access_s));
    rig.token_answer = tokens(access, id_token(subject, way.nonce, "cordon-web", ",\"name\":\"Ada\",\"email\":\"ada@example.com\""), refresh);
    cr_assert_eq(complete(&way, rig.issuer, way.browser, &reply), ST_OK, "%s", rig.why.text);
    cr_assert_str_eq(reply->return_to, "/app");
    cr_assert_eq(strlen(reply->session_cookie), 64);
    return reply->session_cookie;
}

static enum status by_cookie(const char *cookie, bool is_passive, Auth__AuthenticateReply **ret_reply) {
    Auth__AuthenticateRequest req = AUTH__AUTHENTICATE_REQUEST__INIT;
    req.session_cookie = (char *)cookie;
    req.is_passive = is_passive;
    req.remote_address = "192.0.2.7";
    return rig_call("auth.Authenticate", "", &req.base, (ProtobufCMessage **)ret_reply);
}

static void assert_on_record(const char *reason) {
    cr_assert_gt(rig.event_count, 0);
    const struct rig_event *event = &rig.events[rig.event_count - 1];
    cr_assert_eq(event->action, AUDIT_AUTH_DENIED);
    cr_assert_not_null(strstr(event->detail, arena_printf(rig.mem, "\"reason\":\"%s\"", reason)), "%s: %s", reason, event->detail);
    cr_assert_not_null(strstr(event->detail, "192.0.2.7"));
}

static void assert_ended(const char *cookie, const char *reason) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_UNAUTHENTICATED, "%s", reason);
    cr_assert_eq(rig.why.code, ERR_AUTH_SESSION, "%s: %s", reason, error_text_code(rig.why.code));
    assert_on_record(reason);
}

static const char *revoked_for(void) {
    return pg_ask(pg_admin(), "SELECT string_agg(revoked_reason, ',') FROM auth.sessions WHERE revoked_at IS NOT NULL");
}

Test(login, a_browser_comes_back_with_a_code_and_gets_a_session_like_any_other) {
    Auth__AuthenticateReply *reply = NULL;
    const char *cookie = log_in("ada", "refresh-1", 600);
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->n_scopes, 4);
    PGconn *query = pg_connect("cordon_query");
    cr_assert_str_eq(pg_ask(query, "SELECT tenant_id FROM authz.enter('%s')", reply->ticket), PG_TENANT_A);
    PQfinish(query);
    cr_assert_not_null(strstr(rig.form, "grant_type=authorization_code&code=the-code&redirect_uri=https%3A%2F%2Fcordon.example%2Fapi%2Fv1%2Fauth%2Fcallback"));
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.logins l WHERE l::text ~ 'refresh-1|%s' OR position('refresh-1'::bytea IN refresh_enc) > 0", cookie), "0");
    Auth__GetMeRequest me = AUTH__GET_ME_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    cr_assert_eq(rig_call("auth.GetMe", reply->ticket, &me.base, &message), ST_OK, "%s", rig.why.text);
    const Auth__GetMeReply *who = (const void *)message;
    cr_assert_str_eq(who->name, "Ada");
    cr_assert_str_eq(who->email, "ada@example.com");
    cr_assert_str_eq(who->tenant, PG_SLUG_A);
    cr_assert(who->session->is_current && who->session->is_browser && who->session->idle_at_us > 0);
}

Test(login, the_verifier_fits_the_challenge_and_is_stored_nowhere) {
    struct way way;
    Auth__CompleteLoginReply *reply = NULL;
    cr_assert_eq(begin("", "", false, &way), ST_OK);
    cr_assert_not_null(strstr(way.url, "&code_challenge_method=S256"));
    rig.token_status = 400;
    rig.token_answer = "{\"error\":\"invalid_grant\"}";
    cr_assert_eq(complete(&way, rig.issuer, way.browser, &reply), ST_INVALID);
    cr_assert_eq(rig.why.code, ERR_AUTH_LOGIN);
    assert_on_record("code");
    uint8_t sum[SHA256_BYTES];
    const char *verifier = strstr(rig.form, "code_verifier=") + 14;
    sha256(verifier, 64, sum);
    cr_assert_str_eq(base64url_encode(rig.mem, sum, sizeof sum), way.challenge);
}

Test(login, a_callback_counts_once_in_the_browser_that_began_and_from_the_provider_that_was_asked) {
    struct way way, other;
    Auth__CompleteLoginReply *reply = NULL;
    cr_assert_eq(begin("/", "", false, &way), ST_OK);
    cr_assert_eq(begin("/", "", false, &other), ST_OK);
    cr_assert_eq(complete(&way, rig.issuer, other.browser, &reply), ST_INVALID);            /* login CSRF: another's code and state */
    assert_on_record("state");
    cr_assert_eq(complete(&way, rig.issuer, "", &reply), ST_INVALID);
    cr_assert_eq(complete(&way, "https://evil.example", way.browser, &reply), ST_INVALID);   /* mix-up */
    assert_on_record("mix_up");
    cr_assert_eq(complete(&way, rig.issuer, way.browser, &reply), ST_INVALID);              /* used up by that */
    assert_on_record("state");
    cr_assert_eq(complete(&other, "", other.browser, &reply), ST_INVALID);                  /* this provider always names itself */
    assert_on_record("mix_up");
    cr_assert_eq(begin("/", "", false, &way), ST_OK);
    pg_ask(pg_admin(), "UPDATE auth.login_attempts SET expires_at = now()");
    cr_assert_eq(complete(&way, rig.issuer, way.browser, &reply), ST_INVALID);
    assert_on_record("state");
    cr_assert_eq(rig.form_count, 0, "no code went out");
}

Test(login, tokens_that_are_not_of_this_login_are_refused) {
    static const struct { const char *subject, *nonce, *audience, *more, *reason; } CASES[] = {
        { "ada", "another", "cordon-web", "", "id_token_required_claim" },          /* a code or token of another login, injected */
        { "ada", NULL, "another-client", "", "id_token_audience" },
        { "ada", NULL, "cordon-web", ",\"azp\":\"another-client\"", "id_token_audience" },
        { "eve", NULL, "cordon-web", "", "subject" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct way way;
        Auth__CompleteLoginReply *reply = NULL;
        cr_assert_eq(begin("/", "", false, &way), ST_OK);
        rig.token_answer = tokens(rig_token("ada", CLINICIAN), id_token(CASES[i].subject, CASES[i].nonce ? CASES[i].nonce : way.nonce, CASES[i].audience,
                                                                         CASES[i].more), NULL);
        cr_assert_eq(complete(&way, rig.issuer, way.browser, &reply), ST_INVALID, "%s", CASES[i].reason);
        assert_on_record(CASES[i].reason);
    }
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.sessions"), "0");
}

Test(login, a_fresh_login_must_be_one) {
    struct way way;
    Auth__CompleteLoginReply *reply = NULL;
    cr_assert_eq(begin("/", "", true, &way), ST_OK);
    cr_assert_not_null(strstr(way.url, "&prompt=login&max_age=0"));
    rig.token_answer = tokens(rig_token("ada", CLINICIAN), id_token("ada", way.nonce, "cordon-web",
                              arena_printf(rig.mem, ",\"auth_time\":%lld", (long long)time(NULL) - 3600)), NULL);
    cr_assert_eq(complete(&way, rig.issuer, way.browser, &reply), ST_INVALID);
    assert_on_record("not_fresh");
}

Test(login, only_a_path_of_ours_is_gone_back_to) {
    static const char *const OTHERS[] = { "https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "app", "/a b", "/a\r\nSet-Cookie: x=y",
                                          "\\/evil.example", "/\xc3\xa9", " /" };
    struct way way;
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        cr_assert_eq(begin(OTHERS[i], "", false, &way), ST_INVALID, "%s", OTHERS[i]);
        cr_assert_not(login_is_local_path(OTHERS[i]));
    }
    cr_assert_eq(begin("/app/documents?filter=a%20b#top", "", false, &way), ST_OK);
    cr_assert_str_eq(pg_try(pg_admin(), "INSERT INTO auth.login_attempts VALUES (sha256('1'), sha256('2'), 'i', '//evil.example', false)"), "23514");
}

Test(login, a_session_ends_when_its_user_does_nothing_or_at_its_absolute_end) {
    Auth__AuthenticateReply *reply = NULL;
    const char *idle = log_in("ada", "r", 600), *old = log_in("ada", "r", 600), *swept = log_in("ada", "r", 600);
    pg_ask(pg_admin(), "UPDATE auth.logins SET seen_at = now() - interval '890 s'");
    cr_assert_eq(by_cookie(idle, true, &reply), ST_OK, "%s", rig.why.text);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.logins WHERE seen_at > now() - interval '800 s'"), "0", "asking is no activity");
    cr_assert_eq(by_cookie(old, false, &reply), ST_OK);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.logins WHERE seen_at > now() - interval '800 s'"), "1", "a request is");
    pg_ask(pg_admin(), "UPDATE auth.logins SET seen_at = seen_at - interval '11 s'");
    assert_ended(idle, "idle");
    assert_ended(idle, "revoked");
    pg_ask(pg_admin(), "UPDATE auth.sessions SET expires_at = now() WHERE revoked_at IS NULL AND id = (SELECT session_id FROM auth.logins ORDER BY seen_at DESC LIMIT 1)");
    assert_ended(old, "absolute");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT authz.sweep_logins()"), "1", "the third ends although nobody comes back");
    assert_ended(swept, "revoked");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.logins WHERE num_nonnulls(refresh_enc, id_token_enc) > 0"), "0");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT string_agg(revoked_reason, ',' ORDER BY revoked_at) FROM auth.sessions"), "idle,absolute,idle");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox o WHERE o::text LIKE '%%auth.session.revoke%%'"), "3", "each is on record");
}

Test(login, the_provider_is_asked_again_before_its_word_runs_out) {
    Auth__AuthenticateReply *reply = NULL;
    const char *cookie = log_in("ada", "refresh-1", 20);
    unsigned asked = rig.form_count;
    rig.token_answer = arena_printf(rig.mem, "{\"token_type\":\"bearer\",\"access_token\":\"%s\",\"refresh_token\":\"refresh-2\"}",
                                    rig_token("ada", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"reviewer\"]"));
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK, "%s", rig.why.text);          /* 20 s and the leeway: not yet due */
    cr_assert_eq(rig.form_count, asked);
    pg_ask(pg_admin(), "UPDATE auth.logins SET access_until = now() + interval '10 s'");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(rig.form_count, asked + 1);
    cr_assert_not_null(strstr(rig.form, "grant_type=refresh_token&refresh_token=refresh-1"));
    cr_assert_eq(reply->n_scopes, 2, "what the provider says now");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK);
    cr_assert_eq(rig.form_count, asked + 1);
    pg_ask(pg_admin(), "UPDATE auth.logins SET access_until = now() + interval '10 s', refreshing_until = now() + interval '10 s'");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK);                              /* another replica is at it */
    cr_assert_eq(rig.form_count, asked + 1);
    rig.token_status = 503;
    pg_ask(pg_admin(), "UPDATE auth.logins SET refreshing_until = now()");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK);                              /* its last word still counts */
    pg_ask(pg_admin(), "UPDATE auth.logins SET access_until = now(), refreshing_until = now()");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_UNAVAILABLE);                     /* no longer */
    cr_assert_eq(rig.why.code, ERR_AUTH_PROVIDER);
    rig.token_status = 400;
    rig.token_answer = "{\"error\":\"invalid_grant\"}";
    pg_ask(pg_admin(), "UPDATE auth.logins SET refreshing_until = now()");
    assert_ended(cookie, "revoked");
    cr_assert_str_eq(revoked_for(), "refresh");
}

Test(login, a_refresh_that_is_about_somebody_else_ends_the_session) {
    static const char *const OTHERS[][2] = { { "eve", CLINICIAN }, { "ada", "\"tenant\":\"" PG_SLUG_B "\",\"roles\":[\"clinician\"]" } };
    for (int i = 0; i < 2; i++) {
        const char *cookie = log_in("ada", "r", 600);
        rig.token_answer = arena_printf(rig.mem, "{\"token_type\":\"Bearer\",\"access_token\":\"%s\"}", rig_token(OTHERS[i][0], OTHERS[i][1]));
        pg_ask(pg_admin(), "UPDATE auth.logins SET access_until = now() + interval '10 s'");
        assert_ended(cookie, "revoked");
    }
    cr_assert_str_eq(revoked_for(), "refresh,refresh");
}

Test(login, without_a_refresh_token_a_session_ends_with_its_access_token) {
    Auth__AuthenticateReply *reply = NULL;
    const char *cookie = log_in("ada", NULL, 600);
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK);
    pg_ask(pg_admin(), "UPDATE auth.logins SET access_until = now()");
    assert_ended(cookie, "access");
}

Test(login, logout_ends_the_session_and_tells_the_provider) {
    Auth__AuthenticateReply *reply = NULL;
    Auth__LogoutRequest req = AUTH__LOGOUT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    const char *cookie = log_in("ada", "refresh-1", 600);
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_OK);
    cr_assert_eq(rig_call("auth.Logout", reply->ticket, &req.base, &message), ST_OK, "%s", rig.why.text);
    const char *url = ((const Auth__LogoutReply *)message)->logout_url;
    cr_assert(str_starts_with(url, arena_printf(rig.mem, "%s/logout?client_id=cordon-web&post_logout_redirect_uri=https%%3A%%2F%%2Fcordon.example%%2F&id_token_hint=ey", rig.issuer)), "%s", url);
    cr_assert_str_eq(rig.form_path, "/revoke");
    cr_assert_not_null(strstr(rig.form, "token=refresh-1&token_type_hint=refresh_token"));
    assert_ended(cookie, "revoked");
    cr_assert_str_eq(revoked_for(), "logout");
    cr_assert_eq(rig_call("auth.Logout", reply->ticket, &req.base, &message), ST_UNAUTHENTICATED, "its ticket is over too");
}

Test(login, cookies_are_no_tokens_and_nobodys_cookie_is_nobody) {
    Auth__AuthenticateReply *reply = NULL;
    const char *cookie = log_in("ada", "r", 600);
    cr_assert_eq(rig_authenticate(cookie, &reply), ST_UNAUTHENTICATED);
    cr_assert_eq(rig.why.code, ERR_AUTH_TOKEN);
    assert_ended("0000000000000000000000000000000000000000000000000000000000000000", "cookie");
}

Test(login, what_closes_a_user_or_a_tenant_closes_the_browser_too) {
    Auth__AuthenticateReply *reply = NULL;
    const char *cookie = log_in("ada", "r", 600);
    pg_ask(pg_admin(), "UPDATE auth.users SET status = 'disabled' WHERE subject = 'ada'");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_FORBIDDEN);
    assert_on_record("user");
    pg_ask(pg_admin(), "UPDATE auth.users SET status = 'active' WHERE subject = 'ada'");
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended' WHERE slug = '" PG_SLUG_A "'");
    cr_assert_eq(by_cookie(cookie, false, &reply), ST_FORBIDDEN);
    assert_on_record("tenant");
}

/* ---- sessions ---- */

static unsigned ended(const Auth__AuthenticateReply *who) {
    Auth__CheckSessionsRequest req = AUTH__CHECK_SESSIONS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    ProtobufCBinaryData tenant = who->tenant_id, session = who->session_id;
    req.n_tenant_ids = req.n_session_ids = 1;
    req.tenant_ids = &tenant;
    req.session_ids = &session;
    cr_assert_eq(rig_call("auth.CheckSessions", "", &req.base, &message), ST_OK, "%s", rig.why.text);
    return (unsigned)((const Auth__CheckSessionsReply *)message)->n_ended_ids;
}

Test(login, edges_are_told_whose_requests_may_not_go_on) {
    Auth__AuthenticateReply *mine = NULL, *token = NULL, *platform = NULL;
    const char *cookie = log_in("ada", "r", 600);
    cr_assert_eq(by_cookie(cookie, false, &mine), ST_OK);
    cr_assert_eq(rig_authenticate(rig_token("bob", CLINICIAN), &token), ST_OK);
    cr_assert_eq(rig_authenticate(rig_token("operator", "\"roles\":[\"platform_admin\"]"), &platform), ST_OK);
    cr_assert(ended(mine) == 0 && ended(token) == 0 && ended(platform) == 0);
    pg_ask(pg_admin(), "UPDATE auth.sessions SET expires_at = now()");
    cr_assert(ended(mine) == 1 && ended(token) == 0, "a token that expires ends no answer that it began");
    pg_ask(pg_admin(), "UPDATE auth.users SET status = 'disabled' WHERE subject = 'bob'");
    cr_assert(ended(token) == 1 && ended(platform) == 0);
    token->session_id.data[3] ^= 1;
    platform->session_id.data[3] ^= 1;
    cr_assert(ended(platform) == 1, "one that nobody has");
}

Test(login, everybody_ends_their_own_sessions_and_administrators_a_users) {
    Auth__AuthenticateReply *ada = NULL, *bob = NULL, *admin = NULL, *other = NULL;
    ProtobufCMessage *message = NULL;
    const char *first = log_in("ada", "r", 600), *second = log_in("ada", "r", 600);
    cr_assert_eq(by_cookie(first, false, &ada), ST_OK);
    cr_assert_eq(rig_authenticate(rig_token("bob", CLINICIAN), &bob), ST_OK);
    cr_assert_eq(rig_authenticate(rig_token("root", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"admin\"]"), &admin), ST_OK);
    Auth__ListSessionsRequest list = AUTH__LIST_SESSIONS_REQUEST__INIT;
    cr_assert_eq(rig_call("auth.ListSessions", ada->ticket, &list.base, &message), ST_OK, "%s", rig.why.text);
    cr_assert_eq(((const Auth__ListSessionsReply *)message)->n_sessions, 2);
    Auth__EndSessionRequest end = AUTH__END_SESSION_REQUEST__INIT;
    end.session_id = ((const Auth__ListSessionsReply *)message)->sessions[0]->id;       /* the newest: the second */
    cr_assert_eq(rig_call("auth.EndSession", bob->ticket, &end.base, &message), ST_NOT_FOUND, "not another's");
    cr_assert_eq(rig_call("auth.EndSession", ada->ticket, &end.base, &message), ST_OK, "%s", rig.why.text);
    assert_ended(second, "revoked");
    Auth__EndUserSessionsRequest all = AUTH__END_USER_SESSIONS_REQUEST__INIT;
    all.user_id = ada->user_id;
    cr_assert_eq(rig_call("auth.EndUserSessions", bob->ticket, &all.base, &message), ST_FORBIDDEN);
    cr_assert_eq(rig_authenticate(rig_token("root", "\"tenant\":\"" PG_SLUG_B "\",\"roles\":[\"admin\"]"), &other), ST_OK);
    cr_assert_eq(rig_call("auth.EndUserSessions", other->ticket, &all.base, &message), ST_OK, "%s", rig.why.text);
    cr_assert_eq(((const Auth__EndUserSessionsReply *)message)->ended, 0, "not another tenant's");
    cr_assert_eq(rig_call("auth.EndUserSessions", admin->ticket, &all.base, &message), ST_OK, "%s", rig.why.text);
    cr_assert_eq(((const Auth__EndUserSessionsReply *)message)->ended, 1);
    assert_ended(first, "revoked");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT string_agg(revoked_reason, ',' ORDER BY revoked_at) FROM auth.sessions"), "user,admin");
}

Test(login, a_platform_administrator_sees_and_ends_his_sessions) {
    ProtobufCMessage *message = NULL;
    const char *ticket = rig_platform_ticket();
    Auth__ListSessionsRequest list = AUTH__LIST_SESSIONS_REQUEST__INIT;
    cr_assert_eq(rig_call("auth.ListSessions", ticket, &list.base, &message), ST_OK, "%s", rig.why.text);
    cr_assert_eq(((const Auth__ListSessionsReply *)message)->n_sessions, 1);
    Auth__GetMeRequest me = AUTH__GET_ME_REQUEST__INIT;
    cr_assert_eq(rig_call("auth.GetMe", ticket, &me.base, &message), ST_OK, "%s", rig.why.text);
}

Test(login, production_wants_https_for_browsers) {
    struct why why = { 0 };
    cr_assert_eq(login_check_public_url("http://127.0.0.1:8080", false, &why), ST_OK);
    cr_assert_eq(login_check_public_url("http://127.0.0.1:8080", true, &why), ST_INVALID);
    cr_assert_eq(login_check_public_url("https://cordon.example/", true, &why), ST_INVALID);
    cr_assert_eq(login_check_public_url("https://cordon.example", true, &why), ST_OK);
    cr_assert_eq(login_check_public_url("", true, &why), ST_OK);
}
