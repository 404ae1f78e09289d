/* jobs: claim, lease, fence, retry, dead; and what happens to those who come late or were never asked. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/pg.h"

TestSuite(db_jobs, .init = pg_open, .fini = pg_close, .timeout = 60);

#define DOC "aaaaaaaa-0000-7000-8000-000000000001"
#define JOB "dddddddd-0000-7000-8000-000000000001"

struct claimed { char job[37], fence[24], token[64], ticket[4096]; };

/* Upload a document and enqueue its job, as ingest-worker does under a user's ticket. */
static void enqueue(const char *slug, const char *tenant, const char *document, const char *job) {
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", pg_ticket(slug, "clinician", "ann"));
    pg_ask(ingest, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) VALUES ('%s', '%s', 'text/plain', 1, 1, authz.user_id())", tenant, document);
    pg_ask(ingest, "SELECT keys.put_document_key('%s', 1, 'wrapped')", document);
    cr_assert_str_eq(pg_ask(ingest, "SELECT jobs.enqueue('%s', 'ingest', 'ingest', '%s')", job, document), job);
    pg_ask(ingest, "COMMIT");
    PQfinish(ingest);
}

static bool claim(PGconn *jobs, int lease_ms, struct claimed *ret_claimed) {
    PGresult *rows = PQexec(jobs, pg_ask(pg_admin(), "SELECT 'SELECT job_id, fence, lease_token, ticket FROM jobs.claim(''ingest'', ''w1'', 1, %d)'", lease_ms));
    cr_assert_eq(PQresultStatus(rows), PGRES_TUPLES_OK, "%s", PQresultErrorMessage(rows));
    bool any = PQntuples(rows) == 1;
    if (any) {
        snprintf(ret_claimed->job, sizeof ret_claimed->job, "%s", PQgetvalue(rows, 0, 0));
        snprintf(ret_claimed->fence, sizeof ret_claimed->fence, "%s", PQgetvalue(rows, 0, 1));
        snprintf(ret_claimed->token, sizeof ret_claimed->token, "%s", PQgetvalue(rows, 0, 2));
        snprintf(ret_claimed->ticket, sizeof ret_claimed->ticket, "%s", PQgetvalue(rows, 0, 3));
    }
    PQclear(rows);
    return any;
}

static PGconn *worker(const struct claimed *c) {
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", c->ticket);
    return ingest;
}

static const char *state_of(const char *job) {
    return pg_ask(pg_admin(), "SELECT state || coalesce(' ' || reason_code, '') FROM jobs.jobs WHERE id = '%s'", job);
}

Test(db_jobs, a_job_goes_from_upload_to_ready) {
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(jobs, "LISTEN jobs_ingest");
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    pg_ask(jobs, "SELECT 1");
    PGnotify *note = PQnotifies(jobs);
    cr_assert_not_null(note, "no wake-up");
    cr_expect_str_eq(note->extra, "", "a payload could hold PHI");
    PQfreemem(note);

    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    cr_expect_str_eq(c.job, JOB);
    cr_expect_not(claim(jobs, 30000, &(struct claimed){ 0 }), "taken already");
    PGconn *ingest = worker(&c);
    cr_expect_str_eq(pg_ask(ingest, "SELECT authz.job_document()"), DOC);
    cr_expect_str_eq(pg_ask(ingest, "SELECT authz.may('job:ingest') AND NOT authz.may('documents:write')"), "t");
    cr_expect_str_eq(pg_ask(ingest, "SELECT version || convert_from(wrapped, 'UTF8') FROM keys.job_document_key()"), "1wrapped");
    pg_ask(ingest, "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
                   "VALUES ('" PG_TENANT_A "', '" DOC "', gen_random_uuid(), 0, 0, 9, 2, 'x')");
    pg_ask(ingest, "SELECT jobs.progress('embed', 1, 1, 1)");
    pg_ask(ingest, "UPDATE app.documents SET status = 'ready', chunks = 1, pages = 1 WHERE tenant_id = '" PG_TENANT_A "' AND id = '" DOC "' AND status = 'processing'");
    pg_ask(ingest, "SELECT jobs.complete(); COMMIT");
    cr_expect_str_eq(state_of(JOB), "succeeded");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT stage || pages_done || chunks_done || chunks_total || (done_at IS NOT NULL) FROM jobs.jobs"), "embed111true");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status FROM app.documents"), "ready");
    PGconn *late = pg_connect("cordon_ingest");
    pg_ask(late, "BEGIN");
    cr_expect_str_eq(pg_try(late, "SELECT authz.enter('%s')", c.ticket), "28000", "the job is over");
    PQfinish(late);
    PQfinish(ingest);
    PQfinish(jobs);
}

#define ADD_VECTOR(text) "INSERT INTO app.text_vectors (tenant_id, text_blind, model, embedding) " \
    "VALUES ('" PG_TENANT_A "', sha256('" text "'), 'm', array_fill(0.5, ARRAY[1024])::ext.halfvec) ON CONFLICT DO NOTHING"

Test(db_jobs, a_job_ticket_is_for_its_document_only) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    enqueue(PG_SLUG_A, PG_TENANT_A, "aaaaaaaa-0000-7000-8000-000000000002", "dddddddd-0000-7000-8000-000000000002");
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    pg_ask(pg_admin(), "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc, text_blind) SELECT tenant_id, id, gen_random_uuid(), 0, 0, 9, 2, 'x', "
                       "sha256(right(id::text, 1)::bytea) FROM app.documents");
    PGconn *ingest = worker(&c);
    cr_expect_str_eq(pg_ask(ingest, "SELECT string_agg(id::text, ',') FROM app.documents"), DOC);
    pg_ask(ingest, ADD_VECTOR("1"));
    cr_expect_str_eq(pg_ask(ingest, "SELECT count(h) FROM keys.hold_vectors('m', ARRAY[sha256('1'), sha256('2')]) h"), "1");
    cr_expect_str_eq(pg_ask(ingest, "SELECT count(*) FROM keys.known_vectors('m', ARRAY[sha256('1'), sha256('2')])"), "1");
    const char *const refused[] = {
        "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
            "VALUES ('" PG_TENANT_A "', 'aaaaaaaa-0000-7000-8000-000000000002', gen_random_uuid(), 0, 0, 9, 2, 'x')",
        "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'text/plain', 1, 1, authz.user_id())",
        "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', '" DOC "')",
        "SELECT keys.put_document_key('" DOC "', 2, 'k')",
        ADD_VECTOR("2"),                                    /* of a text that another document has */
        "SELECT count(*) FROM app.text_vectors",
        "DELETE FROM app.text_vectors",
        "SELECT keys.hold_texts('{}')",
        "SELECT keys.vectors_follow()",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        pg_ask(ingest, "SAVEPOINT s");
        cr_expect_str_eq(pg_try(ingest, "%s", refused[i]), "42501", "%s", refused[i]);
        pg_ask(ingest, "ROLLBACK TO s");
    }
    PQfinish(ingest);
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "BEGIN; SELECT authz.enter('%s')", c.ticket);
    cr_expect_str_eq(pg_ask(query, "SELECT (SELECT count(*) FROM app.documents) + (SELECT count(*) FROM app.chunks) + (SELECT count(*) FROM jobs.jobs)"), "0",
                     "a job's ticket opens nothing to the query role");
    PQfinish(query);
    PQfinish(jobs);
}

/* Reading a finished document is a disclosure: its key comes from keys.open() only. */
Test(db_jobs, a_job_opens_its_document_only_while_it_is_processed) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    const char *const states[] = { "ready", "deleted" };
    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    PGconn *ingest = worker(&c);
    cr_expect_str_eq(pg_ask(ingest, "SELECT count(*) FROM keys.job_document_key()"), "1");
    PQfinish(ingest);
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        pg_ask(pg_admin(), "UPDATE app.documents SET status = '%s', deleted_at = CASE WHEN '%s' = 'deleted' THEN now() END", states[i], states[i]);
        ingest = worker(&c);
        cr_expect_str_eq(pg_ask(ingest, "SELECT count(*) FROM keys.job_document_key()"), "0", "%s", states[i]);
        PQfinish(ingest);
    }
    PQfinish(jobs);
}

Test(db_jobs, a_deleted_document_gets_no_chunks) {
    static const char ADD[] = "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
                              "VALUES ('" PG_TENANT_A "', '" DOC "', gen_random_uuid(), 0, 0, 9, 2, 'x')";
    static const char DELETE[] = "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = '" DOC "'";
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    PGconn *first = worker(&c), *user = pg_connect("cordon_ingest");
    pg_ask(first, "%s", ADD);
    pg_ask(first, "SELECT jobs.progress('embed', 1, 1, 1)");
    pg_ask(user, "SET lock_timeout = '100ms'; BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
    cr_expect_str_eq(pg_try(user, "%s", DELETE), "55P03", "the deletion waits, or it would not see the chunk");
    pg_ask(user, "ROLLBACK");
    pg_ask(first, "ROLLBACK");
    PQfinish(first);

    PGconn *second = worker(&c);
    pg_ask(second, "%s", ADD);
    pg_ask(user, "BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
    pg_ask(user, "%s; DELETE FROM app.chunks; COMMIT", DELETE);
    cr_expect_str_eq(pg_try(second, "SELECT jobs.progress('embed', 1, 1, 1)"), "23503");
    PQfinish(second);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks"), "0");
    PQfinish(user);
    PQfinish(jobs);
}

Test(db_jobs, enqueue_takes_tenant_and_user_from_the_ticket) {
    enqueue(PG_SLUG_B, PG_TENANT_B, DOC, JOB);
    PGconn *ingest = pg_connect("cordon_ingest");
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', '" DOC "')"), "42501", "no ticket");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', '" DOC "')"), "23503", "another tenant's document");
    pg_ask(ingest, "ROLLBACK; BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "reviewer", "rev"));
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', '" DOC "')"), "42501", "no documents:write");
    pg_ask(ingest, "ROLLBACK; BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_B, "clinician", "ann"));
    cr_expect_str_eq(pg_ask(ingest, "SELECT jobs.enqueue('" JOB "', 'ingest', 'ingest', '" DOC "')"), JOB, "the same job again is the same job");
    const char *const bad[] = { "'" JOB "', 'other', 'ingest', '" DOC "'", "gen_random_uuid(), 'Bad Queue', 'ingest', '" DOC "'",
                                "gen_random_uuid(), NULL, 'ingest', '" DOC "'", "NULL, 'ingest', 'ingest', '" DOC "'" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pg_ask(ingest, "SAVEPOINT s");
        cr_expect_str_neq(pg_try(ingest, "SELECT jobs.enqueue(%s)", bad[i]), "00000", "%s", bad[i]);
        pg_ask(ingest, "ROLLBACK TO s");
    }
    pg_ask(ingest, "COMMIT");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM jobs.jobs"), "1");
    PQfinish(ingest);
}

Test(db_jobs, the_claiming_role_sees_no_tenant_data_and_the_writing_role_cannot_claim) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs"), *ingest = pg_connect("cordon_ingest");
    const char *const for_jobs[] = { "SELECT * FROM jobs.jobs", "SELECT * FROM app.documents", "SELECT authz.enter('x')", "SELECT jobs.complete()",
                                     "SELECT jobs.enqueue(NULL, NULL, NULL, NULL)", "SELECT keys.job_document_key()" };
    const char *const for_ingest[] = { "SELECT jobs.claim('ingest', 'w', 1, 1000)", "SELECT jobs.renew(NULL, 1, '', 1)", "SELECT jobs.reap('ingest')",
                                       "SELECT jobs.depth()", "SELECT * FROM jobs.jobs", "UPDATE jobs.jobs SET state = 'succeeded'" };
    for (size_t i = 0; i < sizeof for_jobs / sizeof *for_jobs; i++)
        cr_expect_str_eq(pg_try(jobs, "%s", for_jobs[i]), "42501", "%s", for_jobs[i]);
    for (size_t i = 0; i < sizeof for_ingest / sizeof *for_ingest; i++)
        cr_expect_str_eq(pg_try(ingest, "%s", for_ingest[i]), "42501", "%s", for_ingest[i]);
    PQfinish(jobs);
    PQfinish(ingest);
}

Test(db_jobs, a_lost_lease_stops_every_effect) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed old, new;
    cr_assert(claim(jobs, 100, &old));
    pg_ask(jobs, "SELECT pg_sleep(0.15)");
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN");
    cr_expect_str_eq(pg_try(ingest, "SELECT authz.enter('%s')", old.ticket), "28000", "expired, not yet reaped");
    pg_ask(ingest, "ROLLBACK");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.renew('%s', %s, '%s', 1000) IS NULL", old.job, old.fence, old.token), "t");
    cr_expect_str_eq(pg_ask(jobs, "SELECT requeued || ' ' || dead FROM jobs.reap('ingest')"), "1 0");
    cr_expect_str_eq(state_of(JOB), "queued worker_lost");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
    cr_assert(claim(jobs, 30000, &new));
    cr_expect(strtol(new.fence, NULL, 10) > strtol(old.fence, NULL, 10));

    const struct { const char *job, *fence, *token; } wrong[] = {
        { new.job, old.fence, old.token }, { new.job, new.fence, old.token }, { new.job, old.fence, new.token },
        { PG_TENANT_A, new.fence, new.token }, { new.job, new.fence, "" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.renew('%s', %s, '%s', 1000) IS NULL", wrong[i].job, wrong[i].fence, wrong[i].token), "t", "case %zu", i);
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.renew('%s', %s, NULL, 1000) IS NULL", new.job, new.fence), "t");
    pg_ask(ingest, "BEGIN");
    cr_expect_str_eq(pg_try(ingest, "SELECT authz.enter('%s')", old.ticket), "28000", "a stale fence");
    PQfinish(ingest);
    const char *next = pg_ask(jobs, "SELECT jobs.renew('%s', %s, '%s', 30000)", new.job, new.fence, new.token);
    PGconn *good = pg_connect("cordon_ingest");
    pg_ask(good, "BEGIN; SELECT authz.enter('%s'); COMMIT", next);
    PQfinish(good);
    PQfinish(jobs);
}

/* Entering holds the job: the lease may run out, but nobody takes over before the transaction ends. */
Test(db_jobs, nobody_takes_over_while_a_transaction_holds_the_job) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs"), *ingest = pg_connect("cordon_ingest");
    struct claimed c;
    cr_assert(claim(jobs, 3000, &c));
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", c.ticket);
    pg_ask(jobs, "SELECT pg_sleep(3.1)");
    cr_expect_str_eq(pg_ask(jobs, "SELECT requeued || ' ' || dead FROM jobs.reap('ingest')"), "0 0", "held");
    pg_ask(ingest, "UPDATE app.documents SET status = 'ready'; SELECT jobs.complete(); COMMIT");
    cr_expect_str_eq(state_of(JOB), "succeeded");
    cr_expect_str_eq(pg_ask(jobs, "SELECT requeued || ' ' || dead FROM jobs.reap('ingest')"), "0 0");
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(db_jobs, a_renewal_does_not_wait_for_the_jobs_own_transaction) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    PGconn *ingest = worker(&c);
    pg_ask(jobs, "SET lock_timeout = '500ms'");
    cr_expect_str_eq(pg_ask(jobs, "SELECT jobs.renew('%s', %s, '%s', 30000) IS NOT NULL", c.job, c.fence, c.token), "t",
                     "one slow transaction would let the leases of all its worker's jobs run out");
    pg_ask(ingest, "SELECT jobs.progress('embed', 1, 1, 1)");
    pg_ask(ingest, "UPDATE app.documents SET status = 'ready'; SELECT jobs.complete(); COMMIT");
    cr_expect_str_eq(state_of(JOB), "succeeded");
    PQfinish(ingest);
    PQfinish(jobs);
}

/* A worker that gave up on an answer says 'failed' while the server still runs what it sent. */
Test(db_jobs, a_failed_job_waits_for_the_transaction_that_it_left_behind) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c, next;
    cr_assert(claim(jobs, 30000, &c));
    PGconn *left = worker(&c), *ingest = worker(&c);
    cr_expect_str_eq(pg_ask(ingest, "SELECT jobs.fail('SRV_001', false)"), "queued");
    pg_ask(ingest, "COMMIT");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
    cr_expect_not(claim(jobs, 30000, &next));
    cr_expect_str_eq(pg_try(left, "SELECT jobs.complete()"), "CJ001");
    PQfinish(left);
    PQfinish(ingest);
    pg_ask(pg_admin(), "SELECT pg_sleep(0.1)");
    cr_expect(claim(jobs, 30000, &next));
    PQfinish(jobs);
}

Test(db_jobs, a_job_that_changed_hands_cannot_be_ended_by_the_first) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    const char *const ends[] = { "jobs.complete()", "jobs.fail('x', true)", "jobs.progress('x', 1, 1, 1)" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        PGconn *ingest = worker(&c);
        /* the lock that claim() and reap() take */
        PGconn *thief = pg_connect(NULL);
        pg_ask(thief, "SET lock_timeout = '100ms'");
        cr_expect_str_eq(pg_try(thief, "SELECT FROM jobs.jobs FOR UPDATE"), "55P03", "the row is held");
        PQfinish(thief);
        PQfinish(ingest);

        PGconn *user = pg_connect("cordon_ingest");
        pg_ask(user, "BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
        cr_expect_str_eq(pg_try(user, "SELECT %s", ends[i]), "42501", "a user's ticket is no job's");
        PQfinish(user);
    }
    PGconn *ingest = worker(&c);
    pg_ask(ingest, "SELECT jobs.complete()");
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.complete()"), "CJ001", "twice");
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(db_jobs, failures_wait_and_the_last_one_kills) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    for (int attempt = 1; attempt <= 5; attempt++) {
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
        struct claimed c;
        cr_assert(claim(jobs, 30000, &c), "attempt %d", attempt);
        PGconn *ingest = worker(&c);
        cr_expect_str_eq(pg_ask(ingest, "SELECT jobs.fail('model_unavailable', false)"), attempt < 5 ? "queued" : "dead");
        pg_ask(ingest, "COMMIT");
        PQfinish(ingest);
        if (attempt < 5)
            cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || (run_after <= clock_timestamp() + power(2, %d) * interval '1 s') FROM jobs.jobs", attempt), "queued true");
    }
    cr_expect_str_eq(state_of(JOB), "dead model_unavailable");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status || ' ' || reason_code FROM app.documents"), "failed model_unavailable");
    cr_expect_not(claim(jobs, 30000, &(struct claimed){ 0 }));
    PQfinish(jobs);
}

Test(db_jobs, a_permanent_failure_kills_at_once_and_fails_the_document) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    cr_assert(claim(jobs, 30000, &c));
    PGconn *ingest = worker(&c);
    cr_expect_str_eq(pg_ask(ingest, "SELECT jobs.fail('DOC_004', true)"), "dead");
    pg_ask(ingest, "COMMIT");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status || ' ' || reason_code FROM app.documents"), "failed DOC_004");
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(db_jobs, a_job_that_kills_its_worker_dies_after_its_attempts) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET max_attempts = 2");
    for (int i = 0; i < 2; i++) {
        cr_assert(claim(jobs, 100, &(struct claimed){ 0 }), "attempt %d", i + 1);
        pg_ask(jobs, "SELECT pg_sleep(0.15); SELECT jobs.reap('ingest')");
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
    }
    cr_expect_str_eq(state_of(JOB), "dead worker_lost");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status || ' ' || reason_code FROM app.documents"), "failed worker_lost");
    PQfinish(jobs);
}

Test(db_jobs, leases_are_capped_and_moves_are_checked) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    cr_assert(claim(jobs, 2000000000, &c));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT lease_until <= clock_timestamp() + interval '5 min' FROM jobs.jobs"), "t");
    pg_ask(jobs, "SELECT jobs.renew('%s', %s, '%s', 2000000000)", c.job, c.fence, c.token);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT lease_until <= clock_timestamp() + interval '5 min' FROM jobs.jobs"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT lease_hash <> '%s' AND length(lease_hash) = 64 FROM jobs.jobs", c.token), "t", "the token itself is not stored");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE jobs.jobs SET state = 'paused'"), "23514");
    PGconn *ingest = worker(&c);
    pg_ask(ingest, "SELECT jobs.complete(); COMMIT");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE jobs.jobs SET state = 'queued', done_at = NULL"), "23514", "succeeded is final, for the superuser too");
    cr_expect_str_eq(pg_try(jobs, "SELECT jobs.claim(NULL, 'w', 1, 1000)"), "22004");
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(db_jobs, a_suspended_tenant_waits) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    struct claimed c;
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended' WHERE id = '" PG_TENANT_A "'");
    cr_expect_not(claim(jobs, 30000, &c));
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'active'");
    cr_assert(claim(jobs, 30000, &c));
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended' WHERE id = '" PG_TENANT_A "'");
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN");
    cr_expect_str_eq(pg_try(ingest, "SELECT authz.enter('%s')", c.ticket), "28000");
    PQfinish(ingest);
    PQfinish(jobs);
}

/* Several claimers at once: each job is given once, in order of arrival within a tenant. */
Test(db_jobs, claims_share_the_queue) {
    enum { JOBS = 12 };
    char document[37], job[37];
    for (int i = 0; i < JOBS; i++) {
        snprintf(document, sizeof document, "aaaaaaaa-0000-7000-8000-0000000000%02x", i);
        snprintf(job, sizeof job, "dddddddd-0000-7000-8000-0000000000%02x", i);
        enqueue(i % 2 ? PG_SLUG_A : PG_SLUG_B, i % 2 ? PG_TENANT_A : PG_TENANT_B, document, job);
    }
    PGconn *one = pg_connect("cordon_jobs"), *two = pg_connect("cordon_jobs");
    pg_ask(one, "BEGIN");
    const char *first = pg_ask(one, "SELECT string_agg(right(job_id::text, 2), ',') FROM jobs.claim('ingest', 'one', 4, 30000)");
    const char *second = pg_ask(two, "SELECT string_agg(right(job_id::text, 2), ',') FROM jobs.claim('ingest', 'two', 4, 30000)");
    cr_expect_str_eq(first, "01,00,03,02", "tenants take turns");
    cr_expect_str_eq(second, "05,04,07,06", "locked rows are skipped, not waited for");
    pg_ask(one, "COMMIT");
    cr_expect_str_eq(pg_ask(one, "SELECT string_agg(queue || ' ' || state || ' ' || jobs || ' ' || (oldest_age_ms >= 0), ';') FROM jobs.depth()"), "ingest queued 4 true;ingest running 8 true");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET priority = 1 WHERE id = 'dddddddd-0000-7000-8000-00000000000b'");
    cr_expect_str_eq(pg_ask(one, "SELECT right(job_id::text, 2) FROM jobs.claim('ingest', 'one', 1, 30000)"), "0b", "a lower number is sooner");
    PQfinish(one);
    PQfinish(two);
}

/* ---- ends that are not the document's fault ---- */

static void run_now(void) {
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
}

static const char *end_once(PGconn *jobs, const char *how) {
    struct claimed c;
    run_now();
    cr_assert(claim(jobs, 30000, &c), "%s", how);
    PGconn *ingest = worker(&c);
    const char *state = pg_ask(ingest, "SELECT %s", how);
    pg_ask(ingest, "COMMIT");
    PQfinish(ingest);
    return state;
}

Test(db_jobs, an_outage_counts_for_nothing_and_waits_longer_each_time) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    for (int i = 1; i <= 12; i++) {
        cr_assert_str_eq(end_once(jobs, "jobs.postpone('KMS_002')"), "queued", "outage %d", i);
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT run_after <= clock_timestamp() + least(30, 0.5 * power(2, %d)) * interval '1 s' FROM jobs.jobs", i - 1), "t",
                         "the first waits are short, none is longer than half a minute: outage %d", i);
    }
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt || ' ' || outages || ' ' || reason_code FROM jobs.jobs"), "0 12 KMS_002");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status FROM app.documents"), "processing");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET outage_since = now() - interval '23 hours'");
    cr_expect_str_eq(end_once(jobs, "jobs.postpone('KMS_002')"), "queued");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET outage_since = now() - interval '25 hours'");
    cr_expect_str_eq(end_once(jobs, "jobs.postpone('KMS_001')"), "dead", "nobody waits for ever");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status || ' ' || reason_code FROM app.documents"), "failed KMS_001");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || min(detail ->> 'reason') FROM audit.audit_outbox WHERE action = 'job.dead'"), "1 KMS_001");
    PQfinish(jobs);
}

Test(db_jobs, a_job_that_is_handed_back_was_not_tried) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    for (int i = 0; i < 8; i++)
        (void)end_once(jobs, "jobs.release(0)");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt || ' ' || (run_after <= clock_timestamp()) || ' ' || (reason_code IS NULL) FROM jobs.jobs"),
                     "queued 0 true true");
    (void)end_once(jobs, "jobs.release(2000000000)");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT run_after <= clock_timestamp() + interval '5 min' FROM jobs.jobs"), "t", "capped");
    pg_ask(jobs, "LISTEN jobs_ingest");
    (void)end_once(jobs, "jobs.release(-1)");
    pg_ask(jobs, "SELECT 1");
    PGnotify *note = PQnotifies(jobs);
    cr_expect_not_null(note, "others are told at once");
    PQfreemem(note);

    struct claimed c;
    run_now();
    cr_assert(claim(jobs, 30000, &c));
    PGconn *ingest = worker(&c);
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.release(NULL)"), "22004");
    PQfinish(ingest);
    ingest = worker(&c);
    pg_ask(ingest, "SELECT jobs.release(0)");
    cr_expect_str_eq(pg_try(ingest, "SELECT jobs.release(0)"), "CJ001", "twice");
    PQfinish(ingest);
    PGconn *user = pg_connect("cordon_ingest");
    pg_ask(user, "BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
    cr_expect_str_eq(pg_try(user, "SELECT jobs.release(0)"), "42501", "a user's ticket is no job's");
    pg_ask(user, "ROLLBACK; BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
    cr_expect_str_eq(pg_try(user, "SELECT jobs.postpone('x')"), "42501");
    PQfinish(user);
    PQfinish(jobs);
}

Test(db_jobs, a_job_that_gets_further_is_not_stuck) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    for (int i = 0; i < 4; i++)
        cr_assert_str_eq(end_once(jobs, "jobs.fail('SRV_003', false)"), "queued");
    (void)end_once(jobs, "jobs.postpone('KMS_002')");
    struct claimed c;
    run_now();
    cr_assert(claim(jobs, 30000, &c));
    PGconn *ingest = worker(&c);
    pg_ask(ingest, "SELECT jobs.progress('fetch', NULL, NULL, NULL)");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt || ' ' || outages FROM jobs.jobs"), "5 1");
    pg_ask(ingest, "SELECT jobs.progress('embed', 1, 8, 80)");
    pg_ask(ingest, "COMMIT");
    PQfinish(ingest);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt || ' ' || outages || ' ' || (outage_since IS NULL) FROM jobs.jobs"), "1 0 true");
    ingest = worker(&c);
    pg_ask(ingest, "SELECT jobs.progress('fetch', NULL, NULL, NULL)");
    cr_expect_str_eq(pg_ask(ingest, "SELECT jobs.fail('SRV_003', false)"), "queued");
    pg_ask(ingest, "COMMIT");
    PQfinish(ingest);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT chunks_done || ' ' || pages_done FROM jobs.jobs"), "8 1", "what is not said stays");
    run_now();
    cr_assert(claim(jobs, 30000, &c));
    ingest = worker(&c);
    pg_ask(ingest, "SELECT jobs.progress('embed', 1, 8, 80); COMMIT");
    PQfinish(ingest);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt FROM jobs.jobs"), "2", "the same again is no progress");
    PQfinish(jobs);
}

/* Chunks and vectors are derived PHI: a document that failed keeps none. */
Test(db_jobs, a_dead_job_leaves_nothing_of_its_document) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    enqueue(PG_SLUG_B, PG_TENANT_B, DOC, "dddddddd-0000-7000-8000-000000000002");
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(pg_admin(), "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
                       "SELECT tenant_id, id, gen_random_uuid(), i, 0, 9, 2, 'x' FROM app.documents, generate_series(0, 2) i;"
                       "INSERT INTO app.text_vectors (tenant_id, text_blind, model, embedding) "
                       "SELECT tenant_id, text_blind, 'm', ('[1' || repeat(',0', 1023) || ']')::ext.halfvec FROM app.chunks");
    cr_expect_str_eq(end_once(jobs, "jobs.fail('SRV_003', false)"), "queued");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks WHERE tenant_id = '" PG_TENANT_A "'"), "3", "kept for the next attempt");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET attempt = max_attempts WHERE tenant_id = '" PG_TENANT_B "'");     /* nobody claims it */
    cr_expect_str_eq(end_once(jobs, "jobs.fail('DOC_004', true)"), "dead");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.chunks WHERE tenant_id = '" PG_TENANT_A "') || ' ' || "
                            "(SELECT count(*) FROM app.text_vectors WHERE tenant_id = '" PG_TENANT_A "')"), "0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.chunks) || ' ' || (SELECT count(*) FROM app.text_vectors)"), "3 3", "the other tenant's");
    PQfinish(jobs);
}

Test(db_jobs, a_worker_that_is_lost_for_the_last_time_leaves_nothing_either) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET max_attempts = 1;"
                       "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
                       "SELECT tenant_id, id, gen_random_uuid(), 0, 0, 9, 2, 'x' FROM app.documents");
    cr_assert(claim(jobs, 100, &(struct claimed){ 0 }));
    pg_ask(jobs, "SELECT pg_sleep(0.15)");
    cr_expect_str_eq(pg_ask(jobs, "SELECT requeued || ' ' || dead FROM jobs.reap('ingest')"), "0 1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks"), "0");
    PQfinish(jobs);
}

Test(db_jobs, there_is_no_work_on_a_deleted_document) {
    enqueue(PG_SLUG_A, PG_TENANT_A, DOC, JOB);
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now()");
    PGconn *ingest = pg_connect("cordon_ingest");
    const char *const documents[] = { DOC, PG_TENANT_A };
    for (size_t i = 0; i < 2; i++) {
        pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "ann"));
        cr_expect_str_eq(pg_try(ingest, "SELECT jobs.enqueue(gen_random_uuid(), 'ingest', 'ingest', '%s')", documents[i]), "23503", "as for one that never was");
        cr_expect_str_eq(pg_message(), "there is no such document");
        pg_ask(ingest, "ROLLBACK");
    }
    PQfinish(ingest);
}
