/* Ways around the policies that were once found open, each tried. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support/pg.h"

TestSuite(db_isolation, .init = pg_open, .fini = pg_close, .timeout = 60);

#define DOC_A "aaaaaaaa-0000-7000-8000-000000000001"
#define DOC_B "bbbbbbbb-0000-7000-8000-000000000001"
#define CHUNK_A "aaaaaaaa-0000-7000-8000-0000000000c1"
#define CHUNK_B "bbbbbbbb-0000-7000-8000-0000000000c1"

static const char *const LOGINS[] = { "cordon_auth", "cordon_ingest", "cordon_jobs", "cordon_query", "cordon_audit_reader", "cordon_audit" };
enum { LOGIN_COUNT = sizeof LOGINS / sizeof *LOGINS };

/* A document with a chunk, a vector and a key in each tenant. Returns nothing: ids are the constants above. */
static void two_tenants_with_documents(void) {
    const struct { const char *slug, *tenant, *document, *chunk; } all[] = {
        { PG_SLUG_A, PG_TENANT_A, DOC_A, CHUNK_A }, { PG_SLUG_B, PG_TENANT_B, DOC_B, CHUNK_B },
    };
    for (size_t i = 0; i < 2; i++) {
        pg_ticket(all[i].slug, "clinician", "owner");
        pg_ask(pg_admin(),
            "SET ROLE NONE;"
            "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
            "  SELECT tenant_id, '%s', 'text/plain', 1, 1, id FROM auth.users WHERE tenant_id = '%s' AND subject = 'owner';"
            "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc) VALUES ('%s', '%s', sha256('mrn'), 'x');"
            "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) VALUES ('%s', '%s', '%s', 0, 0, 9, 2, 'x');"
            "INSERT INTO app.text_vectors (tenant_id, text_blind, model, embedding) SELECT k.tenant_id, k.text_blind, 'm', array_fill(0.5, ARRAY[1024])::ext.halfvec FROM app.chunks k WHERE k.id = '%s';"
            "INSERT INTO keys.document_keys (tenant_id, document_id, version, wrapped) VALUES ('%s', '%s', 1, 'k')",
            all[i].document, all[i].tenant, all[i].tenant, all[i].document, all[i].tenant, all[i].document, all[i].chunk,
            all[i].chunk, all[i].tenant, all[i].document);
    }
}

static PGconn *entered(const char *role, const char *slug, const char *roles) {
    const char *ticket = pg_ticket(slug, roles, "owner");
    PGconn *conn = pg_connect(role);
    pg_ask(conn, "BEGIN; SELECT authz.enter('%s')", ticket);
    return conn;
}

Test(db_isolation, each_tenant_sees_its_own_rows_only) {
    two_tenants_with_documents();
    const char *const tables[] = { "app.documents", "app.chunks", "app.text_vectors", "app.subjects" };
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        PGconn *query = entered("cordon_query", PG_SLUG_A, "clinician");
        cr_expect_str_eq(pg_ask(query, "SELECT count(*) || ' ' || min(tenant_id::text) FROM %s", tables[t]), "1 " PG_TENANT_A, "%s", tables[t]);
        cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM %s WHERE tenant_id = '" PG_TENANT_B "'", tables[t]), "0", "%s", tables[t]);
        pg_ask(query, "ROLLBACK; BEGIN");
        cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM %s", tables[t]), "0", "%s without a ticket", tables[t]);
        PQfinish(query);
    }
}

Test(db_isolation, scopes_guard_the_rows) {
    two_tenants_with_documents();
    PGconn *auditor = entered("cordon_query", PG_SLUG_A, "auditor");
    cr_expect_str_eq(pg_ask(auditor, "SELECT (SELECT count(*) FROM app.documents) + (SELECT count(*) FROM app.chunks) + (SELECT count(*) FROM app.text_vectors)"), "0");
    PQfinish(auditor);
    PGconn *reviewer = entered("cordon_ingest", PG_SLUG_A, "reviewer");
    cr_expect_str_eq(pg_ask(reviewer, "SELECT count(*) FROM app.documents"), "0", "documents:write is missing");
    cr_expect_str_eq(pg_try(reviewer, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
                            "VALUES ('" PG_TENANT_A "', '" PG_TENANT_A "', 'text/plain', 1, 1, authz.user_id())"), "42501");
    PQfinish(reviewer);
}

Test(db_isolation, writes_into_another_tenant_are_refused) {
    two_tenants_with_documents();
    const char *const tries[] = {
        "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) VALUES ('" PG_TENANT_B "', gen_random_uuid(), 'text/plain', 1, 1, authz.user_id())",
        "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'text/plain', 1, 1, gen_random_uuid())",
        "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc) VALUES ('" PG_TENANT_B "', gen_random_uuid(), sha256('other'), 'x')",
        "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) VALUES ('" PG_TENANT_A "', '" DOC_A "', gen_random_uuid(), 7, 0, 9, 2, 'x')",
    };
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        PGconn *ingest = entered("cordon_ingest", PG_SLUG_A, "clinician");
        cr_expect_str_eq(pg_try(ingest, "%s", tries[i]), "42501", "%s", tries[i]);
        PQfinish(ingest);
    }
    PGconn *ingest = entered("cordon_ingest", PG_SLUG_A, "clinician");
    pg_ask(ingest, "UPDATE app.documents SET pages = 3, status = 'deleted', deleted_at = now(); DELETE FROM app.chunks; COMMIT");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.documents WHERE pages = 3"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(tenant_id::text, ',') FROM app.chunks"), PG_TENANT_B);
    PQfinish(ingest);
}

/* Chunks and keys write no record of their own: only a recorded change of their document may change them. */
Test(db_isolation, nothing_of_a_document_changes_without_a_record) {
    two_tenants_with_documents();
    PGconn *ingest = entered("cordon_ingest", PG_SLUG_A, "clinician");
    pg_ask(ingest, "DELETE FROM app.chunks; COMMIT");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.chunks) || ' ' || (SELECT count(*) FROM app.text_vectors)"), "2 2");
    PQfinish(ingest);
    const struct { const char *status; int version; const char *subject; } tries[] = { { "processing", 2, "owner" }, { "ready", 1, "owner" }, { "processing", 1, "other" } };
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        pg_ask(pg_admin(), "DELETE FROM keys.document_keys; UPDATE app.documents SET status = '%s' WHERE status <> '%s'", tries[i].status, tries[i].status);
        ingest = pg_connect("cordon_ingest");
        pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", tries[i].subject));
        cr_expect_str_eq(pg_try(ingest, "SELECT keys.put_document_key('" DOC_A "', %d, 'k')", tries[i].version), "23503", "case %zu", i);
        PQfinish(ingest);
        if (i == 1)
            pg_ask(pg_admin(), "ALTER TABLE app.documents DISABLE TRIGGER check_move; UPDATE app.documents SET status = 'processing';"
                               "ALTER TABLE app.documents ENABLE ALWAYS TRIGGER check_move");
    }
}

/* Foreign keys and unique constraints look past the policies: they must not tell what another tenant has. */
Test(db_isolation, constraints_do_not_tell_about_other_tenants) {
    two_tenants_with_documents();
    PGconn *ingest = entered("cordon_ingest", PG_SLUG_A, "clinician");
    pg_ask(ingest, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) VALUES ('" PG_TENANT_A "', '" DOC_B "', 'text/plain', 1, 1, authz.user_id())");
    pg_ask(ingest, "ROLLBACK");
    PQfinish(ingest);
    const struct { const char *before, *after; } tries[] = {
        { "SELECT keys.put_document_key('", "', 1, 'k')" },
        { "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', '", "')" },
        { "UPDATE app.documents SET subject_id = '", "' WHERE id = '" DOC_A "'" },
    };
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        char foreign[256], absent[256];
        snprintf(foreign, sizeof foreign, "%s%s%s", tries[i].before, DOC_B, tries[i].after);
        snprintf(absent, sizeof absent, "%s%s%s", tries[i].before, "cccccccc-0000-7000-8000-000000000001", tries[i].after);
        PGconn *one = entered("cordon_ingest", PG_SLUG_A, "clinician"), *two = entered("cordon_ingest", PG_SLUG_A, "clinician");
        const char *state = pg_try(one, "%s", foreign);
        cr_expect_str_eq(state, "23503", "%s", foreign);
        cr_expect_str_eq(pg_try(two, "%s", absent), state, "%s", absent);
        PQfinish(one);
        PQfinish(two);
    }
}

Test(db_isolation, a_partition_named_directly_is_refused) {
    two_tenants_with_documents();
    pg_ask(pg_admin(), "BEGIN; SET LOCAL ROLE cordon_keys_definer; SELECT app.make_vector_partition('" PG_TENANT_B "');"
                       "SELECT app.index_vectors('" PG_TENANT_B "', 'm'); UPDATE app.text_vectors SET home = tenant_id WHERE tenant_id = '" PG_TENANT_B "'; COMMIT");
    const char *own = "app.text_vectors_22222222222272228222222222222222";
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM %s", own), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = '%s'::regclass", own), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_policy WHERE polrelid = '%s'::regclass", own), "4");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attstorage FROM pg_attribute WHERE attrelid = '%s'::regclass AND attname = 'embedding'", own), "p");
    for (int i = 0; i < LOGIN_COUNT; i++) {
        PGconn *conn = pg_connect(LOGINS[i]);
        cr_expect_str_eq(pg_try(conn, "SELECT * FROM %s", own), "42501", "%s", LOGINS[i]);
        cr_expect_str_eq(pg_try(conn, "SELECT * FROM app.text_vectors_shared"), "42501", "%s", LOGINS[i]);
        PQfinish(conn);
    }
    /* and if somebody granted it by mistake, the partition's own policies still hold */
    pg_ask(pg_admin(), "GRANT SELECT ON app.text_vectors_shared TO cordon_query");
    PGconn *query = entered("cordon_query", PG_SLUG_B, "clinician");
    cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM app.text_vectors_shared"), "0");
    PQfinish(query);
}

Test(db_isolation, the_owner_sees_nothing) {
    two_tenants_with_documents();
    pg_ask(pg_admin(), "SET ROLE cordon_owner");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.documents) + (SELECT count(*) FROM app.chunks) + (SELECT count(*) FROM app.text_vectors) "
                            "+ (SELECT count(*) FROM app.text_vectors_shared) + (SELECT count(*) FROM keys.document_keys) + (SELECT count(*) FROM auth.users) "
                            "+ (SELECT count(*) FROM authz.ticket_keys) + (SELECT count(*) FROM jobs.jobs)"), "0");
    cr_expect_str_eq(pg_try(pg_admin(), "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc) VALUES ('" PG_TENANT_A "', gen_random_uuid(), sha256('x'), 'x')"), "42501");
}

Test(db_isolation, row_security_cannot_be_switched_off) {
    two_tenants_with_documents();
    PGconn *query = entered("cordon_query", PG_SLUG_A, "clinician");
    pg_ask(query, "SET LOCAL row_security = off");
    cr_expect_str_eq(pg_try(query, "SELECT count(*) FROM app.documents"), "42501", "an error, not more rows");
    PQfinish(query);
    PGconn *again = entered("cordon_query", PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_try(again, "SET SESSION AUTHORIZATION %s", pg_ask(pg_admin(), "SELECT current_user")), "42501");
    pg_ask(again, "ROLLBACK");
    cr_expect_str_eq(pg_try(again, "SET ROLE cordon_owner"), "42501");
    cr_expect_str_eq(pg_try(again, "SET ROLE cordon_ingest"), "42501");
    cr_expect_str_eq(pg_try(again, "SET session_replication_role = replica"), "42501");
    PQfinish(again);
}

/* Everything that leaves objects or code behind. */
Test(db_isolation, roles_cannot_make_anything) {
    const char *const tries[] = {
        "CREATE TEMP TABLE t (x int)", "CREATE TEMP VIEW v AS SELECT 1", "CREATE TABLE public.t (x int)", "CREATE TABLE app.t (x int)",
        "CREATE SCHEMA mine", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE DOMAIN pg_temp.text AS integer",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "DO $$ BEGIN END $$", "DO LANGUAGE plpgsql 'BEGIN END'",
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = int, FUNCTION = f)", "CREATE EXTENSION dblink", "CREATE ROLE mine", "CREATE DATABASE mine",
        "SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')", "SELECT lo_creat(-1)", "SELECT lo_open(1, 131072)", "SELECT lo_get(1)", "SELECT lo_unlink(1)",
        "COPY app.documents TO PROGRAM 'id'", "COPY (SELECT 1) TO '/tmp/x'", "SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('/')",
        "ALTER TABLE app.documents DISABLE ROW LEVEL SECURITY", "DROP POLICY query_reads ON app.documents", "ALTER ROLE CURRENT_USER BYPASSRLS",
        "CREATE TRIGGER t BEFORE INSERT ON app.documents FOR EACH ROW EXECUTE FUNCTION app.check_document_move()",
        "SELECT app.make_vector_partition('" PG_TENANT_A "')",
    };
    for (int r = 0; r < LOGIN_COUNT; r++) {
        PGconn *conn = pg_connect(LOGINS[r]);
        for (size_t t = 0; t < sizeof tries / sizeof *tries; t++) {
            const char *state = pg_try(conn, "%s", tries[t]);
            cr_expect(strcmp(state, "42501") == 0 || strcmp(state, "3F000") == 0, "%s: %s gave %s", LOGINS[r], tries[t], state);
        }
        PQfinish(conn);
    }
}

/* The attack that once printed the key: a role that could make temporary types shadowed the names in a definer function.
 * Here the superuser gives TEMP back, and the functions still hold. */
Test(db_isolation, temporary_objects_do_not_shadow_names_in_definer_functions) {
    pg_ask(pg_admin(), "GRANT TEMP ON DATABASE %s TO cordon_query; GRANT USAGE ON LANGUAGE plpgsql, sql TO cordon_query", PQdb(pg_admin()));
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "owner");
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "CREATE TEMP TABLE ticket_keys (kid int, secret bytea, retired_at timestamptz); CREATE TEMP TABLE sessions (x int);"
                  "CREATE DOMAIN pg_temp.uuid AS text; CREATE DOMAIN pg_temp.integer AS text; CREATE DOMAIN pg_temp.bytea AS text;"
                  "CREATE DOMAIN pg_temp.jsonb AS text; CREATE TYPE pg_temp.claims AS (kind text);"
                  "CREATE FUNCTION pg_temp.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RAISE EXCEPTION ''LEAK %%'', t; END';"
                  "CREATE FUNCTION pg_temp.split_part(text, text, integer) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''LEAK %%'', $1; END';"
                  "CREATE FUNCTION pg_temp.eq(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
                  "CREATE OPERATOR pg_temp.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = pg_temp.eq)");
    pg_ask(query, "SET search_path = pg_temp, pg_catalog");
    pg_ask(query, "BEGIN");
    cr_assert_str_eq(pg_ask(query, "SELECT count(*) FROM authz.enter('%s')", ticket), "1");
    cr_expect_str_eq(pg_ask(query, "SELECT authz.tenant()"), PG_TENANT_A);
    pg_ask(query, "ROLLBACK; BEGIN");
    cr_expect_str_eq(pg_try(query, "SELECT authz.enter('%.*s0000000000000000000000000000000000000000000000000000000000000000')", (int)(strlen(ticket) - 64), ticket), "28000");
    cr_expect(!strstr(pg_message(), "LEAK"), "%s", pg_message());
    PQfinish(query);
}

/* A cheap leaky function is run on rows after the policy, not before. */
Test(db_isolation, leaky_functions_run_after_the_policy) {
    two_tenants_with_documents();
    pg_ask(pg_admin(), "CREATE FUNCTION ext.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS "
                       "'BEGIN IF t LIKE ''bbbb%%'' THEN RAISE EXCEPTION ''LEAK''; END IF; RETURN true; END'; GRANT EXECUTE ON FUNCTION ext.leak(text) TO cordon_query");
    PGconn *query = entered("cordon_query", PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_ask(query, "SELECT count(*) FROM app.documents WHERE ext.leak(id::text)"), "1");
    PQfinish(query);
}

Test(db_isolation, tenants_may_be_managed_by_the_platform_only) {
    PGconn *admin = entered("cordon_auth", PG_SLUG_A, "admin");
    cr_expect_str_eq(pg_ask(admin, "SELECT string_agg(slug, ',') FROM auth.tenants"), PG_SLUG_A);
    cr_expect_str_eq(pg_try(admin, "INSERT INTO auth.tenants (id, slug, name) VALUES (gen_random_uuid(), 'mine', 'Mine')"), "42501");
    PQfinish(admin);
    PGconn *platform = pg_connect("cordon_auth");
    pg_ask(platform, "BEGIN; SELECT authz.enter('%s')", pg_ticket(NULL, "platform_admin", "root"));
    pg_ask(platform, "INSERT INTO auth.tenants (id, slug, name) VALUES ('33333333-3333-7333-8333-333333333333', 'third', 'Third')");
    pg_ask(platform, "SELECT keys.put_tenant_key('33333333-3333-7333-8333-333333333333', 'data', 1, 'arn', 'blob')");
    cr_expect_str_eq(pg_try(platform, "SAVEPOINT s; UPDATE auth.tenants SET status = 'suspended' WHERE id = '00000000-0000-0000-0000-000000000000'"), "00000");
    pg_ask(platform, "COMMIT");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status FROM auth.tenants WHERE id = '00000000-0000-0000-0000-000000000000'"), "active");
    PQfinish(platform);
    PGconn *user = entered("cordon_auth", PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_try(user, "SELECT keys.put_tenant_key('" PG_TENANT_A "', 'data', 1, 'arn', 'blob')"), "42501");
    PQfinish(user);
}

Test(db_isolation, keys_follow_the_ticket) {
    two_tenants_with_documents();
    pg_ask(pg_admin(), "INSERT INTO keys.tenant_keys (tenant_id, kind, version, kms_key_id, blob) VALUES "
                       "('" PG_TENANT_A "', 'data', 1, 'a', 'A1'), ('" PG_TENANT_A "', 'data', 2, 'a', 'A2'), ('" PG_TENANT_B "', 'data', 1, 'b', 'B1')");
    PGconn *query = entered("cordon_query", PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_ask(query, "SELECT string_agg(convert_from(blob, 'UTF8'), ',') FROM keys.tenant_keys()"), "A2,A1");
    pg_ask(query, "ROLLBACK");
    cr_expect_str_eq(pg_try(query, "SELECT keys.tenant_keys()"), "42501", "no ticket");
    PQfinish(query);
    PGconn *ingest = entered("cordon_ingest", PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_try(ingest, "SELECT keys.job_document_key()"), "42501", "no job");
    PQfinish(ingest);
    PGconn *reviewer = entered("cordon_ingest", PG_SLUG_A, "reviewer");
    cr_expect_str_eq(pg_try(reviewer, "SELECT keys.put_document_key('" DOC_A "', 2, 'k')"), "42501");
    PQfinish(reviewer);
}

Test(db_isolation, a_document_moves_as_the_table_says) {
    two_tenants_with_documents();
    PGconn *ingest = entered("cordon_ingest", PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_try(ingest, "SAVEPOINT s; UPDATE app.documents SET status = 'failed'"), "23514", "failed without a reason");
    pg_ask(ingest, "ROLLBACK TO s; UPDATE app.documents SET status = 'ready'");
    cr_expect_str_eq(pg_ask(ingest, "SELECT (ready_at IS NOT NULL)::text FROM app.documents"), "true");
    pg_ask(ingest, "SAVEPOINT r");
    cr_expect_str_eq(pg_try(ingest, "UPDATE app.documents SET status = 'processing'"), "23514");
    pg_ask(ingest, "ROLLBACK TO r; UPDATE app.documents SET status = 'deleted', deleted_at = now(); SAVEPOINT d");
    cr_expect_str_eq(pg_try(ingest, "UPDATE app.documents SET status = 'ready', deleted_at = NULL"), "23514", "deleted is the end");
    PQfinish(ingest);
}
