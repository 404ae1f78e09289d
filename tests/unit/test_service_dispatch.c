#include <criterion/criterion.h>

#include "core/clock.h"
#include "query.pb-c.h"
#include "service/service.h"

static enum status echo(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self, (void)call;
    const Query__SearchRequest *req = (const void *)in;
    Query__SearchReply *reply = (void *)out;
    reply->event_id = (ProtobufCBinaryData){ req->top_k, NULL };
    return req->top_k == 13 ? fail(&call->why, ST_CONFLICT, "unlucky") : ST_OK;
}

static const struct route ROUTES[] = {
    { "query.Search", PEER_EDGE, SCOPE_QUERY, &query__search_request__descriptor, &query__search_reply__descriptor, echo },
    { 0 },
};

static const struct service SERVICE = { .name = "query", .peer = PEER_QUERY, .routes = ROUTES };

static struct call call;
static struct arena *mem;
static ProtobufCMessage *reply;

static void start(void) {
    mem = arena_new(1 << 20);
    call = (struct call){ .mem = mem, .method = "", .ticket = "", .peer = PEER_EDGE, .deadline_ms = clock_mono_ms() + 5000 };
    reply = NULL;
}

static void stop(void) {
    arena_destroy(&mem);
}

TestSuite(dispatch, .init = start, .fini = stop, .timeout = 10);

static enum status run(const char *method, unsigned top_k) {
    uint8_t body[16] = { 0x10, (uint8_t)top_k };        /* field 2, varint */
    return service_dispatch(&SERVICE, NULL, &call, method, (ProtobufCBinaryData){ 2, body }, &reply);
}

Test(dispatch, a_handler_gets_the_request_and_fills_the_reply) {
    cr_assert_eq(run("query.Search", 5), ST_OK, "%s", call.why.text);
    cr_expect_eq(((Query__SearchReply *)reply)->event_id.len, 5);
    cr_expect_eq(call.method, ROUTES[0].method);
}

Test(dispatch, an_unknown_method_is_refused) {
    cr_expect_eq(run("query.Nothing", 5), ST_NOT_FOUND);
    cr_expect_null(reply);
}

Test(dispatch, a_peer_that_the_row_does_not_name_is_refused) {
    call.peer = PEER_AUTH;
    cr_expect_eq(run("query.Search", 5), ST_FORBIDDEN);
    call.peer = PEER_NONE;
    cr_expect_eq(run("query.Search", 5), ST_FORBIDDEN);
}

Test(dispatch, a_call_without_time_is_not_started) {
    call.deadline_ms = clock_mono_ms();
    cr_expect_eq(run("query.Search", 5), ST_TIMEOUT);
}

Test(dispatch, a_failure_gives_no_reply) {
    cr_expect_eq(run("query.Search", 13), ST_CONFLICT);
    cr_expect_null(reply);
    cr_expect_eq(call.why.code, ERR_CONFLICT);
}

Test(dispatch, a_body_that_does_not_decode_is_refused) {
    uint8_t body[] = { 0x0a, 0x7f };
    cr_expect_eq(service_dispatch(&SERVICE, NULL, &call, "query.Search", (ProtobufCBinaryData){ sizeof body, body }, &reply), ST_INVALID);
}
