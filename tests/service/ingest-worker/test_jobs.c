/* People cancel and retry jobs, scheduled work runs once, and workers that die are noticed. */
#include "rig.h"

TestSuite(ingest_jobs, .init = rig_open, .fini = rig_close, .timeout = 120);

static struct uuid the_job(void) {
    struct uuid id;
    const char *text = pg_ask(pg_admin(), "SELECT id FROM jobs.jobs");
    cr_assert(uuid_parse(text, strlen(text), &id));
    return id;
}

/* method: "ingest.CancelJob" or "ingest.RetryJob", by tenant A's "ann". */
static enum status ask(const char *method, const struct uuid *job_id, char ret_state[16], struct why *ret_why) {
    struct asker a;
    asker_start(&a, &rig.edge, PATIENCE_MS);
    a.call.ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    bool is_cancel = str_equal(method, "ingest.CancelJob");
    Ingest__CancelJobRequest cancel = INGEST__CANCEL_JOB_REQUEST__INIT;
    Ingest__RetryJobRequest retry = INGEST__RETRY_JOB_REQUEST__INIT;
    cancel.job_id = retry.job_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)job_id->bytes };
    ProtobufCMessage *reply = NULL;
    enum status st = bus_ask(&a.call, method, is_cancel ? &cancel.base : &retry.base,
                             is_cancel ? &ingest__cancel_job_reply__descriptor : &ingest__retry_job_reply__descriptor, &reply);
    if (st == ST_OK)
        snprintf(ret_state, 16, "%s", is_cancel ? ((Ingest__CancelJobReply *)reply)->state : ((Ingest__RetryJobReply *)reply)->state);
    *ret_why = a.call.why;
    asker_end(&a);
    return st;
}

static sem_t may_go_on;
static void wait_at_2(unsigned call) {
    if (call == 2)
        sem_wait(&may_go_on);
}

Test(ingest_jobs, a_running_one_stops_between_two_steps_and_can_be_tried_again) {
    char state[16] = "";
    struct why why = { 0 };
    sem_init(&may_go_on, 0, 0);
    rig_add_document(400);
    struct uuid id = the_job();
    rig.on_embed = wait_at_2;
    rig_start_jobs();
    WAIT_FOR(rig.embedded_calls == 2);
    cr_assert_eq(ask("ingest.CancelJob", &id, state, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(state, "running");
    usleep(600 * 1000);                     /* its pool asks four times a second who is to stop */
    sem_post(&may_go_on);
    rig_wait_for("cancelled 1 cancelled", JOB_STATE_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "failed cancelled");
    cr_expect_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "0 0");
    cr_expect_leq(rig.embedded_calls, 2, "nothing more went to the model");
    cr_expect_eq(ask("ingest.CancelJob", &id, state, &why), ST_OK, "twice is once");

    cr_assert_eq(ask("ingest.RetryJob", &id, state, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(state, "queued");
    rig_wait_for("ready", DOCUMENT_SQL);
    cr_expect_eq(ask("ingest.RetryJob", &id, state, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_JOB_DONE);
    cr_expect_eq(ask("ingest.CancelJob", &id, state, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_JOB_OVER);
    sem_destroy(&may_go_on);
}

Test(ingest_jobs, one_that_waits_is_cancelled_at_once) {
    char state[16] = "";
    struct why why = { 0 };
    rig_add_document(1);
    struct uuid id = the_job(), absent = uuid_v7();
    cr_expect_eq(ask("ingest.CancelJob", &absent, state, &why), ST_NOT_FOUND);
    cr_assert_eq(ask("ingest.CancelJob", &id, state, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(state, "cancelled");
    rig_start_jobs();
    rig_wait_for("t", "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%jobs.claim(%'");
    cr_expect_eq(rig.embedded_calls, 0);
}

/* When a job that was put off is tried again, in seconds; long has passed since it was. */
#define POSTPONED_SQL "SELECT state || ' ' || attempt || ' ' || outages || ' ' || reason_code FROM jobs.jobs"
#define IN_SECONDS_SQL "SELECT extract(epoch FROM run_after - outage_since)::int FROM jobs.jobs"

Test(ingest_jobs, one_whose_tenant_has_used_up_its_budget_comes_back_when_the_model_says) {
    static const struct { int budget_ms; const char *wanted_s; } ROWS[] = { { 20 * 60000, "BETWEEN 1195 AND 1205" }, { 86400000, "BETWEEN 3595 AND 3605" } };
    rig_add_document(1);
    rig_start_jobs();
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        rig.budget_ms = ROWS[i].budget_ms;
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = clock_timestamp(), outages = 0, outage_since = NULL");
        rig_wait_for("queued 0 1 MODEL_004", POSTPONED_SQL);
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (" IN_SECONDS_SQL ") %s", ROWS[i].wanted_s), "t", "%d ms: in %s s; an hour at most, for budgets may be raised",
                         ROWS[i].budget_ms, pg_ask(pg_admin(), IN_SECONDS_SQL));
    }
    unsigned calls = rig.embedded_calls;
    rig.budget_ms = 0;
    cr_expect_eq(calls, 2, "it was not tried in between: %u", calls);
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = clock_timestamp()");
    rig_wait_for("ready", DOCUMENT_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt FROM jobs.jobs"), "1", "waiting cost no attempt");
}

Test(ingest_jobs, scheduled_work_runs_when_it_is_due) {
    pg_ask(pg_admin(), "UPDATE jobs.schedules SET next_run_at = now() - interval '1 s' WHERE name = 'purge'");
    rig_start_jobs();
    rig_wait_for("done true", "SELECT last_outcome || ' ' || (next_run_at > now()) FROM jobs.schedules WHERE name = 'purge'");
}

/* Poison: whoever takes it dies. */
Test(ingest_jobs, one_that_kills_its_workers_dies_with_a_reason_and_the_others_go_on) {
    rig_add_document(1);
    PGconn *dies = NULL;
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET max_attempts = 2");
    for (int i = 0; i < 2; i++) {
        dies = pg_connect("cordon_jobs");
        const char *session = pg_ask(dies, "SELECT session FROM jobs.attend(NULL)");
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
        cr_assert_str_eq(pg_ask(dies, "SELECT count(*) FROM jobs.claim('ingest', 'w', 1, 60000, %s)", session), "1");
        PQfinish(dies);
        pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now()");
        for (int turn = 0; turn < 2; turn++) {
            PGconn *other = pg_connect("cordon_jobs");
            rig_wait_for("0", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = 1785684595");
            pg_ask(other, "SELECT jobs.reap('ingest')");
            PQfinish(other);
            rig_wait_for("t", "SELECT state <> 'running' OR lease_until < clock_timestamp() FROM jobs.jobs");
        }
    }
    cr_expect_str_eq(pg_ask(pg_admin(), JOB_STATE_SQL), "dead 2 worker_lost");
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "failed worker_lost");
}
