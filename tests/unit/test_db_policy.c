/* Policy is data, and the database decides by it: roles of a tenant's own, labels, invitations, keys, broken glass. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/pg.h"

#define DOC(n) "aaaaaaaa-0000-7000-8000-00000000000" n
#define SECRET "decode('00000000000000000000000000000000000000000000000000000000000000aa', 'hex')"

TestSuite(db_policy, .init = pg_open, .fini = pg_close, .timeout = 120);

static PGconn *entered_with(const char *role, const char *ticket) {
    PGconn *conn = pg_connect(role);
    pg_ask(conn, "BEGIN; SELECT authz.enter('%s')", ticket);
    return conn;
}

static PGconn *entered(const char *role, const char *roles, const char *subject) {
    return entered_with(role, pg_ticket(PG_SLUG_A, roles, subject));
}

/* Three documents of tenant A with a chunk, a vector and a key each: plain, part2, part2 and vip. */
static void documents(void) {
    static const char *const LABELS[] = { "{}", "{part2}", "{vip,part2}" };
    pg_ticket(PG_SLUG_A, "clinician", "owner");
    for (int i = 0; i < 3; i++)
        pg_ask(pg_admin(),
            "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by, labels) "
            "SELECT tenant_id, '" DOC("%d") "', 'text/plain', 10, 1, id, '%s' FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' AND subject = 'owner';"
            "UPDATE app.documents SET status = 'ready' WHERE id = '" DOC("%d") "';"
            "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
            "VALUES ('" PG_TENANT_A "', '" DOC("%d") "', '" DOC("%d") "', 0, 0, 1, 1, 'x');"
            "INSERT INTO app.text_vectors (tenant_id, text_blind, model, embedding) "
            "SELECT tenant_id, text_blind, 'm', array_fill(0.5, ARRAY[1024])::ext.halfvec FROM app.chunks WHERE id = '" DOC("%d") "';"
            "INSERT INTO keys.document_keys (tenant_id, document_id, version, wrapped) VALUES ('" PG_TENANT_A "', '" DOC("%d") "', 1, 'k')",
            i, LABELS[i], i, i, i, i, i);
}

/* How many of the three this ticket sees, and that every table agrees. */
static int seen(const char *ticket) {
    PGconn *query = entered_with("cordon_query", ticket);
    const char *documents = pg_ask(query, "SELECT count(*) FROM app.documents");
    cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM app.chunks"), documents);
    cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM app.text_vectors"), documents);
    PQfinish(query);
    return documents[0] - '0';
}

static void grant(const char *label, const char *column, const char *value, const char *expires) {
    pg_ask(pg_admin(), "INSERT INTO auth.label_grants (tenant_id, id, label, %s, basis, expires_at) VALUES ('" PG_TENANT_A "', gen_random_uuid(), '%s', %s, 'need_to_know', %s)",
           column, label, value, expires);
}

static const char *ticket_of(const char *subject, const char *roles) {
    return pg_ticket(PG_SLUG_A, roles, subject);
}

/* ---- labels ---- */

Test(db_policy, a_labelled_document_is_seen_by_those_who_are_named_for_every_label) {
    documents();
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 1, "nobody is named");
    grant("part2", "role", "'clinician'", "NULL");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 2);
    cr_expect_eq(seen(ticket_of("rob", "case_worker")), 1, "another role");
    grant("vip", "user_id", "(SELECT id FROM auth.users WHERE subject = 'ann')", "now() + interval '1 hour'");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 3);
    cr_expect_eq(seen(ticket_of("bob", "clinician")), 2);
}

Test(db_policy, the_vector_of_a_text_is_seen_where_the_text_is) {
    documents();
    pg_ask(pg_admin(), "UPDATE app.chunks SET text_blind = sha256('the same') WHERE document_id IN ('" DOC("0") "', '" DOC("2") "');"
                       "UPDATE app.text_vectors v SET text_blind = sha256('the same') WHERE NOT EXISTS (SELECT FROM app.chunks k WHERE k.text_blind = v.text_blind)"
                       " AND ctid = (SELECT min(w.ctid) FROM app.text_vectors w WHERE NOT EXISTS (SELECT FROM app.chunks k WHERE k.text_blind = w.text_blind))");
    PGconn *query = entered_with("cordon_query", ticket_of("ann", "clinician"));
    cr_expect_str_eq(pg_ask(query, "SELECT count(*) || ' ' || bool_and(text_blind = sha256('the same')) FROM app.text_vectors"), "1 true", "it stands in a hidden document, too");
    PQfinish(query);
    pg_ask(pg_admin(), "UPDATE app.documents SET labels = '{part2}' WHERE id = '" DOC("0") "'");
    query = entered_with("cordon_query", ticket_of("ann", "clinician"));
    cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM app.text_vectors"), "0");
    PQfinish(query);
}

Test(db_policy, a_grant_ends_when_it_expires_or_is_revoked) {
    documents();
    grant("part2", "role", "'clinician'", "now() + interval '5 s'");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 2);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT expires_at <= now() + interval '5 s' FROM authz.mint('https://idp.test', 'ann', 'token-of-ann-clinician', now() + interval '1 hour', "
                            "'" PG_SLUG_A "', '{clinician}', '', '')"), "t", "the ticket does not outlive the grant");
    pg_ask(pg_admin(), "UPDATE auth.label_grants SET revoked_at = now()");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 1);
}

Test(db_policy, a_grant_of_one_tenant_means_nothing_in_another) {
    documents();
    pg_ask(pg_admin(), "INSERT INTO auth.label_grants (tenant_id, id, label, role, basis) VALUES ('" PG_TENANT_B "', gen_random_uuid(), 'part2', 'clinician', 'need_to_know')");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 1);
}

Test(db_policy, no_key_leaves_for_what_was_labelled_after_it_was_found) {
    documents();
    const char *ticket = ticket_of("ann", "clinician");
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_logs DISABLE TRIGGER USER");
    pg_ask(pg_admin(), "INSERT INTO audit.audit_logs SELECT (jsonb_populate_record(NULL::audit.audit_logs, jsonb_build_object('event_id', authz.uuid_v7(), 'tenant_id', '" PG_TENANT_A "', "
           "'seq', 0, 'recorded_at', clock_timestamp(), 'occurred_at', clock_timestamp(), 'kind', 'disclosure', 'action', 'search.disclose', 'outcome', 'success', "
           "'document_ids', ARRAY['" DOC("0") "', '" DOC("1") "']::uuid[], 'ticket_digest', sha256('%s'), 'content_digest', sha256('c'), 'event', convert_to('{\"event\":\"a test\"}', 'UTF8'), 'leaf_hash', sha256('\\x00'::bytea || convert_to('{\"event\":\"a test\"}', 'UTF8')), "
           "'reported_by', 'query'))).*", ticket);
    PGconn *query = entered_with("cordon_query", ticket);
    cr_expect_str_eq(pg_ask(query, "SELECT string_agg(right(document_id::text, 1), ',') FROM keys.open((SELECT '%s'::uuid))",
                            pg_ask(pg_admin(), "SELECT event_id FROM audit.audit_logs LIMIT 1")), "0");
    PQfinish(query);
}

Test(db_policy, documents_carry_labels_that_their_tenant_has) {
    documents();
    pg_ask(pg_admin(), "INSERT INTO auth.labels (tenant_id, label) VALUES ('" PG_TENANT_A "', 'hiv'), ('" PG_TENANT_B "', 'foster_care')");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.documents SET labels = '{hiv,part2,hiv}' WHERE id = '" DOC("0") "'"), "00000");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT labels FROM app.documents WHERE id = '" DOC("0") "'"), "{hiv,part2}");
    const char *const BAD[] = { "{nonsense}", "{foster_care}", "{part2,NULL}", "{PART2}" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.documents SET labels = '%s' WHERE id = '" DOC("0") "'", BAD[i]), "22023", "%s", BAD[i]);
}

Test(db_policy, who_may_not_see_a_document_cannot_change_it) {
    documents();
    PGconn *ingest = entered("cordon_ingest", "clinician", "ann");
    cr_expect_str_eq(pg_ask(ingest, "WITH u AS (UPDATE app.documents SET labels = '{}' WHERE id = '" DOC("1") "' RETURNING 1) SELECT count(*) FROM u"), "0");
    cr_expect_str_eq(pg_ask(ingest, "WITH u AS (UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = '" DOC("1") "' RETURNING 1) SELECT count(*) FROM u"), "0");
    PQfinish(ingest);
}

/* ---- roles ---- */

Test(db_policy, nobody_grants_what_they_lack) {
    static const struct { const char *sql, *state; } TRIES[] = {
        { "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_A "', 'triage')", "00000" },
        { "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_A "', 'auditor')", "42501" },
        { "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_B "', 'triage')", "42501" },
        { "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_A "', 'triage'); INSERT INTO auth.custom_role_scopes (tenant_id, role, scope) VALUES ('" PG_TENANT_A "', 'triage', 'query')", "00000" },
        { "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_A "', 'triage'); INSERT INTO auth.custom_role_scopes (tenant_id, role, scope) VALUES ('" PG_TENANT_A "', 'triage', 'audit:read')", "42501" },
        { "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_A "', 'triage'); INSERT INTO auth.custom_role_scopes (tenant_id, role, scope) VALUES ('" PG_TENANT_A "', 'triage', 'tenants:manage')", "42501" },
        { "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES ('" PG_TENANT_A "', authz.user_id(), 'clinician')", "00000" },
        { "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES ('" PG_TENANT_A "', authz.user_id(), 'auditor')", "42501" },
        { "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES ('" PG_TENANT_A "', authz.user_id(), 'service')", "42501" },
        { "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES ('" PG_TENANT_A "', authz.user_id(), 'platform_admin')", "42501" },
        { "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES ('" PG_TENANT_A "', authz.user_id(), 'nobody_knows')", "42501" },
        { "INSERT INTO auth.role_scopes (role, scope) VALUES ('clinician', 'audit:read')", "42501" },
        { "UPDATE auth.scopes SET is_phi = false", "42501" },
        { "INSERT INTO auth.label_grants (tenant_id, id, label, user_id, basis) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'vip', authz.user_id(), 'need_to_know')", "42501" },
        { "INSERT INTO auth.label_grants (tenant_id, id, label, role, basis) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'nonsense', 'admin', 'need_to_know')", "42501" },
        { "INSERT INTO auth.users (tenant_id, id, issuer, subject, status) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'https://idp.test', 'x', 'active')", "42501" },
        { "INSERT INTO auth.api_keys (tenant_id, id, user_id, prefix, secret_hash, name, scopes, created_by, expires_at) VALUES ('" PG_TENANT_A "', gen_random_uuid(), authz.user_id(), "
          "'abcdefghijkl', " SECRET ", 'k', '{audit:read}', authz.user_id(), now() + interval '1 day')", "42501" },
    };
    for (size_t i = 0; i < sizeof TRIES / sizeof *TRIES; i++) {
        PGconn *admin = entered("cordon_auth", "admin", "boss");
        cr_expect_str_eq(pg_try(admin, "%s", TRIES[i].sql), TRIES[i].state, "%s", TRIES[i].sql);
        PQfinish(admin);
        PGconn *clinician = entered("cordon_auth", "clinician", "ann");
        cr_expect_str_eq(pg_try(clinician, "%s", TRIES[i].sql), "42501", "a clinician: %s", TRIES[i].sql);
        PQfinish(clinician);
    }
}

Test(db_policy, a_tenants_own_role_and_an_assigned_one_count) {
    pg_ask(pg_admin(), "INSERT INTO auth.custom_roles VALUES ('" PG_TENANT_A "', 'triage'); INSERT INTO auth.custom_role_scopes (tenant_id, role, scope) VALUES ('" PG_TENANT_A "', 'triage', 'query')");
#define SCOPES "SELECT scopes FROM authz.mint('i', 's', 't', now() + interval '1 h', '%s', '{%s}', '', '')"
    cr_expect_str_eq(pg_ask(pg_admin(), SCOPES, PG_SLUG_A, "triage"), "{query}");
    cr_expect_str_eq(pg_ask(pg_admin(), SCOPES, PG_SLUG_B, "triage"), "{}", "another tenant's role");
    pg_ask(pg_admin(), "INSERT INTO auth.user_roles (tenant_id, user_id, role) SELECT tenant_id, id, 'auditor' FROM auth.users WHERE tenant_id = '" PG_TENANT_A "'");
    cr_expect_str_eq(pg_ask(pg_admin(), SCOPES, PG_SLUG_A, "triage"), "{audit:read,audit:witness,breakglass:review,query}");
    pg_ask(pg_admin(), "UPDATE auth.tenants SET roles_from = 'assigned'");
    cr_expect_str_eq(pg_ask(pg_admin(), SCOPES, PG_SLUG_A, "triage"), "{audit:read,audit:witness,breakglass:review}");
    pg_ask(pg_admin(), "UPDATE auth.tenants SET roles_from = 'token'");
    cr_expect_str_eq(pg_ask(pg_admin(), SCOPES, PG_SLUG_A, "triage"), "{query}");
}

/* ---- people ---- */

#define ADMIT "authz.admit('i', '%s', '%s', now() + interval '1 h', '" PG_SLUG_A "', '{*}', '{clinician}', true, true, %s, NULL, NULL, 'e', sha256('%s'))"

Test(db_policy, an_invitation_is_taken_up_by_the_verified_address) {
    pg_ask(pg_admin(), "UPDATE auth.tenants SET provisions_users = false; "
           "INSERT INTO auth.users (tenant_id, id, status, email_index) VALUES ('" PG_TENANT_A "', '" DOC("7") "', 'invited', authz.email_index('" PG_TENANT_A "', sha256('ann@x')))");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "ann", "t1", "false", "ann@x"), "28000", "not verified");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "eve", "t2", "true", "eve@x"), "28000", "not invited");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT user_id FROM " ADMIT, "ann", "t3", "true", "ann@x"), DOC("7"));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT user_id FROM " ADMIT, "ann", "t4", "false", "ann@new"), DOC("7"), "she is known now");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "eve", "t5", "true", "ann@x"), "28000", "an invitation is taken up once");
}

Test(db_policy, an_address_is_one_users_in_its_tenant) {
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "ann", "t1", "true", "a@x"), "00000");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "bob", "t2", "true", "a@x"), "00000", "a login is not refused for its profile");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || count(email_index) FROM auth.users"), "2 1");
    PGconn *admin = entered("cordon_auth", "admin", "boss");
    cr_expect_str_eq(pg_try(admin, "INSERT INTO auth.users (tenant_id, id, status, email_index) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'invited', authz.email_index('" PG_TENANT_A "', sha256('a@x')))"), "23505");
    PQfinish(admin);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT authz.email_index('" PG_TENANT_A "', sha256('a@x')) = authz.email_index('" PG_TENANT_B "', sha256('a@x'))"), "f");
}

Test(db_policy, a_deleted_user_stays_out) {
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "ann", "t1", "true", "a@x"), "00000");
    pg_ask(pg_admin(), "UPDATE auth.users SET status = 'deleted'");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT ticket FROM " ADMIT, "ann", "t2", "true", "a@x"), "28000");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.users"), "1");
}

/* ---- API keys ---- */

Test(db_policy, an_api_key_gets_its_scopes_until_it_ends) {
    pg_ticket(PG_SLUG_A, "admin", "boss");
    pg_ask(pg_admin(), "INSERT INTO auth.users (tenant_id, id, issuer, subject) VALUES ('" PG_TENANT_A "', '" DOC("9") "', 'urn:cordon:api-key', 'k'); "
           "INSERT INTO auth.api_keys (tenant_id, id, user_id, prefix, secret_hash, name, scopes, created_by, expires_at) SELECT tenant_id, '" DOC("8") "', '" DOC("9") "', "
           "'abcdefghijkl', " SECRET ", 'k', '{query,tenants:manage,breakglass:request}', id, now() + interval '1 day' FROM auth.users WHERE subject = 'boss'");
    const char *good = "SELECT scopes FROM authz.admit_key('abcdefghijkl', " SECRET ")";
    cr_expect_str_eq(pg_ask(pg_admin(), "%s", good), "{query}", "no scope of the platform, and none that wants a person");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT last_used_at IS NOT NULL FROM auth.api_keys"), "t");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.admit_key('abcdefghijkl', sha256('other'))"), "28000");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.admit_key('abcdefghijkm', " SECRET ")"), "28000");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.admit_key('abcdefghijkl', NULL)"), "28000");
    static const struct { const char *end, *mend; } WAYS[] = {
        { "UPDATE auth.api_keys SET revoked_at = now()", "UPDATE auth.api_keys SET revoked_at = NULL; UPDATE auth.sessions SET revoked_at = NULL" },
        { "UPDATE auth.users SET status = 'disabled' WHERE subject = 'k'", "UPDATE auth.users SET status = 'active'" },
        { "UPDATE auth.tenants SET status = 'suspended'", "UPDATE auth.tenants SET status = 'active'" },
        { "UPDATE auth.sessions SET revoked_at = now()", "UPDATE auth.sessions SET revoked_at = NULL" },
        { "UPDATE auth.api_keys SET expires_at = now() - interval '1 s'", "UPDATE auth.api_keys SET expires_at = now() + interval '1 day'" },
    };
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        pg_ask(pg_admin(), "%s", WAYS[i].end);
        cr_expect_str_eq(pg_try(pg_admin(), "%s", good), "28000", "%s", WAYS[i].end);
        pg_ask(pg_admin(), "%s", WAYS[i].mend);
        cr_expect_str_eq(pg_try(pg_admin(), "%s", good), "00000", "%s", WAYS[i].mend);
    }
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.admit('urn:cordon:api-key', 'k', 't', now() + interval '1 h', '" PG_SLUG_A "', '{*}', '{admin}', true, true, true, NULL, NULL, NULL, NULL)"),
                     "28000", "no token speaks for a key's user");
}

/* ---- break-glass ---- */

static void break_glass(const char *what, const char *minutes) {
    pg_ask(pg_admin(), "INSERT INTO auth.break_glass (tenant_id, id, user_id, reason_code, reason_enc, labels, document_ids, expires_at) "
           "SELECT tenant_id, '" DOC("5") "', id, 'emergency', 'r', %s, now() + interval '%s' FROM auth.users WHERE subject = 'ann'", what, minutes);
}

Test(db_policy, broken_glass_opens_what_it_names_and_the_ticket_says_so) {
    documents();
    ticket_of("ann", "clinician");
    break_glass("'{}', ARRAY['" DOC("2") "']::uuid[]", "10 min");
    const char *ticket = ticket_of("ann", "clinician");
    cr_expect_eq(seen(ticket), 2, "the one document, and nothing else with its labels");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (authz.check('%s')).grant_id", ticket), DOC("5"));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT grant_id FROM audit.claims(ARRAY['%s'])", ticket), DOC("5"));
    cr_expect_eq(seen(ticket_of("bob", "clinician")), 1);
    pg_ask(pg_admin(), "UPDATE auth.break_glass SET ended_at = now()");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 1);
    pg_ask(pg_admin(), "UPDATE auth.break_glass SET ended_at = NULL, document_ids = '{}', labels = '{part2}'");
    cr_expect_eq(seen(ticket_of("ann", "clinician")), 2, "by label");
}

Test(db_policy, an_unreviewed_grant_blocks_the_next_and_nobody_reviews_their_own) {
    ticket_of("ann", "clinician");
    break_glass("'{vip}', '{}'", "10 min");
    const char *again = "INSERT INTO auth.break_glass (tenant_id, id, user_id, reason_code, reason_enc, labels, document_ids, expires_at) "
                        "VALUES ('" PG_TENANT_A "', gen_random_uuid(), authz.user_id(), 'emergency', 'r', '{vip}', '{}', now() + interval '5 min')";
    PGconn *ann = entered("cordon_auth", "clinician", "ann");
    cr_expect_str_eq(pg_try(ann, "%s", again), "23505");
    PQfinish(ann);
    PGconn *both = entered("cordon_auth", "clinician,auditor", "ann");
    cr_expect_str_eq(pg_try(both, "UPDATE auth.break_glass SET reviewed_at = now(), reviewed_by = authz.user_id(), finding = 'justified'"), "23514", "her own");
    PQfinish(both);
    PGconn *stranger = entered("cordon_auth", "clinician", "ann");
    cr_expect_str_eq(pg_try(stranger, "UPDATE auth.break_glass SET reviewed_at = now(), reviewed_by = (SELECT '" DOC("1") "'::uuid), finding = 'justified'"), "42501");
    PQfinish(stranger);
    PGconn *auditor = entered("cordon_auth", "auditor", "sue");
    pg_ask(auditor, "UPDATE auth.break_glass SET reviewed_at = now(), reviewed_by = authz.user_id(), finding = 'justified'; COMMIT");
    PQfinish(auditor);
    PGconn *later = entered("cordon_auth", "clinician", "ann");
    cr_expect_str_eq(pg_try(later, "%s", again), "00000");
    PQfinish(later);
}

Test(db_policy, changes_of_access_are_on_record_without_a_word_of_text) {
    PGconn *admin = entered("cordon_auth", "admin", "boss");
    pg_ask(admin, "INSERT INTO auth.custom_roles (tenant_id, role) VALUES ('" PG_TENANT_A "', 'triage'); "
           "INSERT INTO auth.custom_role_scopes (tenant_id, role, scope) VALUES ('" PG_TENANT_A "', 'triage', 'query'); "
           "INSERT INTO auth.user_roles (tenant_id, user_id, role) VALUES ('" PG_TENANT_A "', authz.user_id(), 'triage'); "
           "INSERT INTO auth.label_grants (tenant_id, id, label, role, basis) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'vip', 'triage', 'need_to_know'); "
           "UPDATE auth.label_grants SET revoked_at = now(); DELETE FROM auth.custom_roles; COMMIT");
    PQfinish(admin);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(action, ' ' ORDER BY id) FROM audit.audit_outbox WHERE action ~ '^(role|user.role|label)' AND actor_id IS NOT NULL"),
                     "role.create role.scope.create user.role.create label.grant.create label.grant.update role.delete role.scope.delete");
}
