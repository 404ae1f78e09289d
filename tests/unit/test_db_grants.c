/* Who may do what: every role x relation x verb, tried, against common/db/grants.def. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/pg.h"

static const struct { const char *role, *object, *rights; } GRANTS[] = {
#define GRANT(role, object, rights) { role, object, rights },
#include "db/grants.def"
#undef GRANT
};

static const char *const ROLES[] = {
    "cordon_auth", "cordon_ingest", "cordon_jobs", "cordon_query", "cordon_audit_reader", "cordon_audit",
    "cordon_authz_definer", "cordon_jobs_definer", "cordon_keys_definer", "cordon_audit_definer",
};
static const char *const VERBS[] = { "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE" };

enum { ROLE_COUNT = sizeof ROLES / sizeof *ROLES, VERB_COUNT = sizeof VERBS / sizeof *VERBS };

TestSuite(db_grants, .init = pg_open, .fini = pg_close, .timeout = 120);

static bool is_expected(const char *role, const char *object, const char *verb) {
    for (size_t i = 0; i < sizeof GRANTS / sizeof *GRANTS; i++)
        if (strcmp(GRANTS[i].role, role) == 0 && strcmp(GRANTS[i].object, object) == 0)
            return strstr(GRANTS[i].rights, verb) != NULL;
    return false;
}

/* Try it as the role. `column` is one that the role may write, if there is any. */
static bool is_permitted(const char *role, const char *object, const char *verb) {
    const char *column = pg_ask(pg_admin(),
        "SELECT attname FROM pg_attribute WHERE attrelid = '%s'::regclass AND attnum > 0 AND NOT attisdropped "
        "ORDER BY has_column_privilege('%s', attrelid, attnum, 'UPDATE') DESC, attnum LIMIT 1", object, role);
    pg_ask(pg_admin(), "BEGIN; SET LOCAL ROLE %s", role);
    const char *state;
    if (strcmp(verb, "SELECT") == 0)
        state = pg_try(pg_admin(), "SELECT 1 FROM %s WHERE false", object);
    else if (strcmp(verb, "INSERT") == 0)
        state = pg_try(pg_admin(), "INSERT INTO %s DEFAULT VALUES", object);
    else if (strcmp(verb, "UPDATE") == 0)
        state = pg_try(pg_admin(), "UPDATE %s SET %s = DEFAULT WHERE false", object, column);
    else if (strcmp(verb, "DELETE") == 0)
        state = pg_try(pg_admin(), "DELETE FROM %s WHERE false", object);
    else
        state = pg_try(pg_admin(), "TRUNCATE %s", object);
    bool refused = strcmp(state, "42501") == 0 && strncmp(pg_message(), "permission denied", 17) == 0;
    pg_ask(pg_admin(), "ROLLBACK");
    return !refused;
}

Test(db_grants, every_role_can_do_its_duty_and_nothing_else) {
    PGresult *objects = PQexec(pg_admin(),
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1");
    int cells = 0;
    for (int o = 0; o < PQntuples(objects); o++)
        for (int r = 0; r < ROLE_COUNT; r++)
            for (int v = 0; v < VERB_COUNT; v++, cells++) {
                const char *object = PQgetvalue(objects, o, 0);
                bool want = is_expected(ROLES[r], object, VERBS[v]), got = is_permitted(ROLES[r], object, VERBS[v]);
                cr_expect_eq(got, want, "%s %s %s: %s", ROLES[r], VERBS[v], object, got ? "permitted, must not be" : "refused, must be permitted");
            }
    cr_assert_gt(cells, 1000);
    PQclear(objects);
}

Test(db_grants, every_function_is_for_its_callers_only) {
    PGresult *rows = PQexec(pg_admin(),
        "SELECT p.oid::regprocedure::text, r.rolname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, pg_roles r "
        "WHERE n.nspname IN ('authz', 'auth', 'app', 'jobs', 'keys', 'audit') AND r.rolname ~ '^cordon_' AND r.rolcanlogin AND NOT r.rolsuper "
        "AND has_function_privilege(r.oid, p.oid, 'EXECUTE')");
    cr_assert_gt(PQntuples(rows), 20);
    for (int i = 0; i < PQntuples(rows); i++)
        cr_expect(is_expected(PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 0), "EXECUTE"), "%s may call %s", PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 0));
    PQclear(rows);
    for (size_t i = 0; i < sizeof GRANTS / sizeof *GRANTS; i++)
        if (strcmp(GRANTS[i].rights, "EXECUTE") == 0)
            cr_expect_str_eq(pg_ask(pg_admin(), "SELECT has_function_privilege('%s', '%s', 'EXECUTE')", GRANTS[i].role, GRANTS[i].object), "t",
                             "%s must be able to call %s", GRANTS[i].role, GRANTS[i].object);
}

/* Rows of a query that must find nothing: each is a hole. */
static void expect_none(const char *what, const char *sql) {
    PGresult *rows = PQexec(pg_admin(), sql);
    cr_assert_eq(PQresultStatus(rows), PGRES_TUPLES_OK, "%s", PQresultErrorMessage(rows));
    for (int i = 0; i < PQntuples(rows); i++)
        cr_expect(false, "%s: %s", what, PQgetvalue(rows, i, 0));
    PQclear(rows);
}

#define OURS "('authz', 'auth', 'app', 'jobs', 'keys', 'audit')"

Test(db_grants, public_may_nothing) {
    expect_none("PUBLIC may execute",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a "
        "WHERE a.grantee = 0 AND (n.nspname IN " OURS " OR p.proname LIKE 'lo\\_%' OR p.proname IN ('loread', 'lowrite', 'hmac', 'gen_random_bytes'))");
    expect_none("PUBLIC has rights on",
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "CROSS JOIN aclexplode(c.relacl) a WHERE a.grantee = 0 AND n.nspname IN " OURS);
    expect_none("PUBLIC has rights in schema",
        "SELECT n.nspname || ' ' || a.privilege_type FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a "
        "WHERE a.grantee = 0 AND n.nspname NOT IN ('pg_catalog', 'information_schema')");
    expect_none("PUBLIC has in this database",
        "SELECT a.privilege_type FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a "
        "WHERE a.grantee = 0 AND d.datname = current_database()");
    expect_none("PUBLIC may write functions in",
        "SELECT l.lanname FROM pg_language l CROSS JOIN aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) a "
        "WHERE a.grantee = 0 AND l.lanpltrusted");
}

Test(db_grants, definer_functions_are_locked) {
    expect_none("no fixed search_path",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN " OURS
        " AND coalesce(p.proconfig[1], '') <> 'search_path=pg_catalog, pg_temp' AND (p.prosecdef OR p.prosqlbody IS NULL)");
    /* the owner's: only the owner can make and exchange partitions. The last two are for functions of cordon_audit_definer only */
    expect_none("definer function of the wrong owner",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN " OURS
        " AND p.prosecdef AND pg_get_userbyid(p.proowner) <> 'cordon_' || n.nspname || '_definer' AND p.proname NOT IN ('make_vector_partition', 'drop_vector_partition', 'index_vectors', 'keep_vector_index', 'make_partitions', 'open_archive', 'swap_archive')");
    expect_none("a definer owns more than functions",
        "SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid "
        "WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname LIKE 'cordon\\_%\\_definer' "
        "AND d.classid NOT IN ('pg_proc'::regclass, 'pg_default_acl'::regclass) "
        "AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())");
    expect_none("a role with powers",
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'cordon\\_%' AND rolname <> 'cordon_admin' "
        "AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit)");
    expect_none("a definer or the owner can log in",
        "SELECT rolname FROM pg_roles WHERE (rolname LIKE 'cordon\\_%\\_definer' OR rolname = 'cordon_owner') AND rolcanlogin");
    expect_none("a role that others are members of",
        "SELECT pg_get_userbyid(member) || ' of ' || pg_get_userbyid(roleid) FROM pg_auth_members "
        "WHERE pg_get_userbyid(roleid) LIKE 'cordon\\_%' AND pg_get_userbyid(member) LIKE 'cordon\\_%' AND pg_get_userbyid(member) <> 'cordon_admin'");
}

Test(db_grants, every_tenant_table_and_partition_forces_row_security) {
    expect_none("row-level security is not forced",
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') "
        "AND n.nspname IN " OURS " AND NOT (c.relrowsecurity AND c.relforcerowsecurity) "
        "AND c.oid::regclass::text NOT IN ('auth.scopes', 'auth.role_scopes', 'auth.roles', 'app.document_moves', 'app.erasure_moves', 'jobs.moves')");
    expect_none("a partition lacks its parent's policy",
        "SELECT i.inhrelid::regclass::text || ' ' || p.polname FROM pg_inherits i JOIN pg_policy p ON p.polrelid = i.inhparent "
        "JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' AND c.relnamespace = 'app'::regnamespace "
        "WHERE NOT EXISTS (SELECT FROM pg_policy q WHERE q.polrelid = i.inhrelid AND q.polname = p.polname "
        "AND q.polroles = p.polroles AND replace(pg_get_expr(q.polqual, q.polrelid), c.relname || '.', '') IS NOT DISTINCT FROM "
        "replace(pg_get_expr(p.polqual, p.polrelid), (SELECT o.relname FROM pg_class o WHERE o.oid = p.polrelid) || '.', ''))");
    expect_none("rights on a partition",
        "SELECT c.oid::regclass::text FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE c.relispartition AND a.grantee <> c.relowner");
    expect_none("a policy for everybody", "SELECT polrelid::regclass::text || ' ' || polname FROM pg_policy WHERE 0 = ANY (polroles)");
    expect_none("a view that runs as its owner",
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND n.nspname IN " OURS
        " AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)");
}

/* Between tenant tables a reference or a uniqueness without tenant_id would be an oracle. */
Test(db_grants, keys_between_tenant_tables_are_composite) {
    expect_none("a foreign key without tenant_id",
        "SELECT c.conrelid::regclass::text || ' ' || c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.confrelid "
        "JOIN pg_namespace n ON n.oid = t.relnamespace "
        "WHERE c.contype = 'f' AND n.nspname IN " OURS " AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.confrelid AND a.attname = 'tenant_id') "
        "AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.confrelid AND a.attname = 'tenant_id' AND a.attnum = ANY (c.confkey))");
    expect_none("uniqueness across tenants",
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace "
        "WHERE i.indisunique AND n.nspname IN ('auth', 'app', 'jobs', 'keys') "
        "AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = 'tenant_id') "
        "AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = 'tenant_id' AND a.attnum = ANY (i.indkey)) "
        "AND i.indexrelid::regclass::text NOT IN ('jobs.jobs_seq_key', 'auth.api_keys_prefix_key', 'auth.logins_cookie_hash_key')");     /* drawn at random or in order: nobody can choose them */
}

/* Columns that a starred grant leaves out. */
Test(db_grants, columns_outside_the_grant_are_refused) {
    const struct { const char *role, *sql; } tries[] = {
        { "cordon_query",  "SELECT lease_hash FROM jobs.jobs" },
        { "cordon_query",  "SELECT lease_owner FROM jobs.jobs" },
        { "cordon_query",  "SELECT * FROM jobs.jobs" },
        { "cordon_auth",   "SELECT token_hash FROM auth.sessions" },
        { "cordon_auth",   "UPDATE auth.sessions SET expires_at = DEFAULT" },
        { "cordon_auth",   "UPDATE auth.users SET tenant_id = DEFAULT" },
        { "cordon_auth",   "UPDATE auth.tenants SET id = DEFAULT" },
        { "cordon_auth",   "UPDATE auth.tenants SET slug = DEFAULT" },
        { "cordon_ingest", "UPDATE app.documents SET tenant_id = DEFAULT" },
        { "cordon_ingest", "UPDATE app.documents SET created_by = DEFAULT" },
        { "cordon_ingest", "UPDATE app.documents SET key_version = DEFAULT" },
        { "cordon_ingest", "INSERT INTO app.documents (status) VALUES ('ready')" },
        { "cordon_jobs_definer", "UPDATE app.documents SET chunks = 1" },
        { "cordon_jobs_definer", "SELECT name_enc FROM app.documents" },
    };
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        pg_ask(pg_admin(), "BEGIN; SET LOCAL ROLE %s", tries[i].role);
        cr_expect_str_eq(pg_try(pg_admin(), "%s", tries[i].sql), "42501", "%s: %s", tries[i].role, tries[i].sql);
        pg_ask(pg_admin(), "ROLLBACK");
    }
}
