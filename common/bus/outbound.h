/* outbound — calls that this process makes: which client waits for which correlation id, and which
 * replica has it. A repeatable call whose replica went away or was busy goes to another one, with the
 * time that is left; a call without any replica waits a moment for one to come back. Belongs to the
 * network thread.
 *
 * What a replica did not begin (BUSY, or handed back as it stops) goes to another one whether or not the
 * method may be repeated; what it began and could not finish, because it stops, only if it may. */
#ifndef CORDON_BUS_OUTBOUND_H
#define CORDON_BUS_OUTBOUND_H

#include <stdatomic.h>

#include "bus/note.h"
#include "bus/options.h"

enum {
    OUTBOUND_ATTEMPTS_MAX = 3,
    OUTBOUND_PARK_MS = 8000,        /* how long after the last replica went a call may hope for another: a drain and a start */
    OUTBOUND_PARKED_MAX = 2048,
};

struct outbound;

/* inner: the network thread's inproc ROUTER. late: counter of replies that nobody waited for. */
struct outbound *outbound_new(void *zmq_context, const struct bus_options *opt, void *inner, atomic_uint *up_counts,
                              struct counter *late);
void outbound_destroy(struct outbound **out_p);

/* One note of a client or the resolver: ASK, PASS, FORGET, ADDRESSES. The frame is taken if it is moved on. */
void outbound_note(struct outbound *out, const struct route_id *from, const struct note *note, zmq_msg_t *frame);

size_t outbound_poll_items(struct outbound *out, zmq_pollitem_t *items, size_t max);
void outbound_turn(struct outbound *out);
void outbound_tick(struct outbound *out, int64_t now_ms);
/* End every call, here and where it runs, and begin no more: whoever waits goes on at once. */
void outbound_halt(struct outbound *out);

#endif
