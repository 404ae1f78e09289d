#include "embed_pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "obs/trace.h"
#include "text/tokens.h"

enum { INTERACTIVE_THROTTLES = 6, BATCH_THROTTLES = 40 };       /* of one text, before it is given up */

static const struct patience ENDLESS = { .deadline_ms = INT64_MAX / 1000 };

/* One embed_pool_run. On its caller's stack; all under the gate's lock. */
struct embed_batch {
    enum pace_class class;
    struct patience patience;
    size_t left;                    /* texts that wait or run */
    enum status status;
    struct why why;
    struct trace_scope *scope;      /* of its caller */
};

struct embed_pool {
    struct bedrock *bedrock;
    const char *model;
    struct gate gate;
    pthread_cond_t work;
    struct embed_task *ready, **ready_end;      /* whose turn it is, and no thread has yet */
    bool is_closing;
    size_t n_threads;
    pthread_t threads[];
};

/* With the lock held: hand out all whose turn it is. */
static void let_go(struct embed_pool *pool) {
    for (struct turn *turn; (turn = line_next(pool->gate.line, clock_mono_us()));) {
        struct embed_task *task = (struct embed_task *)turn;
        task->next = NULL;
        *pool->ready_end = task;
        pool->ready_end = &task->next;
        (void)pthread_cond_signal(&pool->work);
    }
}

/* With the lock held, which is let go meanwhile: ask the model. */
static enum status ask(struct embed_pool *pool, struct embed_task *task, struct why *why) {
    struct embed_batch *batch = task->batch;
    struct trace_scope scope;
    (void)pthread_mutex_unlock(&pool->gate.lock);
    trace_adopt(&scope, batch->scope);
    struct embed_request embed = { pool->model, task->text, batch->class == PACE_BATCH };
    enum status st = bedrock_embed(pool->bedrock, &embed, batch->patience.deadline_ms, task->values, &task->tokens, why);
    (void)pthread_mutex_lock(&pool->gate.lock);
    trace_return(&scope, batch->scope);
    return st;
}

/* With the lock held: may a throttled text try again? */
static bool is_patient(struct embed_task *task, const struct why *why) {
    struct embed_batch *batch = task->batch;
    batch->patience.throttled = *why;
    return ++task->throttles < (batch->class == PACE_BATCH ? BATCH_THROTTLES : INTERACTIVE_THROTTLES) && batch->status == ST_OK &&
           clock_mono_ms() < batch->patience.deadline_ms;
}

static void serve(struct embed_pool *pool, struct embed_task *task) {
    struct embed_batch *batch = task->batch;
    struct line *line = pool->gate.line;
    struct why why = { 0 };
    enum status st = batch->status;         /* it failed before this one began? */
    enum line_outcome outcome = LINE_UNKNOWN;
    if (st == ST_OK) {
        st = ask(pool, task, &why);
        outcome = line_judge(&task->turn, st, &why, false, clock_mono_us());
    }
    line_leave(line, &task->turn, outcome, outcome == LINE_GOOD ? task->tokens : 0, why.retry_after_ms, clock_mono_us());
    if (outcome == LINE_THROTTLED && is_patient(task, &why)) {
        line_rejoin(line, &task->turn, clock_mono_us());
    } else {
        batch->left--;
        if (st != ST_OK && batch->status == ST_OK) {
            batch->status = st;
            batch->why = why;
        }
    }
    bool has_ended = batch->left == 0 || outcome != LINE_GOOD;
    let_go(pool);
    if (has_ended)
        (void)pthread_cond_broadcast(&pool->gate.changed);
    else if (line_wake_us(line) != INT64_MAX)
        (void)pthread_cond_signal(&pool->gate.changed);     /* somebody has to keep the time */
}

static void *work(void *arg) {
    struct embed_pool *pool = arg;
    (void)pthread_mutex_lock(&pool->gate.lock);
    while (!pool->is_closing) {
        struct embed_task *task = pool->ready;
        if (!task) {
            (void)pthread_cond_wait(&pool->work, &pool->gate.lock);
            continue;
        }
        pool->ready = task->next;
        if (!pool->ready)
            pool->ready_end = &pool->ready;
        serve(pool, task);
    }
    (void)pthread_mutex_unlock(&pool->gate.lock);
    return NULL;
}

struct embed_pool *embed_pool_new(const struct embed_pool_options *options) {
    size_t threads = options->line.most_at_once;
    struct embed_pool *pool = xalloc(sizeof *pool + threads * sizeof *pool->threads);
    pool->bedrock = options->bedrock;
    pool->model = options->model;
    pool->ready_end = &pool->ready;
    gate_init(&pool->gate, &options->line);
    if (pthread_cond_init(&pool->work, NULL) != 0)
        abort();
    for (; pool->n_threads < threads; pool->n_threads++)
        if (pthread_create(&pool->threads[pool->n_threads], NULL, work, pool) != 0)
            abort();
    return pool;
}

void embed_pool_destroy(struct embed_pool **pool_p) {
    struct embed_pool *pool = *pool_p;
    if (!pool)
        return;
    (void)pthread_mutex_lock(&pool->gate.lock);
    pool->is_closing = true;
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_mutex_unlock(&pool->gate.lock);
    for (size_t i = 0; i < pool->n_threads; i++)
        (void)pthread_join(pool->threads[i], NULL);
    (void)pthread_cond_destroy(&pool->work);
    gate_end(&pool->gate);
    free(pool);
    *pool_p = NULL;
}

/* With the lock held: a batch that failed wants nothing more. */
static void withdraw(struct embed_pool *pool, struct embed_task tasks[], size_t n, struct embed_batch *batch) {
    for (size_t i = 0; i < n; i++)
        if (tasks[i].turn.state == TURN_WAITS) {
            line_withdraw(pool->gate.line, &tasks[i].turn);
            batch->left--;
        }
}

enum status embed_pool_run(struct embed_pool *pool, const struct embed_order *order, struct embed_task tasks[], size_t n, struct why *why) {
    struct embed_batch batch = { .class = order->class, .patience = order->patience, .left = n, .scope = trace_current() };
    for (size_t i = 0; i < n; i++) {
        uint32_t tokens = (uint32_t)tokens_estimate(tasks[i].text, strlen(tasks[i].text));
        tasks[i].batch = &batch;
        tasks[i].turn = (struct turn){ .tenant = order->tenant, .weight = order->weight, .class = order->class, .tokens = tokens ? tokens : 1 };
    }
    (void)pthread_mutex_lock(&pool->gate.lock);
    for (size_t i = 0; i < n; i++)
        line_join(pool->gate.line, &tasks[i].turn, clock_mono_us());
    let_go(pool);
    while (batch.left > 0) {
        if (batch.status == ST_OK)
            batch.status = gate_standing(&pool->gate, &batch.patience, &batch.why);
        if (batch.status != ST_OK)
            withdraw(pool, tasks, n, &batch);
        if (batch.left == 0)
            break;
        gate_sleep(&pool->gate, batch.status == ST_OK ? &batch.patience : &ENDLESS);
        let_go(pool);
    }
    (void)pthread_cond_signal(&pool->gate.changed);
    (void)pthread_mutex_unlock(&pool->gate.lock);
    if (batch.status != ST_OK)
        *why = batch.why;
    return batch.status;
}

size_t embed_pool_waiting(struct embed_pool *pool) {
    size_t waiting = 0;
    (void)pthread_mutex_lock(&pool->gate.lock);
    for (int class = 0; class < PACE_CLASSES; class++)
        waiting += line_waiting(pool->gate.line, (enum pace_class)class);
    (void)pthread_mutex_unlock(&pool->gate.lock);
    return waiting;
}

void embed_pool_collect(struct embed_pool *pool) {
    gate_collect(&pool->gate);
}
