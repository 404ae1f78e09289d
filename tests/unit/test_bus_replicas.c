/* Replicas that come and go: the test says, in the resolver's place, what the names resolve to. */
#include "bus/network.h"
#include "bus_fixture.h"

TestSuite(bus_replicas, .init = make_keys, .timeout = 60);

static enum status answer(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    atomic_uint *count = ctx;
    (*count)++;
    *ret_reply = search_reply(call, "here");
    return ST_OK;
}

static void resolve_to(struct node *edge, const char *const *addresses, size_t count) {
    struct buffer all = { 0 };
    for (size_t i = 0; i < count; i++)
        buffer_add(&all, addresses[i], strlen(addresses[i]) + 1);
    zmq_msg_t frame;
    zmq_msg_init_size(&frame, all.len);
    memcpy(zmq_msg_data(&frame), all.data, all.len);
    void *socket = note_socket(edge->bus->zmq_context);
    note_send(socket, NULL, &(struct note){ .kind = NOTE_ADDRESSES, .peer = PEER_QUERY }, &frame);
    zmq_close(socket);
    buffer_end(&all);
}

static unsigned links_up(const struct node *edge) {
    return edge->bus->up_counts[peer_index(PEER_QUERY)];
}

Test(bus_replicas, replicas_are_added_and_removed_while_calls_go_on) {
    struct node replicas[3], edge;
    atomic_uint counts[3] = { 0 };
    const char *addresses[3];
    for (unsigned i = 0; i < 3; i++) {
        callee_start(&replicas[i], PEER_QUERY, 0, 1, answer, &counts[i]);
        addresses[i] = replicas[i].listen;
    }
    caller_start(&edge, PEER_QUERY, NULL);
    resolve_to(&edge, addresses, 1);
    cr_assert_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    cr_expect_eq(counts[0], 1);
    resolve_to(&edge, addresses, 3);
    WAIT_FOR(links_up(&edge) == 3);
    for (unsigned i = 0; i < 30; i++)
        cr_assert_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    for (unsigned i = 0; i < 3; i++)
        cr_expect_geq(counts[i], 5, "equals should take turns");
    resolve_to(&edge, addresses + 2, 1);
    WAIT_FOR(links_up(&edge) == 1);
    unsigned before = counts[0] + counts[1];
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    cr_expect_eq(counts[0] + counts[1], before, "a removed replica got a call");
    WAIT_FOR(metric(&replicas[0], "cordon_bus_callers ") == 0);
    resolve_to(&edge, addresses, 3);
    WAIT_FOR(links_up(&edge) == 3);
    node_stop(&edge);
    for (unsigned i = 0; i < 3; i++)
        node_stop(&replicas[i]);
}

static enum status wait_for_post(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    sem_wait(ctx);
    *ret_reply = search_reply(call, "late but good");
    return ST_OK;
}

struct slow_ask { struct node *edge; enum status got; };

static void *ask_slowly(void *arg) {
    struct slow_ask *ask = arg;
    ask->got = ask_once(ask->edge, "q", PATIENCE_MS);
    return NULL;
}

Test(bus_replicas, a_removed_replica_finishes_what_it_has) {
    struct node slow, other, edge;
    sem_t go;
    atomic_uint count = 0;
    sem_init(&go, 0, 0);
    callee_start(&slow, PEER_QUERY, 0, 1, wait_for_post, &go);
    callee_start(&other, PEER_QUERY, 0, 1, answer, &count);
    const char *addresses[] = { slow.listen, other.listen };
    caller_start(&edge, PEER_QUERY, NULL);
    resolve_to(&edge, addresses, 1);
    struct slow_ask ask = { &edge, ST_INTERNAL };
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, ask_slowly, &ask), 0);
    WAIT_FOR(metric(&slow, "cordon_in_flight ") == 1);
    resolve_to(&edge, addresses + 1, 1);
    cr_assert_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    cr_expect_eq(count, 1);
    sem_post(&go);
    pthread_join(thread, NULL);
    cr_expect_eq(ask.got, ST_OK);
    WAIT_FOR(metric(&slow, "cordon_bus_callers ") == 0);
    node_stop(&edge);
    node_stop(&slow);
    node_stop(&other);
}
