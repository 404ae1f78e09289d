/* links — the connections to every replica of every process that we call: one DEALER each. A link
 * counts as up only after the replica answered a bus.Ping, so that a handshake with something that does
 * not serve, or is about to stop, gets no calls. Belongs to the network thread. */
#ifndef CORDON_BUS_LINKS_H
#define CORDON_BUS_LINKS_H

#include <stdatomic.h>

#include "bus/envelope.h"
#include "bus/options.h"

enum { LINKS_PER_PEER_MAX = 64 };

enum link_state {
    LINK_CLOSED,            /* no socket; opens again when due */
    LINK_CONNECTING,        /* libzmq connects and reconnects */
    LINK_GREETING,          /* handshake done, bus.Ping sent or about to be */
    LINK_UP,
    LINK_DRAINING,          /* it said GOAWAY: calls finish, none begin */
};

struct link {
    enum peer peer;
    unsigned slot;                  /* index among the peer's links, a bit in `tried` masks */
    char *address;
    bool is_wanted;                 /* still among the resolved addresses */
    enum link_state state;
    bool has_pinged;                /* GREETING: the bus.Ping is on its way */
    unsigned outstanding_count;     /* calls sent here and not ended; kept by whoever sends them */
    int64_t due_ms;                 /* CLOSED: when to open. GREETING: when to give up */
    void *dealer, *monitor;
    struct gauge *up, *draining, *outstanding;
};

/* What the links tell. A link that is lost has no socket to answer on any more, or soon a fresh one. */
struct links_events {
    void *ctx;
    void (*on_frame)(void *ctx, struct link *link, const Bus__Envelope *e, zmq_msg_t *frame);
    void (*on_lost)(void *ctx, struct link *link);
    void (*on_up)(void *ctx, enum peer peer);
};

struct links;

/* up_counts: PEER_COUNT numbers of usable links, for other threads to read. opt, up_counts: borrowed. */
struct links *links_new(void *zmq_context, const struct bus_options *opt, atomic_uint *up_counts,
                        struct links_events events);
void links_destroy(struct links **links_p);

/* Take over the peer's present addresses: new ones are connected, missing ones end when their calls did. */
void links_apply(struct links *links, enum peer peer, const char *addresses, size_t len);

/* The usable link with the fewest outstanding calls that is not in the mask; NULL when there is none. */
struct link *links_pick(struct links *links, enum peer peer, uint64_t tried);
/* Since when no link of the peer was usable; INT64_MAX while one is. */
int64_t links_down_since_ms(const struct links *links, enum peer peer);
/* Takes the frame if it was sent; false: this link cannot take it now. */
bool link_send(struct link *link, zmq_msg_t *frame);

size_t links_poll_items(struct links *links, zmq_pollitem_t *items, size_t max);
void links_turn(struct links *links);                   /* read what is there, without waiting */
void links_tick(struct links *links, int64_t now_ms);   /* reopen, give up, forget */

#endif
