/* ingest jobs from upload to their end: what they make, and what outages, lost leases, drains and bad documents do. */
#include "rig.h"

#include <criterion/parameterized.h>

TestSuite(ingest_job, .init = rig_open, .fini = rig_close, .timeout = 120);

#define CHUNKS_SQL "SELECT count(*) || ' ' || count(DISTINCT ordinal) || ' ' || (max(ordinal) + 1 = count(*)) FROM app.chunks"

/* Ready, each chunk there once, with one vector, and the rows say the same. */
static void expect_ready_and_whole(void) {
    rig_wait_for("ready", DOCUMENT_SQL);
    const char *n = pg_ask(pg_admin(), "SELECT chunks FROM app.documents");
    char want[64];
    snprintf(want, sizeof want, "%s %s true", n, n);
    cr_expect_str_eq(pg_ask(pg_admin(), CHUNKS_SQL), want);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(DISTINCT k.id) FROM app.chunks k JOIN app.text_vectors v USING (tenant_id, text_blind)"), n);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || chunks_done || ' ' || chunks_total FROM jobs.jobs"),
                     pg_ask(pg_admin(), "SELECT 'succeeded %s %s'", n, n));
}

Test(ingest_job, makes_a_document_ready) {
    rig_add_document(400);
    rig_start_jobs();
    expect_ready_and_whole();
    cr_expect_gt(rig.embedded_calls, 2, "the rest of these tests need several batches");
    cr_expect_eq(rig_most_embedded(), 1);
    cr_expect(rig.was_audited_first, "text goes to the model when that is on the record");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt FROM jobs.jobs"), "succeeded 1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks c WHERE c::text LIKE '%%' || encode('potassium', 'hex') || '%%'"), "0", "sealed");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(action, ' ' ORDER BY id) FROM audit.audit_outbox WHERE job_id IS NOT NULL"), "vectors.create document.status job.complete");
}

Test(ingest_job, several_documents_of_two_tenants) {
    for (int i = 0; i < 4; i++)
        cr_assert_eq(rig_upload_as(pg_ticket(i % 2 ? PG_SLUG_A : PG_SLUG_B, "clinician", "ann"), NULL, "a few words", 11, NULL, NULL), ST_OK);
    rig_start_jobs();
    rig_wait_for("4", "SELECT count(*) FROM app.documents WHERE status = 'ready'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks c JOIN app.documents d USING (tenant_id) WHERE d.id = c.document_id"), "4");
}

/* ---- outages ---- */

struct outage { char name[16], reason[16]; };

ParameterizedTestParameters(ingest_job, an_outage_is_waited_for) {
    static struct outage outages[] = { { "kms", "KMS_002" },     { "kms disabled", "KMS_001" }, { "store", "STORE_001" },
                                       { "audit", "AUDIT_001" }, { "model", "SRV_001" },        { "model quota", "RATE_001" } };
    return cr_make_param_array(struct outage, outages, sizeof outages / sizeof *outages);
}

static void set_outage(const char *name, bool is_away) {
    rig.cloud.kms_error = str_equal(name, "kms") ? "KMSInternalException" : "DisabledException";
    rig.cloud.kms_status = is_away && str_starts_with(name, "kms") ? 400 : 0;
    rig.cloud.get_status = is_away && str_equal(name, "store") ? 403 : 0;
    rig.audit_status = is_away && str_equal(name, "audit") ? ST_UNAVAILABLE : ST_OK;
    rig.model_status = !is_away ? ST_OK : str_equal(name, "model") ? ST_UNAVAILABLE : str_equal(name, "model quota") ? ST_LIMITED : ST_OK;
}

ParameterizedTest(struct outage *o, ingest_job, an_outage_is_waited_for) {
    cr_assert_eq(rig_upload(NULL, "a few words", 11, NULL, NULL), ST_OK);
    keyring_destroy(&rig.ingest->keyring);          /* its cache would bridge an outage of KMS */
    struct key_unwrapper unwrapper = kms_unwrapper(rig.ingest->kms);
    rig.ingest->keyring = keyring_new(&unwrapper, 0, 16);
    set_outage(o->name, true);
    rig_start_jobs();
    /* more often than there are attempts: the waits are cut short here */
    for (int i = 1; i <= 7; i++) {
        char sql[256], want[64];
        snprintf(sql, sizeof sql, "SELECT (outages >= %d) || ' ' || reason_code || ' ' || (attempt <= 1) || ' ' || (state <> 'dead') FROM jobs.jobs", i);
        snprintf(want, sizeof want, "true %s true true", o->reason);
        rig_wait_for(want, sql);
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() WHERE state = 'queued'");
    }
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "processing");
    set_outage(o->name, false);
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() WHERE state = 'queued'");
    expect_ready_and_whole();
}

Test(ingest_job, an_outage_between_two_batches_embeds_nothing_again) {
    rig_add_document(400);
    rig.model_status = ST_UNAVAILABLE;
    rig.fails_at_call = 3;
    rig_start_jobs();
    rig_wait_for("16", "SELECT count(*) FROM app.chunks");
    rig_wait_for("t", "SELECT outages > 1 FROM jobs.jobs");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT chunks_done FROM jobs.jobs"), "16", "what is done stays said when the next attempt begins");
    rig.model_status = ST_OK;
    expect_ready_and_whole();
    cr_expect_eq(rig_most_embedded(), 1);
}

static void go_away_at_2(unsigned call) {
    if (call == 2)
        rig_database(true);
}

/* The database is gone when the second batch wants to be stored, and comes back. */
Test(ingest_job, the_database_goes_away_and_comes_back) {
    rig_add_document(400);
    rig.on_embed = go_away_at_2;
    rig_start_jobs();
    WAIT_FOR(rig.embedded_calls >= 2);
    usleep(1000 * 1000);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks"), "8");
    rig_database(false);
    expect_ready_and_whole();
    cr_expect_leq(rig_most_embedded(), 2, "the batch that could not be stored, and no other");
}

/* ---- lost leases ---- */

static void lose_lease_at_2(unsigned call) {
    if (call != 2)
        return;
    /* as if the process had been stopped for longer than its lease, and another had the job by now */
    PGconn *other = pg_connect(NULL);
    pg_ask(other, "UPDATE jobs.jobs SET lease_until = now() - interval '1 s'");
    PQfinish(other);
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(jobs, "SELECT jobs.reap('ingest')");
    PQfinish(jobs);
}

Test(ingest_job, one_whose_lease_is_lost_writes_nothing_and_the_next_goes_on) {
    rig_add_document(400);
    rig.on_embed = lose_lease_at_2;
    rig_start_jobs();
    rig_wait_for("t", "SELECT state = 'succeeded' OR reason_code = 'worker_lost' FROM jobs.jobs");
    expect_ready_and_whole();
    cr_expect_eq(rig_most_embedded(), 2, "only what was under way is embedded again");
}

/* ---- the end of the process ---- */

static sem_t embed_may_end;
static void wait_at_2(unsigned call) {
    if (call == 2)
        sem_wait(&embed_may_end);
}

Test(ingest_job, a_drain_hands_back_between_two_batches) {
    rig_add_document(400);
    sem_init(&embed_may_end, 0, 0);
    rig.on_embed = wait_at_2;
    rig_start_jobs();
    WAIT_FOR(rig.embedded_calls == 2);
    sem_post(&embed_may_end);
    rig_stop_jobs();
    cr_assert_null(rig.ingest->jobs, "it has ended");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt || ' ' || (reason_code IS NULL) || ' ' || outages FROM jobs.jobs"), "queued 0 true 0");
    cr_expect_geq(atoi(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks")), 8);
    rig_start_jobs();
    expect_ready_and_whole();
    cr_expect_eq(rig_most_embedded(), 1);
}

Test(ingest_job, a_drain_hands_back_what_does_not_end_in_time_and_does_not_wait_for_it) {
    rig_add_document(400);
    sem_init(&embed_may_end, 0, 0);
    rig.on_embed = wait_at_2;
    rig_start_jobs();
    WAIT_FOR(rig.embedded_calls == 2);
    int64_t began_ms = clock_mono_ms();
    rig_stop_jobs();
    cr_expect_leq(clock_mono_ms() - began_ms, PATIENCE_MS);
    cr_expect_not_null(rig.ingest->jobs, "its thread still waits for the model");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt FROM jobs.jobs"), "queued 0");
    void *same = rig.ingest;
    INGEST_WORKER.close(&same);
    cr_assert_eq(same, rig.ingest, "nothing is taken away from under it");
    cr_expect(rig.runtime.has_left_behind);
    rig.runtime.has_left_behind = false;
    sem_post(&embed_may_end);
    rig_stop_jobs();
    cr_expect_null(rig.ingest->jobs);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt || ' ' || (SELECT count(*) FROM app.chunks) FROM jobs.jobs"), "queued 0 8", "it came too late to write");
}

/* ---- documents that cannot become chunks ---- */

struct bad { char name[24], type[24], data[8]; unsigned len; char want[16]; };

ParameterizedTestParameters(ingest_job, a_bad_document_fails_at_once) {
    static struct bad bads[] = { { "white space", "text/plain", " \n\t ", 4, "DOC_003" },
                                 { "not UTF-8", "text/plain", "ab\xff", 3, "DOC_004" },
                                 { "no PDF", "application/pdf", "hello", 5, "DOC_004" },
                                 { "type", "application/zip", "hello", 5, "DOC_001" } };
    return cr_make_param_array(struct bad, bads, sizeof bads / sizeof *bads);
}

ParameterizedTest(struct bad *b, ingest_job, a_bad_document_fails_at_once) {
    struct rig_upload u = { .type = str_equal(b->type, "application/zip") ? "text/plain" : b->type, .announced_bytes = -1 };
    cr_assert_eq(rig_upload(&u, b->data, b->len, NULL, NULL), ST_OK);
    pg_ask(pg_admin(), "UPDATE app.documents SET content_type = '%s'", b->type);
    rig_start_jobs();
    rig_wait_for(pg_ask(pg_admin(), "SELECT 'failed %s'", b->want), DOCUMENT_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), JOB_STATE_SQL), pg_ask(pg_admin(), "SELECT 'dead 1 %s'", b->want));
    cr_expect_eq(rig.embedded_calls, 0);
}

/* Not deleted, and perhaps not for ever: tried again, and then said as it is. */
Test(ingest_job, an_original_that_is_lost_is_not_a_deleted_document) {
    cr_assert_eq(rig_upload(NULL, "abc", 3, NULL, NULL), ST_OK);
    fake_cloud_lose(&rig.cloud, "/docs/");
    rig_start_jobs();
    for (int attempt = 1; attempt < 5; attempt++) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT (attempt >= %d) || ' ' || state || ' ' || reason_code FROM jobs.jobs", attempt);
        rig_wait_for("true queued STORE_002", sql);
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() WHERE state = 'queued'");
    }
    rig_wait_for("dead 5 STORE_002", JOB_STATE_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "failed STORE_002");
}

Test(ingest_job, one_that_dies_half_way_leaves_no_chunks) {
    rig_add_document(400);
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET max_attempts = 1");
    rig.model_status = ST_INTERNAL;
    rig.fails_at_call = 3;
    rig_start_jobs();
    rig_wait_for("failed SRV_003", DOCUMENT_SQL);
    cr_expect_geq(rig.embedded_calls, 3);
    cr_expect_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "0 0");
}
