/* boot_check: a process does not start with more rights than its duty needs, nor with fewer. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/clock.h"
#include "db/boot_check.h"
#include "support/pg.h"

TestSuite(db_boot_check, .init = pg_open, .fini = pg_close, .timeout = 60);

/* Every test changes the catalogue of its own database only, or puts the cluster's roles back. */
static enum status check(const char *url, const char *role, bool is_production, struct why *why) {
    struct db_pool *pool = NULL;
    const struct db_options options = { .url = url, .process = "test", .connections = 1 };
    cr_assert_eq(db_pool_new(&options, &pool, why), ST_OK, "%s", why->text);
    enum status st = db_boot_check(pool, role, is_production, clock_mono_ms() + 10000, why);
    db_pool_destroy(&pool);
    return st;
}

static void expect_refused(const char *role, const char *word) {
    struct why why = { 0 };
    enum status st = check(pg_url(role), role ? role : "cordon_query", false, &why);
    cr_expect_eq(st, ST_FORBIDDEN, "%s: %s", word, why.text);
    cr_expect(strstr(why.text, word), "'%s' does not say '%s'", why.text, word);
}

Test(db_boot_check, every_process_may_start_with_its_own_role) {
    const char *const roles[] = { "cordon_auth", "cordon_ingest", "cordon_jobs", "cordon_query", "cordon_audit_reader", "cordon_audit" };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        struct why why = { 0 };
        cr_expect_eq(check(pg_url(roles[i]), roles[i], false, &why), ST_OK, "%s: %s", roles[i], why.text);
    }
}

Test(db_boot_check, a_superuser_and_a_foreign_role_are_refused) {
    expect_refused(NULL, "SUPERUSER");
    struct why why = { 0 };
    cr_expect_eq(check(pg_url("cordon_ingest"), "cordon_query", false, &why), ST_FORBIDDEN);
    cr_expect(strstr(why.text, "must be cordon_query"), "%s", why.text);
}

/* Attributes and settings of roles belong to the cluster: one test, which restores each before the next. */
Test(db_boot_check, powers_and_settings_of_the_role_are_refused) {
    const struct { const char *give, *take, *word; } cases[] = {
        { "ALTER ROLE cordon_audit_reader BYPASSRLS", "ALTER ROLE cordon_audit_reader NOBYPASSRLS", "BYPASSRLS" },
        { "ALTER ROLE cordon_audit_reader CREATEROLE", "ALTER ROLE cordon_audit_reader NOCREATEROLE", "CREATEROLE" },
        { "ALTER ROLE cordon_audit_reader CREATEDB", "ALTER ROLE cordon_audit_reader NOCREATEDB", "CREATEDB" },
        { "ALTER ROLE cordon_audit_reader REPLICATION", "ALTER ROLE cordon_audit_reader NOREPLICATION", "REPLICATION" },
        { "ALTER ROLE cordon_audit_reader SET row_security = off", "ALTER ROLE cordon_audit_reader RESET ALL", "row_security=off" },
        { "GRANT cordon_owner TO cordon_audit_reader", "REVOKE cordon_owner FROM cordon_audit_reader", "cordon_owner" },
        { "GRANT pg_read_all_data TO cordon_audit_reader", "REVOKE pg_read_all_data FROM cordon_audit_reader", "pg_read_all_data" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pg_ask(pg_admin(), "%s", cases[i].give);
        struct why why = { 0 };
        enum status st = check(pg_url("cordon_audit_reader"), "cordon_audit_reader", false, &why);
        pg_ask(pg_admin(), "%s", cases[i].take);
        cr_expect_eq(st, ST_FORBIDDEN, "%s", cases[i].give);
        cr_expect(strstr(why.text, cases[i].word), "'%s' does not say '%s'", why.text, cases[i].word);
    }
    pg_ask(pg_admin(), "ALTER ROLE cordon_audit_reader IN DATABASE %s SET search_path = public", PQdb(pg_admin()));
    expect_refused("cordon_audit_reader", "search_path=public");
}

Test(db_boot_check, a_grant_too_many_is_refused) {
    const struct { const char *change, *word; } cases[] = {
        { "GRANT SELECT ON keys.tenant_keys TO cordon_query", "keys.tenant_keys" },
        { "GRANT SELECT (wrapped) ON keys.document_keys TO cordon_query", "keys.document_keys" },
        { "GRANT UPDATE ON app.documents TO cordon_query", "app.documents" },
        { "GRANT SELECT ON jobs.jobs TO PUBLIC", "jobs.jobs" },
        { "GRANT SELECT ON app.text_vectors_shared TO cordon_query", "text_vectors_shared" },
        { "GRANT EXECUTE ON FUNCTION authz.sign(authz.claims) TO cordon_query", "authz.sign" },
        { "GRANT EXECUTE ON FUNCTION jobs.claim(text, text, integer, integer, integer) TO PUBLIC", "jobs.claim" },
        { "GRANT USAGE ON SEQUENCE jobs.fence TO cordon_query", "jobs.fence" },
        { "CREATE TABLE public.extra (x integer); GRANT SELECT ON public.extra TO cordon_query", "public.extra" },
        { "GRANT CREATE ON SCHEMA app TO cordon_query", "schema app" },
        { "CREATE TABLE public.mine (x integer); ALTER TABLE public.mine OWNER TO cordon_query", "owns table public.mine" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pg_close();
        pg_open();
        pg_ask(pg_admin(), "%s", cases[i].change);
        expect_refused("cordon_query", cases[i].word);
    }
}

Test(db_boot_check, temporary_objects_are_refused) {
    pg_ask(pg_admin(), "GRANT TEMP ON DATABASE %s TO PUBLIC", PQdb(pg_admin()));
    expect_refused("cordon_query", "TEMP");
}

Test(db_boot_check, a_missing_grant_is_refused) {
    pg_ask(pg_admin(), "REVOKE SELECT ON app.chunks FROM cordon_query");
    expect_refused("cordon_query", "lacks SELECT on app.chunks");
    pg_ask(pg_admin(), "GRANT SELECT (id) ON app.chunks TO cordon_query");
    expect_refused("cordon_query", "SELECT* on app.chunks instead of SELECT");
}

Test(db_boot_check, a_table_without_forced_security_is_refused) {
    const char *const changes[] = { "ALTER TABLE app.documents NO FORCE ROW LEVEL SECURITY", "ALTER TABLE app.text_vectors_shared DISABLE ROW LEVEL SECURITY",
                                    "CREATE TABLE app.more (tenant_id uuid)" };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        pg_close();
        pg_open();
        pg_ask(pg_admin(), "%s", changes[i]);
        expect_refused("cordon_jobs", "not forced on app.");
    }
}

Test(db_boot_check, an_old_vector_extension_is_refused_in_production_only) {
    struct why why = { 0 };
    pg_ask(pg_admin(), "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'");
    cr_expect_eq(check(pg_url("cordon_query"), "cordon_query", false, &why), ST_OK, "%s", why.text);
    cr_expect_eq(check(pg_url("cordon_query"), "cordon_query", true, &why), ST_FORBIDDEN);
    cr_expect(strstr(why.text, "0.8.1"), "%s", why.text);
    pg_ask(pg_admin(), "UPDATE pg_extension SET extversion = '0.10.0' WHERE extname = 'vector'");
    cr_expect_eq(check(pg_url("cordon_query"), "cordon_query", true, &why), ST_OK, "%s", why.text);
    pg_ask(pg_admin(), "UPDATE pg_extension SET extname = 'other' WHERE extname = 'vector'");
    cr_expect_eq(check(pg_url("cordon_query"), "cordon_query", false, &why), ST_FORBIDDEN);
}

Test(db_boot_check, no_database_is_unavailable) {
    struct why why = { 0 };
    cr_expect_eq(check("host=127.0.0.1 port=1", "cordon_query", false, &why), ST_UNAVAILABLE);
}
