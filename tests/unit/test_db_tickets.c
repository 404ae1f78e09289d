/* authz: what a ticket is, and everything that must not pass for one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/pg.h"

TestSuite(db_tickets, .init = pg_open, .fini = pg_close, .timeout = 60);

#define NIL "00000000-0000-0000-0000-000000000000"

/* What authz.enter answers, as the query role. */
static const char *enter(const char *ticket) {
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "BEGIN");
    const char *state = pg_try(query, "SELECT authz.enter('%s')", ticket);
    PQfinish(query);
    return state;
}

static char *copy_of(const char *text) {
    char *copy = strdup(text);
    cr_assert_not_null(copy);
    return copy;
}

Test(db_tickets, a_fresh_ticket_gives_its_claims) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician,unknown_role", "ann");
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "BEGIN");
    cr_assert_str_eq(pg_ask(query, "SELECT tenant_id || ' ' || scopes::text FROM authz.enter('%s')", ticket),
                     PG_TENANT_A " {breakglass:request,documents:read,documents:write,query}");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.tenant()"), PG_TENANT_A);
    cr_expect_str_eq(pg_ask(query, "SELECT authz.may('query')"), "t");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.may('audit:read')"), "f");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.may(NULL)"), "f");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.job_document() IS NULL AND authz.user_id() IS NOT NULL AND authz.session_id() IS NOT NULL"), "t");
    pg_ask(query, "COMMIT; BEGIN");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.tenant() IS NULL"), "t", "the ticket outlived its transaction");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.may('query')"), "f");
    PQfinish(query);
}

Test(db_tickets, the_platform_has_no_tenant) {
    const char *ticket = pg_ticket(NULL, "platform_admin", "root");
    PGconn *auth = pg_connect("cordon_auth");
    pg_ask(auth, "BEGIN");
    cr_assert_str_eq(pg_ask(auth, "SELECT (tenant_id IS NULL) || scopes::text FROM authz.enter('%s')", ticket), "true{tenants:manage}");
    cr_expect_str_eq(pg_ask(auth, "SELECT count(*) FROM auth.tenants"), "2", "every tenant but the platform's own row");
    cr_expect_str_eq(pg_ask(auth, "SELECT string_agg(subject, ',') FROM auth.users"), "root", "nobody but oneself");
    PQfinish(auth);
}

Test(db_tickets, roles_do_not_cross_realms) {
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT scopes FROM authz.mint('i', 's', 't', now() + interval '1 h', '" PG_SLUG_A "', '{platform_admin}', '', '')"), "{}");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.mint('i', 's', 't', now() + interval '1 h', NULL, '{clinician,admin}', '', '')"), "28000");
}

Test(db_tickets, a_tenant_is_found_by_slug_or_id_only) {
    const struct { const char *tenant, *want; } cases[] = {
        { "'" PG_SLUG_A "'", "00000" }, { "'" PG_TENANT_A "'", "00000" }, { "'nowhere'", "28000" }, { "''", "28000" },
        { "'" NIL "'", "28000" }, { "'cordon-platform'", "28000" }, { "'99999999-9999-7999-8999-999999999999'", "28000" },
        { "'" PG_SLUG_A " '", "28000" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.mint('i', 's', 't', now() + interval '1 h', %s, '{clinician}', '', '')", cases[i].tenant),
                         cases[i].want, "%s", cases[i].tenant);
}

Test(db_tickets, mint_refuses_missing_fields) {
    const char *const calls[] = {
        "NULL, 's', 't', now() + interval '1 h', 'riverside', '{}'", "'', 's', 't', now() + interval '1 h', 'riverside', '{}'",
        "'i', NULL, 't', now() + interval '1 h', 'riverside', '{}'", "'i', 's', NULL, now() + interval '1 h', 'riverside', '{}'",
        "'i', 's', 't', NULL, 'riverside', '{}'", "'i', 's', 't', now() - interval '1 s', 'riverside', '{}'",
        "'i', 's', 't', now() + interval '1 h', 'riverside', NULL",
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.mint(%s, NULL, NULL)", calls[i]), "28000", "%s", calls[i]);
}

Test(db_tickets, mint_makes_one_user_and_one_session_per_token) {
    for (int i = 0; i < 3; i++)
        pg_ticket(PG_SLUG_A, "clinician", "ann");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.users"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.sessions"), "1");
    pg_ticket(PG_SLUG_B, "clinician", "ann");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.users"), "2", "a person of two tenants is two users");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.mint('https://idp.test', 'mallory', 'token-of-ann-clinician', now() + interval '1 h', 'riverside', '{}', '', '')"),
                     "28000", "a token id that was somebody else's");
}

/* Each changes a good ticket in one way. */
Test(db_tickets, altered_tickets_are_refused) {
    const char *good = pg_ticket(PG_SLUG_A, "clinician", "ann");
    cr_assert_str_eq(enter(good), "00000");
    char *cut = copy_of(good);
    *strrchr(cut, '.') = '\0';
    char text[4096];
    const char *const ends[] = { "", ".", ".00", ".0000000000000000000000000000000000000000000000000000000000000000", ".\\x", ".zz" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf(text, sizeof text, "%s%s", cut, ends[i]);
        cr_expect_str_eq(enter(text), "28000", "no MAC but '%s'", ends[i]);
    }
    size_t len = strlen(good);
    for (size_t at = 0; at < len; at += at < 8 || at > len - 70 ? 1 : 13) {
        char *bad = copy_of(good);
        bad[at] = bad[at] == '0' ? '1' : '0';
        cr_expect_str_eq(enter(bad), "28000", "byte %zu changed", at);
        free(bad);
    }
    snprintf(text, sizeof text, "%s.", good);
    cr_expect_str_eq(enter(text), "28000", "a fifth field");
    snprintf(text, sizeof text, " %s", good);
    cr_expect_str_eq(enter(text), "28000");
    const char *const kids[] = { "2", "0", "99999", "-1", "01", "1e0", "", " 1", "NULL", "1 OR 1=1" };
    for (size_t i = 0; i < sizeof kids / sizeof *kids; i++) {
        snprintf(text, sizeof text, "1.%s.%s", kids[i], good + strlen("1.1."));
        cr_expect_str_eq(enter(text), "28000", "key id '%s'", kids[i]);
    }
    snprintf(text, sizeof text, "2%s", good + 1);
    cr_expect_str_eq(enter(text), "28000", "another version");
    cr_expect_str_eq(enter(""), "28000");
    PGconn *query = pg_connect("cordon_query");
    cr_expect_str_eq(pg_try(query, "SELECT authz.enter(NULL)"), "28000");
    PQfinish(query);
    free(cut);
}

/* Signed with the true key, as only a fault of ours could make them: every field is checked all the same. */
Test(db_tickets, signed_but_incomplete_claims_are_refused) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    const char *claims = pg_ask(pg_admin(), "SELECT convert_from(decode(split_part('%s', '.', 3), 'hex'), 'UTF8')", ticket);
    cr_assert_str_eq(enter(pg_forge(claims)), "00000", "the forge itself works");

    const char *const fields[] = { "kind", "user_id", "session_id", "scopes", "expires_at" };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        cr_expect_str_eq(enter(pg_forge(pg_ask(pg_admin(), "SELECT '%s'::jsonb - '%s'", claims, fields[i]))), "28000", "without %s", fields[i]);
        cr_expect_str_eq(enter(pg_forge(pg_ask(pg_admin(), "SELECT '%s'::jsonb || '{\"%s\":null}'", claims, fields[i]))), "28000", "NULL %s", fields[i]);
        cr_expect_str_eq(enter(pg_forge(pg_ask(pg_admin(), "SELECT '%s'::jsonb || '{\"%s\":7}'", claims, fields[i]))), "28000", "wrong type of %s", fields[i]);
    }
    const char *const changes[] = {
        "{\"tenant_id\":\"" PG_TENANT_B "\"}", "{\"tenant_id\":null}", "{\"tenant_id\":\"" NIL "\"}",
        "{\"user_id\":\"" PG_TENANT_B "\"}", "{\"session_id\":\"" PG_TENANT_B "\"}",
        "{\"kind\":\"job\"}", "{\"kind\":\"root\"}", "{\"scopes\":[null]}", "{\"job_id\":\"" PG_TENANT_B "\"}", "{\"fence\":1}",
        "{\"expires_at\":\"infinity\"}", "{\"expires_at\":\"2999-01-01T00:00:00Z\"}", "{\"expires_at\":\"2020-01-01T00:00:00Z\"}",
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
        cr_expect_str_eq(enter(pg_forge(pg_ask(pg_admin(), "SELECT '%s'::jsonb || '%s'", claims, changes[i]))), "28000", "%s", changes[i]);
    const char *const texts[] = { "", "[]", "null", "7", "{}", "not json" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect_str_eq(enter(pg_forge(texts[i])), "28000", "claims '%s'", texts[i]);
}

Test(db_tickets, an_expired_ticket_is_refused_also_within_its_transaction) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    const char *claims = pg_ask(pg_admin(), "SELECT convert_from(decode(split_part('%s', '.', 3), 'hex'), 'UTF8')", ticket);
    const char *brief = pg_forge(pg_ask(pg_admin(), "SELECT '%s'::jsonb || jsonb_build_object('expires_at', clock_timestamp() + interval '400 ms')", claims));
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "BEGIN; SELECT authz.enter('%s')", brief);
    cr_assert_str_eq(pg_ask(query, "SELECT authz.tenant()"), PG_TENANT_A);
    pg_ask(query, "SELECT pg_sleep(0.5)");
    cr_expect_str_eq(pg_try(query, "SELECT authz.tenant()"), "28000");
    pg_ask(query, "ROLLBACK; BEGIN");
    cr_expect_str_eq(pg_try(query, "SELECT authz.enter('%s')", brief), "28000");
    PQfinish(query);
}

Test(db_tickets, revocation_ends_access_at_the_next_transaction) {
    const struct { const char *revoke, *restore; bool stops_mint; } ways[] = {
        { "UPDATE auth.sessions SET revoked_at = now()", "UPDATE auth.sessions SET revoked_at = NULL", true },
        { "UPDATE auth.users SET status = 'disabled'", "UPDATE auth.users SET status = 'active'", true },
        { "UPDATE auth.tenants SET status = 'suspended' WHERE id = '" PG_TENANT_A "'", "UPDATE auth.tenants SET status = 'active'", true },
        { "UPDATE auth.sessions SET expires_at = now()", "UPDATE auth.sessions SET expires_at = now() + interval '1 h'", true },
    };
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        cr_assert_str_eq(enter(ticket), "00000");
        pg_ask(pg_admin(), "%s", ways[i].revoke);
        cr_expect_str_eq(enter(ticket), "28000", "%s", ways[i].revoke);
        cr_expect_str_eq(pg_try(pg_admin(), "SELECT authz.mint('https://idp.test', 'ann', 'token-of-ann-clinician', now() + interval '1 h', 'riverside', '{clinician}', '', '')"),
                         "28000", "%s", ways[i].revoke);
        pg_ask(pg_admin(), "%s", ways[i].restore);
    }
}

Test(db_tickets, a_ticket_put_into_the_setting_by_hand_opens_nothing) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "ann"), *other = pg_ticket(PG_SLUG_B, "clinician", "bob");
    PGconn *query = pg_connect("cordon_query");
    const char *const reads[] = { "SELECT authz.tenant()", "SELECT authz.may('query')", "SELECT count(*) FROM app.documents", "SELECT count(*) FROM app.text_vectors" };
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        pg_ask(query, "BEGIN; SELECT set_config('authz.ticket', '%s', true)", ticket);
        cr_expect_str_eq(pg_try(query, "%s", reads[i]), "28000", "never entered: %s", reads[i]);
        pg_ask(query, "ROLLBACK");

        pg_ask(query, "BEGIN; SELECT authz.enter('%s'); SELECT set_config('authz.ticket', '%s', true)", ticket, other);
        cr_expect_str_eq(pg_try(query, "%s", reads[i]), "28000", "another ticket under this proof: %s", reads[i]);
        pg_ask(query, "ROLLBACK");

        const char *proof = pg_ask(query, "BEGIN; SELECT authz.enter('%s'); SELECT current_setting('authz.proof')", ticket);
        pg_ask(query, "COMMIT; BEGIN; SELECT set_config('authz.ticket', '%s', false), set_config('authz.proof', '%s', false)", ticket, proof);
        cr_expect_str_eq(pg_try(query, "%s", reads[i]), "28000", "the proof of another transaction: %s", reads[i]);
        pg_ask(query, "ROLLBACK");

        pg_ask(query, "BEGIN; SELECT authz.enter('%s'); SET LOCAL authz.proof = ''", ticket);
        cr_expect_str_eq(pg_try(query, "%s", reads[i]), "28000", "no proof: %s", reads[i]);
        pg_ask(query, "ROLLBACK");
        for (const char *const *junk = (const char *const[]){ "x", PG_TENANT_A, "1.1..", "....", NULL }; *junk; junk++) {
            pg_ask(query, "BEGIN; SELECT set_config('authz.ticket', '%s', true)", *junk);
            cr_expect_str_eq(pg_try(query, "%s", reads[i]), "28000", "'%s': %s", *junk, reads[i]);
            pg_ask(query, "ROLLBACK");
        }
    }
    PQfinish(query);
}

/* The proof names the backend too: two sessions that happen to share a transaction's start do not share a proof. */
Test(db_tickets, a_proof_does_not_travel_to_another_session) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    PGconn *one = pg_connect("cordon_query"), *two = pg_connect("cordon_query");
    const char *proof = pg_ask(one, "BEGIN; SELECT authz.enter('%s'); SELECT current_setting('authz.proof')", ticket);
    pg_ask(two, "BEGIN; SELECT set_config('authz.ticket', '%s', true), set_config('authz.proof', '%s', true)", ticket, proof);
    cr_expect_str_eq(pg_try(two, "SELECT authz.tenant()"), "28000");
    PQfinish(one);
    PQfinish(two);
}

Test(db_tickets, keys_rotate_without_refusing_living_tickets) {
    const char *old = pg_ticket(PG_SLUG_A, "clinician", "ann");
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "BEGIN; SELECT authz.enter('%s')", old);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT authz.rotate_ticket_key()"), "2");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.tenant()"), PG_TENANT_A, "the running transaction goes on");
    cr_expect_str_eq(enter(old), "00000");
    const char *fresh = pg_ticket(PG_SLUG_A, "clinician", "ann");
    cr_expect(strncmp(fresh, "1.2.", 4) == 0);
    cr_expect_str_eq(enter(fresh), "00000");
    pg_ask(pg_admin(), "UPDATE authz.ticket_keys SET retired_at = now() - interval '71 s' WHERE kid = 1");
    cr_expect_str_eq(enter(old), "28000", "a key that no living ticket can name");
    pg_ask(pg_admin(), "UPDATE authz.ticket_keys SET retired_at = now() - interval '2 h' WHERE kid = 1; SELECT authz.rotate_ticket_key()");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(kid::text, ',' ORDER BY kid) FROM authz.ticket_keys"), "2,3");
    PQfinish(query);
}

Test(db_tickets, runtime_roles_cannot_sign_or_read_keys) {
    const char *const roles[] = { "cordon_auth", "cordon_ingest", "cordon_jobs", "cordon_query", "cordon_audit_reader", "cordon_audit" };
    const char *const tries[] = {
        "SELECT * FROM authz.ticket_keys", "SELECT authz.sign(NULL)", "SELECT authz.read_ticket('x')",
        "SELECT authz.verify('x', false)", "SELECT authz.check('x')", "SELECT authz.rotate_ticket_key()",
        "SELECT authz.mint_job(NULL, NULL, NULL, NULL, NULL, NULL, NULL)", "SELECT ext.hmac('a'::bytea, 'b'::bytea, 'sha256')",
        "SELECT jobs.lease_is_held(NULL, false)", "SELECT jobs.end_attempt(1, 'x', 'counted')", "SELECT jobs.own_job()",
    };
    for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
        PGconn *conn = pg_connect(roles[r]);
        for (size_t t = 0; t < sizeof tries / sizeof *tries; t++)
            cr_expect_str_eq(pg_try(conn, "%s", tries[t]), "42501", "%s: %s", roles[r], tries[t]);
        PQfinish(conn);
    }
}
