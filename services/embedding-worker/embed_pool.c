#include "embed_pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/clock.h"
#include "obs/trace.h"

enum { CLASSES = EMBED_BULK + 1, INTERACTIVE_SHARE = 8 };   /* one thread in so many serves questions only */

/* One embed_pool_run. On its caller's stack; the pool knows it only while it has tasks that were not begun. */
struct batch {
    struct batch *next;
    struct embed_task *tasks;
    size_t n, begun, running;
    int64_t deadline_ms;
    enum status status;
    struct why why;
    struct trace_scope *scope;      /* of its caller */
    pthread_cond_t finished;        /* running is 0 and nothing is left to begin */
};

struct queue { struct batch *head, *tail; size_t waiting; };

struct embed_pool {
    struct bedrock *bedrock;
    const char *model;
    pthread_mutex_t lock;           /* guards all below and every batch */
    pthread_cond_t work;
    struct queue queues[CLASSES];
    bool is_closing;
    size_t n_threads;
    pthread_t threads[];
};

struct start { struct embed_pool *pool; bool takes_bulk; };

static void push(struct queue *queue, struct batch *batch) {
    batch->next = NULL;
    if (queue->tail)
        queue->tail->next = batch;
    else
        queue->head = batch;
    queue->tail = batch;
}

static struct batch *pop(struct queue *queue) {
    struct batch *batch = queue->head;
    queue->head = batch->next;
    if (!queue->head)
        queue->tail = NULL;
    return batch;
}

/* With the lock held: the next batch to serve, or NULL. */
static struct queue *next_queue(struct embed_pool *pool, bool takes_bulk) {
    if (pool->queues[EMBED_INTERACTIVE].head)
        return &pool->queues[EMBED_INTERACTIVE];
    return takes_bulk && pool->queues[EMBED_BULK].head ? &pool->queues[EMBED_BULK] : NULL;
}

/* With the lock held, which is let go during the call: one text of the batch in front, which then goes to the
 * back, so that large batches and small ones advance alike. */
static void serve_one(struct embed_pool *pool, struct queue *queue) {
    struct batch *batch = pop(queue);
    struct embed_task *task = &batch->tasks[batch->begun++];
    queue->waiting--;
    batch->running++;
    if (batch->begun < batch->n)
        push(queue, batch);
    (void)pthread_mutex_unlock(&pool->lock);
    struct why why = { 0 };
    struct trace_scope scope;
    trace_adopt(&scope, batch->scope);
    struct embed_request embed = { pool->model, task->text, queue == &pool->queues[EMBED_BULK] };
    enum status st = bedrock_embed(pool->bedrock, &embed, batch->deadline_ms, task->values, &task->tokens, &why);
    (void)pthread_mutex_lock(&pool->lock);
    trace_return(&scope, batch->scope);
    batch->running--;
    if (st != ST_OK && batch->status == ST_OK) {
        batch->status = st;
        batch->why = why;
    }
    bool is_over = batch->begun == batch->n || batch->status != ST_OK;
    if (is_over && batch->running == 0)
        (void)pthread_cond_signal(&batch->finished);
}

/* With the lock held: forget what a failed batch has not begun. */
static void withdraw(struct queue *queue) {
    struct queue kept = { .waiting = queue->waiting };
    while (queue->head) {
        struct batch *batch = pop(queue);
        if (batch->status == ST_OK) {
            push(&kept, batch);
            continue;
        }
        kept.waiting -= batch->n - batch->begun;
        batch->begun = batch->n;
        if (batch->running == 0)
            (void)pthread_cond_signal(&batch->finished);
    }
    *queue = kept;
}

static void *work(void *arg) {
    struct start start = *(struct start *)arg;
    struct embed_pool *pool = start.pool;
    free(arg);
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->is_closing) {
        struct queue *queue = next_queue(pool, start.takes_bulk);
        if (!queue) {
            (void)pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        serve_one(pool, queue);
        withdraw(queue);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct embed_pool *embed_pool_new(struct bedrock *bedrock, const char *model, size_t threads) {
    struct embed_pool *pool = xalloc(sizeof *pool + threads * sizeof *pool->threads);
    pool->bedrock = bedrock;
    pool->model = model;
    if (pthread_mutex_init(&pool->lock, NULL) != 0 || pthread_cond_init(&pool->work, NULL) != 0)
        abort();
    size_t interactive = threads / INTERACTIVE_SHARE ? threads / INTERACTIVE_SHARE : 1;
    for (; pool->n_threads < threads; pool->n_threads++) {
        struct start *start = xalloc(sizeof *start);
        *start = (struct start){ pool, pool->n_threads >= interactive };
        if (pthread_create(&pool->threads[pool->n_threads], NULL, work, start) != 0)
            abort();
    }
    return pool;
}

void embed_pool_destroy(struct embed_pool **pool_p) {
    struct embed_pool *pool = *pool_p;
    if (!pool)
        return;
    (void)pthread_mutex_lock(&pool->lock);
    pool->is_closing = true;
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->n_threads; i++)
        (void)pthread_join(pool->threads[i], NULL);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
    *pool_p = NULL;
}

enum status embed_pool_run(struct embed_pool *pool, enum embed_class class, struct embed_task tasks[], size_t n,
                           int64_t deadline_ms, struct why *why) {
    if (n == 0)
        return ST_OK;
    if (clock_mono_ms() >= deadline_ms)
        return fail(why, ST_TIMEOUT, "embed: no time left");
    struct batch batch = { .tasks = tasks, .n = n, .deadline_ms = deadline_ms, .scope = trace_current() };
    if (pthread_cond_init(&batch.finished, NULL) != 0)
        abort();
    (void)pthread_mutex_lock(&pool->lock);
    push(&pool->queues[class], &batch);
    pool->queues[class].waiting += n;
    (void)pthread_cond_broadcast(&pool->work);
    while (batch.begun < batch.n || batch.running > 0)
        (void)pthread_cond_wait(&batch.finished, &pool->lock);
    (void)pthread_mutex_unlock(&pool->lock);
    (void)pthread_cond_destroy(&batch.finished);
    if (batch.status != ST_OK)
        *why = batch.why;
    return batch.status;
}

size_t embed_pool_waiting(struct embed_pool *pool) {
    (void)pthread_mutex_lock(&pool->lock);
    size_t waiting = 0;
    for (int i = 0; i < CLASSES; i++)
        waiting += pool->queues[i].waiting;
    (void)pthread_mutex_unlock(&pool->lock);
    return waiting;
}
