/* What a scrape of ingest-worker shows of the queue and of attempts at jobs. */
#include "rig.h"

TestSuite(ingest_metrics, .init = rig_open, .fini = rig_close, .timeout = 120);

static bool scrape_shows(const char *line) {
    struct buffer out;
    buffer_init(&out, 0);
    INGEST_WORKER.collect(rig.ingest, rig.runtime.metrics);
    metrics_print(rig.runtime.metrics, &out);
    buffer_add(&out, "", 1);
    bool shows = strstr((const char *)out.data, line);
    buffer_end(&out);
    return shows;
}

static void fill(int jobs) {
    PGconn *conn = pg_connect(NULL);
    pg_ask(conn, "SET session_replication_role = replica");
    pg_ask(conn, "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id) SELECT '" PG_TENANT_A "', gen_random_uuid(), 'ingest', 'ingest', "
                 "gen_random_uuid(), gen_random_uuid() FROM generate_series(1, %d)", jobs);
    PQfinish(conn);
}

Test(ingest_metrics, a_short_queue_is_counted_at_each_scrape) {
    cr_expect(scrape_shows("\ncordon_jobs{queue=\"ingest\",state=\"queued\"} 0\n"));
    fill(9);
    cr_expect(scrape_shows("\ncordon_jobs{queue=\"ingest\",state=\"queued\"} 9\n"));
    fill(1);
    cr_expect(scrape_shows("\ncordon_jobs{queue=\"ingest\",state=\"queued\"} 10\n"));
}

Test(ingest_metrics, a_long_queue_is_not_counted_at_each_scrape_and_again_when_its_time_has_come) {
    fill(20000);
    cr_expect(scrape_shows("\ncordon_jobs{queue=\"ingest\",state=\"queued\"} 20000\n"));
    int64_t count_at_ms = rig.ingest->gauges.count_at_ms, now_ms = clock_mono_ms();
    cr_expect(count_at_ms > now_ms + 10000 && count_at_ms <= now_ms + 60000, "in %lld ms", (long long)(count_at_ms - now_ms));
    fill(1);
    cr_expect(scrape_shows("\ncordon_jobs{queue=\"ingest\",state=\"queued\"} 20000\n"));
    rig.ingest->gauges.count_at_ms = now_ms;
    cr_expect(scrape_shows("\ncordon_jobs{queue=\"ingest\",state=\"queued\"} 20001\n"));
}

#define ERASING "INSERT INTO app.erasures (tenant_id, id, reason_code, reference, requested_by, requested_at) " \
                "VALUES ('" PG_TENANT_A "', '%s', 'court_order', '', gen_random_uuid(), now() - interval '1 h')"
#define JOB "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, state, done_at, reason_code) SELECT '" PG_TENANT_A "', '%s', 'ingest', '%s', " \
            "'00000000-0000-0000-0000-000000000000', gen_random_uuid(), '%s', CASE WHEN '%s' <> 'queued' THEN now() END, 'INT_001'"

Test(ingest_metrics, erasures_and_rotations_are_counted_and_those_that_stopped_and_keys_that_are_due) {
    static const char *const ids[] = { "01a30000-0000-7000-8000-000000000001", "01a30000-0000-7000-8000-000000000002", "01a30000-0000-7000-8000-000000000003" };
    cr_expect(scrape_shows("\ncordon_tenant_work{kind=\"erasure\",state=\"pending\"} 0\n"), "there before there is one");
    cr_expect(scrape_shows("\ncordon_tenant_work{kind=\"offboarding\",state=\"stopped\"} 0\n"));
    cr_expect(scrape_shows("\ncordon_tenant_keys_due 0\n"));
    PGconn *conn = pg_connect(NULL);
    pg_ask(conn, "SET session_replication_role = replica");
    for (size_t i = 0; i < 3; i++)
        pg_ask(conn, ERASING, ids[i]);
    pg_ask(conn, JOB, ids[0], "erase", "queued", "queued");
    pg_ask(conn, JOB, ids[1], "erase", "dead", "dead");              /* and the third's was cancelled and purged */
    pg_ask(conn, JOB, "01a30000-0000-7000-8000-000000000004", "rewrap", "dead", "dead");
    pg_ask(conn, "UPDATE keys.tenant_keys SET created_at = now() - interval '366 days' WHERE tenant_id = '" PG_TENANT_A "'");
    PQfinish(conn);
    cr_expect(scrape_shows("\ncordon_tenant_work{kind=\"erasure\",state=\"pending\"} 1\n"));
    cr_expect(scrape_shows("\ncordon_tenant_work{kind=\"erasure\",state=\"stopped\"} 2\n"));
    cr_expect(scrape_shows("\ncordon_tenant_work_oldest_age_seconds{kind=\"erasure\"} 36"));
    cr_expect(scrape_shows("\ncordon_tenant_work{kind=\"rotation\",state=\"stopped\"} 1\n"));
    cr_expect(scrape_shows("\ncordon_tenant_keys_due 1\n"));
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended' WHERE id = '" PG_TENANT_A "'");
    cr_expect(scrape_shows("\ncordon_tenant_keys_due 0\n"), "nobody seals under it any more");
}

Test(ingest_metrics, every_way_in_which_an_attempt_ends_is_there_from_the_start) {
    static const char *const outcomes[] = { "done", "failed", "given_up", "postponed", "released", "cancelled", "lost" };
    rig_start_jobs();
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        char line[128];
        snprintf(line, sizeof line, "\ncordon_jobs_ended_total{kind=\"ingest\",outcome=\"%s\"} 0\n", outcomes[i]);
        cr_expect(scrape_shows(line), "%s", outcomes[i]);
    }
    cr_assert_eq(rig_upload(NULL, "a few words", 11, NULL, NULL), ST_OK);
    WAIT_FOR(scrape_shows("\ncordon_jobs_ended_total{kind=\"ingest\",outcome=\"done\"} 1\n"));
    cr_assert_eq(rig_upload(&(struct rig_upload){ .type = "application/pdf", .announced_bytes = -1 }, "no pdf at all", 13, NULL, NULL), ST_OK);
    WAIT_FOR(scrape_shows("\ncordon_jobs_ended_total{kind=\"ingest\",outcome=\"given_up\"} 1\n"));
    rig.model_status = ST_UNAVAILABLE;
    cr_assert_eq(rig_upload(NULL, "more words", 10, NULL, NULL), ST_OK);
    WAIT_FOR(scrape_shows("\ncordon_jobs_ended_total{kind=\"ingest\",outcome=\"postponed\"} 1\n"));
}
