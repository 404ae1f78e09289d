/* What a verified token says is believed only as far as the deployment's policy goes. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/uuid.h"
#include "jwt/claims.h"

enum { NOW_S = 1800000000 };

static const struct jwt_policy POLICY = { "https://idp.example/", "cordon", "aud", "tenant", "roles" };

static struct arena *mem;
static void begin(void) { mem = arena_new(0); }
static void end(void) { arena_destroy(&mem); }
TestSuite(claims, .init = begin, .fini = end, .timeout = 10);

static enum jwt_refusal read_as(const struct jwt_policy *policy, const char *payload, struct jwt_claims *ret_claims) {
    struct jws jws = { .payload = payload, .payload_len = strlen(payload), .digest = { 0xab, 0xcd } };
    return jwt_claims_read(mem, &jws, policy, NOW_S, ret_claims);
}

/* A good token with `members` after its other members; name given there wins only if it is not repeated. */
static enum jwt_refusal with(const char *members) {
    struct jwt_claims claims;
    return read_as(&POLICY, arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u1\",%s}", members), &claims);
}

static enum jwt_refusal whole(const char *payload) {
    struct jwt_claims claims;
    return read_as(&POLICY, payload, &claims);
}

#define EXP "\"exp\":1800000600"

Test(claims, a_good_token_is_read) {
    struct jwt_claims c = { 0 };
    enum jwt_refusal refusal = read_as(&POLICY,
        "{\"iss\":\"https://idp.example/\",\"aud\":[\"other\",\"cordon\"],\"sub\":\"u1\",\"exp\":1800000600,\"iat\":1800000000,\"nbf\":1800000000.5,"
        "\"jti\":\"t1\",\"tenant\":\"demo\",\"roles\":[\"clinician\",\"admin\"],\"name\":\"Ada\",\"email\":\"ada@example.com\",\"more\":{}}", &c);
    cr_assert_eq(refusal, JWT_ACCEPTED, "%s", jwt_refusal_name(refusal));
    cr_assert_str_eq(c.subject, "u1");
    cr_assert_str_eq(c.token_id, "t1");
    cr_assert_str_eq(c.tenant, "demo");
    cr_assert_eq(c.roles_count, 2);
    cr_assert_str_eq(c.roles[1], "admin");
    cr_assert_str_eq(c.name, "Ada");
    cr_assert_str_eq(c.email, "ada@example.com");
    cr_assert_eq(c.accepted_until_s, 1800000630);
}

Test(claims, optional_members_may_be_absent) {
    struct jwt_claims c = { 0 };
    cr_assert_eq(read_as(&POLICY, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u1\",\"exp\":1800000600}", &c), JWT_ACCEPTED);
    cr_assert_null(c.tenant);
    cr_assert_null(c.name);
    cr_assert_eq(c.roles_count, 0);
    cr_assert_eq(strlen(c.token_id), 64);       /* the digest stands in for jti */
    cr_assert_eq(strncmp(c.token_id, "abcd00", 6), 0);
}

Test(claims, issuer_is_compared_byte_for_byte) {
    cr_assert_eq(whole("{\"iss\":\"https://idp.example\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP "}"), JWT_ISSUER);
    cr_assert_eq(whole("{\"iss\":\"https://IDP.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP "}"), JWT_ISSUER);
    cr_assert_eq(whole("{\"iss\":[\"https://idp.example/\"],\"aud\":\"cordon\",\"sub\":\"u\"," EXP "}"), JWT_ISSUER);
    cr_assert_eq(whole("{\"aud\":\"cordon\",\"sub\":\"u\"," EXP "}"), JWT_ISSUER);
}

Test(claims, audience_must_name_us) {
    static const char *const AUDIENCES[] = { "\"aud\":\"other\"", "\"aud\":[]", "\"aud\":[\"other\"]", "\"aud\":7", "\"aud\":{\"cordon\":1}",
                                             "\"aud\":[\"cordon\",7]", "\"aud\":\"cordon \"", "\"client_id\":\"cordon\"", "\"aud\":null" };
    for (size_t i = 0; i < sizeof AUDIENCES / sizeof *AUDIENCES; i++)
        cr_expect_eq(whole(arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"sub\":\"u\"," EXP ",%s}", AUDIENCES[i])), JWT_AUDIENCE,
                     "%s", AUDIENCES[i]);
}

Test(claims, another_claim_may_stand_for_the_audience) {
    struct jwt_policy cognito = POLICY;
    struct jwt_claims c;
    cognito.audience_claim = "client_id";
    cr_assert_eq(read_as(&cognito, "{\"iss\":\"https://idp.example/\",\"client_id\":\"cordon\",\"sub\":\"u\"," EXP "}", &c), JWT_ACCEPTED);
    cr_assert_eq(read_as(&cognito, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP "}", &c), JWT_AUDIENCE);
}

Test(claims, times_have_thirty_seconds_of_leeway) {
    cr_assert_eq(with("\"exp\":1799999971"), JWT_ACCEPTED);
    cr_assert_eq(with("\"exp\":1799999970"), JWT_EXPIRED);
    cr_assert_eq(with("\"exp\":1"), JWT_EXPIRED);
    cr_assert_eq(with(EXP ",\"nbf\":1800000030"), JWT_ACCEPTED);
    cr_assert_eq(with(EXP ",\"nbf\":1800000031"), JWT_NOT_YET);
    cr_assert_eq(with(EXP ",\"iat\":1800000030"), JWT_ACCEPTED);
    cr_assert_eq(with(EXP ",\"iat\":1800000031"), JWT_NOT_YET);
}

Test(claims, nobody_is_believed_for_longer_than_a_day) {
    cr_assert_eq(with("\"exp\":1800086400"), JWT_ACCEPTED);
    cr_assert_eq(with("\"exp\":1800086401"), JWT_LIFETIME);
    cr_assert_eq(with("\"exp\":1800000600,\"iat\":1799914200"), JWT_ACCEPTED);
    cr_assert_eq(with("\"exp\":1800000600,\"iat\":1799914199"), JWT_LIFETIME);
}

Test(claims, dates_are_numbers_in_range) {
    static const char *const DATES[] = { "\"iat\":1", "\"exp\":\"1800000600\"", "\"exp\":-1", "\"exp\":1e300", "\"exp\":null", "\"exp\":9223372036854775807",
                                         "\"exp\":1800000600,\"nbf\":\"x\"", "\"exp\":1800000600,\"iat\":true", "\"exp\":1800000600,\"nbf\":-5.5" };
    for (size_t i = 0; i < sizeof DATES / sizeof *DATES; i++)
        cr_expect_eq(with(DATES[i]), JWT_TIME, "%s", DATES[i]);
}

Test(claims, subject_and_token_id_are_short_texts) {
    char *longest = arena_alloc(mem, CLAIMS_TEXT_MAX_BYTES + 2);
    memset(longest, 'x', CLAIMS_TEXT_MAX_BYTES + 1);
    cr_assert_eq(with(arena_printf(mem, EXP ",\"jti\":\"%s\"", longest)), JWT_TOKEN_ID);
    cr_assert_eq(with(EXP ",\"jti\":7"), JWT_TOKEN_ID);
    cr_assert_eq(with(EXP ",\"jti\":\"\""), JWT_TOKEN_ID);
    cr_assert_eq(whole(arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"%s\"," EXP "}", longest)), JWT_SUBJECT);
    cr_assert_eq(whole("{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"\"," EXP "}"), JWT_SUBJECT);
    cr_assert_eq(whole("{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\"," EXP "}"), JWT_SUBJECT);
}

Test(claims, tenants_are_slugs_or_uuids) {
    struct jwt_claims c = { 0 };
    cr_assert_eq(read_as(&POLICY, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP
                         ",\"tenant\":\"0192F3A0-0000-7000-8000-00000000000A\"}", &c), JWT_ACCEPTED);
    cr_assert_str_eq(c.tenant, "0192f3a0-0000-7000-8000-00000000000a");
    static const char *const BAD[] = { "\"\"", "\"a\"", "\"Demo\"", "\"de mo\"", "\"demo'--\"", "\"-demo\"", "\"demo-\"", "\"d\xc3\xa9mo\"", "7",
                                       "[\"demo\"]", "null", "\"demo\\n\"", "\"*\"" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_eq(with(arena_printf(mem, EXP ",\"tenant\":%s", BAD[i])), JWT_TENANT, "%s", BAD[i]);
    char *longest = arena_alloc(mem, 65);
    memset(longest, 'x', 64);
    cr_assert_eq(with(arena_printf(mem, EXP ",\"tenant\":\"%s\"", longest)), JWT_TENANT);
}

Test(claims, claim_names_are_settings) {
    struct jwt_policy auth0 = { "https://idp.example/", "cordon", "aud", "https://cordon.example/tenant", "scope" };
    struct jwt_claims c = { 0 };
    cr_assert_eq(read_as(&auth0, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP
                         ",\"https://cordon.example/tenant\":\"demo\",\"scope\":\" clinician  auditor \",\"tenant\":7,\"roles\":7}", &c), JWT_ACCEPTED);
    cr_assert_str_eq(c.tenant, "demo");
    cr_assert_eq(c.roles_count, 2);
    cr_assert_str_eq(c.roles[0], "clinician");
    cr_assert_str_eq(c.roles[1], "auditor");
}

Test(claims, roles_are_texts_and_few) {
    cr_assert_eq(with(EXP ",\"roles\":[\"a\",7]"), JWT_ROLES);
    cr_assert_eq(with(EXP ",\"roles\":{}"), JWT_ROLES);
    cr_assert_eq(with(EXP ",\"roles\":[]"), JWT_ACCEPTED);
    const char *list = "\"r\"";
    for (int i = 1; i < CLAIMS_ROLES_MAX; i++)
        list = arena_printf(mem, "%s,\"r\"", list);
    cr_assert_eq(with(arena_printf(mem, EXP ",\"roles\":[%s]", list)), JWT_ACCEPTED);
    cr_assert_eq(with(arena_printf(mem, EXP ",\"roles\":[%s,\"r\"]", list)), JWT_ROLES);
}

Test(claims, a_slash_makes_a_name_a_pointer) {
    struct jwt_policy keycloak = POLICY;
    struct jwt_claims c = { 0 };
    keycloak.roles_claim = "/realm_access/roles";
    keycloak.tenant_claim = "/a~1b/~0t";
    cr_assert_eq(read_as(&keycloak, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",\"realm_access\":{\"roles\":[\"clinician\"]},"
                         "\"a/b\":{\"~t\":\"demo\"},\"roles\":[\"admin\"],\"/realm_access/roles\":[\"admin\"]}", &c), JWT_ACCEPTED);
    cr_assert_eq(c.roles_count, 1);
    cr_assert_str_eq(c.roles[0], "clinician");
    cr_assert_str_eq(c.tenant, "demo");
    static const char *const NOWHERE[] = { "\"realm_access\":{}", "\"realm_access\":[]", "\"realm_access\":\"roles\"", "\"x\":1" };
    for (size_t i = 0; i < sizeof NOWHERE / sizeof *NOWHERE; i++) {
        cr_expect_eq(read_as(&keycloak, arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",%s}", NOWHERE[i]), &c), JWT_ACCEPTED);
        cr_expect_eq(c.roles_count, 0, "%s", NOWHERE[i]);
    }
    keycloak.roles_claim = "/bad~2";
    cr_assert_eq(read_as(&keycloak, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",\"bad~2\":[\"admin\"]}", &c), JWT_ACCEPTED);
    cr_assert_eq(c.roles_count, 0);
}

Test(claims, a_map_decides_what_the_issuers_groups_mean) {
    static const struct jwt_pair MAP[] = { { "Cordon Clinicians", "clinician" }, { "4f1c", "clinician" }, { "4f1c", "auditor" }, { NULL } };
    struct jwt_policy policy = POLICY;
    struct jwt_claims c = { 0 };
    policy.role_map = MAP;
    policy.roles_claim = "cognito:groups";
    const char *groups = "\"Cordon Clinicians\",\"admin\",\"4f1c\",\"/a/group/whose/name/is/longer/than/a/role/may/be/in/this/deployment/and/any/other\"";
    for (int i = 0; i < 400; i++)
        groups = arena_printf(mem, "%s,\"g%d\"", groups, i);
    cr_assert_eq(read_as(&policy, arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",\"cognito:groups\":[%s]}", groups), &c),
                 JWT_ACCEPTED);
    cr_assert_eq(c.roles_count, 2, "admin is no group of the map");
    cr_assert_str_eq(c.roles[0], "clinician");
    cr_assert_str_eq(c.roles[1], "auditor");
}

Test(claims, several_factors_are_what_the_deployment_calls_so) {
    static const char *const AMR[] = { "mfa", "otp", NULL }, *const ACR[] = { "urn:strong", NULL };
    struct jwt_policy policy = POLICY;
    policy.amr_claim = "amr";
    policy.acr_claim = "acr";
    policy.amr_values = AMR;
    policy.acr_values = ACR;
    const struct { const char *members; bool want; } CASES[] = {
        { "\"amr\":[\"pwd\",\"otp\"]", true }, { "\"amr\":\"mfa\"", true }, { "\"acr\":\"urn:strong\"", true }, { "\"amr\":[\"pwd\"],\"acr\":\"0\"", false },
        { "\"amr\":[\"mfa2\"]", false }, { "\"amr\":[[\"mfa\"]]", false }, { "\"amr\":{\"mfa\":true}", false }, { "\"x\":1", false }, { "\"amr\":[7,\"mfa\"]", true },
    };
    struct jwt_claims c = { 0 };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        cr_expect_eq(read_as(&policy, arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",%s}", CASES[i].members), &c), JWT_ACCEPTED);
        cr_expect_eq(c.has_mfa, CASES[i].want, "%s", CASES[i].members);
    }
    policy.is_mfa_assumed = true;
    cr_assert_eq(read_as(&policy, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP "}", &c), JWT_ACCEPTED);
    cr_assert(c.has_mfa);
}

Test(claims, tokens_for_another_purpose_are_refused) {
    static const struct jwt_pair REQUIRED[] = { { "token_use", "access" }, { NULL } };
    struct jwt_policy policy = POLICY;
    struct jwt_claims c = { 0 };
    policy.required = REQUIRED;
    const char *const BAD[] = { "\"token_use\":\"id\"", "\"token_use\":[\"access\"]", "\"x\":1", "\"token_use\":null" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_eq(read_as(&policy, arena_printf(mem, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",%s}", BAD[i]), &c), JWT_REQUIRED, "%s", BAD[i]);
    cr_assert_eq(read_as(&policy, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",\"token_use\":\"access\"}", &c), JWT_ACCEPTED);
}

Test(claims, leeway_and_lifetime_are_settings) {
    struct jwt_policy policy = POLICY;
    struct jwt_claims c = { 0 };
    policy.leeway_s = 5;
    policy.max_lifetime_s = 300;
    cr_assert_eq(read_as(&policy, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\",\"exp\":1799999995}", &c), JWT_EXPIRED);
    cr_assert_eq(read_as(&policy, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\",\"exp\":1799999996,\"auth_time\":1799999000}", &c), JWT_ACCEPTED);
    cr_assert_eq(c.auth_time_s, 1799999000);
    cr_assert_eq(read_as(&policy, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\",\"exp\":1800000301}", &c), JWT_LIFETIME);
    cr_assert_eq(read_as(&policy, "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\",\"exp\":1800000100,\"auth_time\":1800000100}", &c), JWT_TIME);
}

Test(claims, payloads_that_are_not_plain_json_objects_are_refused) {
    static const char *const PAYLOADS[] = { "", "null", "[]", "\"x\"", "{", "{} x", "{\"sub\":\"a\",\"sub\":\"b\"}",
                                            "{\"iss\":\"https://idp.example/\",\"aud\":\"cordon\",\"sub\":\"u\"," EXP ",\"tenant\":\"a1\",\"tenant\":\"b1\"}" };
    for (size_t i = 0; i < sizeof PAYLOADS / sizeof *PAYLOADS; i++)
        cr_expect_eq(whole(PAYLOADS[i]), JWT_CLAIMS, "%s", PAYLOADS[i]);
}

Test(claims, every_refusal_has_a_name_of_its_own_and_a_code) {
    for (unsigned i = 0; i < JWT_REFUSAL_COUNT; i++) {
        cr_expect_eq(jwt_refusal_error(i) == ERR_NONE, i == JWT_ACCEPTED);
        for (unsigned k = i + 1; k < JWT_REFUSAL_COUNT; k++)
            cr_expect_str_neq(jwt_refusal_name(i), jwt_refusal_name(k));
    }
}
