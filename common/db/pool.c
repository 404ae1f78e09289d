#include "db/pool.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"
#include "db/connection.h"

enum { CONNECTIONS_DEFAULT = 4, CONNECTIONS_MAX = 64, BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 500 };

struct db_pool {
    pthread_mutex_t lock;
    pthread_cond_t returned;
    struct db_options options;      /* live_url, when the URL was given, and process point to the two below */
    struct live_secret *url;
    char *process;
    int size, waiting, open;
    struct gauge *busy_gauge, *waiting_gauge, *up_gauge;       /* NULL without metrics */
    int failures;                   /* connects that failed in a row */
    int64_t retry_at_ms;            /* before this no new attempt */
    struct db_connection connections[CONNECTIONS_MAX];
};

enum status db_url_check(const char *url, bool is_production, struct why *why) {
    char *error = NULL;
    PQconninfoOption *list = url ? PQconninfoParse(url, &error) : NULL;
    PQfreemem(error);               /* may quote the URL: not for the log */
    if (!list)
        return fail(why, ST_INVALID, "database: the URL does not parse");
    bool verifies = false;
    for (const PQconninfoOption *o = list; o->keyword; o++)
        if (str_equal(o->keyword, "sslmode"))
            verifies = str_equal(o->val, "verify-full");
    PQconninfoFree(list);
    if (is_production && !verifies)
        return fail(why, ST_INVALID, "database: outside development the URL must say sslmode=verify-full");
    return ST_OK;
}

static void make_gauges(struct db_pool *pool, struct metrics *m) {
    char labels[96];
    (void)snprintf(labels, sizeof labels, "pool=\"%s\"", pool->process);
    gauge_set(metrics_gauge(m, "cordon_db_connections_limit", "Connections to the database that may be open.", labels), pool->size);
    pool->busy_gauge = metrics_gauge(m, "cordon_db_connections_busy", "Connections to the database that are in use.", labels);
    pool->up_gauge = metrics_gauge(m, "cordon_db_up", "1 when the last connection to the database that was tried came to be.", labels);
    pool->waiting_gauge = metrics_gauge(m, "cordon_db_connections_waiting", "Threads that wait for a free connection.", labels);
}

struct live_secret *db_options_own_url(struct db_options *options) {
    if (options->live_url)
        return NULL;
    struct live_secret *own = live_secret_new(options->url, strlen(options->url));
    options->live_url = own;
    options->url = NULL;
    return own;
}

enum status db_options_check(const struct db_options *options, struct why *why) {
    unsigned ignored;
    CLEANUP(secret_destroy) struct secret *url = live_secret_copy(options->live_url, &ignored);
    return db_url_check(url ? secret_text(url) : options->url, options->is_production, why);
}

enum status db_pool_new(const struct db_options *options, struct db_pool **ret_pool, struct why *why) {
    enum status st = db_options_check(options, why);
    if (st != ST_OK)
        return st;
    int size = options->connections ? options->connections : CONNECTIONS_DEFAULT;
    if (size < 1 || size > CONNECTIONS_MAX)
        return fail(why, ST_INVALID, "database: between 1 and %d connections", CONNECTIONS_MAX);

    struct db_pool *pool = xalloc(sizeof *pool);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->returned, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pool->process = xstrdup(options->process);
    pool->options = *options;
    pool->url = db_options_own_url(&pool->options);
    pool->options.process = pool->process;
    pool->size = size;
    if (options->metrics)
        make_gauges(pool, options->metrics);
    *ret_pool = pool;
    return ST_OK;
}

void db_pool_destroy(struct db_pool **pool_p) {
    struct db_pool *pool = *pool_p;
    if (!pool)
        return;
    for (int i = 0; i < pool->size; i++)
        connection_close(&pool->connections[i]);
    pthread_cond_destroy(&pool->returned);
    pthread_mutex_destroy(&pool->lock);
    live_secret_destroy(&pool->url);
    free(pool->process);
    free(pool);
    *pool_p = NULL;
}

static void show(struct gauge *gauge, int change) {
    if (gauge)
        gauge_add(gauge, change);
}

/* Lock held: an idle connection that is open, else, unless only such will do, one that is closed, else NULL. */
static struct db_connection *pick(struct db_pool *pool, bool must_be_open) {
    struct db_connection *closed = NULL;
    for (int i = 0; i < pool->size; i++) {
        struct db_connection *c = &pool->connections[i];
        if (!c->is_busy && c->is_open)
            return c;
        if (!c->is_busy && !must_be_open)
            closed = c;
    }
    return closed;
}

/* Lock held. */
static void note_open(struct db_pool *pool, struct db_connection *c) {
    pool->open += (c->pg != NULL) - c->is_open;
    c->is_open = c->pg;
}

/* Lock held; gives up at deadline_ms, or when an open one must be waited for and there is none. */
static enum status wait_for_one(struct db_pool *pool, bool must_be_open, int64_t deadline_ms, struct db_connection **ret_conn,
                                struct why *why) {
    while (!(*ret_conn = pick(pool, must_be_open))) {
        int64_t left = deadline_ms - clock_mono_ms();
        if (must_be_open && pool->open == 0)
            return fail(why, ST_UNAVAILABLE, "database: away, waiting before the next attempt");
        if (left <= 0)
            return fail(why, ST_TIMEOUT, "database: no free connection in time");
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t ns = until.tv_nsec + (left % 1000) * 1000000;
        until.tv_sec += left / 1000 + ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        pool->waiting++;
        show(pool->waiting_gauge, 1);
        pthread_cond_timedwait(&pool->returned, &pool->lock, &until);
        pool->waiting--;
        show(pool->waiting_gauge, -1);
    }
    (*ret_conn)->is_busy = true;
    show(pool->busy_gauge, 1);
    return ST_OK;
}

/* Lock held. Full jitter is not needed: the pool makes one attempt at a time. */
static void note_failure(struct db_pool *pool) {
    int64_t delay = BACKOFF_MIN_MS << (pool->failures < 5 ? pool->failures : 5);
    pool->failures++;
    pool->retry_at_ms = clock_mono_ms() + (delay < BACKOFF_MAX_MS ? delay : BACKOFF_MAX_MS);
}

/* Lock held: may this borrower try to connect now? After a failure only one at a time does. */
static bool may_connect(struct db_pool *pool) {
    if (pool->failures == 0)
        return true;
    if (clock_mono_ms() < pool->retry_at_ms)
        return false;
    pool->retry_at_ms = clock_mono_ms() + BACKOFF_MAX_MS;
    return true;
}

/* Connect, when the last failure is long enough ago. */
static enum status open_one(struct db_pool *pool, struct db_connection *c, int64_t deadline_ms, struct why *why) {
    pthread_mutex_lock(&pool->lock);
    bool may = may_connect(pool);
    pthread_mutex_unlock(&pool->lock);
    if (!may)
        return fail(why, ST_UNAVAILABLE, "database: away, waiting before the next attempt");
    enum status st = connection_open(c, &pool->options, deadline_ms, why);
    pthread_mutex_lock(&pool->lock);
    if (pool->up_gauge)
        gauge_set(pool->up_gauge, st == ST_OK);
    if (st == ST_OK)
        pool->failures = 0;
    else
        note_failure(pool);
    pthread_mutex_unlock(&pool->lock);
    return st;
}

enum status db_pool_borrow(struct db_pool *pool, int64_t deadline_ms, struct db_connection **ret_conn, struct why *why) {
    enum status st = ST_OK;
    for (bool has_failed = false;; has_failed = true) {
        struct db_connection *c = NULL;
        struct why waited = { 0 };
        pthread_mutex_lock(&pool->lock);
        enum status got = wait_for_one(pool, has_failed, deadline_ms, &c, &waited);
        pthread_mutex_unlock(&pool->lock);
        if (got != ST_OK && !has_failed)
            *why = waited;
        if (got != ST_OK)
            return has_failed ? st : got;
        if (c->pg && !connection_stands(c))
            connection_close(c);
        st = c->pg ? ST_OK : open_one(pool, c, deadline_ms, why);
        pthread_mutex_lock(&pool->lock);
        note_open(pool, c);
        pthread_mutex_unlock(&pool->lock);
        if (st == ST_OK) {
            *ret_conn = c;
            return ST_OK;
        }
        /* The server may only have refused one connection more: then those that there are serve in turn. */
        db_pool_return(pool, &c);
    }
}

void db_pool_return(struct db_pool *pool, struct db_connection **conn_p) {
    struct db_connection *c = *conn_p;
    if (!c)
        return;
    if (c->pg && (c->is_suspect || PQtransactionStatus(c->pg) != PQTRANS_IDLE))
        connection_close(c);
    pthread_mutex_lock(&pool->lock);
    note_open(pool, c);
    c->is_busy = false;
    show(pool->busy_gauge, -1);
    pthread_cond_broadcast(&pool->returned);    /* some wait for an open one only */
    pthread_mutex_unlock(&pool->lock);
    *conn_p = NULL;
}

struct db_pool_state db_pool_state(struct db_pool *pool) {
    struct db_pool_state state = { 0 };
    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < pool->size; i++)
        state.busy += pool->connections[i].is_busy;
    state.open = pool->open;
    state.waiting = pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return state;
}
