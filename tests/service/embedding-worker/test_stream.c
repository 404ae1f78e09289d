/* Answers as streams over a real bus: what query hears, and what the model sees when query goes. */
#include "unit/bus_fixture.h"

#include "embedding.pb-c.h"
#include "embedding_worker.h"
#include "fake_bedrock.h"

static struct fake_bedrock fake;
static struct embedding_settings settings;
static struct runtime runtime;
static struct embedding_worker *worker;
static struct node node, query;
static struct asker asker;

static enum status on_call(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    return service_dispatch(&EMBEDDING_WORKER, worker, call, call->method, body, ret_reply);
}

static void set_up(void) {
    struct why why = { 0 };
    void *self = NULL;
    make_keys();
    fake_bedrock_start(&fake);
    settings = fake_bedrock_settings(&fake);
    settings.aws.sts_endpoint = "";
    runtime = (struct runtime){ .process = "embedding-worker", .metrics = metrics_new() };
    cr_assert_eq(EMBEDDING_WORKER.open(&self, &settings, &runtime, &why), ST_OK, "%s", why.text);
    worker = self;
    callee_init(&node, PEER_EMBEDDING_WORKER, 0, 2, on_call, NULL);
    node.opt.callers = PEER_QUERY;
    node_start(&node);
    node_init(&query, PEER_QUERY);
    query.opt.endpoints[peer_index(PEER_EMBEDDING_WORKER)] = node.listen;
    node_start(&query);
    asker_start(&asker, &query, PATIENCE_MS);
}

static void tear_down(void) {
    void *self = worker;
    asker_end(&asker);
    node_stop(&query);
    node_stop(&node);
    EMBEDDING_WORKER.close(&self);
    metrics_destroy(&runtime.metrics);
    secret_destroy(&settings.aws.secret_access_key);
    fake_bedrock_stop(&fake);
}

TestSuite(embedding_stream, .init = set_up, .fini = tear_down, .timeout = 30);

static struct bus_stream *ask(void) {
    Embedding__GenerateRequest req = EMBEDDING__GENERATE_REQUEST__INIT;
    Embedding__Source source = EMBEDDING__SOURCE__INIT, *sources[] = { &source };
    uint8_t salt[32] = { 1 };
    struct bus_stream *s = NULL;
    source.number = 1;
    source.text = (char *)"Warfarin 5 mg daily.";
    req.question = (char *)"How much warfarin?";
    req.sources = sources;
    req.n_sources = 1;
    req.max_tokens = 300;
    req.prompt_salt = (ProtobufCBinaryData){ sizeof salt, salt };
    cr_assert_eq(bus_stream_open(&asker.call, "embedding.Generate", &req.base, &s), ST_OK, "%s", asker.call.why.text);
    return s;
}

/* The head, which comes first. */
static void expect_head(struct bus_stream *s) {
    const void *data = NULL;
    size_t len = 0;
    cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK, "%s", asker.call.why.text);
    const Embedding__GenerateHead *head = embedding__generate_head__unpack(arena_wire(asker.call.mem), len, data);
    cr_assert_not_null(head);
    cr_expect_str_eq(head->model, "claude");
    cr_expect_eq(head->prompt_commitment.len, 32);
}

static enum status hear(struct bus_stream *s, struct buffer *out, unsigned *ret_parts) {
    const void *data = "";
    enum status st = ST_OK;
    *ret_parts = 0;
    for (size_t len = 0; st == ST_OK && data;) {
        st = bus_stream_read(s, &data, &len);
        if (st == ST_OK && data) {
            (void)buffer_add(out, data, len);
            ++*ret_parts;
        }
    }
    return st;
}

Test(embedding_stream, an_answer_comes_piece_by_piece_and_its_cost_at_the_end) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    unsigned parts = 0;
    ProtobufCMessage *message = NULL;
    fake.answer = "Warfarin 5 mg daily [1].";
    struct bus_stream *s = ask();
    expect_head(s);
    cr_assert_eq(hear(s, &text, &parts), ST_OK, "%s", asker.call.why.text);
    cr_expect_str_eq(text.data, "Warfarin 5 mg daily [1].");
    cr_expect_eq(parts, 8, "%u pieces of three letters", parts);
    cr_assert_eq(bus_stream_finish(s, &embedding__generate_reply__descriptor, &message), ST_OK);
    const Embedding__GenerateReply *reply = (const void *)message;
    cr_expect(reply->found);
    cr_expect_str_eq(reply->text, "");
    cr_expect_eq(reply->output_tokens, 7);
    bus_stream_destroy(&s);
}

Test(embedding_stream, of_an_answer_that_is_none_nothing_is_heard) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    unsigned parts = 0;
    ProtobufCMessage *message = NULL;
    fake.answer = "NOT_FOUND because nobody wrote it down";
    struct bus_stream *s = ask();
    expect_head(s);
    cr_assert_eq(hear(s, &text, &parts), ST_OK);
    cr_expect_eq(parts, 0);
    cr_assert_eq(bus_stream_finish(s, &embedding__generate_reply__descriptor, &message), ST_OK);
    cr_expect_not(((const Embedding__GenerateReply *)message)->found);
    bus_stream_destroy(&s);
}

Test(embedding_stream, a_broken_answer_tells_so_after_what_there_was) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    unsigned parts = 0;
    ProtobufCMessage *message = NULL;
    fake.answer = "Warfarin 5 mg";
    fake.ends = STREAM_EXCEPTION;
    struct bus_stream *s = ask();
    expect_head(s);
    cr_assert_eq(hear(s, &text, &parts), ST_OK);
    cr_expect_str_eq(text.data, "Warfarin 5 mg");
    cr_expect_eq(bus_stream_finish(s, &embedding__generate_reply__descriptor, &message), ST_UNAVAILABLE);
    cr_expect_eq(asker.call.why.code, ERR_MODEL_BROKE_OFF);
    bus_stream_destroy(&s);
}

Test(embedding_stream, when_query_goes_the_model_is_left_though_it_says_nothing_and_what_it_said_is_counted) {
    fake.answer = "Warfarin 5 mg daily.";
    fake.ends = STREAM_HANG;
    struct bus_stream *s = ask();
    expect_head(s);
    const void *data = NULL;
    size_t len = 0;
    for (size_t heard = 0; heard < strlen(fake.answer); heard += len)
        cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK);
    bus_stream_destroy(&s);
    WAIT_FOR(fake.was_left);
    struct node metrics = { .opt.metrics = runtime.metrics };
    WAIT_FOR(metric(&metrics, "cordon_answers_broken_total{by=\"caller\"} ") == 1);
    cr_expect_geq(metric(&metrics, "cordon_model_tokens_total{model=\"chat\",direction=\"output\"} "), 5);
    cr_expect_geq(metric(&metrics, "cordon_model_tokens_total{model=\"chat\",direction=\"input\"} "), 20);
}
