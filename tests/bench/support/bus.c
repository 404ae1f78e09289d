#include "support/bus.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "core/clock.h"
#include "support/measure.h"

enum { AWAIT_MS = 20000, QUEUE = 256 };

static char keys[2][PEER_COUNT][BUS_KEY_TEXT_BYTES];        /* public, secret */

void bench_bus_keys(void) {
    for (unsigned i = 0; i < PEER_COUNT; i++)
        if (zmq_curve_keypair(keys[0][i], keys[1][i]) != 0)
            bench_fail("libzmq has no CURVE");
}

const char *bench_bus_key(enum peer peer, bool is_secret) {
    return keys[is_secret][peer_index(peer)];
}

uint16_t bench_free_port(void) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        bench_fail("no free port");
    close(fd);
    return ntohs(at.sin_port);
}

void bench_free_address(char out[BENCH_ADDRESS_BYTES]) {
    snprintf(out, BENCH_ADDRESS_BYTES, "tcp://127.0.0.1:%u", bench_free_port());
}

struct bus *bench_bus_open(struct bus_options *opt, enum peer self) {
    struct why why = { 0 };
    struct bus *bus = NULL;
    opt->self = self;
    opt->secret_key = secret_new(bench_bus_key(self, true), BUS_KEY_TEXT_BYTES - 1);
    opt->metrics = metrics_new();
    opt->queue_max_count = QUEUE;
    for (unsigned i = 0; i < PEER_COUNT; i++)
        opt->public_keys[i] = keys[0][i];
    bench_check(bus_start(opt, &bus, &why), &why, "bus_start");
    return bus;
}

void bench_bus_await(struct bus *bus, enum peer peer) {
    int64_t until_ms = clock_mono_ms() + AWAIT_MS;
    while (!bus_peer_is_up(bus, peer) && clock_mono_ms() < until_ms)
        usleep(2000);
}

struct serving { struct bus *bus; bench_bus_handler *handle; void *ctx; };

static void *serve(void *arg) {
    const struct serving *serving = arg;
    struct bus_worker *w = bus_worker_new(serving->bus);
    struct call call;
    ProtobufCBinaryData body;
    while (bus_worker_take(w, &call, &body)) {
        ProtobufCMessage *reply = NULL;
        enum status st = serving->handle(serving->ctx, &call, body, &reply);
        (void)bus_worker_reply(w, &call, st, reply);
        arena_destroy(&call.mem);
    }
    bus_worker_destroy(&w);
    return NULL;
}

void bench_bus_serve(struct bus *bus, unsigned count, bench_bus_handler *handle, void *ctx) {
    struct serving *serving = xalloc(sizeof *serving);
    pthread_t thread;
    *serving = (struct serving){ bus, handle, ctx };
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&thread, NULL, serve, serving) != 0)
            bench_fail("no thread");
}

struct call bench_bus_call(struct bus_client *client, const char *ticket, int64_t budget_ms) {
    return (struct call){ .mem = arena_new(BUS_BODY_CAP_BYTES), .bus = client, .request_id = uuid_v7(), .method = "", .ticket = ticket,
                          .traceparent = "", .deadline_ms = clock_mono_ms() + budget_ms };
}
