#include <stdlib.h>
#include <string.h>

#include "aws/sts.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/utf8.h"
#include "embedding.pb-c.h"
#include "embedding_worker.h"
#include "prompt.h"
#include "text/tokens.h"

enum {
    TEXTS_MAX = 64, HISTORY_MAX = 16, TEXT_MAX_BYTES = 20000, QUESTION_MAX_BYTES = 4000, SOURCES_MAX = 32, TITLE_MAX_BYTES = 1024, TOKENS_MAX = 4096,
    BOOT_MS = 20000, READY_MS = 2000,
};

/* "" or too long or not UTF-8: protobuf-c checks none of it. */
static bool is_text(const char *text, size_t max_bytes) {
    size_t len = strnlen(text, max_bytes + 1);
    return len > 0 && len <= max_bytes && utf8_is_text(text, len, NULL);
}

/* The place of an equal text before texts[i]; i when there is none. */
static size_t first_equal(char *const texts[], size_t i) {
    for (size_t j = 0; j < i; j++)
        if (strcmp(texts[j], texts[i]) == 0)
            return j;
    return i;
}

/* EmbedRequest{texts, purpose} -> EmbedReply{vectors in the order of texts, model}. Equal texts are embedded once. */
static enum status on_embed(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Embedding__EmbedRequest *req = (const void *)in;
    Embedding__EmbedReply *reply = (void *)out;
    struct embedding_worker *w = self;
    if (req->n_texts < 1 || req->n_texts > TEXTS_MAX)
        return fail(&call->why, ST_INVALID, "texts: %zu, 1 to %d are served", req->n_texts, TEXTS_MAX);
    if (req->purpose != EMBEDDING__PURPOSE__DOCUMENT && req->purpose != EMBEDDING__PURPOSE__QUESTION)
        return fail(&call->why, ST_INVALID, "purpose: %d", (int)req->purpose);
    struct embed_task *tasks = arena_alloc(call->mem, req->n_texts * sizeof *tasks);
    size_t *task_of = arena_alloc(call->mem, req->n_texts * sizeof *task_of), n_tasks = 0;
    for (size_t i = 0; i < req->n_texts; i++) {
        if (!is_text(req->texts[i], TEXT_MAX_BYTES))
            return fail(&call->why, ST_INVALID, "texts[%zu]: not 1 to %d bytes of UTF-8", i, TEXT_MAX_BYTES);
        size_t first = first_equal(req->texts, i);
        task_of[i] = first < i ? task_of[first] : n_tasks;
        if (first < i)
            continue;
        float *values = arena_alloc(call->mem, BEDROCK_DIMENSIONS * sizeof *values);
        tasks[n_tasks++] = (struct embed_task){ .text = req->texts[i], .values = values };
    }
    counter_add(w->texts, req->n_texts);
    counter_add(w->repeated_texts, req->n_texts - n_tasks);
    enum embed_class class = req->purpose == EMBEDDING__PURPOSE__QUESTION ? EMBED_INTERACTIVE : EMBED_BULK;
    enum status st = fault_status(FAULT_MODEL_BEFORE_EMBED, &call->why);
    if (st == ST_OK)
        st = embed_pool_run(w->pool, class, tasks, n_tasks, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_MODEL_EMBEDDED, &call->why);
    if (st != ST_OK)
        return st;
    reply->vectors = arena_alloc(call->mem, req->n_texts * sizeof *reply->vectors);
    reply->n_vectors = req->n_texts;
    for (size_t i = 0; i < req->n_texts; i++) {
        const struct embed_task *task = &tasks[task_of[i]];
        reply->vectors[i] = arena_alloc(call->mem, sizeof **reply->vectors);
        embedding__vector__init(reply->vectors[i]);
        reply->vectors[i]->n_values = BEDROCK_DIMENSIONS;
        reply->vectors[i]->values = task->values;
        reply->vectors[i]->input_tokens = task->tokens;
    }
    for (size_t i = 0; i < n_tasks; i++)
        counter_add(w->embed_tokens, tasks[i].tokens);
    reply->model = arena_strdup(call->mem, w->settings->embed_model);
    return ST_OK;
}

static enum status check_sources(const Embedding__GenerateRequest *req, struct why *why) {
    if (req->n_sources < 1 || req->n_sources > SOURCES_MAX)
        return fail(why, ST_INVALID, "sources: %zu, 1 to %d are served", req->n_sources, SOURCES_MAX);
    for (size_t i = 0; i < req->n_sources; i++) {
        const Embedding__Source *source = req->sources[i];
        if (source->number == 0)
            return fail(why, ST_INVALID, "sources[%zu].number: from 1", i);
        for (size_t j = 0; j < i; j++)
            if (req->sources[j]->number == source->number)
                return fail(why, ST_INVALID, "sources[%zu].number: given twice", i);
        if (*source->title && !is_text(source->title, TITLE_MAX_BYTES))
            return fail(why, ST_INVALID, "sources[%zu].title: not up to %d bytes of UTF-8", i, TITLE_MAX_BYTES);
        if (!is_text(source->text, TEXT_MAX_BYTES))
            return fail(why, ST_INVALID, "sources[%zu].text: not 1 to %d bytes of UTF-8", i, TEXT_MAX_BYTES);
    }
    return ST_OK;
}

/* An answer on its way from the model to the caller. */
struct answering {
    struct call *call;
    struct prompt_reader reader;
    struct buffer text;             /* of a caller that takes no stream */
};

static enum status pass_text(void *ctx, const char *text, size_t len, struct why *why) {
    struct answering *a = ctx;
    if (!call_is_stream(a->call)) {
        (void)buffer_add(&a->text, text, len);
        return ST_OK;
    }
    enum status st = call_write(a->call, text, len);
    *why = a->call->why;
    return st;
}

static enum status take_text(void *ctx, const char *text, size_t len, struct why *why) {
    struct answering *a = ctx;
    return prompt_feed(&a->reader, text, len, pass_text, a, why);
}

static bool is_unwanted(void *ctx) {
    struct answering *a = ctx;
    return call_is_cancelled(a->call);
}

/* Before the model is asked: whoever has to do without the reply knows what was asked of which model. */
static enum status write_head(struct call *call, const Embedding__GenerateReply *reply) {
    Embedding__GenerateHead head = EMBEDDING__GENERATE_HEAD__INIT;
    uint8_t packed[1024];
    head.model = reply->model;
    head.prompt_commitment = reply->prompt_commitment;
    if (!call_is_stream(call))
        return ST_OK;
    if (protobuf_c_message_get_packed_size(&head.base) > sizeof packed)
        return fail(&call->why, ST_INTERNAL, "the model's id is too long");
    return call_write(call, packed, protobuf_c_message_pack(&head.base, packed));
}

/* What a model says of an answer's cost comes last; of one that ended before, its texts tell it roughly. */
static void count_answer(struct embedding_worker *w, struct call *call, enum status st, const char *user, bool is_found,
                         const struct converse_reply *answer) {
    bool is_left = st != ST_OK && call_is_cancelled(call), is_known = st == ST_OK || answer->output_tokens > 0;
    bool was_asked = st == ST_OK || *answer->text || is_left;       /* a refusal costs nothing */
    if (was_asked) {
        counter_add(w->chat_input_tokens, is_known ? answer->input_tokens : tokens_estimate(user, strlen(user)));
        counter_add(w->chat_output_tokens, is_known ? answer->output_tokens : tokens_estimate(answer->text, strlen(answer->text)));
    }
    counter_add(is_left ? w->answers_left : st != ST_OK ? w->answers_broken : is_found ? w->answers_found : w->answers_not_found, 1);
}

static enum status check_history(const Embedding__GenerateRequest *req, struct why *why) {
    if (req->n_history > HISTORY_MAX)
        return fail(why, ST_INVALID, "history: %zu, up to %d are served", req->n_history, HISTORY_MAX);
    for (size_t i = 0; i < req->n_history; i++)
        if (!is_text(req->history[i]->question, QUESTION_MAX_BYTES) || !is_text(req->history[i]->answer, TEXT_MAX_BYTES))
            return fail(why, ST_INVALID, "history[%zu]: not two texts of UTF-8", i);
    return ST_OK;
}

/* GenerateRequest{question, sources, max_tokens, history} -> parts, GenerateReply. The text's citations are the model's claim. */
static enum status on_generate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Embedding__GenerateRequest *req = (const void *)in;
    Embedding__GenerateReply *reply = (void *)out;
    struct embedding_worker *w = self;
    if (!is_text(req->question, QUESTION_MAX_BYTES))
        return fail(&call->why, ST_INVALID, "question: not 1 to %d bytes of UTF-8", QUESTION_MAX_BYTES);
    if (req->max_tokens < 1 || req->max_tokens > TOKENS_MAX)
        return fail(&call->why, ST_INVALID, "max_tokens: 1 to %d", TOKENS_MAX);
    enum status st = check_sources(req, &call->why);
    if (st == ST_OK)
        st = check_history(req, &call->why);
    if (st != ST_OK)
        return st;
    char *user = NULL;
    reply->model = arena_strdup(call->mem, w->settings->chat_model);
    st = prompt_write(req, call->mem, &user, &call->why);
    if (st == ST_OK)
        st = prompt_commit(req->prompt_salt, user, call->mem, &reply->prompt_commitment, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_MODEL_BEFORE_ANSWER, &call->why);
    if (st == ST_OK)
        st = write_head(call, reply);
    if (st != ST_OK)
        return st;
    struct converse_request converse = { w->settings->chat_model, PROMPT_SYSTEM, user, req->max_tokens };
    struct answering a = { .call = call };
    struct converse_sink sink = { .on_text = take_text, .is_unwanted = is_unwanted, .ctx = &a,
                                  .first_ms = w->settings->first_text_ms, .idle_ms = w->settings->idle_ms };
    struct converse_reply answer = { .text = (char *)"" };
    st = bedrock_converse_stream(w->bedrock, &converse, &sink, call->deadline_ms, call->mem, &answer, &call->why);
    if (st == ST_OK)
        st = prompt_end(&a.reader, pass_text, &a, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_MODEL_ANSWERED, &call->why);
    count_answer(w, call, st, user, a.reader.state == PROMPT_FOUND, &answer);
    reply->text = arena_strdup(call->mem, a.text.data ? a.text.data : "");
    buffer_end(&a.text);
    reply->found = a.reader.state == PROMPT_FOUND;
    reply->stop_reason = answer.stop_reason;
    reply->input_tokens = answer.input_tokens;
    reply->output_tokens = answer.output_tokens;
    return st;
}

static const struct route ROUTES[] = {
    /* method                who may call                     scope       request                                    reply                                    handler */
    { "embedding.Embed",     PEER_INGEST_WORKER | PEER_QUERY, SCOPE_NONE, &embedding__embed_request__descriptor,    &embedding__embed_reply__descriptor,    on_embed },
    { "embedding.Generate",  PEER_QUERY,                      SCOPE_NONE, &embedding__generate_request__descriptor, &embedding__generate_reply__descriptor, on_generate },
    { 0 }
};

/* ---- settings, readiness, life ---- */

#define OFF(member) offsetof(struct embedding_settings, member)

static const struct setting SETTINGS[] = {
    AWS_SETTINGS(struct embedding_settings, aws),
    AWS_ENDPOINT_SETTING(struct embedding_settings, bedrock_endpoint, "BEDROCK_RUNTIME"),
    /* name                        type      default                             min max  unit offset                        help */
    { "CORDON_AWS_IDENTITY",       SET_TEXT, "embedding-worker",                 1,  64,  "",  OFF(aws_identity),            "User or role that AWS must say this process is." },
    { "CORDON_EMBED_MODEL_ID",     SET_TEXT, "amazon.titan-embed-text-v2:0",     1,  256, "",  OFF(embed_model),             "Titan Text Embeddings V2, or an inference profile of it." },
    { "CORDON_CHAT_MODEL_ID",      SET_TEXT, "anthropic.claude-sonnet-4-5-20250929-v1:0", 1, 256, "", OFF(chat_model),       "Model that answers by Converse, or an inference profile of one." },
    { "CORDON_MODEL_CONNECTIONS",  SET_INT,  "32",                               2,  256, "",  OFF(model_connections_count), "Texts embedded at once." },
    { "CORDON_MODEL_FIRST_TEXT_MS", SET_INT, "20000",                            100, 300000, "ms", OFF(first_text_ms),      "How long the chat model may take to begin an answer." },
    { "CORDON_MODEL_IDLE_MS",      SET_INT,  "10000",                            100, 300000, "ms", OFF(idle_ms),            "How long the chat model may fall silent within an answer." },
    { 0 }
};

static enum status check_identity(void *self, struct why *why) {
    const struct embedding_worker *w = self;
    return sts_assert(w->aws, w->settings->aws.sts_endpoint, w->settings->aws_identity, clock_mono_ms() + READY_MS, why);
}

static enum status check_models(void *self, struct why *why) {
    const struct embedding_worker *w = self;
    return w->preflight ? preflight_status(w->preflight, why) : ST_OK;
}

static const struct ready_check READY[] = {
    { "aws_identity", check_identity },
    { "models", check_models },
    { 0 }
};

static void make_counters(struct embedding_worker *w, struct metrics *m) {
    static const char TOKENS[] = "cordon_model_tokens_total", TOKENS_HELP[] = "Tokens that the models counted.";
    static const char ANSWERS[] = "cordon_answers_total", ANSWERS_HELP[] = "Answers of the chat model.";
    static const char BROKEN[] = "cordon_answers_broken_total", BROKEN_HELP[] = "Answers of the chat model that were not heard to their end.";
    w->texts = metrics_counter(m, "cordon_embed_texts_total", "Texts that callers wanted as vectors.", "");
    w->repeated_texts = metrics_counter(m, "cordon_embed_repeated_texts_total", "Texts that equalled another one of the same call.", "");
    w->embed_tokens = metrics_counter(m, TOKENS, TOKENS_HELP, "model=\"embed\",direction=\"input\"");
    w->chat_input_tokens = metrics_counter(m, TOKENS, TOKENS_HELP, "model=\"chat\",direction=\"input\"");
    w->chat_output_tokens = metrics_counter(m, TOKENS, TOKENS_HELP, "model=\"chat\",direction=\"output\"");
    w->answers_found = metrics_counter(m, ANSWERS, ANSWERS_HELP, "found=\"true\"");
    w->answers_not_found = metrics_counter(m, ANSWERS, ANSWERS_HELP, "found=\"false\"");
    w->answers_left = metrics_counter(m, BROKEN, BROKEN_HELP, "by=\"caller\"");
    w->answers_broken = metrics_counter(m, BROKEN, BROKEN_HELP, "by=\"model\"");
}

static void embedding_close(void **self_p) {
    struct embedding_worker *w = *self_p;
    if (!w)
        return;
    preflight_destroy(&w->preflight);
    embed_pool_destroy(&w->pool);
    bedrock_destroy(&w->bedrock);
    aws_destroy(&w->aws);
    free(w);
    *self_p = NULL;
}

static enum status embedding_open(void **ret_self, const void *settings, struct runtime *rt, struct why *why) {
    struct embedding_worker *w = xalloc(sizeof *w);
    void *self = w;
    w->settings = settings;
    w->runtime = rt;
    bool asks_sts = rt->is_production || *w->settings->aws.sts_endpoint;    /* else there may be nobody to ask */
    enum status st = aws_open(&w->settings->aws, rt->is_production, rt->metrics, &w->aws, why);
    if (st == ST_OK && asks_sts)
        st = sts_assert(w->aws, w->settings->aws.sts_endpoint, w->settings->aws_identity, clock_mono_ms() + BOOT_MS, why);
    if (st != ST_OK) {
        embedding_close(&self);
        return st;
    }
    w->bedrock = bedrock_new(w->aws, w->settings->bedrock_endpoint);
    w->pool = embed_pool_new(w->bedrock, w->settings->embed_model, (size_t)w->settings->model_connections_count);
    make_counters(w, rt->metrics);
    *ret_self = w;
    return ST_OK;
}

static enum status embedding_start(void *self, struct runtime *rt, struct why *why) {
    struct embedding_worker *w = self;
    (void)why;
    w->preflight = preflight_new(w->bedrock, w->settings->embed_model, w->settings->chat_model, rt);
    return ST_OK;
}

static void embedding_collect(void *self, struct metrics *m) {
    struct embedding_worker *w = self;
    gauge_set(metrics_gauge(m, "cordon_embed_texts_waiting", "Texts that wait for a connection.", ""), (double)embed_pool_waiting(w->pool));
}

const struct service EMBEDDING_WORKER = {
    .name = "embedding-worker", .peer = PEER_EMBEDDING_WORKER, .about = "embeds texts and answers questions by Amazon Bedrock",
    .calls = PEER_NONE, .settings = SETTINGS, .settings_size = sizeof(struct embedding_settings), .routes = ROUTES, .ready = READY,
    .open = embedding_open, .start = embedding_start, .close = embedding_close, .collect = embedding_collect,
};
