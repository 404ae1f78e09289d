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
