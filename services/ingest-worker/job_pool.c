#include "job_pool.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/cancel.h"
#include "core/clock.h"
#include "core/fault.h"
#include "db/plain_tx.h"
#include "obs/log.h"

enum { LEASE_TOKEN_BYTES = 65, REAP_INTERVAL_MS = 250, DATABASE_BUDGET_MS = 5000, UNATTENDED_RENEW_MS = 200 };

enum slot_state { SLOT_IDLE, SLOT_ASSIGNED, SLOT_RUNNING };

/* One job thread and what it holds. All members but thread, pool and job are under pool->lock. */
struct slot {
    struct job_pool *pool;
    pthread_t thread;
    enum slot_state state;
    struct job job;                 /* written by the coordinator while idle, read-only afterwards */
    int64_t fence;
    char lease_token[LEASE_TOKEN_BYTES];
    char *ticket;                   /* heap; replaced at each renewal */
    bool is_lost, is_cancelled;
};

struct job_pool {
    struct job_pool_options options;
    char worker_name[128];
    pthread_mutex_t lock;
    pthread_cond_t assigned;        /* a slot was assigned, or the threads shall end */
    pthread_cond_t idle;            /* a slot became idle */
    pthread_t coordinator;
    int wake_fd;                    /* eventfd: a slot became idle, or the pool drains */
    bool is_draining, is_ending;
    bool has_coordinator;           /* it runs and was not joined; as thread_count, for the starting thread only */
    int thread_count;               /* of slots, from the first, whose thread runs */
    /* the coordinator's own: by which number jobs.attend() knows this worker, 0 before; of which session of the listener
     * that is so */
    int64_t session;
    unsigned attended;
    struct counter *claimed, *taken_over[3];
    struct gauge *in_flight;
    struct histogram *waited;
    struct slot slots[JOB_THREADS_MAX];
};

static void wake(struct job_pool *p) {
    uint64_t one = 1;
    (void)!write(p->wake_fd, &one, sizeof one);     /* full means that a wake-up is pending already */
}

static void ticket_replace(struct slot *s, const char *ticket) {
    if (s->ticket) {
        explicit_bzero(s->ticket, strlen(s->ticket));
        free(s->ticket);
    }
    s->ticket = ticket ? xstrdup(ticket) : NULL;
}

/* ---- job threads ---- */

static void *job_thread(void *arg) {
    struct slot *s = arg;
    struct job_pool *p = s->pool;
    struct bus_client *bus = bus_client_new(p->options.runtime->bus);
    cancel_on(runtime_halt_fd(p->options.runtime));
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (s->state != SLOT_ASSIGNED && !p->is_ending)
            pthread_cond_wait(&p->assigned, &p->lock);
        if (s->state != SLOT_ASSIGNED)
            break;
        s->state = SLOT_RUNNING;        /* at the end too: the job hands itself back */
        pthread_mutex_unlock(&p->lock);
        p->options.run(p->options.self, p, &s->job, bus);
        pthread_mutex_lock(&p->lock);
        s->state = SLOT_IDLE;
        ticket_replace(s, NULL);
        gauge_add(p->in_flight, -1);
        pthread_cond_broadcast(&p->idle);
        wake(p);
    }
    pthread_mutex_unlock(&p->lock);
    bus_client_destroy(&bus);
    return NULL;
}

static struct slot *slot_of(struct job_pool *p, const struct job *job) {
    for (int i = 0; i < p->options.threads_count; i++)
        if (&p->slots[i].job == job)
            return &p->slots[i];
    return NULL;
}

enum status job_ticket(struct job_pool *p, const struct job *job, struct arena *mem, const char **ret_ticket,
                       struct why *why) {
    struct slot *s = slot_of(p, job);
    enum status st = ST_OK;
    pthread_mutex_lock(&p->lock);
    if (!s || s->is_lost || !s->ticket)
        st = fail(why, ST_CONFLICT, "the job's lease is lost");
    else
        *ret_ticket = arena_strdup(mem, s->ticket);
    pthread_mutex_unlock(&p->lock);
    return st;
}

bool job_should_stop(struct job_pool *p, const struct job *job) {
    struct slot *s = slot_of(p, job);
    pthread_mutex_lock(&p->lock);
    bool stop = !s || s->is_lost || s->is_cancelled || p->is_draining || p->is_ending;
    pthread_mutex_unlock(&p->lock);
    return stop;
}

bool job_is_cancelled(struct job_pool *p, const struct job *job) {
    struct slot *s = slot_of(p, job);
    pthread_mutex_lock(&p->lock);
    bool is_cancelled = s && s->is_cancelled;
    pthread_mutex_unlock(&p->lock);
    return is_cancelled;
}

/* ---- the coordinator ---- */

static bool is_attended(const struct job_pool *p) {
    return p->attended && p->attended == db_listener_session(p->options.listener);
}

/* Tie this worker's life to the listener's session. True: it is so since now, and leases that others have cut short
 * meanwhile must be renewed. */
static bool attend(struct job_pool *p) {
    static const struct sql ATTEND = { "attend", "SELECT session::bigint, is_attended FROM jobs.attend($1)", 1 };
    unsigned connection = db_listener_session(p->options.listener);
    if (!connection || is_attended(p))
        return false;
    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_listener_run(p->options.listener, &ATTEND, (struct db_param[]){ p->session ? DB_INT(p->session) : DB_NULL },
                                     clock_mono_ms() + DATABASE_BUDGET_MS, &rows, &why);
    if (st != ST_OK) {
        log_event(LOG_WARN, "worker_not_attended", LOG_TEXT("why", why.text));
        return false;
    }
    p->session = db_i64(rows, 0, 0);
    if (!db_bool(rows, 0, 1))       /* our session of before is not gone yet: the next turn asks again */
        return false;
    p->attended = connection;
    return true;
}

static void renew_one(struct job_pool *p, struct slot *s) {
    static const struct sql RENEW = { "renew_job", "SELECT jobs.renew($1, $2, $3, $4, $5)", 5 };
    struct uuid id;
    int64_t fence;
    char token[LEASE_TOKEN_BYTES];
    pthread_mutex_lock(&p->lock);
    bool is_held = s->state != SLOT_IDLE && !s->is_lost;
    id = s->job.id;
    fence = s->fence;
    memcpy(token, s->lease_token, sizeof token);
    pthread_mutex_unlock(&p->lock);
    if (!is_held)
        return;

    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(p->options.db, &RENEW,
                            (struct db_param[]){ DB_UUID(&id), DB_INT(fence), DB_TEXT(token), DB_INT(p->options.lease_ms),
                                                  is_attended(p) ? DB_INT(p->session) : DB_NULL },
                            clock_mono_ms() + p->options.lease_ms, &rows, &why);
    explicit_bzero(token, sizeof token);
    if (st != ST_OK) {          /* the lease may outlive a short outage: the next turn asks again */
        log_event(LOG_WARN, "lease_not_renewed", LOG_TEXT("why", why.text));
        return;
    }
    fault_point(FAULT_JOB_RENEWED);
    pthread_mutex_lock(&p->lock);
    if (s->state != SLOT_IDLE && s->fence == fence) {
        if (db_count(rows) == 1 && !db_is_null(rows, 0, 0))
            ticket_replace(s, db_text(rows, 0, 0));
        else
            s->is_lost = true;
    }
    pthread_mutex_unlock(&p->lock);
}

static int idle_count(struct job_pool *p) {
    int n = 0;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; !p->is_draining && i < p->options.threads_count; i++)
        n += p->slots[i].state == SLOT_IDLE;
    pthread_mutex_unlock(&p->lock);
    return n;
}

static void assign(struct job_pool *p, const PGresult *rows, int row) {
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->options.threads_count; i++) {
        struct slot *s = &p->slots[i];
        if (s->state != SLOT_IDLE)
            continue;
        s->job = (struct job){ .id = db_uuid(rows, row, 0), .document_id = db_uuid(rows, row, 2),
                               .attempt = (int)db_i64(rows, row, 3), .max_attempts = (int)db_i64(rows, row, 4) };
        strncpy(s->job.kind, db_text(rows, row, 1), sizeof s->job.kind - 1);
        strncpy(s->job.traceparent, db_text(rows, row, 8), sizeof s->job.traceparent - 1);
        s->fence = db_i64(rows, row, 5);
        strncpy(s->lease_token, db_text(rows, row, 6), sizeof s->lease_token - 1);
        ticket_replace(s, db_text(rows, row, 7));
        s->is_lost = s->is_cancelled = false;
        s->state = SLOT_ASSIGNED;
        gauge_add(p->in_flight, 1);
        histogram_observe_us(p->waited, db_i64(rows, row, 9) * 1000);
        break;
    }
    pthread_cond_broadcast(&p->assigned);
    pthread_mutex_unlock(&p->lock);
}

/* Claim for the idle threads. False: the database did not answer. */
static bool claim(struct job_pool *p) {
    static const struct sql CLAIM = { "claim_jobs",
        "SELECT job_id, kind, document_id, attempt, max_attempts, fence, lease_token, ticket, traceparent, waited_ms "
        "FROM jobs.claim($1, $2, $3, $4, $5)", 5 };
    int n = idle_count(p);
    if (n == 0)
        return true;
    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    fault_point(FAULT_JOB_BEFORE_CLAIM);
    enum status st = db_run(p->options.db, &CLAIM, (struct db_param[]){ DB_TEXT(p->options.queue), DB_TEXT(p->worker_name),
                            DB_INT(n), DB_INT(p->options.lease_ms), is_attended(p) ? DB_INT(p->session) : DB_NULL },
                            clock_mono_ms() + DATABASE_BUDGET_MS, &rows, &why);
    if (st != ST_OK) {
        log_event(LOG_WARN, "jobs_not_claimed", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
        return false;
    }
    if (db_count(rows) > 0)
        fault_point(FAULT_JOB_CLAIMED);
    for (int i = 0; i < db_count(rows); i++)
        assign(p, rows, i);
    counter_add(p->claimed, (uint64_t)db_count(rows));
    return true;
}

/* Somebody cancels these jobs of ours. */
static void stop_cancelled(struct job_pool *p, const PGresult *rows, int column) {
    const char *text = NULL;
    size_t len = 0;
    struct uuid id;
    pthread_mutex_lock(&p->lock);
    for (int n = 0; db_text_item(rows, 0, column, n, &text, &len); n++)
        for (int i = 0; uuid_parse(text, len, &id) && i < p->options.threads_count; i++)
            if (p->slots[i].state != SLOT_IDLE && uuid_equal(&p->slots[i].job.id, &id))
                p->slots[i].is_cancelled = true;
    pthread_mutex_unlock(&p->lock);
}

static void reap(struct job_pool *p) {
    static const struct sql REAP = { "reap_jobs", "SELECT requeued, dead, cancelled, stop::text[] FROM jobs.reap($1, $2)", 2 };
    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    fault_point(FAULT_JOB_BEFORE_REAP);
    enum status st = db_run(p->options.db, &REAP, (struct db_param[]){ DB_TEXT(p->options.queue), p->session ? DB_INT(p->session) : DB_NULL },
                            clock_mono_ms() + DATABASE_BUDGET_MS, &rows, &why);
    if (st != ST_OK)
        return;
    int64_t taken = 0;
    for (int i = 0; i < 3; i++) {
        counter_add(p->taken_over[i], (uint64_t)db_i64(rows, 0, i));
        taken += db_i64(rows, 0, i);
    }
    if (taken > 0)
        log_event(LOG_WARN, "jobs_reaped", LOG_NUMBER("requeued", db_i64(rows, 0, 0)), LOG_NUMBER("dead", db_i64(rows, 0, 1)),
                  LOG_NUMBER("cancelled", db_i64(rows, 0, 2)));
    stop_cancelled(p, rows, 3);
}

/* Wait for a NOTIFY, an idle slot or the next duty. Returns whether to look for work. */
static bool wait_for_work(struct job_pool *p, int64_t until_ms) {
    bool is_woken = false;
    struct why why = { 0 };
    (void)!db_listener_turn(p->options.listener, clock_mono_ms() + 1000, &is_woken, &why);    /* polling goes on without it */
    int64_t left_ms = until_ms - clock_mono_ms();
    if (is_woken || left_ms <= 0)
        return is_woken;
    struct pollfd fds[] = { { .fd = p->wake_fd, .events = POLLIN }, { .fd = db_listener_fd(p->options.listener), .events = POLLIN } };
    if (poll(fds, 2, (int)left_ms) <= 0)
        return false;
    uint64_t drained;
    if (fds[0].revents)
        (void)!read(p->wake_fd, &drained, sizeof drained);
    return true;
}

static bool is_ending(struct job_pool *p) {
    pthread_mutex_lock(&p->lock);
    bool ending = p->is_ending;
    pthread_mutex_unlock(&p->lock);
    return ending;
}

static void *coordinate(void *arg) {
    struct job_pool *p = arg;
    int64_t renew_ms = 0, reap_ms = 0, poll_ms = 0;     /* when each duty is due */
    bool is_woken = false, was_attended = false;
    struct why why = { 0 };
    (void)!db_listener_turn(p->options.listener, clock_mono_ms() + 1000, &is_woken, &why);    /* so that the first jobs are attended, too */
    while (!is_ending(p)) {
        int64_t now = clock_mono_ms(), third_ms = p->options.lease_ms / 3;
        bool is_cut = was_attended && !is_attended(p);      /* from now on others cut our leases short, until we are back */
        if (attend(p) || is_cut || now >= renew_ms) {
            for (int i = 0; i < p->options.threads_count; i++)
                renew_one(p, &p->slots[i]);
            renew_ms = now + (is_attended(p) || !p->session || third_ms < UNATTENDED_RENEW_MS ? third_ms : UNATTENDED_RENEW_MS);
        }
        was_attended = is_attended(p);
        if (now >= reap_ms) {
            reap(p);
            reap_ms = now + REAP_INTERVAL_MS;
        }
        if (now >= poll_ms && claim(p))
            poll_ms = now + p->options.poll_ms;
        int64_t until = renew_ms < reap_ms ? renew_ms : reap_ms;
        if (wait_for_work(p, until < poll_ms ? until : poll_ms > now ? poll_ms : now + p->options.poll_ms))
            poll_ms = 0;
    }
    return NULL;
}

/* ---- life ---- */

static void make_metrics(struct job_pool *p) {
    static const char *const OUTCOMES[] = { "queued", "dead", "cancelled" };
    struct metrics *m = p->options.runtime->metrics;
    char labels[96];
    for (size_t i = 0; i < sizeof OUTCOMES / sizeof *OUTCOMES; i++) {
        (void)snprintf(labels, sizeof labels, "queue=\"%s\",outcome=\"%s\"", p->options.queue, OUTCOMES[i]);
        p->taken_over[i] = metrics_counter(m, "cordon_jobs_taken_over_total", "Jobs taken from workers that died or stood still.", labels);
    }
    (void)snprintf(labels, sizeof labels, "queue=\"%s\"", p->options.queue);
    p->claimed = metrics_counter(m, "cordon_jobs_claimed_total", "Jobs claimed by this process.", labels);
    p->in_flight = metrics_gauge(m, "cordon_jobs_in_flight", "Jobs that this process has.", labels);
    p->waited = metrics_histogram(m, "cordon_job_wait_seconds", "From when a job could run to its claim.", labels);
}

static enum status start_threads(struct job_pool *p, struct why *why) {
    p->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->wake_fd < 0)
        return fail(why, ST_INTERNAL, "eventfd");
    for (; p->thread_count < p->options.threads_count; p->thread_count++) {
        struct slot *s = &p->slots[p->thread_count];
        s->pool = p;
        if (pthread_create(&s->thread, NULL, job_thread, s) != 0)
            return fail(why, ST_INTERNAL, "job thread");
    }
    p->has_coordinator = pthread_create(&p->coordinator, NULL, coordinate, p) == 0;
    return p->has_coordinator ? ST_OK : fail(why, ST_INTERNAL, "coordinator thread");
}

enum status job_pool_start(const struct job_pool_options *options, struct job_pool **ret_pool, struct why *why) {
    struct job_pool *p = xalloc(sizeof *p);
    p->options = *options;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->assigned, NULL);
    pthread_cond_init(&p->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    char host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(p->worker_name, sizeof p->worker_name, "%s:%ld", host, (long)getpid());
    make_metrics(p);
    enum status st = start_threads(p, why);
    if (st == ST_OK)
        *ret_pool = p;
    else
        (void)!job_pool_destroy(&p, INT64_MAX);      /* threads without work end at once */
    return st;
}

static struct timespec until(int64_t deadline_ms) {
    return (struct timespec){ deadline_ms / 1000, deadline_ms % 1000 * 1000000 };
}

static bool is_idle(struct job_pool *p, struct slot *s) {
    pthread_mutex_lock(&p->lock);
    bool idle = s->state == SLOT_IDLE;
    pthread_mutex_unlock(&p->lock);
    return idle;
}

void job_pool_drain(struct job_pool *p, int64_t deadline_ms, int64_t give_up_ms) {
    struct timespec end = until(deadline_ms);
    pthread_mutex_lock(&p->lock);
    p->is_draining = true;
    for (int i = 0; i < p->options.threads_count; i++)
        while (p->slots[i].state != SLOT_IDLE && pthread_cond_timedwait(&p->idle, &p->lock, &end) == 0)
            ;
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->options.threads_count; i++)
        if (!is_idle(p, &p->slots[i]))
            p->options.hand_back(p->options.self, p, &p->slots[i].job, give_up_ms);
}

static bool join(pthread_t thread, int64_t deadline_ms) {
    struct timespec end = until(deadline_ms);
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &end) == 0;
}

bool job_pool_destroy(struct job_pool **pool_p, int64_t deadline_ms) {
    struct job_pool *p = *pool_p;
    if (!p)
        return true;
    pthread_mutex_lock(&p->lock);
    p->is_draining = p->is_ending = true;
    pthread_cond_broadcast(&p->assigned);
    pthread_mutex_unlock(&p->lock);
    wake(p);
    p->has_coordinator = p->has_coordinator && !join(p->coordinator, deadline_ms);
    while (p->thread_count > 0 && join(p->slots[p->thread_count - 1].thread, deadline_ms))
        ticket_replace(&p->slots[--p->thread_count], NULL);
    if (p->has_coordinator || p->thread_count > 0)
        return false;
    if (p->wake_fd >= 0)
        close(p->wake_fd);
    pthread_cond_destroy(&p->assigned);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    explicit_bzero(p->slots, sizeof p->slots);
    free(p);
    *pool_p = NULL;
    return true;
}
