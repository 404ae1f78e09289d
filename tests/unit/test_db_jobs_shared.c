/* jobs that many share: tenants take turns, priorities are a tenant's own, people cancel and retry, and a worker whose
 * session is gone is noticed at once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/pg.h"

TestSuite(db_jobs_shared, .init = pg_open, .fini = pg_close, .timeout = 60);

#define DOC "aaaaaaaa-0000-7000-8000-000000000001"
#define JOB "dddddddd-0000-7000-8000-000000000001"

/* n documents of a tenant and their jobs; jobs are numbered from `first` in the last digits of their ids. */
static void fill(const char *slug, const char *tenant, int first, int n, int priority) {
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", pg_ticket(slug, "clinician", "ann"));
    pg_ask(ingest, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
                   "SELECT '%s', ('aaaaaaaa-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'text/plain', 1, 1, authz.user_id() FROM generate_series(%d, %d) i",
           tenant, first, first + n - 1);
    pg_ask(ingest, "SELECT jobs.enqueue(('dddddddd-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'ingest', 'ingest', "
                   "('aaaaaaaa-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, %d) FROM generate_series(%d, %d) i; COMMIT", priority, first, first + n - 1);
    PQfinish(ingest);
}

static const char *claim(PGconn *jobs, int n) {
    return pg_ask(jobs, "SELECT coalesce(string_agg(right(job_id::text, 3), ','), '') FROM jobs.claim('ingest', 'w1', %d, 30000)", n);
}

static const char *state_of(const char *job) {
    return pg_ask(pg_admin(), "SELECT j.state || ' ' || d.status || coalesce(' ' || j.reason_code, '') || coalesce(' ' || d.reason_code, '') "
                  "FROM jobs.jobs j JOIN app.documents d ON d.tenant_id = j.tenant_id AND d.id = j.document_id WHERE j.id = '%s'", job);
}

static PGconn *user(const char *slug, const char *role) {
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", pg_ticket(slug, role, "bob"));
    return ingest;
}

static PGconn *worker(const char *ticket) {
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", ticket);
    return ingest;
}

static const char *events(const char *where) {
    return pg_ask(pg_admin(), "SELECT coalesce(string_agg(action || ' ' || (detail - 'queue' - 'kind')::text, '; ' ORDER BY id), '') FROM audit.audit_outbox "
                  "WHERE action LIKE 'job.%%' AND action <> 'job.enqueue' AND %s", where);
}

/* ---- fair shares ---- */

Test(db_jobs_shared, a_tenant_with_ten_thousand_documents_does_not_delay_one_with_three) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 200, 100);
    pg_ask(pg_admin(), "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id) SELECT j.tenant_id, gen_random_uuid(), 'ingest', 'ingest', j.document_id, j.user_id "
                       "FROM jobs.jobs j, generate_series(1, 49)");
    fill(PG_SLUG_B, PG_TENANT_B, 901, 3, 100);
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(claim(jobs, 4), "001,901,002,902");
    cr_expect_str_eq(claim(jobs, 1), "003", "its turn was longer ago");
    cr_expect_str_eq(claim(jobs, 1), "903");
    cr_expect_str_eq(claim(jobs, 2), "004,005", "nobody else waits");
    PQfinish(jobs);
}

/* One worker with one thread: nothing runs when it asks, so only the turns remain. */
Test(db_jobs_shared, tenants_take_turns_when_nothing_runs) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 5, 100);
    fill(PG_SLUG_B, PG_TENANT_B, 901, 2, 100);
    PGconn *jobs = pg_connect("cordon_jobs");
    const char *const turns[] = { "001", "901", "002", "902", "003" };
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        cr_expect_str_eq(claim(jobs, 1), turns[i]);
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET state = 'succeeded', done_at = now(), lease_owner = NULL, lease_until = NULL, lease_hash = NULL WHERE state = 'running'");
    }
    PQfinish(jobs);
}

Test(db_jobs_shared, a_tenant_with_fewer_running_comes_first) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 8, 100);
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(claim(jobs, 4), "001,002,003,004");
    fill(PG_SLUG_B, PG_TENANT_B, 901, 6, 100);
    cr_expect_str_eq(claim(jobs, 6), "901,902,903,904,905,005");
    PQfinish(jobs);
}

Test(db_jobs_shared, priority_orders_a_tenants_own_jobs_and_takes_nothing_from_others) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 2, 200);
    fill(PG_SLUG_A, PG_TENANT_A, 3, 2, 50);
    fill(PG_SLUG_B, PG_TENANT_B, 901, 2, 200);
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(claim(jobs, 6), "003,901,004,902,001,002");
    PQfinish(jobs);
    PGconn *ingest = user(PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', 'aaaaaaaa-0000-7000-8000-000000000001', -1)"), "22003");
    PQfinish(ingest);
}

Test(db_jobs_shared, claimers_at_the_same_time_get_different_jobs_and_do_not_wait) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 12, 100);
    fill(PG_SLUG_B, PG_TENANT_B, 901, 1, 100);
    PGconn *one = pg_connect("cordon_jobs"), *two = pg_connect("cordon_jobs");
    pg_ask(two, "SET lock_timeout = '1s'");
    pg_ask(one, "BEGIN");
    cr_expect_str_eq(claim(one, 4), "001,901,002,003");
    cr_expect_str_eq(claim(two, 4), "004,005,006,007");
    pg_ask(one, "COMMIT");
    PQfinish(one);
    PQfinish(two);
}

/* Neither a backlog nor missing statistics make the database read it. */
Test(db_jobs_shared, a_claim_reads_few_rows_of_a_long_queue) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 100, 100);
    pg_ask(pg_admin(), "ALTER TABLE jobs.jobs DISABLE TRIGGER audit; INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id) "
                       "SELECT j.tenant_id, gen_random_uuid(), 'ingest', 'ingest', j.document_id, j.user_id FROM jobs.jobs j, generate_series(1, 99)");
    static const char READ[] = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'jobs' AND relname = 'jobs'";
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(jobs, "BEGIN");
    for (int i = 0; i < 8; i++)         /* plans are made for each call at first, then for all */
        claim(jobs, 1);
    cr_expect_lt(atoi(pg_ask(jobs, "%s", READ)), 1000);
    PQfinish(jobs);
}

/* However many tenants wait for something else, the one that could run is found. */
Test(db_jobs_shared, tenants_that_cannot_run_do_not_hide_one_that_can) {
    pg_ask(pg_admin(), "INSERT INTO auth.tenants (id, slug, name, status) SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 'hidden-' || i, 'H', "
                       "CASE WHEN i %% 2 = 0 THEN 'active' ELSE 'suspended' END FROM generate_series(1, 250) i;"
                       "INSERT INTO auth.users (tenant_id, id, issuer, subject) SELECT id, id, 'i', 's' FROM auth.tenants WHERE slug LIKE 'hidden-%%';"
                       "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) SELECT id, id, 'text/plain', 1, 1, id FROM auth.tenants WHERE slug LIKE 'hidden-%%';"
                       "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, run_after) SELECT id, id, 'ingest', 'ingest', id, id, "
                       "now() + CASE status WHEN 'active' THEN interval '1 h' ELSE '0' END FROM auth.tenants WHERE slug LIKE 'hidden-%%'");
    fill(PG_SLUG_B, PG_TENANT_B, 901, 1, 100);
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(claim(jobs, 1), "901");
    PQfinish(jobs);
}

/* ---- dead workers ---- */

static const char *reap(PGconn *jobs) {
    return pg_ask(jobs, "SELECT requeued || ' ' || dead || ' ' || cancelled FROM jobs.reap('ingest')");
}

static const char *lease_left(void) {
    return pg_ask(pg_admin(), "SELECT CASE WHEN lease_until > clock_timestamp() + interval '5 s' THEN 'long' ELSE 'short' END FROM jobs.jobs WHERE state = 'running'");
}

Test(db_jobs_shared, the_job_of_a_worker_whose_session_is_gone_is_free_at_once) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 1, 100);
    PGconn *dies = pg_connect("cordon_jobs"), *lives = pg_connect("cordon_jobs");
    const char *session = pg_ask(dies, "SELECT session FROM jobs.attend(NULL) WHERE is_attended");
    cr_assert_str_neq(session, "");
    pg_ask(dies, "SELECT count(*) FROM jobs.claim('ingest', 'w1', 1, 30000, %s)", session);
    cr_expect_str_eq(reap(lives), "0 0 0");
    cr_expect_str_eq(lease_left(), "long", "it is there");
    PQfinish(dies);
    for (int i = 0; i < 200 && strcmp(lease_left(), "long") == 0; i++)       /* until the server has noticed */
        reap(lives);
    cr_expect_str_eq(lease_left(), "short");
    cr_expect_str_eq(reap(lives), "0 0 0", "it may come back");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET lease_until = now() - interval '1 ms'");
    fill(PG_SLUG_A, PG_TENANT_A, 2, 1, 100);
    cr_expect_str_eq(reap(lives), "1 0 0");
    cr_expect_str_eq(claim(lives, 1), "001", "the first time, others may take it at once, before what came later");
    PQfinish(lives);
}

Test(db_jobs_shared, a_worker_that_comes_back_keeps_its_jobs) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 1, 100);
    PGconn *first = pg_connect("cordon_jobs"), *other = pg_connect("cordon_jobs"), *third = pg_connect("cordon_jobs");
    const char *session = pg_ask(first, "SELECT session FROM jobs.attend(NULL)");
    cr_expect_str_eq(pg_ask(other, "SELECT is_attended FROM jobs.attend(%s)", session), "f", "its older session is still there");
    const char *job = pg_ask(first, "SELECT fence || ', ''' || lease_token || '''' FROM jobs.claim('ingest', 'w1', 1, 30000, %s)", session);
    PQfinish(first);
    while (strcmp(pg_ask(other, "SELECT is_attended FROM jobs.attend(%s)", session), "t") != 0)
        ;
    reap(third);
    cr_expect_str_eq(lease_left(), "long");
    PQfinish(third);
    cr_expect_str_eq(pg_ask(other, "SELECT jobs.renew('" JOB "', %s, 30000) IS NOT NULL", job), "t");
    PQfinish(other);
}

/* ---- cancel and retry ---- */

Test(db_jobs_shared, a_waiting_job_is_cancelled_at_once_with_its_document) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 1, 100);
    pg_ask(pg_admin(), "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
                       "VALUES ('" PG_TENANT_A "', '" DOC "', gen_random_uuid(), 0, 0, 9, 2, 'x')");
    PGconn *bob = user(PG_SLUG_A, "clinician");
    cr_expect_str_eq(pg_ask(bob, "SELECT jobs.cancel('" JOB "')"), "cancelled");
    cr_expect_str_eq(pg_ask(bob, "SELECT jobs.cancel('" JOB "')"), "cancelled", "twice is once");
    pg_ask(bob, "COMMIT");
    PQfinish(bob);
    cr_expect_str_eq(state_of(JOB), "cancelled failed cancelled cancelled");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks"), "0");
    cr_expect_str_eq(events("actor_id IS NOT NULL AND session_id IS NOT NULL"), "job.cancel {\"from\": \"queued\"}");
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(claim(jobs, 1), "");
    cr_expect_str_eq(pg_ask(jobs, "SELECT count(*) FROM jobs.depth()"), "0", "nothing waits");
    PQfinish(jobs);
}

Test(db_jobs_shared, a_running_job_is_asked_to_stop_and_ends_as_cancelled_however_it_ends) {
    static const char *const ends[] = { "jobs.release(0)", "jobs.fail('SRV_003', false)", "jobs.fail('DOC_004', true)", "jobs.postpone('KMS_001')" };
    PGconn *jobs = pg_connect("cordon_jobs");
    const char *session = pg_ask(jobs, "SELECT session FROM jobs.attend(NULL)");
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        fill(PG_SLUG_A, PG_TENANT_A, (int)i + 1, 1, 100);
        const char *job = pg_ask(pg_admin(), "SELECT id FROM jobs.jobs WHERE state = 'queued'");
        const char *ticket = pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'w1', 1, 30000, %s)", session);
        PGconn *bob = user(PG_SLUG_A, "clinician");
        cr_expect_str_eq(pg_ask(bob, "SELECT jobs.cancel('%s')", job), "running");
        pg_ask(bob, "SELECT jobs.cancel('%s'); COMMIT", job);
        PQfinish(bob);
        cr_expect_str_eq(pg_ask(jobs, "SELECT stop[1]::text FROM jobs.reap('ingest', %s)", session), job, "its worker is told");
        cr_expect_str_eq(pg_ask(jobs, "SELECT cardinality(stop) FROM jobs.reap('ingest')"), "0", "nobody else");
        PGconn *ingest = worker(ticket);
        pg_ask(ingest, "SELECT %s; COMMIT", ends[i]);
        PQfinish(ingest);
        cr_expect_str_eq(state_of(job), "cancelled failed cancelled cancelled", "%s", ends[i]);
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(action, ' ' ORDER BY id) FROM audit.audit_outbox WHERE action LIKE 'job.%%' AND resource_id = '%s'", job),
                         "job.enqueue job.cancel.request job.cancel");
    }
    PQfinish(jobs);
}

Test(db_jobs_shared, a_job_that_is_done_before_it_hears_stays_done_and_one_whose_worker_dies_is_cancelled) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 2, 100);
    PGconn *jobs = pg_connect("cordon_jobs"), *bob = user(PG_SLUG_A, "clinician");
    const char *ticket = pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'w1', 1, 30000)");
    claim(jobs, 1);
    pg_ask(bob, "SELECT jobs.cancel(('dddddddd-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid) FROM generate_series(1, 2) i; COMMIT");
    PGconn *ingest = worker(ticket);
    pg_ask(ingest, "UPDATE app.documents SET status = 'ready' WHERE id = '" DOC "'; SELECT jobs.complete(); COMMIT");
    cr_expect_str_eq(state_of(JOB), "succeeded ready");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET lease_until = now() - interval '1 ms' WHERE state = 'running'");
    cr_expect_str_eq(reap(jobs), "0 0 1");
    cr_expect_str_eq(state_of("dddddddd-0000-7000-8000-000000000002"), "cancelled failed cancelled cancelled");
    PQfinish(ingest);
    PQfinish(bob);
    PQfinish(jobs);
}

Test(db_jobs_shared, a_dead_or_cancelled_job_is_retried_as_if_it_were_new) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 2, 100);
    PGconn *jobs = pg_connect("cordon_jobs");
    PGconn *ingest = worker(pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'w1', 1, 30000)"));
    pg_ask(ingest, "SELECT jobs.progress('embed', 1, 8, 9); SELECT jobs.fail('DOC_004', true); COMMIT");
    PQfinish(ingest);
    PGconn *bob = user(PG_SLUG_A, "clinician");
    pg_ask(bob, "SELECT jobs.cancel('dddddddd-0000-7000-8000-000000000002')");
    cr_expect_str_eq(pg_ask(bob, "SELECT string_agg(jobs.retry(('dddddddd-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid), ' ') FROM generate_series(1, 2) i"), "queued queued");
    cr_expect_str_eq(pg_ask(bob, "SELECT jobs.retry('" JOB "')"), "queued", "twice is once");
    pg_ask(bob, "COMMIT");
    PQfinish(bob);
    cr_expect_str_eq(state_of(JOB), "queued processing");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(attempt || ' ' || chunks_done || ' ' || (done_at IS NULL AND cancel_requested_at IS NULL AND stage IS NULL), ';') FROM jobs.jobs"),
                     "0 0 true;0 0 true");
    cr_expect_str_eq(claim(jobs, 2), "001,002");
    cr_expect_str_eq(events("action = 'job.retry' AND session_id IS NOT NULL"), "job.retry {\"from\": \"dead\"}; job.retry {\"from\": \"cancelled\"}");
    PQfinish(jobs);
}

Test(db_jobs_shared, only_a_writer_of_the_tenant_cancels_and_retries) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 1, 100);
    const struct { const char *slug, *role, *state; } others[] = {
        { PG_SLUG_B, "clinician", "" },
        { PG_SLUG_A, "reviewer", "42501" },
        { PG_SLUG_A, "auditor", "42501" },
    };
    static const char *const verbs[] = { "cancel", "retry" };
    for (size_t i = 0; i < 2 * sizeof others / sizeof *others; i++) {
        PGconn *eve = user(others[i / 2].slug, others[i / 2].role);
        if (*others[i / 2].state)
            cr_expect_str_eq(pg_try(eve, "SELECT jobs.%s('" JOB "')", verbs[i % 2]), others[i / 2].state, "%s", others[i / 2].role);
        else
            cr_expect_str_eq(pg_ask(eve, "SELECT coalesce(jobs.%s('" JOB "'), 'none')", verbs[i % 2]), "none", "another tenant's job does not exist");
        PQfinish(eve);
    }
    PGconn *jobs = pg_connect("cordon_jobs");
    PGconn *ingest = worker(pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'w1', 1, 30000)"));
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.cancel('" JOB "')"), "42501", "a job is nobody");
    PQfinish(ingest);
    ingest = pg_connect("cordon_ingest");
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.retry('" JOB "')"), "42501", "no ticket");
    PQfinish(ingest);
    PQfinish(jobs);
    cr_expect_str_eq(state_of(JOB), "running processing");
}

Test(db_jobs_shared, a_deleted_document_is_not_tried_again_and_a_failed_one_only_with_its_job) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 1, 100);
    PGconn *bob = user(PG_SLUG_A, "clinician");
    pg_ask(bob, "SELECT jobs.cancel('" JOB "'); SAVEPOINT s");
    cr_expect_str_eq(pg_try(bob, "UPDATE app.documents SET status = 'processing', reason_code = NULL WHERE id = '" DOC "'"), "23514", "not by hand");
    pg_ask(bob, "ROLLBACK TO s; UPDATE app.documents SET status = 'deleted', reason_code = NULL, deleted_at = now() WHERE id = '" DOC "'");
    cr_expect_str_eq(pg_try(bob, "SELECT jobs.retry('" JOB "')"), "23503");
    PQfinish(bob);
}

/* ---- housekeeping ---- */

Test(db_jobs_shared, jobs_that_were_over_a_month_ago_go_and_the_log_says_how_many) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 4, 100);
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET state = 'running', lease_owner = 'w', lease_until = now(), lease_hash = 'h' WHERE id > '" JOB "';"
                       "UPDATE jobs.jobs SET state = 'succeeded', done_at = now() - interval '31 days', lease_owner = NULL, lease_until = NULL, lease_hash = NULL WHERE id::text ~ '00[23]$';"
                       "UPDATE jobs.jobs SET state = 'dead', reason_code = 'x', done_at = now() - interval '31 days', lease_owner = NULL, lease_until = NULL, lease_hash = NULL WHERE id::text ~ '004$';");
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.purge(1)"), "1", "no more than it is asked");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.purge(100)"), "1");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.purge(100)"), "0");
    PQfinish(jobs);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(state, ' ' ORDER BY id) FROM jobs.jobs"), "queued dead", "dead ones wait for somebody");
    cr_expect_str_eq(events("action = 'job.purge' AND tenant_id = '" PG_TENANT_A "'"), "job.purge {\"jobs\": 1}; job.purge {\"jobs\": 1}");
}

Test(db_jobs_shared, what_is_stuck_says_on_what) {
    fill(PG_SLUG_A, PG_TENANT_A, 1, 2, 100);
    PGconn *jobs = pg_connect("cordon_jobs");
    PGconn *ingest = worker(pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'w1', 1, 30000)"));
    pg_ask(ingest, "SELECT jobs.postpone('KMS_001'); COMMIT");
    cr_expect_str_eq(pg_ask(jobs, "SELECT string_agg(queue || ' ' || kind || ' ' || reason_code || ' ' || jobs || ' ' || (oldest_age_ms >= 0), ';') FROM jobs.stuck()"), "ingest ingest KMS_001 1 true");
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(db_jobs_shared, a_job_remembers_the_trace_that_it_came_from_and_nothing_else) {
    static const char TRACE[] = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    PGconn *ingest = user(PG_SLUG_A, "clinician");
    for (int i = 0; i < 2; i++)
        pg_ask(ingest, "SET LOCAL cordon.traceparent = '%s'; INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
                       "VALUES ('" PG_TENANT_A "', 'aaaaaaaa-0000-7000-8000-00000000000%d', 'text/plain', 1, 1, authz.user_id());"
                       "SELECT jobs.enqueue('dddddddd-0000-7000-8000-00000000000%d', 'ingest', 'ingest', 'aaaaaaaa-0000-7000-8000-00000000000%d')", i ? "Ann Smith" : TRACE, i, i, i);
    pg_ask(ingest, "COMMIT");
    PQfinish(ingest);
    PGconn *jobs = pg_connect("cordon_jobs");
    cr_expect_str_eq(pg_ask(jobs, "SELECT string_agg(coalesce(traceparent, 'none'), ' ') FROM jobs.claim('ingest', 'w', 2, 30000)"), "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01 none");
    PQfinish(jobs);
}

/* ---- schedules ---- */

#define CLAIM_SCHEDULE "SELECT coalesce((SELECT name || ' ' || fence FROM jobs.claim_schedule(ARRAY['janitor', 'purge'], 'w1', 30000)), 'none')"

static void due(const char *ago) {
    pg_ask(pg_admin(), "UPDATE jobs.schedules SET next_run_at = now() - interval '%s' WHERE name = 'janitor'", ago);
}

Test(db_jobs_shared, a_due_run_happens_once_however_many_ask_and_missed_ones_are_not_made_up_for) {
    due("1 hour 10 s");
    PGconn *one = pg_connect("cordon_jobs"), *two = pg_connect("cordon_jobs");
    pg_ask(one, "BEGIN");
    const char *run = pg_ask(one, CLAIM_SCHEDULE);
    cr_expect_str_neq(run, "none");
    cr_expect_str_eq(pg_ask(two, CLAIM_SCHEDULE), "none", "being taken");
    pg_ask(one, "COMMIT");
    cr_expect_str_eq(pg_ask(two, CLAIM_SCHEDULE), "none", "taken");
    cr_expect_str_eq(pg_ask(one, "SELECT jobs.finish_schedule('janitor', %s, 'done')", strchr(run, ' ')), "t");
    cr_expect_str_eq(pg_ask(two, CLAIM_SCHEDULE), "none", "sixty runs were missed: one was made");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT next_run_at > now() AND next_run_at <= now() + interval '1 min' AND extract(epoch FROM next_run_at - now()) BETWEEN 40 AND 50 "
                            "FROM jobs.schedules WHERE name = 'janitor'"), "t", "at its own second");
    cr_expect_str_eq(pg_ask(one, "SELECT last_outcome || ' ' || (last_success_age_ms < 60000) || ' ' || overdue_ms || ' ' || is_running FROM jobs.schedule_states() WHERE name = 'janitor'"), "done true 0 false");
    PQfinish(one);
    PQfinish(two);
}

Test(db_jobs_shared, a_run_whose_worker_died_is_taken_over_and_the_late_one_is_not_heard) {
    due("1 s");
    PGconn *one = pg_connect("cordon_jobs");
    const char *first = pg_ask(one, CLAIM_SCHEDULE);
    pg_ask(pg_admin(), "UPDATE jobs.schedules SET lease_until = now() - interval '1 ms' WHERE name = 'janitor'");
    const char *second = pg_ask(one, CLAIM_SCHEDULE);
    cr_assert_str_neq(second, "none");
    cr_expect_str_eq(pg_ask(one, "SELECT jobs.finish_schedule('janitor', %s, 'done')", strchr(first, ' ')), "f");
    cr_expect_str_eq(pg_ask(one, "SELECT is_running FROM jobs.schedule_states() WHERE name = 'janitor'"), "t");
    cr_expect_str_eq(pg_ask(one, "SELECT jobs.finish_schedule('janitor', %s, 'S3_001')", strchr(second, ' ')), "t");
    cr_expect_str_eq(pg_ask(one, "SELECT jobs.finish_schedule('janitor', %s, 'done')", strchr(second, ' ')), "f", "twice");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT last_outcome || ' ' || (last_success_at IS NULL) FROM jobs.schedules WHERE name = 'janitor'"), "S3_001 true");
    PQfinish(one);
}

Test(db_jobs_shared, nobody_touches_schedules_but_by_the_functions_and_a_change_of_one_is_on_the_log) {
    static const char *const roles[] = { "cordon_jobs", "cordon_ingest", "cordon_query", "cordon_auth", "cordon_audit" };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        PGconn *conn = pg_connect(roles[i]);
        cr_expect_str_eq(pg_try(conn, "UPDATE jobs.schedules SET next_run_at = now() + interval '100 years'"), "42501", "%s", roles[i]);
        PQfinish(conn);
    }
    PGconn *query = pg_connect("cordon_query");
    cr_expect_str_eq(pg_try(query, "SELECT * FROM jobs.claim_schedule(ARRAY['janitor'], 'w', 1000)"), "42501");
    PQfinish(query);
    pg_ask(pg_admin(), "DELETE FROM audit.audit_outbox WHERE false; UPDATE jobs.schedules SET every = '1 year' WHERE name = 'janitor'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox WHERE action = 'policy.change' AND detail ->> 'table' = 'schedules' AND detail ->> 'verb' = 'update'"), "1");
}
