#include "job_metrics.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/str.h"
#include "db/plain_tx.h"

/* So many jobs are counted in a few milliseconds. More are counted again only after a time that grows with them: a
 * millisecond for each, of which counting takes about two microseconds, at most a minute. */
enum { SCRAPE_BUDGET_MS = 2000, COUNTED_EACH_TIME = 10000, COUNTED_AGAIN_MAX_MS = 60000 };

static PGresult *ask(struct db_pool *db, const struct sql *q, const struct db_param params[]) {
    struct why why = { 0 };
    PGresult *rows = NULL;
    return db_run(db, q, params, clock_mono_ms() + SCRAPE_BUDGET_MS, &rows, &why) == ST_OK ? rows : NULL;
}

/* States that have no row have no job. Returns how many jobs were counted. */
static int64_t collect_depth(struct db_pool *db, const char *queue, struct metrics *m) {
    static const struct sql DEPTH = { "job_depth", "SELECT queue, state, jobs, oldest_age_ms FROM jobs.depth()", 0 };
    static const char *const STATES[] = { "queued", "running", "dead" };
    CLEANUP(pgrows_destroy) PGresult *rows = ask(db, &DEPTH, NULL);
    int64_t counted = 0;
    for (int i = 0; rows && i < db_count(rows); i++)
        counted += db_i64(rows, i, 2);
    for (size_t s = 0; rows && s < sizeof STATES / sizeof *STATES; s++) {
        char labels[64];
        int64_t jobs = 0, age_ms = 0;
        for (int i = 0; i < db_count(rows); i++)
            if (str_equal(db_text(rows, i, 0), queue) && str_equal(db_text(rows, i, 1), STATES[s])) {
                jobs = db_i64(rows, i, 2);
                age_ms = db_i64(rows, i, 3);
            }
        (void)snprintf(labels, sizeof labels, "queue=\"%s\",state=\"%s\"", queue, STATES[s]);
        gauge_set(metrics_gauge(m, "cordon_jobs", "Jobs that are not done, by queue and state.", labels), (double)jobs);
        gauge_set(metrics_gauge(m, "cordon_jobs_oldest_age_seconds", "Age of the oldest of them.", labels), (double)age_ms / 1000);
    }
    return counted;
}

/* What a job may wait for is what the registry of errors calls passing. */
static void collect_stuck(struct db_pool *db, const char *queue, struct metrics *m) {
    static const struct sql STUCK = { "jobs_stuck", "SELECT queue, reason_code, jobs, oldest_age_ms FROM jobs.stuck()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = ask(db, &STUCK, NULL);
    for (int code = ERR_NONE + 1; rows && code < ERROR_CODE_COUNT; code++) {
        const char *reason = error_text_code((enum error_code)code);
        char labels[96];
        int64_t jobs = 0, age_ms = 0;
        if (!status_is_retryable(error_status((enum error_code)code)))
            continue;
        for (int i = 0; i < db_count(rows); i++)
            if (str_equal(db_text(rows, i, 0), queue) && !db_is_null(rows, i, 1) && str_equal(db_text(rows, i, 1), reason)) {
                jobs += db_i64(rows, i, 2);
                age_ms = db_i64(rows, i, 3) > age_ms ? db_i64(rows, i, 3) : age_ms;
            }
        (void)snprintf(labels, sizeof labels, "queue=\"%s\",reason=\"%s\"", queue, reason);
        gauge_set(metrics_gauge(m, "cordon_jobs_stuck", "Jobs that wait for something that is away, by what they were told.", labels), (double)jobs);
        gauge_set(metrics_gauge(m, "cordon_jobs_stuck_seconds", "For how long the first of them waits.", labels), (double)age_ms / 1000);
    }
}

static void collect_schedules(struct db_pool *db, struct metrics *m) {
    static const struct sql STATES = { "schedule_states", "SELECT name, last_success_age_ms, overdue_ms FROM jobs.schedule_states()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = ask(db, &STATES, NULL);
    for (int i = 0; rows && i < db_count(rows); i++) {
        char labels[96];
        (void)snprintf(labels, sizeof labels, "schedule=\"%s\"", db_text(rows, i, 0));
        gauge_set(metrics_gauge(m, "cordon_schedule_overdue_seconds", "For how long scheduled work is due and not done.", labels),
                  db_is_null(rows, i, 2) ? 0 : (double)db_i64(rows, i, 2) / 1000);
        if (!db_is_null(rows, i, 1))
            gauge_set(metrics_gauge(m, "cordon_schedule_last_success_age_seconds", "Since it was last done.", labels),
                      (double)db_i64(rows, i, 1) / 1000);
    }
}

static void collect_store(struct db_pool *db, struct metrics *m) {
    static const struct sql STATE = { "store_state", "SELECT store, kind, differences, compared_age_ms FROM jobs.store_state()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = ask(db, &STATE, NULL);
    for (int i = 0; rows && i < db_count(rows); i++) {
        char labels[64];
        (void)snprintf(labels, sizeof labels, "store=\"%s\",kind=\"%s\"", db_text(rows, i, 0), db_text(rows, i, 1));
        gauge_set(metrics_gauge(m, "cordon_store_differences", "Originals and key shares that a store and the database do not agree on.", labels),
                  (double)db_i64(rows, i, 2));
        (void)snprintf(labels, sizeof labels, "store=\"%s\"", db_text(rows, i, 0));
        gauge_set(metrics_gauge(m, "cordon_store_compared_age_seconds", "Since all of them were last compared.", labels), (double)db_i64(rows, i, 3) / 1000);
    }
}

/* Kinds that have no row have no work. */
static void collect_tenant_work(struct db_pool *db, struct metrics *m) {
    static const struct sql STATES = { "tenant_work", "SELECT kind, pending, stopped, oldest_age_ms FROM keys.work_states()", 0 };
    static const char *const KINDS[] = { "erasure", "rotation", "offboarding" };
    CLEANUP(pgrows_destroy) PGresult *rows = ask(db, &STATES, NULL);
    for (size_t k = 0; rows && k < sizeof KINDS / sizeof *KINDS; k++) {
        char labels[64];
        int64_t pending = 0, stopped = 0, age_ms = 0;
        for (int i = 0; i < db_count(rows); i++)
            if (str_equal(db_text(rows, i, 0), KINDS[k])) {
                pending = db_i64(rows, i, 1);
                stopped = db_i64(rows, i, 2);
                age_ms = db_i64(rows, i, 3);
            }
        static const char ABOUT[] = "Erasures, rotations of keys and ends of tenants that are not done; stopped: until somebody sees to them.";
        (void)snprintf(labels, sizeof labels, "kind=\"%s\",state=\"pending\"", KINDS[k]);
        gauge_set(metrics_gauge(m, "cordon_tenant_work", ABOUT, labels), (double)pending);
        (void)snprintf(labels, sizeof labels, "kind=\"%s\",state=\"stopped\"", KINDS[k]);
        gauge_set(metrics_gauge(m, "cordon_tenant_work", ABOUT, labels), (double)stopped);
        (void)snprintf(labels, sizeof labels, "kind=\"%s\"", KINDS[k]);
        gauge_set(metrics_gauge(m, "cordon_tenant_work_oldest_age_seconds", "Age of the oldest of them.", labels), (double)age_ms / 1000);
    }
}

static void collect_key_ages(struct db_pool *db, int64_t rotation_days, struct metrics *m) {
    static const struct sql AGES = { "key_ages", "SELECT due, oldest_age_ms FROM keys.key_ages($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = ask(db, &AGES, (struct db_param[]){ DB_INT(rotation_days) });
    if (!rows)
        return;
    gauge_set(metrics_gauge(m, "cordon_tenant_keys_due", "Active tenants whose data key is older than CORDON_KEY_ROTATION_DAYS.", ""),
              (double)db_i64(rows, 0, 0));
    gauge_set(metrics_gauge(m, "cordon_tenant_keys_oldest_age_seconds", "Age of the oldest data key that an active tenant seals under.", ""),
              (double)db_i64(rows, 0, 1) / 1000);
}

void job_metrics_collect(struct job_gauges *gauges, struct db_pool *jobs_db, const char *queue, int64_t rotation_days, struct metrics *m) {
    int64_t now_ms = clock_mono_ms();
    if (now_ms >= atomic_load(&gauges->count_at_ms)) {
        int64_t counted = collect_depth(jobs_db, queue, m);
        collect_stuck(jobs_db, queue, m);
        atomic_store(&gauges->count_at_ms, counted <= COUNTED_EACH_TIME ? now_ms
                     : now_ms + (counted < COUNTED_AGAIN_MAX_MS ? counted : COUNTED_AGAIN_MAX_MS));
    }
    collect_schedules(jobs_db, m);
    collect_store(jobs_db, m);
    collect_tenant_work(jobs_db, m);
    collect_key_ages(jobs_db, rotation_days, m);
}
