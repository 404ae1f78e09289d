/* embed_pool — many texts, few connections: Titan takes one text a call, so a batch is as fast as its calls run at once. A
 * fixed number of threads makes the calls of all batches of the process, each a turn in the line before the model (line.h).
 * One pool is one model. */
#ifndef CORDON_EMBED_POOL_H
#define CORDON_EMBED_POOL_H

#include "aws/bedrock.h"
#include "gate.h"

struct embed_batch;

struct embed_task {
    struct turn turn;                       /* the pool's own */
    struct embed_batch *batch;              /* likewise, */
    struct embed_task *next;
    unsigned throttles;
    const char *text;                       /* in: borrowed for the run */
    float *values;                          /* in: room for BEDROCK_DIMENSIONS; out: the vector */
    uint32_t tokens;                        /* out */
};

struct embed_pool;

struct embed_pool_options {
    struct bedrock *bedrock;                /* borrowed */
    const char *model;                      /* id, or ARN of an inference profile */
    struct line_options line;               /* most_at_once: threads */
};

struct embed_pool *embed_pool_new(const struct embed_pool_options *options);
/* Nobody may be in embed_pool_run. */
void embed_pool_destroy(struct embed_pool **pool_p);

/* For whom a batch is. */
struct embed_order { enum pace_class class; struct uuid tenant; double weight; struct patience patience; };

/* Fill every task, and return when none is running any more. After the first failure the rest is not begun, and
 * that failure is the result: as bedrock_embed and gate_enter. */
enum status embed_pool_run(struct embed_pool *pool, const struct embed_order *order, struct embed_task tasks[], size_t n,
                           struct why *why) MUST_USE;

/* Texts that wait for their turn now. */
size_t embed_pool_waiting(struct embed_pool *pool);
void embed_pool_collect(struct embed_pool *pool);

#endif
