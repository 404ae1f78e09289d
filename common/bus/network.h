/* network — what the files of the bus share about a running bus. Private to common/bus. */
#ifndef CORDON_BUS_NETWORK_H
#define CORDON_BUS_NETWORK_H

#include <pthread.h>
#include <stdatomic.h>

#include "bus/inbound.h"
#include "bus/outbound.h"
#include "bus/resolver.h"
#include "bus/serve.h"
#include "bus/zap.h"

struct bus {
    const struct bus_options *opt;
    void *zmq_context;
    void *control;                      /* a DEALER of the thread that started the bus */
    atomic_uint up_counts[PEER_COUNT];  /* usable links, written by the network thread */
    atomic_uint next_client;            /* high half of correlation ids */
    struct counter *late;
    struct resolver *resolver;
    pthread_t thread;
    bool has_thread;

    /* The network thread's own, made before it starts. */
    void *inner;                        /* ROUTER that clients, workers, resolver and control talk to */
    struct outbound *out;
    struct inbound *in;                 /* NULL: serves nothing */
    struct zap *zap;
    struct route_id quiet_to;           /* who waits for NOTE_QUIET; len 0: nobody */
};

void *network_run(void *bus);

/* The worker's socket of a call that is being served; NULL for a caller's own. worker.c */
void *call_socket(const struct call *call);

#endif
