#include <dlfcn.h>

#include "bus_fixture.h"

/* In libzmq's place: as slow as a machine with something else to do. */
static atomic_int monitor_delay_ms;
int zmq_socket_monitor(void *socket, const char *address, int events) {
    int (*real)(void *, const char *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "zmq_socket_monitor");
    usleep((useconds_t)atomic_load(&monitor_delay_ms) * 1000);
    return real(socket, address, events);
}

/* Criterion's runner leaks a little when many tests of its end at once; ours are still checked. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libcriterion";
}

TestSuite(bus_calls, .init = make_keys, .timeout = 60);

/* Answers "<peer> <attempt> <ticket> <question>". */
static enum status describe(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    const Query__SearchRequest *req = search_request(call, body);
    *ret_reply = search_reply(call, arena_printf(call->mem, "%s %u %s %s", peer_name(call->peer), call->attempt, call->ticket, req->question));
    return ST_OK;
}

Test(bus_calls, a_question_is_answered) {
    struct node query, edge;
    callee_start(&query, PEER_QUERY, 0, 2, describe, NULL);
    caller_start(&edge, PEER_QUERY, query.listen);
    struct asker a;
    asker_start(&a, &edge, PATIENCE_MS);
    Query__SearchReply *reply = NULL;
    cr_assert_eq(search(&a.call, "why", &reply), ST_OK, "%s", a.call.why.text);
    cr_expect_eq(reply->event_id.len, strlen("edge 1 ticket why"));
    cr_expect_eq(memcmp(reply->event_id.data, "edge 1 ticket why", reply->event_id.len), 0, "%.*s", (int)reply->event_id.len, reply->event_id.data);
    cr_expect(bus_peer_is_up(edge.bus, PEER_QUERY));
    cr_expect_not(bus_peer_is_up(edge.bus, PEER_AUTH));
    asker_end(&a);
    node_stop(&edge);
    node_stop(&query);
}

Test(bus_calls, a_link_comes_up_also_when_the_replica_answers_before_anybody_watches) {
    struct node query, edge;
    callee_start(&query, PEER_QUERY, 0, 2, describe, NULL);
    atomic_store(&monitor_delay_ms, 300);
    caller_start(&edge, PEER_QUERY, query.listen);
    cr_expect_eq(ask_once(&edge, "why", PATIENCE_MS), ST_OK);
    node_stop(&edge);
    node_stop(&query);
}

static enum status refuse_type(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx, (void)body, (void)ret_reply;
    call->why.retry_after_ms = 1234;
    return fail_as(&call->why, ERR_DOC_TYPE, "secret detail");
}

Test(bus_calls, a_failure_travels_with_its_public_code_only) {
    struct node query, edge;
    callee_start(&query, PEER_QUERY, 0, 1, refuse_type, NULL);
    caller_start(&edge, PEER_QUERY, query.listen);
    struct asker a;
    asker_start(&a, &edge, PATIENCE_MS);
    cr_expect_eq(search(&a.call, "why", NULL), ST_INVALID);
    cr_expect_eq(a.call.why.code, ERR_DOC_TYPE);
    cr_expect_eq(a.call.why.retry_after_ms, 1234);
    cr_expect_null(strstr(a.call.why.text, "secret"));
    asker_end(&a);
    node_stop(&edge);
    node_stop(&query);
}
