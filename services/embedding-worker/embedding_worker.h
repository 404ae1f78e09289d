/* embedding-worker — what the process holds, shared by its handlers. */
#ifndef CORDON_EMBEDDING_WORKER_H
#define CORDON_EMBEDDING_WORKER_H

#include "accounts.h"
#include "aws/bedrock.h"
#include "embed_pool.h"
#include "preflight.h"
#include "spend.h"
#include "service/service.h"

struct embedding_settings {
    struct aws_settings aws;
    const char *bedrock_endpoint, *bedrock_control_endpoint;
    const char *embed_model, *embed_name, *old_embed_model, *old_embed_name, *chat_model;
    const char *guardrail_id, *guardrail_version, *log_places, *regions, *tenants;
    int64_t embed_connections_count, chat_connections_count, first_text_ms, idle_ms;
    int64_t embed_requests, embed_tokens, chat_requests, chat_tokens;       /* a minute */
    int64_t replicas, breaker_failures, day_budget, month_budget, tenant_series, prices[USE_COUNT];
};

/* One of the models that embed. Vectors of one name are of one space. */
struct embed_model { const char *name; struct embed_pool *pool; };

enum { EMBED_PRESENT, EMBED_OLD, EMBED_MODELS };

struct embedding_worker {
    const struct embedding_settings *settings;
    const struct runtime *runtime;
    struct aws *aws;
    struct bedrock *bedrock;
    struct embed_model embeds[EMBED_MODELS];    /* no pool: there is no such model */
    struct gate chat;
    struct accounts *accounts;
    struct spend *spend;                    /* NULL until start() */
    struct preflight *preflight;            /* NULL until start() */
    struct counter *texts, *repeated_texts; /* asked for; served by another text of the same call */
    struct counter *embed_tokens, *chat_input_tokens, *chat_output_tokens;
    struct counter *answers_found, *answers_not_found, *answers_left, *answers_broken, *answers_guarded;
};

extern const struct service EMBEDDING_WORKER;

#endif
