#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/cancel.h"
#include "core/clock.h"
#include "obs/trace.h"
#include "service/skeleton.h"

enum { STACK_BYTES = 1 << 20, STATUS_COUNT = ST_INTERNAL + 1 };

/* RED of one method. */
struct method_metrics {
    const char *method;
    struct counter *by_status[STATUS_COUNT];
    struct histogram *seconds;
};

struct pool {
    const struct service *svc;
    void *self;
    const struct runtime *rt;
    struct method_metrics *methods;     /* one per route, and the last for whatever is no method of ours */
    pthread_t *threads;
    unsigned started_count, joined_count;
};

static void method_metrics_init(struct method_metrics *mm, struct metrics *m, const char *method) {
    char labels[128];
    mm->method = method;
    for (unsigned i = 0; i < STATUS_COUNT; i++) {
        (void)snprintf(labels, sizeof labels, "method=\"%s\",status=\"%s\"", method, status_name((enum status)i));
        mm->by_status[i] = metrics_counter(m, "cordon_requests_total", "Calls answered.", labels);
    }
    (void)snprintf(labels, sizeof labels, "method=\"%s\"", method);
    mm->seconds = metrics_histogram(m, "cordon_request_seconds", "Time from taking a call to its answer.", labels);
}

/* A call->method that is a route's own text was found in the table; anything else is "other". */
static struct method_metrics *find_metrics(struct pool *pool, const char *method) {
    struct method_metrics *mm = pool->methods;
    while (mm->method != method && mm->method != pool->rt->process)
        mm++;
    return mm;
}

static enum log_level level_of(enum status st) {
    return st == ST_INTERNAL ? LOG_ERROR : st == ST_UNAVAILABLE || st == ST_TIMEOUT ? LOG_WARN : LOG_INFO;
}

static void log_failure(const struct call *call, enum status st, int64_t took_us) {
    log_event(level_of(st), "call_failed", LOG_TEXT("method", call->method), LOG_TEXT("peer", peer_name(call->peer)),
              LOG_TEXT("status", status_name(st)), LOG_TEXT("code", error_text_code(call->why.code)),
              LOG_TEXT("why", call->why.text), LOG_NUMBER("attempt", call->attempt), LOG_NUMBER("ms", took_us / 1000));
}

static void turn(struct pool *pool, struct bus_worker *w, struct call *call, ProtobufCBinaryData body) {
    int64_t began_us = clock_mono_us();
    struct trace_scope scope;
    ProtobufCMessage *reply = NULL;
    trace_begin(&scope, SPAN_SERVER, call->method, call->traceparent);
    trace_request(&call->request_id);
    span_text(&scope.span, "cordon.peer", peer_name(call->peer));
    span_number(&scope.span, "cordon.attempt", call->attempt);
    enum status st = service_dispatch(pool->svc, pool->self, call, call->method, body, &reply);
    st = bus_worker_reply(w, call, st, reply);
    int64_t took_us = clock_mono_us() - began_us;
    struct method_metrics *mm = find_metrics(pool, call->method);
    counter_add(mm->by_status[st], 1);
    histogram_observe_us(mm->seconds, took_us);
    if (st != ST_OK)
        log_failure(call, st, took_us);
    trace_end(&scope, st);
}

static void *work(void *arg) {
    struct pool *pool = arg;
    struct bus_worker *w = bus_worker_new(pool->rt->bus);
    cancel_on(runtime_halt_fd(pool->rt));
    struct call call;
    ProtobufCBinaryData body;
    while (bus_worker_take(w, &call, &body)) {
        turn(pool, w, &call, body);
        arena_destroy(&call.mem);
    }
    bus_worker_destroy(&w);
    return NULL;
}

static void pool_free(struct pool **pool_p) {
    free((*pool_p)->methods);
    free((*pool_p)->threads);
    free(*pool_p);
    *pool_p = NULL;
}

static void make_metrics(struct pool *pool) {
    unsigned count = 0;
    for (const struct route *r = pool->svc->routes; r->method; r++)
        count++;
    pool->methods = xalloc((count + 1) * sizeof *pool->methods);
    for (unsigned i = 0; i < count; i++)
        method_metrics_init(&pool->methods[i], pool->rt->metrics, pool->svc->routes[i].method);
    method_metrics_init(&pool->methods[count], pool->rt->metrics, "other");
    pool->methods[count].method = pool->rt->process;
}

enum status pool_start(const struct service *svc, void *self, const struct runtime *rt, unsigned worker_count,
                       struct pool **ret_pool, struct why *why) {
    struct pool *pool = xalloc(sizeof *pool);
    *pool = (struct pool){ .svc = svc, .self = self, .rt = rt };
    make_metrics(pool);
    pool->threads = xalloc(worker_count * sizeof *pool->threads);
    gauge_set(metrics_gauge(rt->metrics, "cordon_workers", "Calls that can run at once.", ""), worker_count);
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
    while (pool->started_count < worker_count &&
           pthread_create(&pool->threads[pool->started_count], &attr, work, pool) == 0)
        pool->started_count++;
    (void)pthread_attr_destroy(&attr);
    *ret_pool = pool;       /* in any case: threads that began must be joined */
    if (pool->started_count < worker_count)
        return fail(why, ST_UNAVAILABLE, "only %u of %u worker threads could start", pool->started_count, worker_count);
    return ST_OK;
}

bool pool_join(struct pool **pool_p, int64_t deadline_ms) {
    struct pool *pool = *pool_p;
    if (!pool)
        return true;
    for (; pool->joined_count < pool->started_count; pool->joined_count++) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        int64_t until_us = clock_unix_us() + (left_ms > 0 ? left_ms * 1000 : 0);
        struct timespec until = { .tv_sec = (time_t)(until_us / 1000000),
                                  .tv_nsec = (long)(until_us % 1000000 * 1000) };
        if (pthread_timedjoin_np(pool->threads[pool->joined_count], NULL, &until) != 0)
            return false;
    }
    pool_free(pool_p);
    return true;
}
