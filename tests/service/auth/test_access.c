/* What a tenant's administrator does by the API, what is on record of it, and that a key or an address is nowhere in the clear. */
#include <criterion/criterion.h>
#include <string.h>

#include "api_keys.h"
#include "core/str.h"
#include "rig.h"

TestSuite(access, .init = rig_open, .fini = rig_close, .timeout = 60);

static const char *ticket_of(const char *subject, const char *role) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token(subject, arena_printf(rig.mem, "\"tenant\":\"" PG_SLUG_A "\",\"roles\":[\"%s\"]", role)), &reply), ST_OK, "%s", rig.why.text);
    return reply->ticket;
}

static ProtobufCBinaryData id_of(const char *subject) {
    struct uuid id;
    const char *text = pg_ask(pg_admin(), "SELECT id FROM auth.users WHERE subject = '%s' AND tenant_id = '" PG_TENANT_A "'", subject);
    cr_assert(uuid_parse(text, strlen(text), &id));
    return (ProtobufCBinaryData){ UUID_BYTES, arena_memdup(rig.mem, id.bytes, UUID_BYTES) };
}

static enum status invite(const char *ticket, const char *email, char *role) {
    Auth__InviteUserRequest req = AUTH__INVITE_USER_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.email = (char *)email;
    req.name = (char *)"Ida Nova";
    req.roles = &role;
    req.n_roles = role ? 1 : 0;
    return rig_call("auth.InviteUser", ticket, &req.base, &reply);
}

Test(access, an_invitation_holds_the_address_for_whoever_proves_it) {
    const char *admin = ticket_of("boss", "admin");
    cr_assert_eq(invite(admin, "Ida@Example.org", (char *)"reviewer"), ST_OK, "%s", rig.why.text);
    cr_expect_eq(invite(admin, "ida@example.ORG", NULL), ST_CONFLICT);
    cr_expect_eq(invite(admin, "other@example.org", (char *)"auditor"), ST_FORBIDDEN, "the administrator is none");
    static const char *const BAD[] = { "", "x", "@x", "x@", "a b@x", "a@b\nc" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_eq(invite(admin, BAD[i], NULL), ST_INVALID, "%s", BAD[i]);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.users u WHERE u::text ILIKE '%%ida%%' OR u::text ILIKE '%%' || encode('Ida', 'hex') || '%%'"), "0");

    Auth__AuthenticateReply *reply = NULL;
    pg_ask(pg_admin(), "UPDATE auth.tenants SET provisions_users = false");
    cr_expect_eq(rig_authenticate(rig_token("ida", "\"tenant\":\"" PG_SLUG_A "\",\"email\":\"ida@example.org\""), &reply), ST_FORBIDDEN, "not verified");
    cr_assert_eq(rig_authenticate(rig_token("ida", "\"tenant\":\"" PG_SLUG_A "\",\"email\":\"ida@example.org\",\"email_verified\":true"), &reply), ST_OK, "%s", rig.why.text);
    cr_expect_eq(reply->n_scopes, 2, "a reviewer, by assignment");

    Auth__ListUsersRequest list = AUTH__LIST_USERS_REQUEST__INIT;
    Auth__ListUsersReply *users = NULL;
    unsigned before = rig.event_count;
    cr_assert_eq(rig_call("auth.ListUsers", admin, &list.base, (ProtobufCMessage **)&users), ST_OK, "%s", rig.why.text);
    cr_expect_eq(users->n_users, 2);
    cr_expect_str_eq(users->users[1]->email, "ida@example.org");
    cr_expect_str_eq(users->users[1]->roles[0], "reviewer");
    cr_expect_eq(rig.event_count, before + 1);
    cr_expect_eq(rig.events[before].action, AUDIT_ACCESS_READ);
    rig.audit_answer = ST_UNAVAILABLE;
    cr_expect_eq(rig_call("auth.ListUsers", admin, &list.base, (ProtobufCMessage **)&users), ST_UNAVAILABLE, "no record, no list");
}

Test(access, only_administrators_manage_and_only_their_own) {
    static const char *const METHODS[] = { "auth.ListUsers", "auth.ListRoles", "auth.ListLabels", "auth.ListLabelGrants", "auth.ListApiKeys" };
    Auth__ListUsersRequest empty = AUTH__LIST_USERS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++) {
        cr_expect_eq(rig_call(METHODS[i], ticket_of("ann", "clinician"), &empty.base, &reply), ST_FORBIDDEN, "%s", METHODS[i]);
        cr_expect_eq(rig_call(METHODS[i], ticket_of("boss", "admin"), &empty.base, &reply), ST_OK, "%s: %s", METHODS[i], rig.why.text);
    }
    ticket_of("ann", "clinician");
    Auth__UpdateUserRequest update = AUTH__UPDATE_USER_REQUEST__INIT;
    update.user_id = id_of("ann");
    update.status = (char *)"disabled";
    Auth__AuthenticateReply *theirs = NULL;
    cr_assert_eq(rig_authenticate(rig_token("chief", "\"tenant\":\"" PG_SLUG_B "\",\"roles\":[\"admin\"]"), &theirs), ST_OK);
    cr_expect_eq(rig_call("auth.UpdateUser", theirs->ticket, &update.base, &reply), ST_NOT_FOUND, "another tenant's administrator");
    cr_expect_eq(rig_call("auth.UpdateUser", ticket_of("boss", "admin"), &update.base, &reply), ST_OK, "%s", rig.why.text);
    update.status = (char *)"invited";
    cr_expect_eq(rig_call("auth.UpdateUser", ticket_of("boss", "admin"), &update.base, &reply), ST_INVALID);
}

Test(access, a_key_works_until_it_is_revoked_and_is_nowhere_in_the_clear) {
    const char *admin = ticket_of("boss", "admin");
    char *scopes[] = { (char *)"documents:read" };
    Auth__CreateApiKeyRequest req = AUTH__CREATE_API_KEY_REQUEST__INIT;
    Auth__CreateApiKeyReply *made = NULL;
    Auth__AuthenticateReply *reply = NULL;
    req.name = (char *)"nightly";
    req.scopes = scopes;
    req.n_scopes = 1;
    cr_assert_eq(rig_call("auth.CreateApiKey", admin, &req.base, (ProtobufCMessage **)&made), ST_OK, "%s", rig.why.text);
    cr_assert_eq(rig_authenticate(made->key, &reply), ST_OK, "%s", rig.why.text);
    cr_expect_eq(reply->n_scopes, 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.api_keys k WHERE k::text LIKE '%%%s%%'", made->key + 17), "0");
    char *other = arena_strdup(rig.mem, made->key);
    other[strlen(other) - 1] = other[strlen(other) - 1] == '0' ? '1' : '0';
    cr_expect_eq(rig_authenticate(other, &reply), ST_UNAUTHENTICATED);
    cr_expect_eq(rig.why.code, ERR_AUTH_TOKEN);
    cr_expect_null(strstr(rig.events[rig.event_count - 1].detail, "cdn_"), "no byte of the key: %s", rig.events[rig.event_count - 1].detail);
    Auth__RevokeApiKeyRequest revoke = AUTH__REVOKE_API_KEY_REQUEST__INIT;
    revoke.key_id = made->key_id;
    ProtobufCMessage *nothing = NULL;
    cr_assert_eq(rig_call("auth.RevokeApiKey", admin, &revoke.base, &nothing), ST_OK);
    cr_expect_eq(rig_authenticate(made->key, &reply), ST_FORBIDDEN);
    cr_expect_eq(rig_call("auth.RevokeApiKey", admin, &revoke.base, &nothing), ST_NOT_FOUND);
    scopes[0] = (char *)"audit:read";
    cr_expect_eq(rig_call("auth.CreateApiKey", admin, &req.base, (ProtobufCMessage **)&made), ST_FORBIDDEN);
}

Test(access, keys_have_one_form) {
    struct api_key key;
    char text[API_KEY_TEXT_BYTES];
    api_key_make(text, &key);
    cr_expect(api_key_parse(text, &key));
    cr_expect_eq(strlen(text), API_KEY_TEXT_BYTES - 1);
    const char *const BAD[] = { "", "cdn_", arena_printf(rig.mem, "%s0", text), arena_strndup(rig.mem, text, strlen(text) - 1), arena_printf(rig.mem, "CDN%s", text + 3),
                                arena_printf(rig.mem, "cdn_ABCDEFGHIJKL%s", text + 16), arena_printf(rig.mem, "%.16s-%s", text, text + 17) };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_not(api_key_parse(BAD[i], &key), "%s", BAD[i]);
}

Test(access, the_directory_opens_what_it_sealed_and_nothing_else) {
    struct why why = { 0 };
    struct blob sealed = { 0 };
    const char *text = NULL;
    cr_assert_eq(directory_seal(rig.auth->directory, DIRECTORY_NAME, "Ida", rig.mem, &sealed, &why), ST_OK);
    cr_expect_eq(directory_open(rig.auth->directory, DIRECTORY_NAME, sealed.data, sealed.len, rig.mem, &text, &why), ST_OK);
    cr_expect_str_eq(text, "Ida");
    cr_expect_eq(directory_open(rig.auth->directory, DIRECTORY_EMAIL, sealed.data, sealed.len, rig.mem, &text, &why), ST_INTERNAL, "a name is no address");
    uint8_t one[SHA256_BYTES], two[SHA256_BYTES];
    directory_email_blind(rig.auth->directory, "Ida@X.org", one);
    directory_email_blind(rig.auth->directory, "ida@x.org", two);
    cr_expect_arr_eq(one, two, SHA256_BYTES);
    directory_profile_blind(rig.auth->directory, "ab", "c", one);
    directory_profile_blind(rig.auth->directory, "a", "bc", two);
    cr_expect_arr_neq(one, two, SHA256_BYTES);
    static const char *const BAD[] = { "", "00", "zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct directory *none = NULL;
        struct secret *hex = secret_new(BAD[i], strlen(BAD[i]));
        cr_expect_eq(directory_new(hex, &none, &why), ST_INVALID, "%s", BAD[i]);
        secret_destroy(&hex);
    }
}

static enum status break_glass(const char *ticket, const char *reason, char *label) {
    Auth__BreakGlassRequest req = AUTH__BREAK_GLASS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.reason_code = (char *)"emergency";
    req.reason = (char *)reason;
    req.labels = &label;
    req.n_labels = label ? 1 : 0;
    return rig_call("auth.BreakGlass", ticket, &req.base, &reply);
}

Test(access, glass_is_broken_with_a_reason_and_reviewed_by_somebody_else) {
    const char *doctor = ticket_of("ann", "clinician");
    cr_expect_eq(break_glass(doctor, "short", (char *)"vip"), ST_INVALID);
    cr_expect_eq(break_glass(doctor, "Unconscious patient", NULL), ST_INVALID, "nothing named");
    cr_expect_eq(break_glass(doctor, "Unconscious patient", (char *)"no_such"), ST_INVALID);
    cr_expect_eq(break_glass(ticket_of("rev", "reviewer"), "Unconscious patient", (char *)"vip"), ST_FORBIDDEN);
    cr_assert_eq(break_glass(doctor, "Unconscious patient", (char *)"vip"), ST_OK, "%s", rig.why.text);
    cr_expect_eq(counter_value(rig.auth->glass_broken), 1);
    cr_expect_eq(break_glass(doctor, "Unconscious patient", (char *)"part2"), ST_CONFLICT);
    cr_expect_eq(rig.why.code, ERR_AUTH_UNREVIEWED);

    Auth__ListBreakGlassRequest list = AUTH__LIST_BREAK_GLASS_REQUEST__INIT;
    Auth__ListBreakGlassReply *grants = NULL;
    const char *auditor = ticket_of("sue", "auditor");
    cr_assert_eq(rig_call("auth.ListBreakGlass", auditor, &list.base, (ProtobufCMessage **)&grants), ST_OK, "%s", rig.why.text);
    cr_assert_eq(grants->n_grants, 1);
    cr_expect_str_eq(grants->grants[0]->reason, "Unconscious patient");
    Auth__ReviewBreakGlassRequest review = AUTH__REVIEW_BREAK_GLASS_REQUEST__INIT;
    ProtobufCMessage *nothing = NULL;
    review.grant_id = grants->grants[0]->id;
    review.finding = (char *)"justified";
    cr_expect_eq(rig_call("auth.ReviewBreakGlass", doctor, &review.base, &nothing), ST_FORBIDDEN);
    cr_expect_eq(rig_call("auth.ReviewBreakGlass", auditor, &review.base, &nothing), ST_OK, "%s", rig.why.text);
    cr_expect_eq(rig_call("auth.ReviewBreakGlass", auditor, &review.base, &nothing), ST_NOT_FOUND, "once");
    cr_expect_eq(break_glass(doctor, "Unconscious patient", (char *)"part2"), ST_OK, "%s", rig.why.text);
}
