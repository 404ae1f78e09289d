/* job_pool with jobs that the test plays: how many it takes, how it keeps them, what it takes from the dead, how it ends. */
#include <stdalign.h>
#include <stddef.h>

#include "db/tenant_tx.h"
#include "job_run.h"
#include "rig.h"

enum { THREADS = 3, LEASE_MS = 3000 };

static int64_t lease_ms = LEASE_MS;
static struct job_pool *pool;
static struct db_listener *listener;
static atomic_uint running, most_running, ended, handed_back;
static atomic_bool may_end;
static char tickets[2][4096];           /* of the first job: when it began, and after a renewal */

static void complete(const char *ticket) {
    static const struct sql COMPLETE = { "complete_job", "SELECT jobs.complete()", 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct why why = { 0 };
    if (tenant_tx_begin(&tx, rig.ingest->db, ticket, NULL, SCOPE_JOB_INGEST, clock_mono_ms() + PATIENCE_MS, &why) != ST_OK ||
        tenant_tx_run(&tx, &COMPLETE, NULL, NULL, &why) != ST_OK || tenant_tx_commit(&tx, &why) != ST_OK)
        fprintf(stderr, "not completed: %s\n", why.text);
}

/* On a job thread, so without support/pg: its memory belongs to the test's thread. */
static void run(void *self, struct job_pool *p, const struct job *job, struct bus_client *bus) {
    (void)self;
    (void)bus;
    unsigned now = ++running, most = most_running;
    while (now > most && !atomic_compare_exchange_weak(&most_running, &most, now))
        ;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    const char *first = NULL, *last = NULL;
    if (job_ticket(p, job, mem, &first, &why) == ST_OK && now == 1)
        snprintf(tickets[0], sizeof tickets[0], "%s", first);
    while (!may_end)
        usleep(2000);
    if (job_ticket(p, job, mem, &last, &why) == ST_OK) {
        if (now == 1)
            snprintf(tickets[1], sizeof tickets[1], "%s", last);
        complete(last);
    }
    running--;
    ended++;
}

static void hand_back(void *self, struct job_pool *p, const struct job *job, int64_t deadline_ms) {
    (void)self;
    (void)p;
    (void)job;
    (void)deadline_ms;
    handed_back++;
}

static void open_pool(void) {
    rig_open();
    struct why why = { 0 };
    struct db_options options = { .url = pg_url("cordon_jobs"), .process = "pool-test" };
    cr_assert_eq(db_listener_new(&options, "jobs_ingest", &listener, &why), ST_OK);
}

static void close_pool(void) {
    may_end = true;
    cr_assert(job_pool_destroy(&pool, clock_mono_ms() + PATIENCE_MS));
    db_listener_destroy(&listener);
    rig_close();
}

static enum status start_pool_of(void (*work)(void *self, struct job_pool *p, const struct job *job, struct bus_client *bus), int threads, int64_t poll_ms,
                                 struct why *why) {
    return job_pool_start(&(struct job_pool_options){ .queue = "ingest", .threads_count = threads, .lease_ms = lease_ms, .poll_ms = poll_ms,
                          .db = rig.ingest->jobs_db, .listener = listener, .runtime = &rig.runtime, .run = work, .hand_back = hand_back }, &pool, why);
}

static enum status start_pool(int threads, int64_t poll_ms, struct why *why) {
    return start_pool_of(run, threads, poll_ms, why);
}

static void add_jobs(int count) {
    for (int i = 0; i < count; i++)
        cr_assert_eq(rig_upload(NULL, "abc", 3, NULL, NULL), ST_OK);
}

TestSuite(job_pool, .init = open_pool, .fini = close_pool, .timeout = 60);

Test(job_pool, takes_as_many_as_it_has_threads_and_then_the_next) {
    struct why why = { 0 };
    add_jobs(THREADS + 2);
    cr_assert_eq(start_pool(THREADS, 60000, &why), ST_OK, "%s", why.text);
    rig_wait_for("3 2", "SELECT count(*) FILTER (WHERE state = 'running') || ' ' || count(*) FILTER (WHERE state = 'queued') FROM jobs.jobs");
    WAIT_FOR(running == THREADS);
    may_end = true;
    WAIT_FOR(ended == THREADS + 2);     /* told by the threads that became idle: the next poll is a minute away */
    cr_expect_eq(most_running, THREADS);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT min(attempt) || ' ' || max(attempt) || ' ' || count(DISTINCT fence) FROM jobs.jobs WHERE state = 'succeeded'"), "1 1 5");
}

static ptrdiff_t taken_bytes;           /* of the attempt's memory, by all of its steps */

static void take_many_steps(void *self, struct job_pool *p, const struct job *job, struct bus_client *bus) {
    (void)self;
    (void)bus;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct job_run work = { .pool = p, .job = job, .mem = mem, .call = { .ticket = "" } };
    const char *before = arena_alloc(mem, 1);
    for (int i = 0; i < 1000; i++)
        if (job_run_step(&work, STEP_DATABASE, PATIENCE_MS) != ST_OK)
            fprintf(stderr, "no step: %s\n", work.call.why.text);
    taken_bytes = (const char *)arena_alloc(mem, 1) - before;
    complete(work.call.ticket);
    arena_destroy(&work.ticket_mem);
    ended++;
}

/* A tenant's keys are wrapped anew, and its documents erased, in one attempt, however many they are. */
Test(job_pool, keeps_no_ticket_of_the_steps_before) {
    struct why why = { 0 };
    add_jobs(1);
    cr_assert_eq(start_pool_of(take_many_steps, 1, 20, &why), ST_OK, "%s", why.text);
    WAIT_FOR(ended == 1);
    cr_expect_eq(taken_bytes, alignof(max_align_t));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM jobs.jobs WHERE state = 'succeeded'"), "1", "the last ticket is there");
}

Test(job_pool, comes_when_it_is_called) {
    struct why why = { 0 };
    may_end = true;
    cr_assert_eq(start_pool(1, 60000, &why), ST_OK, "%s", why.text);
    rig_wait_for("t", "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%jobs.attend%'");
    add_jobs(1);
    WAIT_FOR(ended == 1);
}

Test(job_pool, keeps_its_leases_and_hands_over_fresh_tickets) {
    struct why why = { 0 };
    add_jobs(2);
    cr_assert_eq(start_pool(2, 20, &why), ST_OK, "%s", why.text);
    WAIT_FOR(running == 2);
    const char *first = pg_ask(pg_admin(), "SELECT max(lease_until) FROM jobs.jobs");
    usleep((LEASE_MS + 500) * 1000);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || max(attempt) FROM jobs.jobs WHERE state = 'running' AND lease_until > clock_timestamp()"), "2 1",
                     "after the first lease would have ended");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT min(lease_until) > '%s' FROM jobs.jobs", first), "t");
    may_end = true;
    WAIT_FOR(ended == 2);
    cr_expect_str_neq(tickets[0], tickets[1]);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM jobs.jobs WHERE state = 'succeeded'"), "2", "the last ticket opens");
}

Test(job_pool, takes_over_what_a_dead_worker_left) {
    struct why why = { 0 };
    add_jobs(1);
    PGconn *dead = pg_connect("cordon_jobs");
    pg_ask(dead, "SELECT jobs.claim('ingest', 'dead', 1, 200)");
    PQfinish(dead);
    may_end = true;
    cr_assert_eq(start_pool(1, 20, &why), ST_OK, "%s", why.text);
    rig_wait_for("t", "SELECT state = 'queued' OR attempt = 2 FROM jobs.jobs");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() WHERE state = 'queued'");
    WAIT_FOR(ended == 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt || ' ' || state FROM jobs.jobs"), "2 succeeded");
}

/* Its lease would have lasted a minute, and the next poll is as far away. */
Test(job_pool, takes_over_at_once_when_the_other_ones_session_is_gone) {
    struct why why = { 0 };
    add_jobs(1);
    PGconn *dead = pg_connect("cordon_jobs");
    pg_ask(dead, "SELECT jobs.claim('ingest', 'dead', 1, 60000, (SELECT session FROM jobs.attend(NULL)))");
    may_end = true;
    cr_assert_eq(start_pool(1, 60000, &why), ST_OK, "%s", why.text);
    rig_wait_for("t", "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%jobs.attend%' AND application_name = 'pool-test'");
    usleep(600 * 1000);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt FROM jobs.jobs"), "running 1", "it is there");
    PQfinish(dead);
    WAIT_FOR(ended == 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt || ' ' || state FROM jobs.jobs"), "2 succeeded");
}

/* All its connections end, as when the server restarts, and it comes back: nobody takes its jobs. */
Test(job_pool, keeps_its_jobs_when_its_session_is_cut) {
    struct why why = { 0 };
    lease_ms = 60000;
    add_jobs(1);
    cr_assert_eq(start_pool(1, 60000, &why), ST_OK, "%s", why.text);
    WAIT_FOR(running == 1);
    for (int i = 0; i < 5; i++) {
        rig_wait_for("1", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = 1785684595 AND granted");
        pg_ask(pg_admin(), "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' "
                           "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.classid = 1785684595");
        PGconn *other = pg_connect("cordon_jobs");
        rig_wait_for("0", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = 1785684595 AND granted");
        pg_ask(other, "SELECT jobs.reap('ingest')");
        PQfinish(other);
    }
    usleep(1000 * 1000);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt FROM jobs.jobs"), "running 1");
    may_end = true;
    WAIT_FOR(ended == 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT attempt || ' ' || state FROM jobs.jobs"), "1 succeeded");
}

/* Nobody is told of this job. */
Test(job_pool, a_lost_wake_up_costs_the_poll_interval_only) {
    struct why why = { 0 };
    may_end = true;
    cr_assert_eq(start_pool(1, 300, &why), ST_OK, "%s", why.text);
    add_jobs(1);
    WAIT_FOR(ended == 1);
    pg_ask(pg_admin(), "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id) SELECT tenant_id, gen_random_uuid(), queue, kind, document_id, user_id FROM jobs.jobs");
    int64_t began_ms = clock_mono_ms();
    WAIT_FOR(ended == 2);
    cr_expect_leq(clock_mono_ms() - began_ms, 5000);
}

static void claim_for_another(const char *job) {
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET fence = nextval('jobs.fence'), lease_hash = 'theirs' WHERE id = '%s'", job);
}

Test(job_pool, tells_the_job_that_its_lease_is_lost) {
    struct why why = { 0 };
    add_jobs(1);
    cr_assert_eq(start_pool(1, 20, &why), ST_OK, "%s", why.text);
    WAIT_FOR(running == 1);
    claim_for_another(pg_ask(pg_admin(), "SELECT id FROM jobs.jobs"));
    usleep(LEASE_MS * 1000);
    may_end = true;
    WAIT_FOR(ended == 1);
    cr_expect_str_eq(tickets[1], "", "it gets no ticket any more");
}

Test(job_pool, does_not_wait_for_ever_for_a_job_that_does_not_end) {
    struct why why = { 0 };
    add_jobs(3);
    cr_assert_eq(start_pool(2, 20, &why), ST_OK, "%s", why.text);
    WAIT_FOR(running == 2);
    int64_t began_ms = clock_mono_ms();
    job_pool_drain(pool, began_ms + 200, began_ms + 400);
    cr_expect_eq(handed_back, 2);
    cr_expect_not(job_pool_destroy(&pool, began_ms + 400));
    cr_expect_leq(clock_mono_ms() - began_ms, PATIENCE_MS);
    cr_assert_not_null(pool);
    may_end = true;
    cr_assert(job_pool_destroy(&pool, clock_mono_ms() + PATIENCE_MS));
    cr_expect_null(pool);
    cr_expect_eq(ended, 2, "nothing was taken after the drain began");
}

Test(job_pool, a_start_that_fails_leaves_nothing) {
    struct why why = { 0 };
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    cr_assert_eq(pthread_attr_setstacksize(&attr, (size_t)1 << 46), 0);     /* no thread can have it */
    cr_assert_eq(pthread_setattr_default_np(&attr), 0);
    cr_expect_eq(start_pool(2, 20, &why), ST_INTERNAL);
    cr_expect_null(pool);
    pthread_attr_setstacksize(&attr, 1 << 20);
    cr_assert_eq(pthread_setattr_default_np(&attr), 0);
    pthread_attr_destroy(&attr);
}

Test(job_pool, takes_nothing_once_it_drains) {
    struct why why = { 0 };
    cr_assert_eq(start_pool(1, 20, &why), ST_OK, "%s", why.text);
    job_pool_drain(pool, clock_mono_ms() + 1000, clock_mono_ms() + 1000);
    add_jobs(1);
    usleep(300 * 1000);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state || ' ' || attempt FROM jobs.jobs"), "queued 0");
}
