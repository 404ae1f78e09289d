/* bus — the ends of a bus between parts of one bench: keys made for it, a free port, workers that answer. */
#ifndef CORDON_BENCH_BUS_H
#define CORDON_BENCH_BUS_H

#include "bus/serve.h"

enum { BENCH_ADDRESS_BYTES = 64 };

/* Keys for all peers, once, before anything else here, and before a fork whose sides shall know each other. */
void bench_bus_keys(void);
/* Of a peer, or of whoever needs one that is no peer. Static. */
const char *bench_bus_key(enum peer peer, bool is_secret);
uint16_t bench_free_port(void);
void bench_free_address(char out[BENCH_ADDRESS_BYTES]);     /* "tcp://127.0.0.1:port" */

/* opt: listen, callers and endpoints are the caller's, the rest is filled in; it lives as long as the bus. */
struct bus *bench_bus_open(struct bus_options *opt, enum peer self);
void bench_bus_await(struct bus *bus, enum peer peer);

typedef enum status bench_bus_handler(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply);
/* Threads that answer until the program ends. */
void bench_bus_serve(struct bus *bus, unsigned count, bench_bus_handler *handle, void *ctx);

/* Like one that a client has asked the process for; the caller destroys its mem. */
struct call bench_bus_call(struct bus_client *client, const char *ticket, int64_t budget_ms);

#endif
