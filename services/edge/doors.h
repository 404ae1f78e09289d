/* doors — how many requests of each kind may be inside, and the end of letting any in. Each kind has a share of the
 * listener's threads, which all together leave some over: whatever one kind of client does, slow uploads or a flood
 * of questions, the others and health are still served. Any thread. */
#ifndef CORDON_EDGE_DOORS_H
#define CORDON_EDGE_DOORS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "obs/metrics.h"
#include "routes.h"

struct doors {
    int port;
    unsigned threads;
    int plug_fd;                                    /* stands in the listening socket's place once closed; -1 before */
    atomic_uint connections;                        /* open ones, whether or not their request is here */
    atomic_uint inside[RATE_COUNT];
    struct gauge *inside_gauge[RATE_COUNT], *connections_gauge;
    struct counter *shed[RATE_COUNT];
};

void doors_init(struct doors *doors, struct metrics *metrics, int port, unsigned threads);
void doors_end(struct doors *doors);

const char *doors_class(enum route_rate rate);      /* "read"; static */

/* False, and counted: there are as many of this kind as may be. RATE_NONE is never refused. */
bool doors_enter(struct doors *doors, enum route_rate rate);
void doors_leave(struct doors *doors, enum route_rate rate);

/* A connection came or went; true when so many are open that slow ones should be hurried. */
bool doors_count_connection(struct doors *doors, int change);

/* Accept no more connections: those that come are refused by the kernel, those that are open stay. */
void doors_close(struct doors *doors);
/* Shut every open connection down, so that whoever reads or writes one returns, and let the listener see its end. */
void doors_cut_all(struct doors *doors);

#endif
