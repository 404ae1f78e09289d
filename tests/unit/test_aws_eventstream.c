/* eventstream, and the answer that Bedrock streams in it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aws/bedrock.h"
#include "aws/eventstream.h"
#include "core/clock.h"
#include "support/event_frames.h"
#include "support/loopback.h"

/* ---- decoding ---- */

struct seen { char log[1024]; enum status answer; };

static enum status take(void *ctx, const struct eventstream_message *m, struct why *why) {
    struct seen *seen = ctx;
    size_t used = strlen(seen->log);
    (void)why;
    (void)snprintf(seen->log + used, sizeof seen->log - used, "%s%s:%.*s|", m->is_exception ? "!" : "", m->type, (int)m->len, (const char *)m->payload);
    return seen->answer;
}

static enum status feed(const struct buffer *bytes, size_t portion, struct seen *seen, bool *ret_between) {
    struct eventstream stream;
    struct why why = { 0 };
    enum status st = ST_OK;
    eventstream_init(&stream, 4096);
    for (size_t at = 0; st == ST_OK && at < bytes->len; at += portion)
        st = eventstream_feed(&stream, bytes->data + at, portion < bytes->len - at ? portion : bytes->len - at, take, seen, &why);
    *ret_between = eventstream_is_between(&stream);
    eventstream_end(&stream);
    return st;
}

Test(aws_eventstream, frames_come_out_whole_whatever_portions_they_come_in) {
    CLEANUP(buffer_end) struct buffer bytes = { 0 };
    add_event(&bytes, "event", ":event-type", "messageStart", "{}");
    add_event(&bytes, "event", ":event-type", "contentBlockDelta", "{\"delta\":{\"text\":\"a\"}}");
    add_event(&bytes, "exception", ":exception-type", "throttlingException", "");
    for (size_t portion = 1; portion < bytes.len + 2; portion++) {
        struct seen seen = { 0 };
        bool is_between = false;
        cr_assert_eq(feed(&bytes, portion, &seen, &is_between), ST_OK);
        cr_assert_str_eq(seen.log, "messageStart:{}|contentBlockDelta:{\"delta\":{\"text\":\"a\"}}|!throttlingException:|");
        cr_assert(is_between);
    }
}

Test(aws_eventstream, a_frame_known_from_elsewhere_is_read) {
    /* "empty_message" of the vectors that AWS's SDKs share */
    static const char EMPTY[] = "\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2\x48\xeb\x7d\x98\xc8\xff";
    CLEANUP(buffer_end) struct buffer bytes = { 0 };
    (void)buffer_add(&bytes, EMPTY, 16);
    struct seen seen = { 0 };
    bool is_between = false;
    cr_assert_eq(feed(&bytes, 16, &seen, &is_between), ST_OK);
    cr_assert_str_eq(seen.log, "!:|", "what does not say that it is an event is none");
}

Test(aws_eventstream, every_flipped_bit_is_noticed) {
    CLEANUP(buffer_end) struct buffer bytes = { 0 };
    add_event(&bytes, "event", ":event-type", "messageStop", "{\"stopReason\":\"end_turn\"}");
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        struct seen seen = { 0 };
        bool is_between = false;
        bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        cr_assert_eq(feed(&bytes, 7, &seen, &is_between), ST_UNAVAILABLE, "bit %zu", bit);
        cr_assert_str_eq(seen.log, "");
        bytes.data[bit / 8] ^= (char)(1 << bit % 8);
    }
}

Test(aws_eventstream, a_frame_larger_than_the_limit_is_refused_at_its_prelude) {
    CLEANUP(buffer_end) struct buffer bytes = { 0 };
    put_u32(&bytes, 4097);
    put_u32(&bytes, 0);
    put_u32(&bytes, (uint32_t)crc32(0, (const Bytef *)bytes.data, 8));
    struct seen seen = { 0 };
    bool is_between = false;
    cr_assert_eq(feed(&bytes, 12, &seen, &is_between), ST_UNAVAILABLE);
}

Test(aws_eventstream, headers_that_do_not_fit_are_refused) {
    static const struct { const char *bytes; size_t len; } HEADERS[] = {
        { "\x00", 1 }, { "\x05" "ab", 3 }, { "\x01" "a\x0a", 3 }, { "\x01" "a\x07\x00", 4 }, { "\x01" "a\x07\x00\x05" "ab", 7 },
        { "\x01" "a\x04" "abc", 6 }, { "\x0b:event-type\x07\x00\x40" "0123456789012345678901234567890123456789012345678901234567890123", 79 },
    };
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++) {
        CLEANUP(buffer_end) struct buffer headers = { 0 }, bytes = { 0 };
        (void)buffer_add(&headers, HEADERS[i].bytes, HEADERS[i].len);
        add_frame(&bytes, &headers, "x");
        struct seen seen = { 0 };
        bool is_between = false;
        cr_expect_eq(feed(&bytes, bytes.len, &seen, &is_between), ST_UNAVAILABLE, "%zu", i);
        cr_expect_str_eq(seen.log, "", "%zu", i);
    }
}

Test(aws_eventstream, headers_of_other_types_are_passed_by) {
    CLEANUP(buffer_end) struct buffer headers = { 0 }, bytes = { 0 };
    static const char OTHERS[] = "\x01t\x00\x01" "f\x01\x01" "b\x02\x01\x01s\x03\x01\x02\x01i\x04\x01\x02\x03\x04\x01l\x05" "12345678"
                                 "\x01y\x06\x00\x02zz\x01w\x08" "12345678\x01u\x09" "1234567890123456";
    (void)buffer_add(&headers, OTHERS, sizeof OTHERS - 1);
    add_header(&headers, ":message-type", "event");
    add_header(&headers, ":event-type", "metadata");
    add_frame(&bytes, &headers, "{}");
    struct seen seen = { 0 };
    bool is_between = false;
    cr_assert_eq(feed(&bytes, 5, &seen, &is_between), ST_OK);
    cr_assert_str_eq(seen.log, "metadata:{}|");
}

Test(aws_eventstream, a_half_frame_is_seen_as_such_and_who_takes_may_stop) {
    CLEANUP(buffer_end) struct buffer bytes = { 0 };
    add_event(&bytes, "event", ":event-type", "messageStop", "{}");
    struct seen seen = { 0 };
    bool is_between = true;
    bytes.len--;
    cr_assert_eq(feed(&bytes, 3, &seen, &is_between), ST_OK);
    cr_assert_not(is_between);
    bytes.len++;
    seen.answer = ST_CONFLICT;
    cr_assert_eq(feed(&bytes, 3, &seen, &is_between), ST_CONFLICT);
}

/* ---- ConverseStream ---- */

static struct model {
    struct buffer streams[4];       /* one per request; the last repeats */
    unsigned stream_count;
    atomic_uint asked;
    bool cuts;
    bool hangs;                     /* keeps the connection open behind the last byte, until the client closes it */
    atomic_bool was_left;
} model;
static struct loopback *server;
static struct aws *aws;
static struct bedrock *bedrock;
static struct credentials *credentials;
static struct arena *mem;
static struct why why;
static char heard[512];
static enum status stop_with;
static struct converse_sink limits;     /* what a test says of time and interest */

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    (void)ctx;
    char head[160];
    unsigned n = atomic_fetch_add(&model.asked, 1);
    const struct buffer *body = &model.streams[n < model.stream_count ? n : model.stream_count - 1];
    cr_assert_not_null(strstr(request->target, "/converse-stream"));
    (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nContent-Length: %zu\r\n\r\n",
                   body->len + (model.cuts || model.hangs ? 10 : 0));
    loopback_write(fd, head, strlen(head));
    loopback_write(fd, body->data, body->len);
    if (model.hangs) {
        char byte;
        model.was_left = read(fd, &byte, 1) <= 0;
    }
    return !model.cuts && !model.hangs;
}

static void set_up(void) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("s", 1);
    server = loopback_start(answer, NULL);
    credentials = credentials_new("AKID", key, NULL, 0);
    aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    bedrock = bedrock_new(aws, loopback_url(server));
    mem = arena_new(0);
}

static void tear_down(void) {
    bedrock_destroy(&bedrock);
    aws_destroy(&aws);
    credentials_release(&credentials);
    loopback_stop(&server);
    arena_destroy(&mem);
    for (unsigned i = 0; i < 4; i++)
        buffer_end(&model.streams[i]);
}

TestSuite(bedrock_stream, .init = set_up, .fini = tear_down, .timeout = 30);

static enum status hear(void *ctx, const char *text, size_t len, struct why *w) {
    (void)ctx;
    size_t used = strlen(heard);
    (void)snprintf(heard + used, sizeof heard - used, "%.*s|", (int)len, text);
    return stop_with == ST_OK ? ST_OK : fail(w, stop_with, "nobody listens any more");
}

static enum status converse(struct converse_reply *reply) {
    struct converse_request request = { "anthropic.claude-x", "system", "user", 100, NULL, NULL };
    struct converse_sink sink = { .on_text = hear, .is_unwanted = limits.is_unwanted, .first_ms = limits.first_ms, .idle_ms = limits.idle_ms };
    return bedrock_converse_stream(bedrock, &request, &sink, clock_mono_ms() + 5000, mem, reply, &why);
}

static void add_answer(struct buffer *b) {
    add_event(b, "event", ":event-type", "messageStart", "{\"role\":\"assistant\"}");
    add_event(b, "event", ":event-type", "contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"Two \"}}");
    add_event(b, "event", ":event-type", "contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"reasoningContent\":{\"text\":\"hm\"}}}");
    add_event(b, "event", ":event-type", "contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"words. [1]\"}}");
}

static void add_end(struct buffer *b) {
    add_event(b, "event", ":event-type", "messageStop", "{\"stopReason\":\"end_turn\"}");
    add_event(b, "event", ":event-type", "metadata", "{\"usage\":{\"inputTokens\":12,\"outputTokens\":3,\"totalTokens\":15}}");
}

Test(bedrock_stream, pieces_come_as_the_model_writes_them) {
    struct converse_reply reply;
    model.stream_count = 1;
    add_answer(&model.streams[0]);
    add_end(&model.streams[0]);
    cr_assert_eq(converse(&reply), ST_OK, "%s", why.text);
    cr_assert_str_eq(heard, "Two |words. [1]|");
    cr_assert_str_eq(reply.text, "Two words. [1]");
    cr_assert_str_eq(reply.stop_reason, "end_turn");
    cr_assert_eq(reply.input_tokens, 12);
    cr_assert_eq(reply.output_tokens, 3);
}

Test(bedrock_stream, an_exception_before_the_first_word_is_repeated) {
    struct converse_reply reply;
    model.stream_count = 2;
    add_event(&model.streams[0], "exception", ":exception-type", "serviceUnavailableException", "{\"message\":\"busy\"}");
    add_answer(&model.streams[1]);
    add_end(&model.streams[1]);
    cr_assert_eq(converse(&reply), ST_OK, "%s", why.text);
    cr_assert_eq(model.asked, 2);
    cr_assert_str_eq(heard, "Two |words. [1]|");
}

Test(bedrock_stream, a_throttle_before_the_first_word_is_left_to_whoever_paces) {
    struct converse_reply reply;
    model.stream_count = 2;
    add_event(&model.streams[0], "exception", ":exception-type", "throttlingException", "{\"message\":\"slow\"}");
    cr_assert_eq(converse(&reply), ST_LIMITED);
    cr_assert_eq(why.code, ERR_MODEL_LIMITED);
    cr_assert_eq(model.asked, 1);
    cr_assert_str_eq(heard, "");
}

Test(bedrock_stream, an_exception_after_the_first_word_is_the_end) {
    struct converse_reply reply;
    model.stream_count = 1;
    add_answer(&model.streams[0]);
    add_event(&model.streams[0], "exception", ":exception-type", "modelStreamErrorException", "{\"message\":\"secret words\"}");
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_MODEL_BROKE_OFF);
    cr_assert_null(strstr(why.text, "secret"));
    cr_assert_eq(model.asked, 1);
}

Test(bedrock_stream, a_stream_without_the_models_stop_is_no_answer) {
    struct converse_reply reply;
    model.stream_count = 1;
    add_answer(&model.streams[0]);
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_MODEL_BROKE_OFF);
}

Test(bedrock_stream, a_cut_connection_is_no_answer) {
    struct converse_reply reply;
    model.stream_count = 1;
    model.cuts = true;
    add_answer(&model.streams[0]);
    add_end(&model.streams[0]);
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_MODEL_BROKE_OFF);
}

Test(bedrock_stream, damaged_frames_are_no_answer) {
    struct converse_reply reply;
    model.stream_count = 1;
    add_answer(&model.streams[0]);
    model.streams[0].data[model.streams[0].len - 20] ^= 1;
    add_end(&model.streams[0]);
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_MODEL_BROKE_OFF);
}

Test(bedrock_stream, when_nobody_listens_any_more_the_stream_ends) {
    struct converse_reply reply;
    model.stream_count = 1;
    stop_with = ST_CONFLICT;
    add_answer(&model.streams[0]);
    add_end(&model.streams[0]);
    cr_assert_eq(converse(&reply), ST_CONFLICT);
    cr_assert_str_eq(heard, "Two |");
    cr_assert_eq(model.asked, 1);
}

static void hang_after(bool has_begun, struct converse_sink how) {
    model.stream_count = 1;
    model.hangs = true;
    limits = how;
    if (has_begun)
        add_answer(&model.streams[0]);
    else
        add_event(&model.streams[0], "event", ":event-type", "messageStart", "{\"role\":\"assistant\"}");
}

static void await_end(void) {
    for (int i = 0; i < 2000 && !model.was_left; i++)
        usleep(1000);
    cr_assert(model.was_left, "the connection to the model stays open");
}

Test(bedrock_stream, a_model_that_begins_no_answer_in_time_is_given_up) {
    struct converse_reply reply;
    int64_t from_ms = clock_mono_ms();
    hang_after(false, (struct converse_sink){ .first_ms = 500, .idle_ms = 60000 });
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_MODEL_BROKE_OFF, "%s", why.text);
    cr_assert_lt(clock_mono_ms() - from_ms, 2500);
    cr_assert_eq(model.asked, 1);
    await_end();
}

Test(bedrock_stream, a_model_that_falls_silent_is_given_up_and_what_it_said_is_told) {
    struct converse_reply reply;
    hang_after(true, (struct converse_sink){ .first_ms = 60000, .idle_ms = 500 });
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_MODEL_BROKE_OFF, "%s", why.text);
    cr_assert_str_eq(reply.text, "Two words. [1]");
    await_end();
}

static bool has_heard_enough(void *ctx) {
    (void)ctx;
    return *heard != '\0';
}

Test(bedrock_stream, an_answer_that_nobody_wants_any_more_is_left_though_the_model_is_silent) {
    struct converse_reply reply;
    int64_t from_ms = clock_mono_ms();
    hang_after(true, (struct converse_sink){ .is_unwanted = has_heard_enough });
    cr_assert_eq(converse(&reply), ST_UNAVAILABLE);
    cr_assert_lt(clock_mono_ms() - from_ms, 2500);
    cr_assert_eq(model.asked, 1);
    await_end();
}
