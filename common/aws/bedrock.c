#include "aws/bedrock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "aws/eventstream.h"
#include "core/clock.h"
#include "http/backoff.h"
#include "json/reader.h"
#include "json/writer.h"

enum {
    ATTEMPTS = 4, EMBED_ATTEMPT_MS = 3000,              /* somebody waits */
    PATIENT_ATTEMPT_MS = 25000, CONVERSE_ATTEMPT_MS = 60000,
};

static const char GUARDED[] = "guardrail_intervened";

struct bedrock {
    struct aws *aws;
    char *endpoint;
};

struct bedrock *bedrock_new(struct aws *aws, const char *endpoint) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct bedrock *bedrock = xalloc(sizeof *bedrock);
    bedrock->aws = aws;
    bedrock->endpoint = xstrdup(aws_endpoint(aws, mem, endpoint, "bedrock-runtime"));
    return bedrock;
}

void bedrock_destroy(struct bedrock **bedrock_p) {
    if (!*bedrock_p)
        return;
    free((*bedrock_p)->endpoint);
    free(*bedrock_p);
    *bedrock_p = NULL;
}

/* One call of the runtime. */
struct ask {
    const char *model, *action, *operation;     /* "...", "invoke", "InvokeModel" */
    const struct buffer *body;
    int64_t attempt_ms, deadline_ms;
};

/* POST the body to /model/<model>/<action>; the answer as a tree. */
static enum status send_ask(struct bedrock *bedrock, const struct ask *ask, json_t **ret_answer, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "bedrock", .operation = ask->operation, .method = "POST", .endpoint = bedrock->endpoint,
        .path = arena_printf(mem, "/model/%s/%s", sigv4_encode(mem, ask->model, false), ask->action),
        .headers = { { "content-type", "application/json" }, { "accept", "application/json" } },
        .body = ask->body->data, .body_len = ask->body->len, .max_bytes = BEDROCK_ANSWER_MAX_BYTES,
        .deadline_ms = ask->deadline_ms, .attempt_ms = ask->attempt_ms, .attempts = ATTEMPTS, .is_paced = true };
    enum status st = aws_send(bedrock->aws, &request, &reply, why);
    if (st == ST_NOT_FOUND)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock %s: no such model", ask->operation);
    if (st != ST_OK)
        return st;
    struct why reason = { 0 };
    if (json_parse(reply.http.body.data, reply.http.body.len, BEDROCK_ANSWER_MAX_BYTES, ret_answer, &reason) != ST_OK)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock %s: the answer is no JSON", ask->operation);
    return ST_OK;
}

/* 1024 finite numbers, of length 1 within what rounding allows. */
static bool read_vector(const json_t *array, float out[BEDROCK_DIMENSIONS]) {
    float values[BEDROCK_DIMENSIONS];
    double sum = 0;
    if (json_array_size(array) != BEDROCK_DIMENSIONS)
        return false;
    for (size_t i = 0; i < BEDROCK_DIMENSIONS; i++) {
        const json_t *item = json_array_get(array, i);
        double value = json_number_value(item);
        if (!json_is_number(item) || !isfinite(value) || fabs(value) > 1.001)
            return false;
        values[i] = (float)value;
        sum += value * value;
    }
    if (fabs(sqrt(sum) - 1) > 0.01)
        return false;
    memcpy(out, values, sizeof values);
    return true;
}

enum status bedrock_embed(struct bedrock *bedrock, const struct embed_request *embed, int64_t deadline_ms,
                          float out[BEDROCK_DIMENSIONS], uint32_t *ret_tokens, struct why *why) {
    CLEANUP(buffer_end) struct buffer body = { 0 };
    CLEANUP(json_destroy) json_t *answer = NULL;
    struct json_writer w;
    json_begin(&w, &body);
    json_open_object(&w);
    json_put_name(&w, "inputText");
    json_put_text(&w, embed->text);
    json_put_name(&w, "dimensions");
    json_put_i64(&w, BEDROCK_DIMENSIONS);
    json_put_name(&w, "normalize");
    json_put_bool(&w, true);
    json_close_object(&w);
    if (!json_finish(&w))
        return fail(why, ST_INTERNAL, "bedrock InvokeModel: the request cannot be written");
    struct ask ask = { .model = embed->model, .action = "invoke", .operation = "InvokeModel", .body = &body, .deadline_ms = deadline_ms,
                       .attempt_ms = embed->is_patient ? PATIENT_ATTEMPT_MS : EMBED_ATTEMPT_MS };
    enum status st = send_ask(bedrock, &ask, &answer, why);
    if (st != ST_OK)
        return st;
    const json_t *vector = NULL;
    int64_t tokens = 0;
    struct why reason = { 0 };
    if (json_get_array(answer, "embedding", JSON_REQUIRED, BEDROCK_DIMENSIONS, &vector, &reason) != ST_OK ||
        json_get_i64(answer, "inputTextTokenCount", JSON_OPTIONAL, 0, UINT32_MAX, &tokens, &reason) != ST_OK ||
        !read_vector(vector, out))
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock InvokeModel: the answer is no vector of length 1 with %d numbers",
                       BEDROCK_DIMENSIONS);
    *ret_tokens = (uint32_t)tokens;
    return ST_OK;
}

static void put_text_blocks(struct json_writer *w, const char *name, const char *text) {
    json_put_name(w, name);
    json_open_array(w);
    json_open_object(w);
    json_put_name(w, "text");
    json_put_text(w, text);
    json_close_object(w);
    json_close_array(w);
}

/* Of a stream nothing may go out before the guardrail has read it, so it reads along instead of after. */
static void put_guardrail(struct json_writer *w, const struct converse_request *converse, bool is_stream) {
    json_put_name(w, "guardrailConfig");
    json_open_object(w);
    json_put_name(w, "guardrailIdentifier");
    json_put_text(w, converse->guardrail_id);
    json_put_name(w, "guardrailVersion");
    json_put_text(w, converse->guardrail_version);
    json_put_name(w, "trace");
    json_put_text(w, "disabled");
    if (is_stream) {
        json_put_name(w, "streamProcessingMode");
        json_put_text(w, "sync");
    }
    json_close_object(w);
}

static enum status guarded(const char *operation, struct why *why) {
    return fail_as(why, ERR_MODEL_GUARDED, "bedrock %s: the guardrail intervened", operation);
}

static bool write_converse(const struct converse_request *converse, bool is_stream, struct buffer *body) {
    struct json_writer w;
    json_begin(&w, body);
    json_open_object(&w);
    put_text_blocks(&w, "system", converse->system);
    json_put_name(&w, "messages");
    json_open_array(&w);
    json_open_object(&w);
    json_put_name(&w, "role");
    json_put_text(&w, "user");
    put_text_blocks(&w, "content", converse->user);
    json_close_object(&w);
    json_close_array(&w);
    json_put_name(&w, "inferenceConfig");
    json_open_object(&w);
    json_put_name(&w, "maxTokens");
    json_put_i64(&w, converse->max_tokens);
    json_put_name(&w, "temperature");
    json_put_i64(&w, 0);
    json_close_object(&w);
    if (converse->guardrail_id && *converse->guardrail_id)
        put_guardrail(&w, converse, is_stream);
    json_close_object(&w);
    return json_finish(&w);
}

static enum status read_converse(const json_t *answer, struct arena *mem, struct converse_reply *ret_reply, struct why *why) {
    const json_t *output = NULL, *message = NULL, *content = NULL, *usage = NULL;
    const char *stop_reason = "";
    int64_t input = 0, output_tokens = 0;
    struct why reason = { 0 };
    if (json_get_object(answer, "output", JSON_REQUIRED, &output, &reason) != ST_OK ||
        json_get_object(output, "message", JSON_REQUIRED, &message, &reason) != ST_OK ||
        json_get_array(message, "content", JSON_REQUIRED, 64, &content, &reason) != ST_OK ||
        json_get_text(answer, "stopReason", JSON_REQUIRED, 64, &stop_reason, &reason) != ST_OK ||
        json_get_object(answer, "usage", JSON_OPTIONAL, &usage, &reason) != ST_OK ||
        (usage && json_get_i64(usage, "inputTokens", JSON_OPTIONAL, 0, UINT32_MAX, &input, &reason) != ST_OK) ||
        (usage && json_get_i64(usage, "outputTokens", JSON_OPTIONAL, 0, UINT32_MAX, &output_tokens, &reason) != ST_OK))
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock Converse: %.120s", reason.text);
    if (strcmp(stop_reason, GUARDED) == 0)
        return guarded("Converse", why);
    CLEANUP(buffer_end) struct buffer text = { 0 };
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *block = json_object_get(json_array_get(content, i), "text");
        if (json_is_string(block))      /* reasoning and other kinds of block are not for readers */
            (void)buffer_add(&text, json_string_value(block), json_string_length(block));
    }
    *ret_reply = (struct converse_reply){ .text = arena_strdup(mem, text.data ? text.data : ""),
                                          .stop_reason = arena_strdup(mem, stop_reason),
                                          .input_tokens = (uint32_t)input, .output_tokens = (uint32_t)output_tokens };
    return ST_OK;
}

enum status bedrock_converse(struct bedrock *bedrock, const struct converse_request *converse, int64_t deadline_ms,
                             struct arena *mem, struct converse_reply *ret_reply, struct why *why) {
    CLEANUP(buffer_end) struct buffer body = { 0 };
    CLEANUP(json_destroy) json_t *answer = NULL;
    if (converse->max_tokens == 0 || !write_converse(converse, false, &body))
        return fail(why, ST_INTERNAL, "bedrock Converse: the request cannot be written");
    struct ask ask = { .model = converse->model, .action = "converse", .operation = "Converse", .body = &body, .deadline_ms = deadline_ms,
                       .attempt_ms = CONVERSE_ATTEMPT_MS };
    enum status st = send_ask(bedrock, &ask, &answer, why);
    return st != ST_OK ? st : read_converse(answer, mem, ret_reply, why);
}

/* ---- the answer as a stream ---- */

enum { FRAME_MAX_BYTES = 128 << 10 };

struct converse_stream {
    const struct converse_sink *sink;
    struct eventstream frames;
    struct buffer text;
    char stop_reason[64];
    int64_t input_tokens, output_tokens;
    bool has_delivered, has_stopped;
    int64_t heard_ms;               /* when the request began, then when text came last */
    enum aws_kind kind;             /* of the exception that ended it */
    bool has_exception;
};

/* "throttlingException" as errors.def spells it. */
static enum status take_exception(struct converse_stream *s, const struct eventstream_message *m, struct why *why) {
    char code[EVENTSTREAM_NAME_BYTES];
    memcpy(code, m->type, sizeof code);
    if (code[0] >= 'a' && code[0] <= 'z')
        code[0] = (char)(code[0] - 'a' + 'A');
    s->has_exception = true;
    s->kind = aws_error_kind(code, 500);
    bool is_plain = strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == strlen(code);
    return fail_as(why, aws_public_error("bedrock", s->kind), "bedrock ConverseStream: %s", is_plain ? code : "an exception");
}

static enum status take_delta(struct converse_stream *s, const json_t *event, struct why *why) {
    const json_t *delta = json_object_get(event, "delta"), *piece = delta ? json_object_get(delta, "text") : NULL;
    if (!json_is_string(piece) || json_string_length(piece) == 0)   /* reasoning and other kinds are not for readers */
        return ST_OK;
    if (!buffer_add(&s->text, json_string_value(piece), json_string_length(piece)))
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock ConverseStream: more than %d bytes of text", BEDROCK_ANSWER_MAX_BYTES);
    s->has_delivered = true;
    enum status st = s->sink->on_text(s->sink->ctx, json_string_value(piece), json_string_length(piece), why);
    s->heard_ms = clock_mono_ms();      /* what the sink took is not the model's time */
    return st;
}

static enum status take_message(void *ctx, const struct eventstream_message *m, struct why *why) {
    struct converse_stream *s = ctx;
    CLEANUP(json_destroy) json_t *event = NULL;
    struct why reason = { 0 };
    if (m->is_exception)
        return take_exception(s, m, why);
    if (json_parse(m->payload, m->len, FRAME_MAX_BYTES, &event, &reason) != ST_OK)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock ConverseStream: an event is no JSON");
    const char *stop = "";
    const json_t *usage = NULL;
    enum status st = ST_OK;
    if (strcmp(m->type, "contentBlockDelta") == 0)
        return take_delta(s, event, why);
    if (strcmp(m->type, "messageStop") == 0) {
        st = json_get_text(event, "stopReason", JSON_REQUIRED, sizeof s->stop_reason - 1, &stop, &reason);
        memcpy(s->stop_reason, stop, strlen(stop) + 1);
        s->has_stopped = true;
    } else if (strcmp(m->type, "metadata") == 0) {
        st = json_get_object(event, "usage", JSON_OPTIONAL, &usage, &reason);
        if (st == ST_OK && usage)
            st = json_get_i64(usage, "inputTokens", JSON_OPTIONAL, 0, UINT32_MAX, &s->input_tokens, &reason);
        if (st == ST_OK && usage)
            st = json_get_i64(usage, "outputTokens", JSON_OPTIONAL, 0, UINT32_MAX, &s->output_tokens, &reason);
    }       /* messageStart, contentBlockStart, contentBlockStop and what is new say nothing that we need */
    return st == ST_OK ? ST_OK : fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock ConverseStream: %.120s", reason.text);
}

/* Frames without text are no answer either, so it is not the bytes that are waited for. */
static enum status watch(void *ctx, struct why *why) {
    const struct converse_stream *s = ctx;
    int64_t most_ms = s->has_delivered ? s->sink->idle_ms : s->sink->first_ms;
    if (s->sink->is_unwanted && s->sink->is_unwanted(s->sink->ctx))
        return fail(why, ST_UNAVAILABLE, "bedrock ConverseStream: nobody wants the answer any more");
    if (most_ms > 0 && !s->has_stopped && clock_mono_ms() - s->heard_ms >= most_ms)
        return fail_as(why, ERR_MODEL_BROKE_OFF, "bedrock ConverseStream: no %stext for %lld ms", s->has_delivered ? "more " : "",
                       (long long)most_ms);
    return ST_OK;
}

static enum status take_bytes(void *ctx, const void *data, size_t len, struct why *why) {
    struct converse_stream *s = ctx;
    enum status st = eventstream_feed(&s->frames, data, len, take_message, s, why);
    if (st == ST_OK || !s->frames.is_damaged)
        return st;
    struct why below = *why;
    return fail_as(why, ERR_MODEL_BROKE_OFF, "bedrock ConverseStream: %.120s", below.text);
}

/* One try from the first byte to the model's stop. */
static enum status stream_once(struct bedrock *bedrock, const struct converse_request *converse, const struct buffer *body,
                               struct converse_stream *s, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "bedrock", .operation = "ConverseStream", .method = "POST", .endpoint = bedrock->endpoint,
        .path = arena_printf(mem, "/model/%s/converse-stream", sigv4_encode(mem, converse->model, false)),
        .headers = { { "content-type", "application/json" }, { "accept", "application/vnd.amazon.eventstream" } },
        .body = body->data, .body_len = body->len, .deadline_ms = deadline_ms, .attempts = ATTEMPTS, .is_paced = true,
        .sink = take_bytes, .sink_ctx = s, .watch = watch, .watch_ctx = s };
    s->heard_ms = clock_mono_ms();
    enum status st = aws_send(bedrock->aws, &request, &reply, why);
    if (st == ST_NOT_FOUND)
        return fail_as(why, ERR_MODEL_UNAVAILABLE, "bedrock ConverseStream: no such model");
    if (st == ST_OK && (!s->has_stopped || !eventstream_is_between(&s->frames)))
        return fail_as(why, ERR_MODEL_BROKE_OFF, "bedrock ConverseStream: the stream ended before the answer did");
    if (st == ST_OK && strcmp(s->stop_reason, GUARDED) == 0)
        return guarded("ConverseStream", why);
    if (st != ST_OK && s->has_delivered && (st == ST_LIMITED || why->code == ERR_MODEL_UNAVAILABLE)) {     /* it was reached, and began */
        struct why below = *why;
        return fail_as(why, ERR_MODEL_BROKE_OFF, "%s", below.text);
    }
    return st;
}

enum status bedrock_converse_stream(struct bedrock *bedrock, const struct converse_request *converse, const struct converse_sink *sink,
                                    int64_t deadline_ms, struct arena *mem, struct converse_reply *ret_reply, struct why *why) {
    CLEANUP(buffer_end) struct buffer body = { 0 };
    if (converse->max_tokens == 0 || !write_converse(converse, true, &body))
        return fail(why, ST_INTERNAL, "bedrock ConverseStream: the request cannot be written");
    struct backoff backoff = { .base_ms = 100, .cap_ms = 3000, .deadline_ms = deadline_ms, .attempts = ATTEMPTS };
    for (;;) {
        struct converse_stream s = { .sink = sink };
        eventstream_init(&s.frames, FRAME_MAX_BYTES);
        buffer_init(&s.text, BEDROCK_ANSWER_MAX_BYTES);
        enum status st = stream_once(bedrock, converse, &body, &s, deadline_ms, why);
        *ret_reply = (struct converse_reply){ .text = arena_strdup(mem, s.text.data ? s.text.data : ""),
                                              .stop_reason = arena_strdup(mem, s.stop_reason),
                                              .input_tokens = (uint32_t)s.input_tokens, .output_tokens = (uint32_t)s.output_tokens };
        bool is_worth_it = st != ST_OK && s.has_exception && !s.has_delivered && st != ST_LIMITED && aws_kind_is_retryable(s.kind);
        eventstream_end(&s.frames);
        buffer_end(&s.text);
        if (!is_worth_it || !backoff_wait(&backoff, 0))
            return st;
    }
}
