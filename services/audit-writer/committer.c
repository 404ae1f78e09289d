#include "committer.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "obs/log.h"

/* A batch costs PostgreSQL what ten events do, so one goes out beside another only when so many wait. */
enum { BATCH_CALLS_MAX = 256, BATCH_MAX_MS = 5000, LANES = 2, BESIDE_EVENTS = 32 };

/* A call that waits; lives on its handler's stack, so the handler may not leave once it is taken. */
struct waiting {
    struct batch_call *call;
    sem_t decided;              /* posted when its batch is; not a condition under the lock, for which all who are woken would queue */
    bool is_taken;
    struct waiting *next;
};

struct committer {
    struct db_pool *pool;
    struct batch_memory *memory;
    pthread_t lanes[LANES];
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct waiting *first, **last;
    size_t waiting_events;
    unsigned in_flight;         /* batches */
    bool is_stopping;
    struct counter *events, *batches, *conflicts, *failures;
    struct histogram *commit_seconds;
};

/* Called under the lock. */
static bool is_worth_a_batch(const struct committer *c) {
    return c->first && (c->in_flight == 0 || c->waiting_events >= BESIDE_EVENTS || c->is_stopping);
}

/* Take from the queue what one batch may hold. Called under the lock. */
static size_t gather(struct committer *c, struct waiting *taken[BATCH_CALLS_MAX]) {
    size_t count = 0, events = 0;
    while (c->first && count < BATCH_CALLS_MAX && events + c->first->call->count <= BATCH_EVENTS_MAX) {
        struct waiting *w = c->first;
        c->first = w->next;
        w->is_taken = true;
        events += w->call->count;
        taken[count++] = w;
    }
    c->waiting_events -= events;
    if (!c->first)
        c->last = &c->first;
    return count;
}

/* That it was tried is itself on the log of whoever's ticket it was. */
static void record_conflict(struct committer *c, const struct batch_call *refused) {
    struct why why = { 0 };
    struct audit_event *event = NULL;
    struct audit_record record = { .event_id = uuid_v7(), .action = AUDIT_ID_CONFLICT, .outcome = AUDIT_REFUSED, .resource_id = refused->conflict_id };
    struct audit_origin origin = { .reported_by = "audit-writer", .request_id = refused->events[0]->request_id };
    enum status st = audit_event_new(&record, &origin, &event, &why);
    const struct audit_stamp *who = &refused->stamps[0];
    struct audit_stamp stamp = { .tenant_id = who->tenant_id, .actor_id = who->actor_id, .session_id = who->session_id, .job_id = who->job_id,
                                 .grant_id = who->grant_id };
    struct batch_call call = { .events = &event, .count = 1, .stamps = &stamp };
    if (st == ST_OK)
        st = batch_commit(c->pool, NULL, (struct batch_call *[]){ &call }, 1, clock_mono_ms() + BATCH_MAX_MS, &why);
    if (st != ST_OK)
        log_event(LOG_ERROR, "audit_conflict_unrecorded", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
    audit_event_destroy(&event);
}

/* A conflict means that somebody used an id twice for different things: a bug, or an attempt to replace
 * what is on the record. */
static void report(struct committer *c, struct waiting *const taken[], size_t count, enum status st,
                   const struct why *why) {
    for (size_t i = 0; i < count; i++) {
        const struct batch_call *call = taken[i]->call;
        if (call->status == ST_OK)
            counter_add(c->events, call->count);
        if (call->status == ST_CONFLICT) {
            char request[UUID_TEXT_BYTES];
            counter_add(c->conflicts, 1);
            log_event(LOG_ERROR, "audit_conflict", LOG_TEXT("request_id", uuid_format(&call->events[0]->request_id, request)),
                      LOG_TEXT("why", call->why.text));
            record_conflict(c, call);
        }
    }
    if (st != ST_OK) {
        counter_add(c->failures, 1);
        log_event(LOG_ERROR, "audit_batch_failed", LOG_TEXT("status", status_name(st)), LOG_NUMBER("calls", count),
                  LOG_TEXT("why", why->text));
    }
}

static void commit(struct committer *c, struct waiting *taken[], size_t count) {
    struct batch_call *calls[BATCH_CALLS_MAX];
    struct why why = { 0 };
    for (size_t i = 0; i < count; i++)
        calls[i] = taken[i]->call;
    int64_t began_us = clock_mono_us();
    enum status st = batch_commit(c->pool, c->memory, calls, count, clock_mono_ms() + BATCH_MAX_MS, &why);
    histogram_observe_us(c->commit_seconds, clock_mono_us() - began_us);
    counter_add(c->batches, 1);
    report(c, taken, count, st, &why);
}

static void *run(void *arg) {
    struct committer *c = arg;
    struct waiting *taken[BATCH_CALLS_MAX];
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!is_worth_a_batch(c) && !c->is_stopping)
            pthread_cond_wait(&c->arrived, &c->lock);
        if (!c->first)
            break;
        size_t count = gather(c, taken);
        c->in_flight++;
        pthread_mutex_unlock(&c->lock);
        commit(c, taken, count);
        for (size_t i = 0; i < count; i++)
            sem_post(&taken[i]->decided);
        pthread_mutex_lock(&c->lock);
        c->in_flight--;         /* when it was the last, whatever waits is worth one: this thread looks next */
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

struct committer *committer_new(struct db_pool *pool, struct metrics *metrics) {
    struct committer *c = xalloc(sizeof *c);
    c->pool = pool;
    c->memory = batch_memory_new();
    c->last = &c->first;
    c->events = metrics_counter(metrics, "cordon_audit_events_total",
                                "Events that calls put on the log, repeats included.", "");
    c->batches = metrics_counter(metrics, "cordon_audit_batches_total", "Group commits tried.", "");
    c->conflicts = metrics_counter(metrics, "cordon_audit_conflicts_total",
                                   "Event ids used again with other content. Alarm on any.", "");
    c->failures = metrics_counter(metrics, "cordon_audit_batch_failures_total", "Group commits that failed whole.", "");
    c->commit_seconds = metrics_histogram(metrics, "cordon_audit_commit_seconds", "Time of one group commit.", "");
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->arrived, NULL);
    for (int i = 0; i < LANES; i++)
        if (pthread_create(&c->lanes[i], NULL, run, c) != 0)
            abort();
    return c;
}

struct batch_memory *committer_memory(struct committer *c) {
    return c->memory;
}

void committer_destroy(struct committer **committer_p) {
    struct committer *c = *committer_p;
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->is_stopping = true;
    pthread_cond_broadcast(&c->arrived);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < LANES; i++)
        pthread_join(c->lanes[i], NULL);
    batch_memory_destroy(&c->memory);
    pthread_cond_destroy(&c->arrived);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *committer_p = NULL;
}

static void withdraw(struct committer *c, struct waiting *w) {
    struct waiting **at = &c->first;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (!w->next)
        c->last = at;
    c->waiting_events -= w->call->count;
}

/* False: until has passed. */
static bool wait_decided(struct waiting *w, const struct timespec *until) {
    int result;
    do
        result = until ? sem_clockwait(&w->decided, CLOCK_MONOTONIC, until) : sem_wait(&w->decided);
    while (result != 0 && errno == EINTR);
    return result == 0;
}

enum status committer_append(struct committer *c, struct batch_call *call, int64_t deadline_ms) {
    struct waiting w = { .call = call };
    struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000 };
    sem_init(&w.decided, 0, 0);

    pthread_mutex_lock(&c->lock);
    *c->last = &w;
    c->last = &w.next;
    c->waiting_events += call->count;
    if (is_worth_a_batch(c))
        pthread_cond_signal(&c->arrived);
    pthread_mutex_unlock(&c->lock);
    if (!wait_decided(&w, &until)) {
        pthread_mutex_lock(&c->lock);
        bool is_taken = w.is_taken;
        if (!is_taken) {
            withdraw(c, &w);
            call->status = fail(&call->why, ST_TIMEOUT, "audit: no batch took the call in time");
        }
        pthread_mutex_unlock(&c->lock);
        if (is_taken)
            (void)wait_decided(&w, NULL);
    }
    sem_destroy(&w.decided);
    return call->status;
}
