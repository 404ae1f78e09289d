/* Who gets a ticket, and what is put on record about those who do not. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "core/str.h"
#include "rig.h"

TestSuite(authenticate, .init = rig_open, .fini = rig_close, .timeout = 60);

#define CLINICIAN "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"clinician\"]"

static void assert_refused(const char *token, enum error_code code, const char *reason) {
    Auth__AuthenticateReply *reply = NULL;
    unsigned before = rig.event_count;
    enum status st = rig_authenticate(token, &reply);
    cr_assert_eq(st, error_status(code), "%s: %s, %s", reason, status_name(st), rig.why.text);
    cr_assert_eq(rig.why.code, code, "%s: %s", reason, error_text_code(rig.why.code));
    cr_assert_null(reply);
    cr_assert_eq(rig.event_count, before + 1, "%s: %u events", reason, rig.event_count - before);
    const struct rig_event *event = &rig.events[before];
    cr_assert_eq(event->action, AUDIT_AUTH_DENIED);
    cr_assert_not(event->has_tenant);
    cr_assert_not_null(strstr(event->detail, arena_printf(rig.mem, "\"reason\":\"%s\"", reason)), "%s", event->detail);
    cr_assert_not_null(strstr(event->detail, "\"remote_address\":\"192.0.2.7\""), "%s", event->detail);
    cr_assert_not_null(strstr(event->detail, arena_printf(rig.mem, "\"code\":\"%s\"", error_text_code(code))), "%s", event->detail);
    cr_assert_null(strstr(event->detail, "eyJ"), "no byte of the token: %s", event->detail);
    cr_assert_null(strstr(rig.why.text, "eyJ"), "no byte of the token: %s", rig.why.text);
}

Test(authenticate, a_good_token_gets_a_ticket_that_the_database_accepts) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("ada", CLINICIAN ",\"jti\":\"t1\",\"name\":\"Ada\",\"email\":\"ada@example.com\""), &reply), ST_OK, "%s",
                 rig.why.text);
    cr_assert_eq(reply->tenant_id.len, UUID_BYTES);
    cr_assert_eq(reply->user_id.len, UUID_BYTES);
    cr_assert_eq(reply->session_id.len, UUID_BYTES);
    cr_assert_eq(reply->n_scopes, 4);
    cr_assert_str_eq(reply->scopes[1], "documents:read");
    int64_t life_us = reply->expires_at_us - (int64_t)time(NULL) * 1000000;
    cr_assert(life_us > 50000000 && life_us <= 61000000, "%lld", (long long)life_us);
    PGconn *query = pg_connect("cordon_query");
    cr_assert_str_eq(pg_ask(query, "SELECT tenant_id FROM authz.enter('%s')", reply->ticket), PG_TENANT_A);
    PQfinish(query);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.users u WHERE subject = 'ada' AND octet_length(name_enc) = 3 + 29 AND "
                            "octet_length(email_enc) = 15 + 29 AND octet_length(email_index) = 32 AND u::text !~* 'ada@|416461'"), "1");
    cr_assert_eq(rig.event_count, 0, "the session's event is the database's");
}

Test(authenticate, a_token_is_a_session) {
    Auth__AuthenticateReply *first = NULL, *again = NULL, *other = NULL;
    const char *token = rig_token("ada", CLINICIAN);
    cr_assert_eq(rig_authenticate(token, &first), ST_OK);
    cr_assert_eq(rig_authenticate(token, &again), ST_OK);
    cr_assert_eq(rig_authenticate(rig_token("ada", CLINICIAN ",\"jti\":\"other\""), &other), ST_OK);
    cr_assert_arr_eq(first->session_id.data, again->session_id.data, UUID_BYTES);
    cr_assert_arr_neq(first->session_id.data, other->session_id.data, UUID_BYTES);
    cr_assert_arr_eq(first->user_id.data, other->user_id.data, UUID_BYTES);
}

Test(authenticate, a_second_signature_over_the_same_claims_is_no_second_session) {
    Auth__AuthenticateReply *first = NULL;
    const char *token = rig_token("ada", CLINICIAN);
    const char *dot = strrchr(token, '.');
    const char *resigned = signer_sign(rig.signer, rig.mem, arena_strndup(rig.mem, token, (size_t)(dot - token)));
    cr_assert_str_neq(token, resigned);
    cr_assert_eq(rig_authenticate(token, &first), ST_OK);
    pg_ask(pg_admin(), "UPDATE auth.sessions SET revoked_at = now(), revoked_reason = 'test'");
    assert_refused(resigned, ERR_AUTH_TENANT, "session");
}

Test(authenticate, the_tenant_may_be_named_by_id) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("ada", "\"tenant\":\"" PG_TENANT_B "\",\"roles\":\"auditor reviewer\""), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->tenant_id.data[0], 0x22);
    cr_assert_eq(reply->n_scopes, 5);
}

Test(authenticate, a_platform_administrator_is_outside_every_tenant) {
    Auth__AuthenticateReply *reply = NULL;
    struct uuid tenant = { { 1 } };
    cr_assert_eq(rig_authenticate(rig_token("operator", "\"roles\":[\"platform_admin\",\"admin\"]"), &reply), ST_OK, "%s", rig.why.text);
    cr_assert(uuid_from_bytes(reply->tenant_id.data, reply->tenant_id.len, &tenant) && uuid_is_nil(&tenant));
    cr_assert_eq(reply->n_scopes, 1);
    cr_assert_str_eq(reply->scopes[0], "tenants:manage");
}

Test(authenticate, platform_roles_mean_nothing_inside_a_tenant) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("eve", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"platform_admin\"]"), &reply), ST_OK);
    cr_assert_eq(reply->n_scopes, 0);
}

Test(authenticate, roles_are_data) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("eve", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"a\\\"b\",\"c\\\\\",\"{x,y}\",\"admin,\",\"NULL\",\"\",\"'; --\"]"),
                                  &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->n_scopes, 0);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT roles = ARRAY['a\"b', 'c\\', '{x,y}', 'admin,', 'NULL', '', '''; --'] FROM auth.sessions"), "t");
}

Test(authenticate, forged_and_foreign_tokens_are_refused_and_recorded) {
    long long now_s = (long long)time(NULL);
    const char *good = rig_token("ada", CLINICIAN);
    char *tampered = arena_strdup(rig.mem, good);
    tampered[strlen(tampered) - 10] = tampered[strlen(tampered) - 10] == 'A' ? 'B' : 'A';
    assert_refused(tampered, ERR_AUTH_TOKEN, "signature");
    assert_refused("", ERR_AUTH_TOKEN, "shape");
    assert_refused("Bearer", ERR_AUTH_TOKEN, "shape");
    assert_refused(signer_token(rig.signer, rig.mem, "{\"alg\":\"none\"}", "{}"), ERR_AUTH_TOKEN, "algorithm");
    const char *header = "{\"alg\":\"ES256\",\"kid\":\"k1\"}";
    assert_refused(signer_token(rig.signer, rig.mem, header, arena_printf(rig.mem, "{\"iss\":\"https://evil.example\",\"aud\":\"cordon\",\"sub\":\"a\",\"exp\":%lld}",
                                                                          now_s + 600)), ERR_AUTH_TOKEN, "issuer");
    assert_refused(signer_token(rig.signer, rig.mem, header, arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"other\",\"sub\":\"a\",\"exp\":%lld}", rig.issuer,
                                                                          now_s + 600)), ERR_AUTH_TOKEN, "audience");
    assert_refused(signer_token(rig.signer, rig.mem, header, arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"cordon\",\"sub\":\"a\",\"exp\":%lld}", rig.issuer,
                                                                          now_s - 60)), ERR_AUTH_EXPIRED, "expired");
    assert_refused(rig_token("ada", "\"tenant\":\"No Such\",\"roles\":[\"admin\"]"), ERR_AUTH_TENANT, "tenant");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.sessions"), "0");
}

Test(authenticate, tenants_users_and_sessions_that_are_closed_get_no_ticket) {
    Auth__AuthenticateReply *reply = NULL;
    const char *token = rig_token("ada", CLINICIAN);
    assert_refused(rig_token("ada", "\"tenant\":\"nowhere\",\"roles\":[\"admin\"]"), ERR_AUTH_TENANT, "tenant");
    assert_refused(rig_token("ada", "\"tenant\":\"cordon-platform\",\"roles\":[\"platform_admin\"]"), ERR_AUTH_TENANT, "tenant");
    assert_refused(rig_token("ada", "\"tenant\":\"00000000-0000-0000-0000-000000000000\",\"roles\":[\"platform_admin\"]"), ERR_AUTH_TENANT, "tenant");
    assert_refused(rig_token("ada", "\"roles\":[\"clinician\"]"), ERR_AUTH_TENANT, "tenant");
    cr_assert_eq(rig_authenticate(token, &reply), ST_OK);
    pg_ask(pg_admin(), "UPDATE auth.sessions SET revoked_at = now(), revoked_reason = 'test'");
    assert_refused(token, ERR_AUTH_TENANT, "session");
    pg_ask(pg_admin(), "UPDATE auth.users SET status = 'disabled' WHERE subject = 'ada'");
    assert_refused(rig_token("ada", CLINICIAN ",\"jti\":\"new\""), ERR_AUTH_TENANT, "user");
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended' WHERE slug = '" PG_SLUG_A "'");
    assert_refused(rig_token("bob", CLINICIAN), ERR_AUTH_TENANT, "tenant");
}

Test(authenticate, a_rotated_key_is_accepted_at_once) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("ada", CLINICIAN), &reply), ST_OK);
    signer_destroy(&rig.signer);
    rig.signer = signer_new("RS256", 0);
    rig.key_id = "k2";
    const char *token = signer_token(rig.signer, rig.mem, "{\"alg\":\"RS256\",\"kid\":\"k2\"}",
        arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"cordon\",\"sub\":\"ada\",\"exp\":%lld," CLINICIAN "}", rig.issuer, (long long)time(NULL) + 600));
    cr_assert_eq(rig_authenticate(token, &reply), ST_OK, "%s", rig.why.text);
}

Test(authenticate, a_key_that_nobody_publishes_is_refused) {
    Auth__AuthenticateReply *reply = NULL;
    CLEANUP(signer_destroy) struct signer *evil = signer_new("ES256", 0);
    cr_assert_eq(rig_authenticate(rig_token("ada", CLINICIAN), &reply), ST_OK);
    for (int i = 0; i < 5; i++)
        assert_refused(signer_token(evil, rig.mem, "{\"alg\":\"ES256\",\"kid\":\"evil\"}", "{}"), ERR_AUTH_TOKEN, "key_unknown");
    assert_refused(signer_token(evil, rig.mem, "{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{}"), ERR_AUTH_TOKEN, "signature");
}

Test(authenticate, a_refusal_stands_when_it_cannot_be_recorded) {
    Auth__AuthenticateReply *reply = NULL;
    rig.audit_answer = ST_UNAVAILABLE;
    cr_assert_eq(rig_authenticate("forged", &reply), ST_UNAUTHENTICATED);
    cr_assert_eq(rig.why.code, ERR_AUTH_TOKEN);
    cr_assert_eq(counter_value(rig.auth->unrecorded), 1);
}

Test(authenticate, addresses_are_recorded_as_visible_characters) {
    Auth__AuthenticateRequest req = AUTH__AUTHENTICATE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.bearer_token = "x";
    req.remote_address = "fe80::1 \"quoted\" \\ \n \x01 caf\xc3\xa9";
    cr_assert_eq(rig_call("auth.Authenticate", "", &req.base, &reply), ST_UNAUTHENTICATED);
    cr_assert_not_null(strstr(rig.events[0].detail, "fe80::1__quoted"), "%s", rig.events[0].detail);
}

Test(authenticate, without_a_database_there_is_no_ticket) {
    Auth__AuthenticateReply *reply = NULL;
    const char *token = rig_token("ada", CLINICIAN);
    cr_assert_eq(rig_authenticate(token, &reply), ST_OK);
    pg_ask(pg_admin(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT 0', current_database()); END $$");
    pg_ask(pg_admin(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'cordon_auth' AND datname = current_database()");
    enum status st = rig_authenticate(token, &reply);
    pg_ask(pg_admin(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT -1', current_database()); END $$");
    cr_assert_eq(st, ST_UNAVAILABLE, "%s", rig.why.text);
    cr_assert_eq(rig.event_count, 0, "an outage is not a refusal");
}
