/* Uploads under way and idempotency keys: who may touch which rows, each way around it tried. */
#include <criterion/criterion.h>

#include "support/pg.h"

TestSuite(db_uploads, .init = pg_open, .fini = pg_close, .timeout = 60);

#define DOC "01920000-0000-7000-8000-000000000001"
#define OTHER "01920000-0000-7000-8000-000000000002"
#define FENCE "01920000-0000-7000-8000-0000000000f1"

static PGconn *entered(const char *role, const char *slug, const char *roles, const char *who) {
    const char *ticket = pg_ticket(slug, roles, who);
    PGconn *conn = pg_connect(role);
    pg_ask(conn, "BEGIN; SELECT authz.enter('%s')", ticket);
    return conn;
}

/* An upload of tenant A's ann, with a lease of a second. */
static void anns_upload(void) {
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann");
    pg_ask(ann, "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, key_digest, lease_ms) "
                "VALUES (authz.tenant(), '" DOC "', '" FENCE "', authz.user_id(), 'text/plain', sha256('key'), 1000); COMMIT");
    PQfinish(ann);
}

Test(db_uploads, are_their_own_users_to_change) {
    anns_upload();
    const struct { const char *slug, *who, *roles; } others[] = {
        { PG_SLUG_A, "bob", "clinician" }, { PG_SLUG_B, "ann", "clinician" }, { PG_SLUG_A, "ann", "reviewer" } };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        PGconn *conn = entered("cordon_ingest", others[i].slug, others[i].roles, others[i].who);
        cr_expect_str_eq(pg_ask(conn, "WITH u AS (UPDATE app.uploads SET bytes_received = 5 RETURNING 1) SELECT count(*) FROM u"), "0", "%zu", i);
        cr_expect_str_eq(pg_ask(conn, "WITH u AS (DELETE FROM app.uploads RETURNING 1) SELECT count(*) FROM u"), "0", "%zu", i);
        PQfinish(conn);
    }
    PGconn *theirs = entered("cordon_ingest", PG_SLUG_B, "clinician", "ann");
    cr_expect_str_eq(pg_ask(theirs, "SELECT count(*) FROM app.uploads"), "0");
    cr_expect_str_eq(pg_try(theirs, "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, lease_ms) "
                            "VALUES ('" PG_TENANT_A "', '" OTHER "', '" FENCE "', authz.user_id(), 'text/plain', 1000)"), "42501");
    PQfinish(theirs);
    PGconn *bob = entered("cordon_ingest", PG_SLUG_A, "clinician", "bob");
    cr_expect_str_eq(pg_try(bob, "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, lease_ms) "
                            "SELECT tenant_id, '" OTHER "', '" FENCE "', user_id, 'text/plain', 1000 FROM app.uploads"), "42501", "in another's name");
    PQfinish(bob);
}

Test(db_uploads, one_that_was_given_up_stays_so) {
    anns_upload();
    pg_ask(pg_admin(), "UPDATE app.uploads SET swept_at = now()");
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann");
    cr_expect_str_eq(pg_ask(ann, "WITH u AS (UPDATE app.uploads SET swept_at = NULL RETURNING 1) SELECT count(*) FROM u"), "0");
    cr_expect_str_eq(pg_ask(ann, "WITH u AS (DELETE FROM app.uploads RETURNING 1) SELECT count(*) FROM u"), "0");
    PQfinish(ann);
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.uploads SET swept_at = NULL"), "23514", "whoever asks");
}

Test(db_uploads, an_identity_does_not_change_and_a_lease_is_on_the_databases_clock) {
    anns_upload();
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.uploads SET fence = gen_random_uuid()"), "23514");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.uploads SET bytes_received = 9; UPDATE app.uploads SET bytes_received = 8"), "23514");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.uploads SET lease_ms = 300001"), "23514");
    pg_ask(pg_admin(), "UPDATE app.uploads SET heartbeat_at = now() + interval '1 year'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT heartbeat_at <= clock_timestamp() FROM app.uploads"), "t");
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann");
    cr_expect_str_eq(pg_try(ann, "UPDATE app.uploads SET heartbeat_at = now()"), "42501");
    PQfinish(ann);
}

Test(db_uploads, only_the_janitors_role_claims_and_only_what_is_dead) {
    anns_upload();
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(pg_ask(jobs, "SELECT count(*) FROM jobs.claim_uploads(10)"), "0", "it lives");
    pg_ask(pg_admin(), "SELECT pg_sleep(1.1)");
    cr_expect_str_eq(pg_ask(jobs, "SELECT count(*) FROM jobs.claim_uploads(NULL)"), "0");
    cr_expect_str_eq(pg_ask(jobs, "SELECT tenant_id || ' ' || document_id || ' ' || fence FROM jobs.claim_uploads(10)"), PG_TENANT_A " " DOC " " FENCE);
    cr_expect_str_eq(pg_ask(jobs, "SELECT count(*) FROM jobs.claim_uploads(10)"), "0", "not twice at once");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.upload_is_gone('" PG_TENANT_A "', '" DOC "', '" DOC "')"), "f", "not its fence");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.upload_is_gone(NULL, NULL, NULL)"), "f");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.upload_is_gone('" PG_TENANT_A "', '" DOC "', '" FENCE "')"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads"), "1", "its id stays taken for a while");
    cr_expect_str_eq(pg_try(jobs, "SELECT count(*) FROM app.uploads"), "42501");
    PQfinish(jobs);
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann");
    cr_expect_str_eq(pg_try(ann, "SELECT jobs.claim_uploads(10)"), "42501");
    PQfinish(ann);
}

Test(db_uploads, one_that_commits_just_now_is_passed_by) {
    anns_upload();
    pg_ask(pg_admin(), "SELECT pg_sleep(1.1)");
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann"), *jobs = pg_connect("cordon_jobs");
    pg_ask(ann, "DELETE FROM app.uploads");
    cr_expect_str_eq(pg_ask(jobs, "SELECT count(*) FROM jobs.claim_uploads(10)"), "0");
    pg_ask(ann, "COMMIT");
    PQfinish(ann);
    PQfinish(jobs);
}

Test(db_uploads, a_key_is_in_one_upload_of_its_user_at_a_time) {
    anns_upload();
    static const char ADD[] = "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, key_digest, lease_ms) "
                              "VALUES (authz.tenant(), '" OTHER "', gen_random_uuid(), authz.user_id(), 'text/plain', sha256('key'), 1000)";
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann"), *bob = entered("cordon_ingest", PG_SLUG_A, "clinician", "bob");
    cr_expect_str_eq(pg_try(ann, "%s", ADD), "23505");
    cr_expect_str_eq(pg_try(bob, "%s", ADD), "00000");
    PQfinish(ann);
    PQfinish(bob);
}

Test(db_uploads, answers_to_keys_are_their_users_alone) {
    pg_ticket(PG_SLUG_A, "clinician", "ann");
    pg_ask(pg_admin(), "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) SELECT tenant_id, '" DOC "', 'text/plain', 1, 1, id "
                       "FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' AND subject = 'ann';"
                       "INSERT INTO app.idempotency_keys (tenant_id, user_id, key_digest, request_digest, document_id, job_id) "
                       "SELECT tenant_id, created_by, sha256('key'), sha256('request'), id, id FROM app.documents");
    PGconn *ann = entered("cordon_ingest", PG_SLUG_A, "clinician", "ann"), *bob = entered("cordon_ingest", PG_SLUG_A, "clinician", "bob"),
           *query = entered("cordon_query", PG_SLUG_A, "clinician", "ann");
    cr_expect_str_eq(pg_ask(ann, "SELECT count(*) FROM app.idempotency_keys"), "1");
    cr_expect_str_eq(pg_ask(bob, "SELECT count(*) FROM app.idempotency_keys"), "0");
    cr_expect_str_eq(pg_try(ann, "UPDATE app.idempotency_keys SET expires_at = now() + interval '1 year'"), "42501");
    cr_expect_str_eq(pg_try(query, "SELECT count(*) FROM app.idempotency_keys"), "42501");
    PQfinish(ann);
    PQfinish(bob);
    PQfinish(query);
    query = entered("cordon_query", PG_SLUG_A, "clinician", "ann");
    cr_expect_str_eq(pg_try(query, "SELECT fence FROM app.uploads"), "42501");
    PQfinish(query);
    pg_ask(pg_admin(), "DELETE FROM app.documents");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.idempotency_keys"), "0", "erased with the document");
}
