// links: bus proto bench
/* What a question and a stream cost on the bus, two processes on one machine: with CURVE, envelopes,
 * budgets and worker threads, beside libzmq alone with and without CURVE, beside loopback TCP and memcpy. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "core/str.h"
#include "query.pb-c.h"
#include "support/bus.h"
#include "support/measure.h"

enum { WORKERS = 32, ANSWER_MS = 20000, TICKET_BYTES = 500, TEXT_BYTES = 100, FRAME_BYTES = 700, PARTS = 64 };
#define STREAM_MB ((double)PARTS * BUS_PART_MAX_BYTES / 1e6)

static struct {
    char bus[BENCH_ADDRESS_BYTES], bare[BENCH_ADDRESS_BYTES], bare_curve[BENCH_ADDRESS_BYTES];
    uint16_t tcp_port;
    char *source, *target;      /* PARTS parts each */
    void *zmq_context;
    struct bus *edge;
} bench;

/* ---- the other process ---- */

static enum status answer(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    bool is_end = !str_equal(call->method, "query.Stream");
    while (!is_end) {
        const void *data;
        size_t len;
        enum status st = call_read(call, &data, &len, &is_end);
        if (st != ST_OK)
            return st;
    }
    Query__SearchRequest *req = query__search_request__unpack(arena_wire(call->mem), body.len, body.data);
    Query__SearchReply *reply = arena_alloc(call->mem, sizeof *reply);
    query__search_reply__init(reply);
    reply->event_id = (ProtobufCBinaryData){ strlen(req->question), (uint8_t *)req->question };
    *ret_reply = &reply->base;
    return ST_OK;
}

/* Echoes frames that begin with 'E', drops the others. */
static void *serve_bare(void *arg) {
    void *router = zmq_socket(bench.zmq_context, ZMQ_ROUTER);
    int yes = 1;
    if (arg == bench.bare_curve) {
        zmq_setsockopt(router, ZMQ_CURVE_SERVER, &yes, sizeof yes);
        zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, bench_bus_key(PEER_QUERY, true), BUS_KEY_TEXT_BYTES);
    }
    if (zmq_bind(router, arg) != 0)
        bench_fail("cannot bind %s", (const char *)arg);
    for (;;) {
        zmq_msg_t id, frame;
        zmq_msg_init(&id);
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&id, router, 0) < 0 || zmq_msg_recv(&frame, router, 0) < 0)
            return NULL;
        if (*(char *)zmq_msg_data(&frame) == 'E') {
            zmq_msg_send(&id, router, ZMQ_SNDMORE);
            zmq_msg_send(&frame, router, 0);
        }
        zmq_msg_close(&id);
        zmq_msg_close(&frame);
    }
}

/* Reads a stream's bytes, answers one. */
static void *serve_tcp(void *arg) {
    int listener = *(int *)arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        size_t got = 0;
        if (fd < 0)
            return NULL;
        for (ssize_t n; (n = read(fd, bench.target, BUS_PART_MAX_BYTES)) > 0;) {
            got += (size_t)n;
            if (got == (size_t)PARTS * BUS_PART_MAX_BYTES && write(fd, "", 1) == 1)
                got = 0;
        }
        close(fd);
    }
}

static _Noreturn void other_process(int told, int ended) {
    static struct bus_options opt;
    static int listener;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(bench.tcp_port) };
    pthread_t thread;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 8) != 0)
        bench_fail("cannot listen");
    bench.zmq_context = zmq_ctx_new();
    opt.listen = bench.bus;
    opt.callers = PEER_EDGE;
    bench_bus_serve(bench_bus_open(&opt, PEER_QUERY), WORKERS, answer, NULL);
    pthread_create(&thread, NULL, serve_bare, bench.bare);
    pthread_create(&thread, NULL, serve_bare, bench.bare_curve);
    pthread_create(&thread, NULL, serve_tcp, &listener);
    char byte = 0;
    if (write(told, &byte, 1) != 1 || read(ended, &byte, 1) < 0)
        _exit(1);
    _exit(0);       /* measured and done: nothing here is worth a drain */
}

/* ---- callers ---- */

static char ticket[TICKET_BYTES + 1], text[TEXT_BYTES + 1];

static void *bus_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    return bus_client_new(bench.edge);
}

static void bus_end(void *state) {
    struct bus_client *client = state;
    bus_client_destroy(&client);
}

static void bus_question(void *state, struct stopwatch *watch) {
    (void)watch;
    struct call call = bench_bus_call(state, ticket, ANSWER_MS);
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.question = text;
    bench_check(bus_ask(&call, "query.Search", &req.base, &query__search_reply__descriptor, &reply), &call.why, "bus_ask");
    arena_destroy(&call.mem);
}

static void bus_upload(void *state, struct stopwatch *watch) {
    (void)watch;
    struct call call = bench_bus_call(state, ticket, ANSWER_MS);
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    req.question = text;
    bench_check(bus_stream_open(&call, "query.Stream", &req.base, &stream), &call.why, "bus_stream_open");
    for (int i = 0; i < PARTS; i++)
        bench_check(bus_stream_write(stream, bench.source + (size_t)i * BUS_PART_MAX_BYTES, BUS_PART_MAX_BYTES, i == PARTS - 1, NULL),
                    &call.why, "bus_stream_write");
    bench_check(bus_stream_finish(stream, &query__search_reply__descriptor, &reply), &call.why, "bus_stream_finish");
    bus_stream_destroy(&stream);
    arena_destroy(&call.mem);
}

static void bare_roundtrip(void *dealer) {
    char frame[FRAME_BYTES] = "E";
    if (zmq_send(dealer, frame, sizeof frame, 0) < 0 || zmq_recv(dealer, frame, sizeof frame, 0) < 0)
        bench_fail("libzmq: %s", zmq_strerror(zmq_errno()));
}

static void *bare_begin(void *ctx, unsigned caller) {
    (void)caller;
    void *dealer = zmq_socket(bench.zmq_context, ZMQ_DEALER);
    if (ctx == bench.bare_curve) {
        zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, bench_bus_key(PEER_QUERY, false), BUS_KEY_TEXT_BYTES);
        zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, bench_bus_key(PEER_EDGE, false), BUS_KEY_TEXT_BYTES);
        zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, bench_bus_key(PEER_EDGE, true), BUS_KEY_TEXT_BYTES);
    }
    if (zmq_connect(dealer, ctx) != 0)
        bench_fail("cannot connect %s", (const char *)ctx);
    bare_roundtrip(dealer);
    return dealer;
}

static void bare_question(void *state, struct stopwatch *watch) {
    (void)watch;
    bare_roundtrip(state);
}

static void bare_upload(void *state, struct stopwatch *watch) {
    (void)watch;
    for (int i = 0; i < PARTS; i++)
        if (zmq_send(state, bench.source + (size_t)i * BUS_PART_MAX_BYTES, BUS_PART_MAX_BYTES, 0) < 0)
            bench_fail("libzmq: %s", zmq_strerror(zmq_errno()));
    bare_roundtrip(state);
}

static void bare_end(void *state) {
    zmq_close(state);
}

static void *tcp_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(bench.tcp_port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        bench_fail("cannot connect");
    return (void *)(intptr_t)fd;
}

static void tcp_upload(void *state, struct stopwatch *watch) {
    (void)watch;
    int fd = (int)(intptr_t)state;
    const size_t size = (size_t)PARTS * BUS_PART_MAX_BYTES;
    char byte;
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, bench.source + at, size - at < BUS_PART_MAX_BYTES ? size - at : BUS_PART_MAX_BYTES);
        if (n < 0)
            bench_fail("TCP");
        at += (size_t)n;
    }
    if (read(fd, &byte, 1) != 1)
        bench_fail("TCP");
}

static void tcp_end(void *state) {
    close((int)(intptr_t)state);
}

static void *nothing_begin(void *ctx, unsigned caller) {
    (void)caller;
    return ctx;
}

static void copy(void *state, struct stopwatch *watch) {
    (void)state;
    (void)watch;
    for (size_t i = 0; i < PARTS; i++)
        memcpy(bench.target + i * BUS_PART_MAX_BYTES, bench.source + i * BUS_PART_MAX_BYTES, BUS_PART_MAX_BYTES);
}

#define QUESTIONS(label, n, reference, where, kind) \
    { label, n, 1, "calls", reference, where, kind##_begin, kind##_question, kind##_end }
#define STREAM(label, reference, where, kind) \
    { label, 1, STREAM_MB, "MB", reference, where, kind##_begin, kind##_upload, kind##_end }

int main(void) {
    static struct bus_options opt;
    int told[2], ended[2];
    memset(ticket, 't', TICKET_BYTES);
    memset(text, 'q', TEXT_BYTES);
    bench_bus_keys();
    bench_free_address(bench.bus);
    bench_free_address(bench.bare);
    bench_free_address(bench.bare_curve);
    bench.tcp_port = bench_free_port();
    bench.source = xalloc((size_t)PARTS * BUS_PART_MAX_BYTES);
    bench.target = xalloc((size_t)PARTS * BUS_PART_MAX_BYTES);
    memset(bench.source, 'd', (size_t)PARTS * BUS_PART_MAX_BYTES);
    if (pipe(told) != 0 || pipe(ended) != 0)
        bench_fail("no pipe");
    pid_t other = fork();
    if (other == 0) {
        close(ended[1]);
        other_process(told[1], ended[0]);
    }
    char byte;
    if (other < 0 || (close(told[1]), read(told[0], &byte, 1)) != 1)
        bench_fail("the other process did not start");
    bench.zmq_context = zmq_ctx_new();
    opt.endpoints[peer_index(PEER_QUERY)] = bench.bus;
    bench.edge = bench_bus_open(&opt, PEER_EDGE);
    bench_bus_await(bench.edge, PEER_QUERY);

    const struct bench_row rows[] = {
        QUESTIONS("bus_ask", 1, 3, NULL, bus),
        QUESTIONS("bus_ask", 16, 4, NULL, bus),
        QUESTIONS("bus_ask", 64, 5, NULL, bus),
        QUESTIONS("libzmq DEALER/ROUTER echo", 1, NO_ROW, bench.bare, bare),
        QUESTIONS("libzmq DEALER/ROUTER echo", 16, NO_ROW, bench.bare, bare),
        QUESTIONS("libzmq DEALER/ROUTER echo", 64, NO_ROW, bench.bare, bare),
        QUESTIONS("the same with CURVE", 1, 3, bench.bare_curve, bare),
        QUESTIONS("the same with CURVE", 16, 4, bench.bare_curve, bare),
        QUESTIONS("the same with CURVE", 64, 5, bench.bare_curve, bare),
        STREAM("bus_stream up, 16 MiB in parts of 256 KiB", 12, NULL, bus),
        STREAM("libzmq frames of 256 KiB, no CURVE", 12, bench.bare, bare),
        STREAM("the same with CURVE", 12, bench.bare_curve, bare),
        STREAM("loopback TCP", NO_ROW, NULL, tcp),
        { "memcpy", 1, STREAM_MB, "MB", NO_ROW, NULL, nothing_begin, copy, NULL },
    };
    measure("bus", "Question and answer of 100 bytes and a ticket of 500; the bare echo carries frames of the same size. The callee, with its "
                   "32 workers, is another process. A bare caller has a connection of its own; on the bus all share one.",
            rows, sizeof rows / sizeof *rows);
    close(ended[1]);
    waitpid(other, NULL, 0);
    _exit(0);
}
