/* options — what a bus is made of: this process's key, the keys of those it talks with, where they are,
 * and what it serves. Borrowed by bus_start until bus_stop. */
#ifndef CORDON_BUS_OPTIONS_H
#define CORDON_BUS_OPTIONS_H

#include "bus/bus.h"
#include "bus/peers.h"
#include "core/secret.h"
#include "obs/metrics.h"

enum { BUS_KEY_TEXT_BYTES = 41 };       /* Z85 of 32 bytes, with its NUL */

struct bus_options {
    enum peer self;
    const struct secret *secret_key;                /* own CURVE key, Z85 */
    const char *public_keys[PEER_COUNT];            /* Z85; NULL or "": this peer cannot talk with us */
    const char *endpoints[PEER_COUNT];              /* "tcp://host:port,tcp://..."; NULL or "": never called */
    const char *listen;                             /* "tcp://127.0.0.1:18110", "tcp://[::]:18110"; NULL: serves nothing */
    unsigned callers;                               /* peers admitted at the door: the union over the routes */
    unsigned queue_max_count;                       /* calls that wait for a worker; beyond it BUSY */
    unsigned streams_max_count;                     /* streams served at once; beyond it BUSY. 0: as many as there are workers */
    struct metrics *metrics;
    /* NULL, or told of every change of a link, on the network thread. what: "up", "down", "draining", "refused". */
    void (*on_link)(void *ctx, enum peer peer, const char *address, const char *what);
    void *ctx;
};

#endif
