/* embedding-worker — what the process holds, shared by its handlers. */
#ifndef CORDON_EMBEDDING_WORKER_H
#define CORDON_EMBEDDING_WORKER_H

#include "aws/bedrock.h"
#include "embed_pool.h"
#include "preflight.h"
#include "service/service.h"

struct embedding_settings {
    struct aws_settings aws;
    const char *bedrock_endpoint, *aws_identity;
    const char *embed_model, *chat_model;
    int64_t model_connections_count, first_text_ms, idle_ms;
};

struct embedding_worker {
    const struct embedding_settings *settings;
    const struct runtime *runtime;
    struct aws *aws;
    struct bedrock *bedrock;
    struct embed_pool *pool;
    struct preflight *preflight;            /* NULL until start() */
    struct counter *texts, *repeated_texts; /* asked for; served by another text of the same call */
    struct counter *embed_tokens, *chat_input_tokens, *chat_output_tokens;
    struct counter *answers_found, *answers_not_found, *answers_left, *answers_broken;
};

extern const struct service EMBEDDING_WORKER;

#endif
