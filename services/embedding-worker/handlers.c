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
#include "secrets/secrets.h"
#include "text/tokens.h"

enum {
    TEXTS_MAX = 64, HISTORY_MAX = 16, TEXT_MAX_BYTES = 20000, QUESTION_MAX_BYTES = 4000, SOURCES_MAX = 32, TITLE_MAX_BYTES = 1024, TOKENS_MAX = 4096,
    CHAT_THROTTLES = 6, BOOT_MS = 20000, READY_MS = 2000,
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

/* The model of that name; "": the present one. NULL: there is none. */
static const struct embed_model *model_named(const struct embedding_worker *w, const char *name) {
    for (int i = 0; i < EMBED_MODELS; i++)
        if (w->embeds[i].pool && (!*name || str_equal(w->embeds[i].name, name)))
            return &w->embeds[i];
    return NULL;
}

static bool is_unwanted(void *ctx) {
    return call_is_cancelled(ctx);
}

static struct patience patience_of(struct call *call) {
    return (struct patience){ .deadline_ms = call->deadline_ms, .is_unwanted = is_unwanted, .ctx = call };
}

static void charge(struct embedding_worker *w, const struct uuid *tenant, uint64_t embed, uint64_t input, uint64_t output) {
    counter_add(w->embed_tokens, embed);
    counter_add(w->chat_input_tokens, input);
    counter_add(w->chat_output_tokens, output);
    accounts_charge(w->accounts, tenant, (uint64_t[USE_COUNT]){ embed, input, output }, clock_unix_us());
}

/* May text go to a model, for this tenant? */
static enum status admit(struct embedding_worker *w, const struct uuid *tenant, struct why *why) {
    enum status st = w->preflight ? preflight_may_send(w->preflight, why) : ST_OK;
    return st == ST_OK ? accounts_admit(w->accounts, tenant, clock_unix_us(), why) : st;
}

/* Also of a batch that failed: what was embedded of it is to be paid. */
static enum status run_tasks(struct embedding_worker *w, const struct embed_model *model, struct call *call, enum pace_class class,
                             struct embed_task tasks[], size_t n) {
    struct uuid tenant = accounts_payer(call->ticket);
    struct embed_order order = { .class = class, .tenant = tenant, .weight = accounts_weight(w->accounts, &tenant), .patience = patience_of(call) };
    uint64_t tokens = 0;
    enum status st = admit(w, &tenant, &call->why);
    if (st != ST_OK)
        return st;
    st = embed_pool_run(model->pool, &order, tasks, n, &call->why);
    for (size_t i = 0; i < n; i++)
        tokens += tasks[i].tokens;
    charge(w, &tenant, tokens, 0, 0);
    return st;
}

/* EmbedRequest{texts, purpose, model} -> EmbedReply{vectors in the order of texts, model}. Equal texts are embedded once. */
static enum status on_embed(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Embedding__EmbedRequest *req = (const void *)in;
    Embedding__EmbedReply *reply = (void *)out;
    struct embedding_worker *w = self;
    const struct embed_model *model = model_named(w, req->model);
    if (req->n_texts < 1 || req->n_texts > TEXTS_MAX)
        return fail(&call->why, ST_INVALID, "texts: %zu, 1 to %d are served", req->n_texts, TEXTS_MAX);
    if (req->purpose != EMBEDDING__PURPOSE__DOCUMENT && req->purpose != EMBEDDING__PURPOSE__QUESTION)
        return fail(&call->why, ST_INVALID, "purpose: %d", (int)req->purpose);
    if (!model)
        return fail_as(&call->why, ERR_MODEL_NAME, "model: none of that name");
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
    enum status st = fault_status(FAULT_MODEL_BEFORE_EMBED, &call->why);
    if (st == ST_OK)
        st = run_tasks(w, model, call, req->purpose == EMBEDDING__PURPOSE__QUESTION ? PACE_INTERACTIVE : PACE_BATCH, tasks, n_tasks);
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
    reply->model = arena_strdup(call->mem, model->name);
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

static bool is_answer_unwanted(void *ctx) {
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
static void count_answer(struct embedding_worker *w, struct call *call, const struct uuid *tenant, enum status st, const char *user, bool is_found,
                         const struct converse_reply *answer) {
    bool is_guarded = st != ST_OK && call->why.code == ERR_MODEL_GUARDED;
    bool is_left = st != ST_OK && call_is_cancelled(call), is_known = st == ST_OK || is_guarded || answer->output_tokens > 0;
    bool was_asked = st == ST_OK || *answer->text || is_left;       /* a refusal costs nothing */
    if (was_asked)
        charge(w, tenant, 0, is_known ? answer->input_tokens : tokens_estimate(user, strlen(user)),
               is_known ? answer->output_tokens : tokens_estimate(answer->text, strlen(answer->text)));
    counter_add(is_left ? w->answers_left : is_guarded ? w->answers_guarded : st != ST_OK ? w->answers_broken : is_found ? w->answers_found
                                                                                                             : w->answers_not_found, 1);
}

/* In its turn, and again when it was throttled. */
static enum status converse(struct embedding_worker *w, struct answering *a, const struct uuid *tenant, const struct converse_request *request,
                            struct converse_reply *ret_answer) {
    struct call *call = a->call;
    struct converse_sink sink = { .on_text = take_text, .is_unwanted = is_answer_unwanted, .ctx = a,
                                  .first_ms = w->settings->first_text_ms, .idle_ms = w->settings->idle_ms };
    uint32_t expected = (uint32_t)tokens_estimate(request->user, strlen(request->user)) + request->max_tokens;
    struct turn turn = { .tenant = *tenant, .weight = accounts_weight(w->accounts, tenant), .class = PACE_INTERACTIVE, .tokens = expected };
    struct patience patience = patience_of(call);
    for (unsigned tried = 0;; tried++) {
        enum status st = gate_enter(&w->chat, &turn, tried > 0, &patience, &call->why);
        if (st != ST_OK)
            return st;
        call->why = (struct why){ 0 };
        st = bedrock_converse_stream(w->bedrock, request, &sink, call->deadline_ms, call->mem, ret_answer, &call->why);
        enum line_outcome outcome = line_judge(&turn, st, &call->why, call_is_cancelled(call), clock_mono_us());
        gate_leave(&w->chat, &turn, outcome, ret_answer->input_tokens + ret_answer->output_tokens, call->why.retry_after_ms);
        if (outcome != LINE_THROTTLED || tried + 1 == CHAT_THROTTLES)
            return st;
        patience.throttled = call->why;
    }
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
    struct converse_request request = { w->settings->chat_model, PROMPT_SYSTEM, user, req->max_tokens, w->settings->guardrail_id,
                                        w->settings->guardrail_version };
    struct answering a = { .call = call };
    struct converse_reply answer = { .text = (char *)"" };
    struct uuid tenant = accounts_payer(call->ticket);
    st = admit(w, &tenant, &call->why);
    if (st == ST_OK)
        st = converse(w, &a, &tenant, &request, &answer);
    if (st == ST_OK)
        st = prompt_end(&a.reader, pass_text, &a, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_MODEL_ANSWERED, &call->why);
    count_answer(w, call, &tenant, st, user, a.reader.state == PROMPT_FOUND, &answer);
    reply->text = arena_strdup(call->mem, a.text.data ? a.text.data : "");
    buffer_end(&a.text);
    reply->found = a.reader.state == PROMPT_FOUND;
    reply->stop_reason = answer.stop_reason;
    reply->input_tokens = answer.input_tokens;
    reply->output_tokens = answer.output_tokens;
    return st;
}

/* ModelsRequest{} -> ModelsReply: what vectors there can be. */
static enum status on_models(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    Embedding__ModelsReply *reply = (void *)out;
    const struct embedding_worker *w = self;
    (void)in;
    reply->embed_model = arena_strdup(call->mem, w->embeds[EMBED_PRESENT].name);
    reply->old_embed_model = arena_strdup(call->mem, w->embeds[EMBED_OLD].pool ? w->embeds[EMBED_OLD].name : "");
    reply->dimensions = BEDROCK_DIMENSIONS;
    reply->chat_model = arena_strdup(call->mem, w->settings->chat_model);
    return ST_OK;
}

static const struct route ROUTES[] = {
    /* method                who may call                     scope       request                                    reply                                    handler */
    { "embedding.Embed",     PEER_INGEST_WORKER | PEER_QUERY, SCOPE_NONE, &embedding__embed_request__descriptor,    &embedding__embed_reply__descriptor,    on_embed },
    { "embedding.Generate",  PEER_QUERY,                      SCOPE_NONE, &embedding__generate_request__descriptor, &embedding__generate_reply__descriptor, on_generate },
    { "embedding.Models",    PEER_INGEST_WORKER | PEER_QUERY, SCOPE_NONE, &embedding__models_request__descriptor,   &embedding__models_reply__descriptor,   on_models },
    { 0 }
};

/* ---- settings, readiness, life ---- */

#define OFF(member) offsetof(struct embedding_settings, member)

static const struct setting SETTINGS[] = {
    AWS_SETTINGS(struct embedding_settings, aws, "embedding-worker"),
    AWS_SECRETS_SETTINGS(struct embedding_settings, aws),
    AWS_ENDPOINT_SETTING(struct embedding_settings, bedrock_endpoint, "BEDROCK_RUNTIME"),
    AWS_ENDPOINT_SETTING(struct embedding_settings, bedrock_control_endpoint, "BEDROCK"),
    /* name                             type      default                             min max  unit offset                        help */
    { "CORDON_EMBED_MODEL_ID",          SET_TEXT, "amazon.titan-embed-text-v2:0",     1,  256, "",  OFF(embed_model),             "Titan Text Embeddings V2, or an inference profile of it." },
    { "CORDON_EMBED_MODEL_NAME",        SET_TEXT, "",                                 1,  200, "",  OFF(embed_name),              "What its vectors are kept under; the id when empty. An id and a profile of one model may have one name." },
    { "CORDON_EMBED_OLD_MODEL_ID",      SET_TEXT, "",                                 1,  256, "",  OFF(old_embed_model),         "The model before it, while tenants are re-embedded: questions of those that are not through." },
    { "CORDON_EMBED_OLD_MODEL_NAME",    SET_TEXT, "",                                 1,  200, "",  OFF(old_embed_name),          "What its vectors are kept under; the id when empty." },
    { "CORDON_CHAT_MODEL_ID",           SET_TEXT, "anthropic.claude-sonnet-4-5-20250929-v1:0", 1, 256, "", OFF(chat_model),       "Model that answers by Converse, or an inference profile of one." },
    { "CORDON_MODEL_REGIONS",           SET_TEXT, "",                                 1,  1024, "", OFF(regions),                 "Regions, with commas between, to which inference profiles may send text; AWS_REGION when empty." },
    { "CORDON_GUARDRAIL_ID",            SET_TEXT, "",                                 1,  2048, "", OFF(guardrail_id),            "Bedrock guardrail that every question and its answer pass; empty: none." },
    { "CORDON_GUARDRAIL_VERSION",       SET_TEXT, "DRAFT",                            1,  8,   "",  OFF(guardrail_version),       "Its version." },
    { "CORDON_BEDROCK_LOG_PLACES",      SET_TEXT, "",                                 1,  4096, "", OFF(log_places),              "Where the account's invocation logging may write, with commas between: s3:<bucket>, logs:<log group>. Anywhere else, and the process does not start." },
    { "CORDON_MODEL_CONNECTIONS",       SET_INT,  "32",                               2,  256, "",  OFF(embed_connections_count), "Texts embedded at once, at most; fewer while the model throttles." },
    { "CORDON_CHAT_CONNECTIONS",        SET_INT,  "32",                               2,  256, "",  OFF(chat_connections_count),  "Answers written at once, likewise." },
    { "CORDON_MODEL_FIRST_TEXT_MS",     SET_INT,  "20000",                            100, 300000, "ms", OFF(first_text_ms),       "How long the chat model may take to begin an answer." },
    { "CORDON_MODEL_IDLE_MS",           SET_INT,  "10000",                            100, 300000, "ms", OFF(idle_ms),             "How long the chat model may fall silent within an answer." },
    { "CORDON_EMBEDDING_REPLICAS",      SET_INT,  "1",                                1,  1000, "", OFF(replicas),                "Replicas of this process; each takes its part of the account's rates." },
    { "CORDON_EMBED_REQUESTS_PER_MINUTE", SET_INT, "0",                               0,  100000000, "", OFF(embed_requests),     "Requests to the embedding model that the account allows; 0: found out by throttles." },
    { "CORDON_EMBED_TOKENS_PER_MINUTE", SET_INT,  "0",                                0,  1000000000000, "", OFF(embed_tokens),   "Tokens, likewise." },
    { "CORDON_CHAT_REQUESTS_PER_MINUTE", SET_INT, "0",                                0,  100000000, "", OFF(chat_requests),      "Requests to the chat model, likewise." },
    { "CORDON_CHAT_TOKENS_PER_MINUTE",  SET_INT,  "0",                                0,  1000000000000, "", OFF(chat_tokens),    "Tokens of questions and answers together, likewise." },
    { "CORDON_MODEL_BREAKER_FAILURES",  SET_INT,  "5",                                0,  1000, "", OFF(breaker_failures),        "Failures of a model in a row after which it is left alone for 1 s, doubling to 16 s; 0: never." },
    { "CORDON_MODEL_TENANTS",           SET_TEXT, "",                                 1,  65536, "", OFF(tenants),                "Tenants with another weight in the line (1 is everybody's) or other budgets, with commas between: <tenant id>=<weight> or <tenant id>=<weight>/<day>/<month>." },
    { "CORDON_MODEL_DAY_BUDGET",        SET_INT,  "0",                                0,  1000000000000, "", OFF(day_budget),     "What a tenant may cost in a day (UTC), in millionths of the prices' currency; 0: no limit." },
    { "CORDON_MODEL_MONTH_BUDGET",      SET_INT,  "0",                                0,  1000000000000, "", OFF(month_budget),   "In a month, likewise." },
    { "CORDON_PRICE_EMBED",             SET_INT,  "20000",                            0,  1000000000, "", OFF(prices[USE_EMBED]), "Price of a million tokens embedded, in millionths of the currency." },
    { "CORDON_PRICE_CHAT_INPUT",        SET_INT,  "3000000",                          0,  1000000000, "", OFF(prices[USE_CHAT_INPUT]), "Of a million tokens of questions and sources." },
    { "CORDON_PRICE_CHAT_OUTPUT",       SET_INT,  "15000000",                         0,  1000000000, "", OFF(prices[USE_CHAT_OUTPUT]), "Of a million tokens of answers." },
    { "CORDON_MODEL_TENANT_SERIES",     SET_INT,  "100",                              0,  10000, "", OFF(tenant_series),          "Tenants with metrics of their own, those that come first; the others are counted together." },
    { 0 }
};

static enum status check_identity(void *self, struct why *why) {
    const struct embedding_worker *w = self;
    return sts_assert(w->aws, w->settings->aws.sts_endpoint, w->settings->aws.identity, clock_mono_ms() + READY_MS, why);
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
    w->answers_guarded = metrics_counter(m, BROKEN, BROKEN_HELP, "by=\"guardrail\"");
}

static void embedding_close(void **self_p) {
    struct embedding_worker *w = *self_p;
    if (!w)
        return;
    preflight_destroy(&w->preflight);
    spend_destroy(&w->spend);
    for (int i = 0; i < EMBED_MODELS; i++)
        embed_pool_destroy(&w->embeds[i].pool);
    if (w->chat.line)
        gate_end(&w->chat);
    accounts_destroy(&w->accounts);
    bedrock_destroy(&w->bedrock);
    aws_destroy(&w->aws);
    free(w);
    *self_p = NULL;
}

/* A replica's part of what the account allows in a minute. */
static int64_t part(const struct embedding_worker *w, int64_t a_minute) {
    return a_minute > 0 && a_minute < w->settings->replicas ? 1 : a_minute / w->settings->replicas;
}

static struct line_options line_of(const struct embedding_worker *w, const char *model, int64_t connections, int64_t requests, int64_t tokens) {
    return (struct line_options){ .model = model, .most_at_once = (unsigned)connections, .requests_per_minute = part(w, requests),
                                  .tokens_per_minute = part(w, tokens), .breaker_failures = (unsigned)w->settings->breaker_failures,
                                  .metrics = w->runtime->metrics };
}

static void open_embed(struct embedding_worker *w, int which, const char *label, const char *id, const char *name) {
    const struct embedding_settings *s = w->settings;
    w->embeds[which].name = *name ? name : id;
    w->embeds[which].pool = embed_pool_new(&(struct embed_pool_options){ .bedrock = w->bedrock, .model = id,
        .line = line_of(w, label, s->embed_connections_count, s->embed_requests, s->embed_tokens) });
}

static enum status open_accounts(struct embedding_worker *w, struct why *why) {
    const struct embedding_settings *s = w->settings;
    struct accounts_options options = { .day_budget = s->day_budget, .month_budget = s->month_budget, .exceptions = s->tenants,
                                        .series_count = s->tenant_series, .metrics = w->runtime->metrics };
    memcpy(options.prices, s->prices, sizeof options.prices);
    return accounts_new(&options, &w->accounts, why);
}

static struct preflight_options preflight_of(const struct embedding_worker *w) {
    const struct embedding_settings *s = w->settings;
    bool has_control = w->runtime->is_production || *s->bedrock_control_endpoint;       /* else there may be nobody to ask */
    return (struct preflight_options){ .aws = w->aws, .bedrock = w->bedrock, .control_endpoint = has_control ? s->bedrock_control_endpoint : NULL,
                                       .log_places = s->log_places, .regions = *s->regions ? s->regions : s->aws.region,
                                       .embed_model = s->embed_model, .old_embed_model = s->old_embed_model, .chat_model = s->chat_model,
                                       .guardrail_id = s->guardrail_id, .guardrail_version = s->guardrail_version };
}

static enum status embedding_open(void **self_p, const void *settings, struct runtime *rt, struct why *why) {
    struct embedding_worker *w = *self_p = xalloc(sizeof *w);
    w->settings = settings;
    w->runtime = rt;
    enum status st = secrets_open_aws(&w->settings->aws, rt, &w->aws, why);
    if (st == ST_OK)
        st = open_accounts(w, why);
    struct preflight_options account = preflight_of(w);
    if (st == ST_OK)
        st = preflight_account(&account, clock_mono_ms() + BOOT_MS, why);
    if (st != ST_OK)
        return st;
    const struct embedding_settings *s = w->settings;
    w->bedrock = bedrock_new(w->aws, s->bedrock_endpoint);
    open_embed(w, EMBED_PRESENT, "embed", s->embed_model, s->embed_name);
    if (*s->old_embed_model)
        open_embed(w, EMBED_OLD, "embed_old", s->old_embed_model, s->old_embed_name);
    struct line_options chat = line_of(w, "chat", s->chat_connections_count, s->chat_requests, s->chat_tokens);
    gate_init(&w->chat, &chat);
    make_counters(w, rt->metrics);
    return ST_OK;
}

static enum status embedding_start(void *self, struct runtime *rt, struct why *why) {
    struct embedding_worker *w = self;
    (void)why;
    struct preflight_options options = preflight_of(w);
    w->preflight = preflight_new(&options);
    w->spend = rt->bus ? spend_new(rt, w->accounts) : NULL;
    return ST_OK;
}

/* What was asked costs something: audit-writer is told while there is a bus. */
static void embedding_drain(void *self, int64_t deadline_ms) {
    struct embedding_worker *w = self;
    if (w->spend)
        spend_end(w->spend, deadline_ms);
}

static void embedding_collect(void *self, struct metrics *m) {
    struct embedding_worker *w = self;
    size_t waiting = 0;
    for (int i = 0; i < EMBED_MODELS && w->embeds[i].pool; i++) {
        waiting += embed_pool_waiting(w->embeds[i].pool);
        embed_pool_collect(w->embeds[i].pool);
    }
    gate_collect(&w->chat);
    gauge_set(metrics_gauge(m, "cordon_embed_texts_waiting", "Texts that wait for a connection.", ""), (double)waiting);
}

const struct service EMBEDDING_WORKER = {
    .name = "embedding-worker", .peer = PEER_EMBEDDING_WORKER, .about = "embeds texts and answers questions by Amazon Bedrock",
    .calls = PEER_AUDIT_WRITER, .start_method = "audit.RecordStart", .settings = SETTINGS, .settings_size = sizeof(struct embedding_settings),
    .routes = ROUTES, .ready = READY,
    .secrets = &SECRETS_MANAGER, .aws_offset = offsetof(struct embedding_settings, aws),
    .open = embedding_open, .start = embedding_start, .drain = embedding_drain, .close = embedding_close, .collect = embedding_collect,
};
