/* bedrock — Amazon Bedrock's runtime: Titan embeds, Claude answers. A client is shared by all threads. Only
 * embedding-worker links it. */
#ifndef CORDON_AWS_BEDROCK_H
#define CORDON_AWS_BEDROCK_H

#include "aws/aws.h"

enum { BEDROCK_DIMENSIONS = 1024, BEDROCK_ANSWER_MAX_BYTES = 256 << 10 };

struct bedrock;

struct bedrock *bedrock_new(struct aws *aws, const char *endpoint);      /* endpoint "": AWS's own */
void bedrock_destroy(struct bedrock **bedrock_p);

/* All: ST_LIMITED MODEL_002 when throttled, with why->retry_after_ms when it said so: whoever asks much paces itself, so that
 * is not repeated here. ST_UNAVAILABLE MODEL_001 when the model cannot be reached, is not ours to use or answers nonsense;
 * ST_TIMEOUT; ST_INTERNAL when Bedrock calls the request wrong. */

struct embed_request {
    const char *model, *text;       /* id, or ARN of an inference profile */
    bool is_patient;                /* nobody waits: an attempt may take 25 s, not 3 */
};

/* Titan Text Embeddings V2: one text, one vector of 1024 numbers and length 1 into out. */
enum status bedrock_embed(struct bedrock *bedrock, const struct embed_request *embed, int64_t deadline_ms,
                          float out[BEDROCK_DIMENSIONS], uint32_t *ret_tokens, struct why *why) MUST_USE;

struct converse_request {
    const char *model;              /* id, or ARN of an inference profile */
    const char *system, *user;      /* texts */
    unsigned max_tokens;            /* at least 1 */
    const char *guardrail_id, *guardrail_version;       /* id or ARN; NULL or "": none */
};
struct converse_reply {
    char *text;                     /* of all text blocks; in mem */
    char *stop_reason;              /* "end_turn", "max_tokens", ... */
    uint32_t input_tokens, output_tokens;
};

/* Converse, at temperature 0. ST_INVALID MODEL_005: the guardrail stopped the question or its answer. */
enum status bedrock_converse(struct bedrock *bedrock, const struct converse_request *converse, int64_t deadline_ms,
                             struct arena *mem, struct converse_reply *ret_reply, struct why *why) MUST_USE;

/* ConverseStream: the same, the text as it comes. on_text gets pieces of UTF-8 that may end inside a character; what it
 * returns unless ST_OK ends the stream and is the result; so does what is_unwanted says, which is asked at least once a
 * second: ST_UNAVAILABLE then, and the connection is closed. Not repeated once a piece was delivered. ST_UNAVAILABLE
 * MODEL_003: the stream ended without the model's stop, or no text came for so long. ret_reply is the whole; of a stream
 * that failed, what there was. */
struct converse_sink {
    enum status (*on_text)(void *ctx, const char *text, size_t len, struct why *why);
    bool (*is_unwanted)(void *ctx);         /* NULL: always wanted */
    void *ctx;
    int64_t first_ms, idle_ms;              /* longest wait for the first text, and between texts; 0: up to the deadline */
};
enum status bedrock_converse_stream(struct bedrock *bedrock, const struct converse_request *converse, const struct converse_sink *sink,
                                    int64_t deadline_ms, struct arena *mem, struct converse_reply *ret_reply, struct why *why) MUST_USE;

#endif
