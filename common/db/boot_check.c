#include "db/boot_check.h"

#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "db/plain_tx.h"

struct grant { const char *role, *object, *rights; };

static const struct grant GRANTS[] = {
#define GRANT(role, object, rights) { role, object, rights },
#include "db/grants.def"
#undef GRANT
};

enum { GRANTS_COUNT = sizeof GRANTS / sizeof *GRANTS };

/* Each statement returns what is wrong, one text a row; no row is good. */
static const struct { struct sql sql; const char *complaint; } CHECKS[] = {
    { { "boot_powers",
        "SELECT v.word FROM pg_roles r,"
        " LATERAL (VALUES ('SUPERUSER', r.rolsuper), ('BYPASSRLS', r.rolbypassrls), ('CREATEROLE', r.rolcreaterole),"
        "                 ('CREATEDB', r.rolcreatedb), ('REPLICATION', r.rolreplication)) AS v (word, has)"
        " WHERE r.rolname = session_user AND v.has", 0 }, "its role has the attribute" },
    { { "boot_members",
        "SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member"
        " WHERE r.rolname = session_user", 0 }, "its role is a member of" },
    { { "boot_owns",
        "SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_shdepend d"
        " JOIN pg_roles r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass"
        " JOIN pg_database b ON b.datname = current_database() AND d.dbid = b.oid"
        " WHERE r.rolname = session_user AND d.deptype = 'o'", 0 }, "its role owns" },
    { { "boot_settings",
        "SELECT s.setting FROM pg_db_role_setting c CROSS JOIN unnest(c.setconfig) AS s (setting)"
        " JOIN pg_roles r ON r.oid = c.setrole WHERE r.rolname = session_user", 0 }, "its role has the setting" },
    { { "boot_database",
        "SELECT v.verb FROM (VALUES ('TEMP'), ('CREATE')) AS v (verb)"
        " WHERE has_database_privilege(current_database(), v.verb)", 0 }, "in this database its role may" },
    { { "boot_schemas",
        "SELECT n.nspname::text FROM pg_namespace n WHERE has_schema_privilege(n.oid, 'CREATE')", 0 }, "its role may create in schema" },
    { { "boot_security",
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('auth', 'authz', 'app', 'jobs', 'keys', 'audit')"
        "   AND (c.relispartition OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))"
        "   AND NOT (c.relrowsecurity AND c.relforcerowsecurity)", 0 }, "row-level security is not forced on" },
    { { "boot_vector",
        "SELECT 'none' WHERE NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'vector')", 0 }, "the vector extension's version is" },
};

/* CVE-2026-3172: before 0.8.2 a parallel index build may leak other relations' pages. */
static const struct sql OLD_VECTOR = {
    "boot_vector_version",
    "SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector'"
    " AND string_to_array(e.extversion, '.')::integer[] < ARRAY[0, 8, 2]", 0 };

static const struct sql RIGHTS = {
    "boot_rights",
    "SELECT n.nspname || '.' || c.relname,"
    "       string_agg(v.verb || CASE WHEN has_table_privilege(c.oid, v.verb) THEN '' ELSE '*' END, ' ' ORDER BY v.place)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
    "      (VALUES (1, 'SELECT', true), (2, 'INSERT', true), (3, 'UPDATE', true), (4, 'DELETE', false), (5, 'TRUNCATE', false),"
    "              (6, 'REFERENCES', true), (7, 'TRIGGER', false)) AS v (place, verb, by_column)"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    "   AND (has_table_privilege(c.oid, v.verb) OR (v.by_column AND has_any_column_privilege(c.oid, v.verb)))"
    " GROUP BY 1"
    " UNION ALL "
    "SELECT n.nspname || '.' || c.relname, 'SEQUENCE' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'S' AND (has_sequence_privilege(c.oid, 'USAGE') OR has_sequence_privilege(c.oid, 'SELECT')"
    "                            OR has_sequence_privilege(c.oid, 'UPDATE'))"
    " UNION ALL "
    "SELECT p.oid::regprocedure::text, 'EXECUTE' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'ext') AND has_function_privilege(p.oid, 'EXECUTE')", 0 };

static enum status check_nothing(struct db_pool *pool, const struct sql *q, const char *complaint, int64_t deadline_ms, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, q, NULL, deadline_ms, &rows, why);
    if (st == ST_OK && db_count(rows) > 0)
        return fail(why, ST_FORBIDDEN, "boot check: %s %s", complaint, db_text(rows, 0, 0));
    return st;
}

static enum status check_name(struct db_pool *pool, const char *role, int64_t deadline_ms, struct why *why) {
    static const struct sql WHO = { "boot_who", "SELECT session_user::text", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &WHO, NULL, deadline_ms, &rows, why);
    if (st == ST_OK && !str_equal(db_text(rows, 0, 0), role))
        return fail(why, ST_FORBIDDEN, "boot check: connected as %s, must be %s", db_text(rows, 0, 0), role);
    return st;
}

static const struct grant *find_grant(const char *role, const char *object) {
    for (size_t i = 0; i < GRANTS_COUNT; i++)
        if (str_equal(GRANTS[i].role, role) && str_equal(GRANTS[i].object, object))
            return &GRANTS[i];
    return NULL;
}

static enum status check_rights(struct db_pool *pool, const char *role, int64_t deadline_ms, struct why *why) {
    bool seen[GRANTS_COUNT] = { false };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &RIGHTS, NULL, deadline_ms, &rows, why);
    if (st != ST_OK)
        return st;
    for (int i = 0; i < db_count(rows); i++) {
        const char *object = db_text(rows, i, 0), *rights = db_text(rows, i, 1);
        const struct grant *wanted = find_grant(role, object);
        if (!wanted)
            return fail(why, ST_FORBIDDEN, "boot check: %s may %s on %s, which is not its duty", role, rights, object);
        if (!str_equal(wanted->rights, rights))
            return fail(why, ST_FORBIDDEN, "boot check: %s may %s on %s instead of %s", role, rights, object, wanted->rights);
        seen[wanted - GRANTS] = true;
    }
    for (size_t i = 0; i < GRANTS_COUNT; i++)
        if (str_equal(GRANTS[i].role, role) && !seen[i])
            return fail(why, ST_FORBIDDEN, "boot check: %s lacks %s on %s: is the schema migrated?", role, GRANTS[i].rights, GRANTS[i].object);
    return ST_OK;
}

enum status db_boot_check(struct db_pool *pool, const char *role, bool is_production, int64_t deadline_ms, struct why *why) {
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < sizeof CHECKS / sizeof *CHECKS; i++)
        st = check_nothing(pool, &CHECKS[i].sql, CHECKS[i].complaint, deadline_ms, why);
    if (st == ST_OK && is_production)
        st = check_nothing(pool, &OLD_VECTOR, "0.8.2 is needed, the vector extension's version is", deadline_ms, why);
    if (st == ST_OK)
        st = check_name(pool, role, deadline_ms, why);
    return st == ST_OK ? check_rights(pool, role, deadline_ms, why) : st;
}

enum status db_record_start(struct db_pool *pool, const char *process, const struct uuid *instance, const char *version, const char *settings_sha256,
                            const char *settings_changed, int64_t deadline_ms, struct why *why) {
    static const struct sql RECORD = { "record_start", "SELECT audit.process_started($1, $2, $3, $4, $5)", 5 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (!*settings_sha256)
        return ST_OK;
    return db_run(pool, &RECORD, (struct db_param[]){ DB_TEXT(process), DB_UUID(instance), DB_TEXT(version), DB_TEXT(settings_sha256),
                  DB_TEXT(settings_changed) }, deadline_ms, &rows, why);
}

enum status db_record_reported_start(struct db_pool *pool, const char *process, const struct uuid *instance, const char *version,
                                     const char *settings_sha256, const char *settings_changed, int64_t deadline_ms, struct why *why) {
    static const struct sql RECORD = { "record_reported_start", "SELECT audit.process_reported($1, $2, $3, $4, $5)", 5 };
    return db_run(pool, &RECORD, (struct db_param[]){ DB_TEXT(process), DB_UUID(instance), DB_TEXT(version), DB_TEXT(settings_sha256),
                  DB_TEXT(settings_changed) }, deadline_ms, NULL, why);
}

enum status db_record_end(struct db_pool *pool, const char *process, const struct uuid *instance, int64_t deadline_ms, struct why *why) {
    static const struct sql RECORD = { "record_end", "SELECT audit.process_ended($1, $2)", 2 };
    return db_run(pool, &RECORD, (struct db_param[]){ DB_TEXT(process), DB_UUID(instance) }, deadline_ms, NULL, why);
}
