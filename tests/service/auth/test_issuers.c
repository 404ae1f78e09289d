/* Whose tokens are believed, for which tenants, and how each provider's are read. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/str.h"
#include "rig.h"
#include "tokens.h"

/* ---- the configuration ---- */

static struct issuers_settings with_json(const char *json) {
    return (struct issuers_settings){ .preset = "standard", .issuer_url = "https://one.example/", .audience = "cordon", .audience_claim = "",
        .tenant_claim = "", .roles_claim = "", .json = json, .leeway_s = 30, .max_lifetime_s = 86400 };
}

Test(issuers, one_issuer_speaks_for_every_tenant_and_the_platform) {
    struct why why = { 0 };
    struct issuers made = { 0 };
    struct issuers_settings settings = with_json("");
    cr_assert_eq(issuers_read(&settings, &made, &why), ST_OK, "%s", why.text);
    cr_assert_eq(made.count, 1);
    cr_assert_str_eq(made.items[0].policy.issuer, "https://one.example/");
    cr_assert_str_eq(made.items[0].policy.audience_claim, "aud");
    cr_assert_eq(made.items[0].tenant_count, 2);
    issuers_end(&made);
}

Test(issuers, an_entry_refines_the_first_or_adds_another) {
    struct why why = { 0 };
    struct issuers made = { 0 };
    struct issuers_settings settings = with_json(
        "[{\"issuer\":\"https://one.example/\",\"tenants\":[\"riverside\"],\"mfa\":\"always\"},"
        "{\"issuer\":\"https://cognito-idp.us-east-1.amazonaws.com/p\",\"preset\":\"cognito\",\"audience\":\"client\",\"tenants\":[\"lakeside\"],"
        "\"roles\":{\"doctors\":[\"clinician\",\"auditor\"],\"ops\":\"admin\"},\"mfa\":{\"amr\":[\"hwk\"]},\"leeway_s\":5}]");
    cr_assert_eq(issuers_read(&settings, &made, &why), ST_OK, "%s", why.text);
    cr_assert_eq(made.count, 2);
    cr_assert(made.items[0].policy.is_mfa_assumed);
    cr_assert_eq(made.items[0].tenant_count, 1);
    const struct jwt_policy *two = &made.items[1].policy;
    cr_assert_str_eq(two->audience_claim, "client_id");
    cr_assert_str_eq(two->roles_claim, "cognito:groups");
    cr_assert_str_eq(two->required[0].name, "token_use");
    cr_assert_str_eq(two->role_map[1].value, "auditor");
    cr_assert_str_eq(two->role_map[2].name, "ops");
    cr_assert_null(two->role_map[3].name);
    cr_assert_str_eq(two->amr_values[0], "hwk");
    cr_assert_eq(two->leeway_s, 5);
    cr_assert_eq(two->max_lifetime_s, 86400);
    issuers_end(&made);
}

Test(issuers, mistakes_in_the_configuration_stop_the_process) {
    static const char *const BAD[] = {
        "{}", "[7]", "nonsense", "[{}]", "[{\"issuer\":\"https://two.example\",\"audience\":\"c\"}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[]}]", "[{\"issuer\":\"https://two.example\",\"tenants\":[\"a1\"]}]",
        "[{\"issuer\":\"http://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"]}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"],\"tenant\":\"x\"}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"],\"preset\":\"nobody\"}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[7]}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"],\"roles\":{\"a\":7}}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"],\"mfa\":\"never\"}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"],\"leeway_s\":3600}]",
        "[{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"]},{\"issuer\":\"https://two.example\",\"audience\":\"c\",\"tenants\":[\"a1\"]}]",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct why why = { 0 };
        struct issuers made = { 0 };
        struct issuers_settings settings = with_json(BAD[i]);
        cr_expect_eq(issuers_read(&settings, &made, &why), ST_INVALID, "%s", BAD[i]);
        cr_expect(str_starts_with(why.text, "CORDON_ISSUERS"), "%s: %s", BAD[i], why.text);
        issuers_end(&made);
    }
    struct why why = { 0 };
    struct issuers made = { 0 };
    struct issuers_settings settings = with_json("");
    settings.preset = "nobody";
    cr_assert_eq(issuers_read(&settings, &made, &why), ST_INVALID);
}

/* Each provider's access token, as its documentation prints it, read by its preset. */
Test(issuers, presets_read_what_the_providers_send) {
    static const struct { const char *preset, *issuer, *audience, *payload, *tenant, *role; } CASES[] = {
        { "cognito", "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbC", "4hk1example",
          "\"token_use\":\"access\",\"client_id\":\"4hk1example\",\"cognito:groups\":[\"clinician\"],\"custom:tenant\":\"riverside\",\"scope\":\"openid\"", "riverside", "clinician" },
        { "okta", "https://acme.okta.com/oauth2/default", "api://cordon",
          "\"ver\":1,\"aud\":\"api://cordon\",\"cid\":\"0oa1\",\"uid\":\"00u1\",\"scp\":[\"openid\"],\"groups\":[\"clinician\"],\"tenant\":\"riverside\"", "riverside", "clinician" },
        { "auth0", "https://acme.us.auth0.com/", "https://cordon",
          "\"aud\":[\"https://cordon\",\"https://acme.us.auth0.com/userinfo\"],\"azp\":\"x\",\"https://cordon/roles\":[\"clinician\"],\"https://cordon/tenant\":\"riverside\"", "riverside", "clinician" },
        { "entra", "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", "6731de76-14a6-49ae-97bc-6eba6914391e",
          "\"aud\":\"6731de76-14a6-49ae-97bc-6eba6914391e\",\"tid\":\"9188040d-6c67-4c5b-b112-36a304b66dad\",\"ver\":\"2.0\",\"roles\":[\"clinician\"]", NULL, "clinician" },
        { "keycloak", "https://sso.example/realms/acme", "cordon",
          "\"typ\":\"Bearer\",\"aud\":[\"cordon\",\"account\"],\"azp\":\"web\",\"realm_access\":{\"roles\":[\"clinician\"]},\"tenant\":\"riverside\"", "riverside", "clinician" },
    };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct why why = { 0 };
        struct issuers made = { 0 };
        struct issuers_settings settings = with_json("");
        settings.preset = CASES[i].preset;
        settings.issuer_url = CASES[i].issuer;
        settings.audience = CASES[i].audience;
        cr_assert_eq(issuers_read(&settings, &made, &why), ST_OK, "%s", why.text);
        struct jwt_claims claims = { 0 };
        char *payload = arena_printf(mem, "{\"iss\":\"%s\",\"sub\":\"u1\",\"exp\":1800000600,\"iat\":1800000000,%s}", CASES[i].issuer, CASES[i].payload);
        struct jws jws = { .payload = payload, .payload_len = strlen(payload) };
        enum jwt_refusal refusal = jwt_claims_read(mem, &jws, &made.items[0].policy, 1800000000, &claims);
        cr_expect_eq(refusal, JWT_ACCEPTED, "%s: %s", CASES[i].preset, jwt_refusal_name(refusal));
        cr_expect_eq(claims.tenant == NULL, CASES[i].tenant == NULL);
        cr_expect(!CASES[i].tenant || str_equal(claims.tenant, CASES[i].tenant), "%s", CASES[i].preset);
        cr_expect(claims.roles_count == 1 && str_equal(claims.roles[0], CASES[i].role), "%s", CASES[i].preset);
        issuers_end(&made);
    }
}

/* ---- two providers ---- */

static void open_two(void) {
    rig_issuers = "[{\"issuer\":\"%s/two\",\"audience\":\"theirs\",\"tenants\":[\"" PG_SLUG_B "\"],\"roles\":{\"docs\":\"clinician\"}}]";
    rig_open();
}

TestSuite(two_issuers, .init = open_two, .fini = rig_close, .timeout = 60);

static const char *their_token(const struct signer *signer, const char *issuer, const char *members) {
    long long now_s = (long long)time(NULL);
    return signer_token(signer, rig.mem, signer == rig.second ? "{\"alg\":\"EdDSA\",\"kid\":\"k1\"}" : "{\"alg\":\"ES256\",\"kid\":\"k1\"}",
        arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"theirs\",\"sub\":\"zoe\",\"iat\":%lld,\"exp\":%lld,\"roles\":[\"docs\"]%s}", issuer, now_s, now_s + 600, members));
}

static const char *two(void) {
    return arena_printf(rig.mem, "%s/two", rig.issuer);
}

Test(two_issuers, each_is_believed_for_its_own_tenants_only) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(their_token(rig.second, two(), ",\"tenant\":\"" PG_SLUG_B "\""), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->tenant_id.data[0], 0x22);
    cr_assert_eq(rig_authenticate(their_token(rig.second, two(), ",\"tenant\":\"" PG_TENANT_B "\""), &reply), ST_OK, "by id too: %s", rig.why.text);
    static const char *const FOREIGN[] = { ",\"tenant\":\"" PG_SLUG_A "\"", ",\"tenant\":\"" PG_TENANT_A "\"" };
    for (size_t i = 0; i < sizeof FOREIGN / sizeof *FOREIGN; i++) {
        cr_expect_eq(rig_authenticate(their_token(rig.second, two(), FOREIGN[i]), &reply), ST_FORBIDDEN);
        cr_expect_eq(rig.why.code, ERR_AUTH_TENANT);
        cr_expect_not_null(strstr(rig.events[rig.event_count - 1].detail, "\"reason\":\"issuer\""), "%s", rig.events[rig.event_count - 1].detail);
    }
}

Test(two_issuers, an_issuer_of_one_tenant_need_not_name_it) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(their_token(rig.second, two(), ""), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->tenant_id.data[0], 0x22);
    cr_assert_eq(reply->n_scopes, 4);
}

Test(two_issuers, nobody_signs_for_the_other) {
    Auth__AuthenticateReply *reply = NULL;
    cr_expect_eq(rig_authenticate(their_token(rig.signer, two(), ""), &reply), ST_UNAUTHENTICATED, "the first's key under the second's name");
    cr_expect_eq(rig_authenticate(their_token(rig.second, rig.issuer, ""), &reply), ST_UNAUTHENTICATED, "the second's key under the first's name");
    cr_expect_eq(rig_authenticate(their_token(rig.second, "https://elsewhere.example", ""), &reply), ST_UNAUTHENTICATED);
    cr_expect_eq(rig_authenticate(their_token(rig.second, arena_printf(rig.mem, "%s/two/", rig.issuer), ""), &reply), ST_UNAUTHENTICATED, "a slash more");
}

Test(two_issuers, the_same_subject_of_two_issuers_is_two_people) {
    Auth__AuthenticateReply *mine = NULL, *theirs = NULL;
    cr_assert_eq(rig_authenticate(rig_token("zoe", "\"tenant\":\"" PG_SLUG_B "\",\"roles\":[\"reviewer\"]"), &mine), ST_OK);
    cr_assert_eq(rig_authenticate(their_token(rig.second, two(), ""), &theirs), ST_OK);
    cr_assert_arr_neq(mine->user_id.data, theirs->user_id.data, UUID_BYTES);
}

Test(two_issuers, a_second_provider_brings_no_platform_administrators) {
    Auth__AuthenticateReply *reply = NULL;
    pg_ask(pg_admin(), "UPDATE auth.tenants SET roles_from = 'both'");
    rig.auth->issuers.items[1].tenant_count = 2;       /* of several tenants: the token must name one */
    const char *const names[] = { PG_SLUG_B, PG_SLUG_A, NULL };
    rig.auth->issuers.items[1].tenants = names;
    static const struct jwt_pair MAP[] = { { "docs", "platform_admin" }, { NULL } };
    rig.auth->issuers.items[1].policy.role_map = MAP;
    cr_assert_eq(rig_authenticate(their_token(rig.second, two(), ""), &reply), ST_FORBIDDEN, "%s", rig.why.text);
}

/* ---- several factors ---- */

static void open_with_mfa(void) {
    rig_requires_mfa = true;
    rig_open();
}

TestSuite(mfa, .init = open_with_mfa, .fini = rig_close, .timeout = 60);

Test(mfa, without_it_scopes_to_phi_are_withheld) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("ada", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"admin\"],\"amr\":[\"pwd\"]"), &reply), ST_OK, "%s", rig.why.text);
    bool may_manage = false;
    for (size_t i = 0; i < reply->n_scopes; i++)
        may_manage = may_manage || str_equal(reply->scopes[i], "users:manage");
    cr_assert(may_manage);
    for (size_t i = 0; i < reply->n_scopes; i++)
        cr_assert(!str_starts_with(reply->scopes[i], "documents:") && !str_equal(reply->scopes[i], "query"), "%s", reply->scopes[i]);
    cr_assert_geq(reply->n_withheld_scopes, 4);
    cr_assert_eq(rig_authenticate(rig_token("ada", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"admin\"],\"amr\":[\"pwd\",\"otp\"]"), &reply), ST_OK);
    cr_assert_geq(reply->n_scopes, 5);
    cr_assert_eq(reply->n_withheld_scopes, 0);
}

Test(mfa, machines_have_one_factor) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("pipeline", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"service\"]"), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->n_scopes, 3);
}

Test(mfa, glass_is_broken_after_a_fresh_login_only) {
    Auth__AuthenticateReply *reply = NULL;
    long long now_s = (long long)time(NULL);
    cr_assert_eq(rig_authenticate(rig_token("ada", arena_printf(rig.mem, "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"clinician\"],\"amr\":[\"otp\"],\"auth_time\":%lld",
                                                                now_s - 16 * 60)), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->n_scopes, 3);
    cr_assert_eq(reply->n_withheld_scopes, 1);
    cr_assert_str_eq(reply->withheld_scopes[0], "breakglass:request");
    cr_assert_eq(rig_authenticate(rig_token("ada", arena_printf(rig.mem, "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"clinician\"],\"amr\":[\"otp\"],\"auth_time\":%lld",
                                                                now_s - 60)), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(reply->n_scopes, 4);
}

/* ---- providers in trouble ---- */

static void open_page(void) { rig_keys = RIG_KEYS_PAGE; rig_open(); }
static void open_huge(void) { rig_keys = RIG_KEYS_HUGE; rig_open(); }
static void open_slow(void) { rig_keys = RIG_KEYS_SLOW; rig_open(); }

/* Nobody gets in, nobody is refused, and when the provider is well again nobody has to restart anything. */
static void expect_no_keys_until_well(void) {
    Auth__AuthenticateReply *reply = NULL;
    const char *token = rig_token("ada", "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"clinician\"]");
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(rig_authenticate(token, &reply), ST_UNAVAILABLE, "%s", rig.why.text);
    cr_expect_eq(rig.why.code, ERR_AUTH_PROVIDER);
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
    cr_expect_eq(rig.event_count, 0, "an outage is no refusal");
    rig_keys = RIG_KEYS_GOOD;
    enum status st = ST_UNAVAILABLE;
    while (st == ST_UNAVAILABLE && clock_mono_ms() - began_ms < 30000) {
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
        st = rig_authenticate(token, &reply);
    }
    cr_expect_eq(st, ST_OK, "%s", rig.why.text);
}

Test(provider, a_page_for_people_is_no_key_set, .init = open_page, .fini = rig_close, .timeout = 60) { expect_no_keys_until_well(); }
Test(provider, a_huge_answer_is_not_read, .init = open_huge, .fini = rig_close, .timeout = 60) { expect_no_keys_until_well(); }
Test(provider, a_slow_answer_is_not_waited_for, .init = open_slow, .fini = rig_close, .timeout = 60) { expect_no_keys_until_well(); }

/* ---- rotation ---- */

struct hammer { _Atomic(const char *) token; atomic_bool is_over; atomic_int accepted, refused, failed; };

static void *hammer(void *arg) {
    struct hammer *h = arg;
    while (!atomic_load(&h->is_over)) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
        struct call call = { .mem = mem, .ticket = "", .traceparent = "", .deadline_ms = clock_mono_ms() + 5000 };
        enum jwt_refusal refusal = JWT_ACCEPTED;
        struct jwt_claims claims = { 0 };
        enum status st = check_token(&rig.auth->issuers.items[0], &call, atomic_load(&h->token), &refusal, &claims);
        atomic_fetch_add(st != ST_OK ? &h->failed : refusal != JWT_ACCEPTED ? &h->refused : &h->accepted, 1);
    }
    return NULL;
}

static void hammer_until(struct hammer *h, int more) {
    int64_t deadline_ms = clock_mono_ms() + 20000;
    for (int before = atomic_load(&h->accepted); atomic_load(&h->accepted) < before + more; (void)sched_yield())
        cr_assert_lt(clock_mono_ms(), deadline_ms);
}

/* The provider publishes a new key beside the old one and signs with it from that moment on. */
Test(provider, a_rotation_under_load_refuses_nobody, .init = rig_open, .fini = rig_close, .timeout = 60) {
    enum { THREADS = 6 };
    struct hammer h = { .token = rig_token("ada", "\"jti\":\"old\"") };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, hammer, &h), 0);
    hammer_until(&h, 500);
    struct signer *fresh = signer_new("ES256", 0);
    rig.key_id = "k2";
    rig.previous = rig.signer;
    rig.signer = fresh;
    atomic_store(&h.token, rig_token("ada", "\"jti\":\"new\""));
    hammer_until(&h, 500);
    atomic_store(&h.is_over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(atomic_load(&h.refused), 0, "%d false refusals", atomic_load(&h.refused));
    cr_expect_eq(atomic_load(&h.failed), 0, "%d failures", atomic_load(&h.failed));
}
