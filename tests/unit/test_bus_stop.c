/* What becomes of calls when a replica has no room for them, or stops under them. */
#include "bus_fixture.h"

TestSuite(bus_stop, .init = make_keys, .timeout = 120);

static enum status answer(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    atomic_uint *count = ctx;
    (*count)++;
    *ret_reply = search_reply(call, "here");
    return ST_OK;
}

/* Holds its calls until it is let go or the call is cancelled. */
struct hold { atomic_uint inside, served; atomic_bool is_open; };

static enum status hold_on(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    struct hold *h = ctx;
    h->inside++;
    while (!h->is_open && !call_is_cancelled(call))
        usleep(1000);
    h->inside--;
    if (!h->is_open)
        return fail(&call->why, ST_UNAVAILABLE, "cancelled");
    h->served++;
    *ret_reply = search_reply(call, "held");
    return ST_OK;
}

/* One call on a thread of its own: a question, or a stream, which is never repeated. */
struct asking { pthread_t thread; struct node *node; bool is_stream; enum status got; enum error_code code; };

static enum status ask_stream(struct call *call) {
    Query__GetContentRequest req = QUERY__GET_CONTENT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct bus_stream *s = NULL;
    enum status st = bus_stream_open(call, "query.GetContent", &req.base, &s);
    if (st == ST_OK)
        st = bus_stream_finish(s, &query__search_reply__descriptor, &reply);
    bus_stream_destroy(&s);
    return st;
}

static void *ask(void *arg) {
    struct asking *a = arg;
    struct asker asker;
    asker_start(&asker, a->node, PATIENCE_MS * 2);
    a->got = a->is_stream ? ask_stream(&asker.call) : search(&asker.call, "q", NULL);
    a->code = asker.call.why.code;
    asker_end(&asker);
    return NULL;
}

static void asking_start(struct asking *a, struct node *n, bool is_stream) {
    *a = (struct asking){ .node = n, .is_stream = is_stream };
    cr_assert_eq(pthread_create(&a->thread, NULL, ask, a), 0);
}

static enum status asking_end(struct asking *a) {
    pthread_join(a->thread, NULL);
    return a->got;
}

static enum status stream_once(struct node *n) {
    struct asking a;
    asking_start(&a, n, true);
    return asking_end(&a);
}

static void caller_of_two(struct node *edge, char *endpoints, size_t size, const struct node *a, const struct node *b) {
    snprintf(endpoints, size, "%s,%s", a->listen, b->listen);
    caller_start(edge, PEER_QUERY, endpoints);
    WAIT_FOR(metric(edge, "cordon_bus_link_up{peer=\"query\",replica=\"0\"} ") == 1 &&
             metric(edge, "cordon_bus_link_up{peer=\"query\",replica=\"1\"} ") == 1);
}

Test(bus_stop, what_was_refused_at_the_door_goes_elsewhere_even_if_it_may_not_be_repeated) {
    struct node busy, idle, edge;
    atomic_uint count = 0;
    char endpoints[160];
    callee_init(&busy, PEER_QUERY, 0, 0, answer, NULL);
    busy.opt.queue_max_count = 0;
    node_start(&busy);
    callee_start(&idle, PEER_QUERY, 0, 1, answer, &count);
    caller_of_two(&edge, endpoints, sizeof endpoints, &busy, &idle);
    for (unsigned i = 0; i < 10; i++)
        cr_expect_eq(stream_once(&edge), ST_OK);
    cr_expect_eq(count, 10);
    cr_expect_geq(metric(&busy, "cordon_shed_total "), 1);
    node_stop(&edge);
    node_stop(&busy);
    node_stop(&idle);
}

static enum status busy_further_down(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    (void)ret_reply;
    atomic_uint *count = ctx;
    (*count)++;
    return fail_as(&call->why, ERR_BUSY, "whom I asked has no room");
}

Test(bus_stop, a_busy_from_further_down_is_an_answer_and_not_asked_for_again) {
    struct node replicas[2], edge;
    atomic_uint count = 0;
    char endpoints[160];
    for (unsigned i = 0; i < 2; i++)
        callee_start(&replicas[i], PEER_QUERY, 0, 1, busy_further_down, &count);
    caller_of_two(&edge, endpoints, sizeof endpoints, &replicas[0], &replicas[1]);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_UNAVAILABLE);
    cr_expect_eq(count, 1);
    node_stop(&edge);
    for (unsigned i = 0; i < 2; i++)
        node_stop(&replicas[i]);
}

Test(bus_stop, slow_streams_leave_workers_for_short_calls) {
    struct node query, edge;
    struct hold hold = { 0 };
    struct asking streams[2];
    callee_init(&query, PEER_QUERY, 0, 4, hold_on, &hold);
    query.opt.streams_max_count = 2;
    node_start(&query);
    caller_start(&edge, PEER_QUERY, query.listen);
    for (unsigned i = 0; i < 2; i++)
        asking_start(&streams[i], &edge, true);
    WAIT_FOR(hold.inside == 2);
    struct asking third, call;
    asking_start(&third, &edge, true);
    cr_expect_eq(asking_end(&third), ST_UNAVAILABLE);
    cr_expect_eq(third.code, ERR_BUSY);
    asking_start(&call, &edge, false);
    WAIT_FOR(hold.inside == 3);
    hold.is_open = true;
    cr_expect_eq(asking_end(&call), ST_OK);
    for (unsigned i = 0; i < 2; i++)
        cr_expect_eq(asking_end(&streams[i]), ST_OK);
    cr_expect_eq(stream_once(&edge), ST_OK, "the places were not given back");
    node_stop(&edge);
    node_stop(&query);
}

/* One worker has a call, others wait, and then the replica stops without more time: all are answered by the next one. */
Test(bus_stop, a_replica_that_stops_hands_its_calls_back) {
    struct node first, second, edge;
    struct hold hold = { 0 };
    atomic_uint count = 0;
    struct asking running, waiting[2];
    char endpoints[160];
    unsigned port = free_port();
    callee_start(&first, PEER_QUERY, 0, 1, hold_on, &hold);
    snprintf(endpoints, sizeof endpoints, "%s,tcp://127.0.0.1:%u", first.listen, port);
    caller_start(&edge, PEER_QUERY, endpoints);
    asking_start(&running, &edge, false);
    WAIT_FOR(hold.inside == 1);
    asking_start(&waiting[0], &edge, false);
    asking_start(&waiting[1], &edge, true);
    WAIT_FOR(metric(&first, "cordon_queue_depth ") == 2);
    bus_drain(first.bus);
    WAIT_FOR(!bus_peer_is_up(edge.bus, PEER_QUERY));
    node_stop(&first);
    callee_start(&second, PEER_QUERY, port, 1, answer, &count);
    cr_expect_eq(asking_end(&running), ST_OK);
    for (unsigned i = 0; i < 2; i++)
        cr_expect_eq(asking_end(&waiting[i]), ST_OK);
    cr_expect_eq(count, 3);
    cr_expect_eq(hold.served, 0);
    node_stop(&edge);
    node_stop(&second);
}

Test(bus_stop, what_ends_after_the_halt_is_still_answered) {
    struct node query, edge;
    struct hold hold = { 0 };
    struct asking stream;
    callee_start(&query, PEER_QUERY, 0, 1, hold_on, &hold);
    caller_start(&edge, PEER_QUERY, query.listen);
    asking_start(&stream, &edge, true);
    WAIT_FOR(hold.inside == 1);
    hold.is_open = true;
    node_stop(&query);
    cr_expect_eq(asking_end(&stream), ST_OK);
    node_stop(&edge);
}

Test(bus_stop, a_process_that_stops_waits_for_nobody) {
    struct node query, edge;
    struct hold hold = { 0 };
    struct asking call;
    callee_start(&query, PEER_QUERY, 0, 1, hold_on, &hold);
    caller_start(&edge, PEER_QUERY, query.listen);
    asking_start(&call, &edge, false);
    WAIT_FOR(hold.inside == 1);
    int64_t began_ms = clock_mono_ms();
    bus_halt(edge.bus);
    cr_expect_eq(asking_end(&call), ST_UNAVAILABLE);
    cr_expect_lt(clock_mono_ms() - began_ms, 2000);
    WAIT_FOR(hold.inside == 0);                     /* and who worked for it was told */
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_UNAVAILABLE);
    node_stop(&edge);
    node_stop(&query);
}
