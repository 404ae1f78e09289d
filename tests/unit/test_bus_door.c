/* What stands at the door of a callee, spoken to by raw sockets: who gets in, and what becomes of frames
 * that are no good. */
#include "bus/envelope.h"
#include "bus/sockets.h"
#include "bus/zap.h"
#include "bus_fixture.h"

TestSuite(bus_door, .init = make_keys, .timeout = 60);

enum { REFUSED_MS = 1500 };

static enum status answer(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx, (void)body;
    *ret_reply = search_reply(call, "here");
    return ST_OK;
}

/* A caller that speaks the wire itself. */
struct raw { void *context, *socket, *monitor; struct node identity; };

static void raw_start(struct raw *r, enum peer self, enum peer callee, const char *address) {
    *r = (struct raw){ .context = zmq_ctx_new() };
    node_init(&r->identity, self);
    r->socket = sockets_call(r->context, &r->identity.opt, callee);
    cr_assert(r->socket);
    r->monitor = sockets_monitor(r->context, r->socket, 1, ZMQ_EVENT_ALL);
    cr_assert(sockets_connect(r->socket, address));
}

static void raw_end(struct raw *r) {
    sockets_close(&r->socket, &r->monitor);
    zmq_ctx_term(r->context);
    node_stop(&r->identity);
}

static bool readable(void *socket, int ms) {
    zmq_pollitem_t item = { socket, 0, ZMQ_POLLIN, 0 };
    return zmq_poll(&item, 1, ms) > 0;
}

/* Wait for one of the events; 0 when none of them came in time. */
static int wait_event(struct raw *r, int events, int ms) {
    for (int64_t until_ms = clock_mono_ms() + ms; clock_mono_ms() < until_ms;) {
        int event = readable(r->monitor, 50) ? sockets_event(r->monitor) : 0;
        if (event & events)
            return event;
    }
    return 0;
}

static bool gets_in(struct raw *r) {
    return wait_event(r, ZMQ_EVENT_HANDSHAKE_SUCCEEDED, PATIENCE_MS) != 0;
}

static bool stays_out(struct raw *r) {
    return wait_event(r, ZMQ_EVENT_HANDSHAKE_SUCCEEDED, REFUSED_MS) == 0;
}

static void raw_send(struct raw *r, Bus__Envelope *e) {
    zmq_msg_t frame;
    envelope_pack(e, &frame);
    cr_assert_geq(zmq_msg_send(&frame, r->socket, 0), 0);
}

/* The next envelope, in an arena that lives as long as the test. */
static Bus__Envelope *raw_recv(struct raw *r, int ms) {
    static struct arena *mem;
    if (!readable(r->socket, ms))
        return NULL;
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    cr_assert_geq(zmq_msg_recv(&frame, r->socket, 0), 0);
    arena_destroy(&mem);
    mem = arena_new(envelope_cap_bytes(zmq_msg_size(&frame)));
    Bus__Envelope *e = envelope_open(mem, zmq_msg_data(&frame), zmq_msg_size(&frame));
    zmq_msg_close(&frame);
    return e;
}

static uint8_t request_id[UUID_BYTES] = { 1 };

static Bus__Envelope make_call(uint64_t id, const char *method) {
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.version = BUS_VERSION;
    e.kind = BUS__KIND__CALL;
    e.correlation_id = id;
    e.method = (char *)method;
    e.request_id = (ProtobufCBinaryData){ sizeof request_id, request_id };
    e.budget_ms = 5000;
    return e;
}

static bool is_pong(const Bus__Envelope *e, uint64_t id) {
    return e && e->kind == BUS__KIND__REPLY && e->correlation_id == id && e->status == ST_OK;
}

/* ---- who gets in ---- */

Test(bus_door, a_peer_of_some_route_gets_in_and_is_known_by_its_key) {
    struct node query;
    struct raw edge;
    callee_start(&query, PEER_QUERY, 0, 1, answer, NULL);
    raw_start(&edge, PEER_EDGE, PEER_QUERY, query.listen);
    cr_expect(gets_in(&edge));
    Bus__Envelope ping = make_call(7, "bus.Ping");
    raw_send(&edge, &ping);
    cr_expect(is_pong(raw_recv(&edge, PATIENCE_MS), 7));
    raw_end(&edge);
    node_stop(&query);
}

Test(bus_door, a_known_key_that_no_route_names_stays_out) {
    struct node query;
    struct raw auth;
    callee_start(&query, PEER_QUERY, 0, 1, answer, NULL);
    raw_start(&auth, PEER_AUTH, PEER_QUERY, query.listen);
    cr_expect(stays_out(&auth));
    WAIT_FOR(metric(&query, "cordon_bus_refused_total ") >= 1);
    raw_end(&auth);
    node_stop(&query);
}

Test(bus_door, an_unknown_key_stays_out) {
    struct node query;
    struct raw stranger;
    callee_start(&query, PEER_QUERY, 0, 1, answer, NULL);
    char public_key[BUS_KEY_TEXT_BYTES];
    cr_assert_eq(zmq_curve_keypair(public_key, secret_keys[peer_index(PEER_EDGE)]), 0);
    raw_start(&stranger, PEER_EDGE, PEER_QUERY, query.listen);
    cr_expect(stays_out(&stranger));
    raw_end(&stranger);
    node_stop(&query);
}

Test(bus_door, no_key_at_all_stays_out) {
    struct node query;
    callee_start(&query, PEER_QUERY, 0, 1, answer, NULL);
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    int none = 0;
    zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
    struct raw plain = { .context = context, .socket = socket, .monitor = sockets_monitor(context, socket, 1, ZMQ_EVENT_ALL) };
    cr_assert_eq(zmq_connect(socket, query.listen), 0);
    cr_expect(stays_out(&plain));
    sockets_close(&plain.socket, &plain.monitor);
    zmq_ctx_term(context);
    node_stop(&query);
}

Test(bus_door, a_caller_does_not_talk_to_a_callee_with_another_key) {
    struct node query;
    struct raw edge;
    callee_start(&query, PEER_QUERY, 0, 1, answer, NULL);
    raw_start(&edge, PEER_EDGE, PEER_AUTH, query.listen);       /* expects auth's key there */
    cr_expect(stays_out(&edge));
    raw_end(&edge);
    node_stop(&query);
}

/* The ROUTER alone, as if the handler had died: without enforcement libzmq would let everybody in. */
Test(bus_door, without_a_zap_handler_nobody_gets_in) {
    struct node query;
    node_init(&query, PEER_QUERY);
    snprintf(query.listen, sizeof query.listen, "tcp://127.0.0.1:%u", free_port());
    query.opt.listen = query.listen;
    query.opt.callers = PEER_EDGE;
    void *context = zmq_ctx_new(), *router = NULL, *none = NULL;
    struct why why = { 0 };
    cr_assert_eq(sockets_serve(context, &query.opt, &router, &why), ST_OK, "%s", why.text);
    struct raw edge;
    raw_start(&edge, PEER_EDGE, PEER_QUERY, query.listen);
    cr_expect(stays_out(&edge));
    raw_end(&edge);
    sockets_close(&router, &none);
    zmq_ctx_term(context);
    node_stop(&query);
}

Test(bus_door, a_zap_handler_that_died_lets_nobody_in) {
    struct node query;
    node_init(&query, PEER_QUERY);
    snprintf(query.listen, sizeof query.listen, "tcp://127.0.0.1:%u", free_port());
    query.opt.listen = query.listen;
    query.opt.callers = PEER_EDGE;
    void *context = zmq_ctx_new(), *router = NULL, *none = NULL;
    struct why why = { 0 };
    struct zap *zap = NULL;
    cr_assert_eq(zap_open(context, &query.opt, &zap, &why), ST_OK, "%s", why.text);
    cr_assert_eq(sockets_serve(context, &query.opt, &router, &why), ST_OK, "%s", why.text);
    zap_close(&zap);
    struct raw edge;
    raw_start(&edge, PEER_EDGE, PEER_QUERY, query.listen);
    cr_expect(stays_out(&edge));
    raw_end(&edge);
    sockets_close(&router, &none);
    zmq_ctx_term(context);
    node_stop(&query);
}

Test(bus_door, two_peers_with_one_key_are_refused_at_start) {
    struct node query;
    node_init(&query, PEER_QUERY);
    query.opt.listen = "tcp://127.0.0.1:1";
    query.opt.callers = PEER_EDGE | PEER_AUTH;
    query.opt.public_keys[peer_index(PEER_AUTH)] = public_keys[peer_index(PEER_EDGE)];
    struct why why = { 0 };
    struct bus *bus = NULL;
    cr_expect_eq(bus_start(&query.opt, &bus, &why), ST_INVALID);
    cr_expect(strstr(why.text, "same public key"), "%s", why.text);
    node_stop(&query);
}

struct bad_option { const char *listen, *endpoints, *key; };

Test(bus_door, malformed_settings_are_refused_at_start) {
    static const struct bad_option BAD[] = {
        { "127.0.0.1:1", NULL, NULL },
        { "udp://127.0.0.1:1", NULL, NULL },
        { NULL, "query:5555", NULL },
        { NULL, "tcp://query", NULL },
        { NULL, "tcp://:5555", NULL },
        { NULL, "tcp://query:0", NULL },
        { NULL, "tcp://query:65536", NULL },
        { NULL, "tcp://query:5x", NULL },
        { NULL, "tcp://::1:5555", NULL },
        { NULL, "tcp://a:1,,tcp://b:1", NULL },
        { "tcp://127.0.0.1:1", NULL, "short" },
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct node n;
        node_init(&n, PEER_QUERY);
        n.opt.listen = BAD[i].listen;
        n.opt.callers = BAD[i].listen ? PEER_EDGE : 0;
        n.opt.endpoints[peer_index(PEER_AUTH)] = BAD[i].endpoints;
        if (BAD[i].key)
            n.opt.public_keys[peer_index(PEER_EDGE)] = BAD[i].key;
        struct why why = { 0 };
        struct bus *bus = NULL;
        cr_expect_eq(bus_start(&n.opt, &bus, &why), ST_INVALID, "case %zu was taken", i);
        node_stop(&n);
    }
}

Test(bus_door, ipv6_is_served_and_called) {
    struct node query, edge;
    char endpoint[64];
    unsigned port = free_port();
    node_init(&query, PEER_QUERY);
    snprintf(query.listen, sizeof query.listen, "tcp://[::]:%u", port);
    query.opt.listen = query.listen;
    query.opt.callers = PEER_EDGE;
    query.handle = answer;
    query.worker_count = 1;
    node_start(&query);
    snprintf(endpoint, sizeof endpoint, "tcp://[::1]:%u,tcp://127.0.0.1:%u", port, port);
    caller_start(&edge, PEER_QUERY, endpoint);
    WAIT_FOR(metric(&edge, "cordon_bus_link_up{peer=\"query\",replica=\"0\"} ") == 1);
    WAIT_FOR(metric(&edge, "cordon_bus_link_up{peer=\"query\",replica=\"1\"} ") == 1);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    node_stop(&edge);
    node_stop(&query);
}

Test(bus_door, a_name_with_several_addresses_makes_several_links) {
    struct node query, edge;
    char endpoint[64];
    unsigned port = free_port();
    node_init(&query, PEER_QUERY);
    snprintf(query.listen, sizeof query.listen, "tcp://[::]:%u", port);
    query.opt.listen = query.listen;
    query.opt.callers = PEER_EDGE;
    query.handle = answer;
    query.worker_count = 1;
    node_start(&query);
    snprintf(endpoint, sizeof endpoint, "tcp://localhost:%u", port);
    caller_start(&edge, PEER_QUERY, endpoint);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    node_stop(&edge);
    node_stop(&query);
}

/* ---- frames that are no good ---- */

struct door { struct node query; struct raw edge; };

static void door_open(struct door *d) {
    callee_start(&d->query, PEER_QUERY, 0, 1, answer, NULL);
    raw_start(&d->edge, PEER_EDGE, PEER_QUERY, d->query.listen);
    cr_assert(gets_in(&d->edge));
}

/* Still serving, the same connection and others. */
static void door_close(struct door *d) {
    Bus__Envelope ping = make_call(99, "bus.Ping");
    raw_send(&d->edge, &ping);
    cr_expect(is_pong(raw_recv(&d->edge, PATIENCE_MS), 99));
    raw_end(&d->edge);
    node_stop(&d->query);
}

Test(bus_door, a_call_that_is_wrong_is_refused_with_invalid) {
    struct door d;
    door_open(&d);
    Bus__Envelope wrong[6];
    for (unsigned i = 0; i < 6; i++)
        wrong[i] = make_call(10 + i, "query.Search");
    wrong[0].version = 2;
    wrong[1].version = 0;
    wrong[2].method = (char *)"";
    wrong[3].method = (char *)"no method";
    wrong[4].request_id.len = 15;
    wrong[5].request_id.len = 0;
    for (unsigned i = 0; i < 6; i++) {
        raw_send(&d.edge, &wrong[i]);
        Bus__Envelope *e = raw_recv(&d.edge, PATIENCE_MS);
        cr_assert(e, "case %u got no reply", i);
        cr_expect_eq(e->correlation_id, 10 + i);
        cr_expect_eq(e->status, ST_INVALID, "case %u", i);
        cr_expect_str_eq(e->code, "REQ_001");
    }
    door_close(&d);
}

Test(bus_door, a_correlation_id_in_use_is_refused) {
    struct door d;
    callee_start(&d.query, PEER_QUERY, 0, 0, answer, NULL);
    raw_start(&d.edge, PEER_EDGE, PEER_QUERY, d.query.listen);
    cr_assert(gets_in(&d.edge));
    Bus__Envelope call = make_call(5, "query.Search");
    raw_send(&d.edge, &call);
    raw_send(&d.edge, &call);
    Bus__Envelope *e = raw_recv(&d.edge, PATIENCE_MS);
    cr_assert(e);
    cr_expect_eq(e->status, ST_INVALID);
    door_close(&d);
}

Test(bus_door, frames_without_sense_are_counted_and_dropped) {
    struct door d;
    door_open(&d);
    static const char GARBAGE[] = "\xff\xff\xff\xff not protobuf";
    zmq_send(d.edge.socket, GARBAGE, sizeof GARBAGE, 0);
    zmq_send(d.edge.socket, "", 0, 0);
    zmq_send(d.edge.socket, "a", 1, ZMQ_SNDMORE);
    zmq_send(d.edge.socket, "b", 1, ZMQ_SNDMORE);
    zmq_send(d.edge.socket, "c", 1, 0);
    Bus__Envelope e = make_call(3, "query.Search");
    e.kind = BUS__KIND__REPLY;
    raw_send(&d.edge, &e);
    e.kind = BUS__KIND__GOAWAY;
    raw_send(&d.edge, &e);
    e.kind = 77;
    raw_send(&d.edge, &e);
    WAIT_FOR(metric(&d.query, "cordon_bus_malformed_total{side=\"callee\"} ") == 6);
    door_close(&d);
}

Test(bus_door, follow_ups_of_no_call_are_ignored) {
    struct door d;
    door_open(&d);
    Bus__Envelope e = make_call(1234, "");
    static const Bus__Kind KINDS[] = { BUS__KIND__DATA, BUS__KIND__CREDIT, BUS__KIND__CANCEL };
    for (unsigned i = 0; i < 3; i++) {
        e.kind = KINDS[i];
        raw_send(&d.edge, &e);
    }
    door_close(&d);
}

Test(bus_door, an_oversized_frame_costs_its_sender_the_connection_only) {
    struct door d;
    struct node edge;
    door_open(&d);
    caller_start(&edge, PEER_QUERY, d.query.listen);
    WAIT_FOR(bus_peer_is_up(edge.bus, PEER_QUERY));
    char *big = calloc(1, 2 * BUS_FRAME_MAX_BYTES);
    zmq_send(d.edge.socket, big, 2 * BUS_FRAME_MAX_BYTES, 0);
    cr_expect_neq(wait_event(&d.edge, ZMQ_EVENT_DISCONNECTED, PATIENCE_MS), 0);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    free(big);
    node_stop(&edge);
    raw_end(&d.edge);
    node_stop(&d.query);
}

/* Runs until it is cancelled. */
static enum status run_until_cancelled(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body, (void)ret_reply;
    atomic_int *seen = ctx;
    while (!call_is_cancelled(call))
        usleep(1000);
    *seen = 1;
    return fail(&call->why, ST_UNAVAILABLE, "cancelled");
}

Test(bus_door, a_call_whose_time_runs_out_in_the_queue_is_dropped) {
    struct door d;
    atomic_int seen = 0;
    callee_start(&d.query, PEER_QUERY, 0, 1, run_until_cancelled, &seen);
    raw_start(&d.edge, PEER_EDGE, PEER_QUERY, d.query.listen);
    cr_assert(gets_in(&d.edge));
    Bus__Envelope first = make_call(5, "query.Search"), second = make_call(6, "query.Search");
    raw_send(&d.edge, &first);
    WAIT_FOR(metric(&d.query, "cordon_in_flight ") == 1);
    second.budget_ms = 20;
    raw_send(&d.edge, &second);
    WAIT_FOR(metric(&d.query, "cordon_queue_depth ") == 1);
    usleep(30000);
    first.kind = BUS__KIND__CANCEL;
    raw_send(&d.edge, &first);
    WAIT_FOR(metric(&d.query, "cordon_expired_total ") == 1);
    door_close(&d);
}

Test(bus_door, a_drain_says_goaway_and_pings_tell_of_it) {
    struct door d;
    door_open(&d);
    Bus__Envelope ping = make_call(7, "bus.Ping");
    raw_send(&d.edge, &ping);
    cr_assert(is_pong(raw_recv(&d.edge, PATIENCE_MS), 7));
    bus_drain(d.query.bus);
    Bus__Envelope *e = raw_recv(&d.edge, PATIENCE_MS);
    cr_assert(e);
    cr_expect_eq(e->kind, BUS__KIND__GOAWAY);
    raw_send(&d.edge, &ping);
    e = raw_recv(&d.edge, PATIENCE_MS);
    cr_assert(is_pong(e, 7));
    Bus__PingReply *pong = bus__ping_reply__unpack(NULL, e->body.len, e->body.data);
    cr_assert(pong);
    cr_expect(pong->draining);
    cr_expect_str_eq(pong->process, "query");
    bus__ping_reply__free_unpacked(pong, NULL);
    cr_expect(bus_wait_quiet(d.query.bus, clock_mono_ms() + PATIENCE_MS), "a caller that does not leave holds the drain up");
    door_close(&d);
}

/* DATA without credit would fill the callee's memory: the call is cancelled instead. */
Test(bus_door, data_beyond_the_credit_cancels_the_call) {
    struct door d;
    atomic_int seen = 0;
    callee_start(&d.query, PEER_QUERY, 0, 1, run_until_cancelled, &seen);
    raw_start(&d.edge, PEER_EDGE, PEER_QUERY, d.query.listen);
    cr_assert(gets_in(&d.edge));
    Bus__Envelope e = make_call(5, "query.Search");
    e.credit = 4;
    raw_send(&d.edge, &e);
    WAIT_FOR(metric(&d.query, "cordon_in_flight ") == 1);
    e.kind = BUS__KIND__DATA;
    raw_send(&d.edge, &e);
    WAIT_FOR(seen);
    door_close(&d);
}

/* ---- a callee that is no good ---- */

struct impostor { void *context, *router; struct zap *zap; struct node identity; pthread_t thread; atomic_bool stop; };

/* Answers pings; answers each call twice, after replies that nobody asked for and garbage. */
static void impostor_answer(struct impostor *im, zmq_msg_t *id, const Bus__Envelope *call) {
    Bus__PingReply pong = BUS__PING_REPLY__INIT;
    pong.process = (char *)"query";
    uint8_t body[64];
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.version = BUS_VERSION;
    e.kind = BUS__KIND__REPLY;
    bool is_ping = str_equal(call->method, "bus.Ping");
    e.body = (ProtobufCBinaryData){ is_ping ? bus__ping_reply__pack(&pong, body) : 0, body };
    for (unsigned i = 0; i < 4; i++) {
        e.correlation_id = i < 2 && !is_ping ? 424242 : call->correlation_id;
        zmq_msg_t frame;
        envelope_pack(&e, &frame);
        zmq_send(im->router, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
        zmq_msg_send(&frame, im->router, 0);
        zmq_send(im->router, zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
        zmq_send(im->router, "\xff\xff", 2, 0);
    }
}

static void *impostor_run(void *arg) {
    struct impostor *im = arg;
    while (!im->stop) {
        zmq_pollitem_t items[] = { { im->router, 0, ZMQ_POLLIN, 0 }, { zap_socket(im->zap), 0, ZMQ_POLLIN, 0 } };
        zmq_poll(items, 2, 20);
        zap_turn(im->zap);
        zmq_msg_t id, frame;
        zmq_msg_init(&id);
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&id, im->router, ZMQ_DONTWAIT) >= 0 && zmq_msg_recv(&frame, im->router, 0) >= 0) {
            struct arena *mem = arena_new(envelope_cap_bytes(zmq_msg_size(&frame)));
            Bus__Envelope *e = envelope_open(mem, zmq_msg_data(&frame), zmq_msg_size(&frame));
            if (e && e->kind == BUS__KIND__CALL)
                impostor_answer(im, &id, e);
            arena_destroy(&mem);
        }
        zmq_msg_close(&id);
        zmq_msg_close(&frame);
    }
    return NULL;
}

Test(bus_door, late_replies_and_garbage_of_a_callee_are_dropped_and_counted) {
    struct impostor im = { .context = zmq_ctx_new() };
    node_init(&im.identity, PEER_QUERY);
    char listen[64];
    snprintf(listen, sizeof listen, "tcp://127.0.0.1:%u", free_port());
    im.identity.opt.listen = listen;
    im.identity.opt.callers = PEER_EDGE;
    struct why why = { 0 };
    cr_assert_eq(zap_open(im.context, &im.identity.opt, &im.zap, &why), ST_OK, "%s", why.text);
    cr_assert_eq(sockets_serve(im.context, &im.identity.opt, &im.router, &why), ST_OK, "%s", why.text);
    cr_assert_eq(pthread_create(&im.thread, NULL, impostor_run, &im), 0);
    struct node edge;
    caller_start(&edge, PEER_QUERY, listen);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    WAIT_FOR(metric(&edge, "cordon_bus_late_replies_total ") >= 3);
    WAIT_FOR(metric(&edge, "cordon_bus_malformed_total{side=\"caller\"} ") >= 4);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    node_stop(&edge);
    im.stop = true;
    pthread_join(im.thread, NULL);
    void *none = NULL;
    sockets_close(&im.router, &none);
    zap_close(&im.zap);
    zmq_ctx_term(im.context);
    node_stop(&im.identity);
}
