/* embed_pool — many texts, few connections: Titan takes one text a call, so a batch is as fast as its calls run at
 * once. A fixed number of threads serves all batches of the process, in turn, a text each; an interactive batch
 * (a question) goes before bulk ones, and some threads take nothing else, so that it never waits for them. */
#ifndef CORDON_EMBED_POOL_H
#define CORDON_EMBED_POOL_H

#include "aws/bedrock.h"

enum embed_class { EMBED_INTERACTIVE, EMBED_BULK };

struct embed_task {
    const char *text;                       /* in: borrowed for the run */
    float *values;                          /* in: room for BEDROCK_DIMENSIONS; out: the vector */
    uint32_t tokens;                        /* out */
};

struct embed_pool;

/* bedrock and model are borrowed. threads: at least 2. */
struct embed_pool *embed_pool_new(struct bedrock *bedrock, const char *model, size_t threads);
/* Nobody may be in embed_pool_run. */
void embed_pool_destroy(struct embed_pool **pool_p);

/* Fill every task, and return when none is running any more. After the first failure the rest is not begun, and
 * that failure is the result: as bedrock_embed. */
enum status embed_pool_run(struct embed_pool *pool, enum embed_class class, struct embed_task tasks[], size_t n,
                           int64_t deadline_ms, struct why *why) MUST_USE;

/* Texts that wait for a thread now. */
size_t embed_pool_waiting(struct embed_pool *pool);

#endif
