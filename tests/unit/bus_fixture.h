/* bus_fixture — buses of several peers in one test process, talking over real sockets on loopback with
 * real keys. For tests/unit/test_bus_*.c. */
#ifndef CORDON_TESTS_BUS_FIXTURE_H
#define CORDON_TESTS_BUS_FIXTURE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "bus/serve.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/str.h"
#include "ingest.pb-c.h"
#include "query.pb-c.h"

enum { WORKERS_MAX = 8, PATIENCE_MS = 10000 };

static char public_keys[PEER_COUNT][BUS_KEY_TEXT_BYTES], secret_keys[PEER_COUNT][BUS_KEY_TEXT_BYTES];

static inline void make_keys(void) {
    for (unsigned i = 0; i < PEER_COUNT; i++)
        cr_assert_eq(zmq_curve_keypair(public_keys[i], secret_keys[i]), 0);
}

/* Answers one call; the reply lives in call->mem. */
typedef enum status (*test_handler)(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply);

struct node {
    struct bus_options opt;
    struct secret *secret;
    struct bus *bus;
    test_handler handle;
    void *ctx;
    pthread_t workers[WORKERS_MAX];
    unsigned worker_count;
    char listen[64];
};

static inline unsigned free_port(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static inline void node_init(struct node *n, enum peer self) {
    *n = (struct node){ .opt = { .self = self, .queue_max_count = 16 } };
    n->secret = secret_new(secret_keys[peer_index(self)], BUS_KEY_TEXT_BYTES - 1);
    n->opt.secret_key = n->secret;
    n->opt.metrics = metrics_new();
    for (unsigned i = 0; i < PEER_COUNT; i++)
        n->opt.public_keys[i] = public_keys[i];
}

static inline void *node_work(void *arg) {
    struct node *n = arg;
    struct bus_worker *w = bus_worker_new(n->bus);
    struct call call;
    ProtobufCBinaryData body;
    while (bus_worker_take(w, &call, &body)) {
        ProtobufCMessage *reply = NULL;
        enum status st = n->handle(n->ctx, &call, body, &reply);
        (void)bus_worker_reply(w, &call, st, reply);
        arena_destroy(&call.mem);
    }
    bus_worker_destroy(&w);
    return NULL;
}

static inline void node_start(struct node *n) {
    struct why why = { 0 };
    cr_assert_eq(bus_start(&n->opt, &n->bus, &why), ST_OK, "%s", why.text);
    for (unsigned i = 0; i < n->worker_count; i++)
        cr_assert_eq(pthread_create(&n->workers[i], NULL, node_work, n), 0);
}

/* A query or ingest-worker that edge may call. port 0: a free one. */
static inline void callee_init(struct node *n, enum peer self, unsigned port, unsigned workers, test_handler handle, void *ctx) {
    node_init(n, self);
    snprintf(n->listen, sizeof n->listen, "tcp://127.0.0.1:%u", port ? port : free_port());
    n->opt.listen = n->listen;
    n->opt.callers = PEER_EDGE;
    n->worker_count = workers;
    n->handle = handle;
    n->ctx = ctx;
}

static inline void callee_start(struct node *n, enum peer self, unsigned port, unsigned workers, test_handler handle, void *ctx) {
    callee_init(n, self, port, workers, handle, ctx);
    node_start(n);
}

static inline void caller_start(struct node *n, enum peer callee, const char *endpoints) {
    node_init(n, PEER_EDGE);
    n->opt.endpoints[peer_index(callee)] = endpoints;
    node_start(n);
}

static inline void node_stop(struct node *n) {
    if (n->bus) {
        bus_halt(n->bus);
        for (unsigned i = 0; i < n->worker_count; i++)
            pthread_join(n->workers[i], NULL);
        bus_stop(&n->bus);
    }
    metrics_destroy(&n->opt.metrics);
    secret_destroy(&n->secret);
}

#define WAIT_FOR(condition) \
    do { \
        int64_t until_ms = clock_mono_ms() + PATIENCE_MS; \
        while (!(condition) && clock_mono_ms() < until_ms) \
            usleep(2000); \
        cr_assert(condition, "waited in vain for " #condition); \
    } while (0)

/* The value of a metric's line that begins with name and labels as printed. */
static inline double metric(const struct node *n, const char *line) {
    struct buffer out = { 0 };
    metrics_print(n->opt.metrics, &out);
    const char *found = out.data;
    while ((found = strstr(found, line)) && (found != out.data && found[-1] != '\n'))
        found++;
    double value = found ? atof(found + strlen(line)) : -1;
    buffer_end(&out);
    return value;
}

/* ---- asking ---- */

struct asker { struct bus_client *client; struct call call; };

static inline void asker_start(struct asker *a, struct node *n, int64_t budget_ms) {
    a->client = bus_client_new(n->bus);
    a->call = (struct call){ .mem = arena_new(BUS_BODY_CAP_BYTES), .bus = a->client, .request_id = uuid_v7(), .method = "",
                             .ticket = "ticket", .traceparent = "", .deadline_ms = clock_mono_ms() + budget_ms };
}

static inline void asker_end(struct asker *a) {
    arena_destroy(&a->call.mem);
    bus_client_destroy(&a->client);
}

static inline enum status search(struct call *call, const char *question, Query__SearchReply **ret_reply) {
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    req.question = (char *)question;
    ProtobufCMessage *reply = NULL;
    enum status st = bus_ask(call, "query.Search", &req.base, &query__search_reply__descriptor, &reply);
    if (st == ST_OK && ret_reply)
        *ret_reply = (Query__SearchReply *)reply;
    return st;
}

/* One question on a client of its own. */
static inline enum status ask_once(struct node *n, const char *question, int64_t budget_ms) {
    struct asker a;
    asker_start(&a, n, budget_ms);
    enum status st = search(&a.call, question, NULL);
    asker_end(&a);
    return st;
}

static inline Query__SearchRequest *search_request(struct call *call, ProtobufCBinaryData body) {
    return query__search_request__unpack(arena_wire(call->mem), body.len, body.data);
}

static inline ProtobufCMessage *search_reply(struct call *call, const char *text) {
    Query__SearchReply *reply = arena_alloc(call->mem, sizeof *reply);
    query__search_reply__init(reply);
    reply->event_id.data = arena_memdup(call->mem, text, strlen(text));
    reply->event_id.len = strlen(text);
    return &reply->base;
}

#endif
