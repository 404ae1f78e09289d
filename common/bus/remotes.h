/* remotes — the callers that are connected to our ROUTER, by its name for them. libzmq does not say who
 * left; a probe frame that cannot be routed does. Belongs to the network thread. */
#ifndef CORDON_BUS_REMOTES_H
#define CORDON_BUS_REMOTES_H

#include "bus/note.h"
#include "bus/options.h"

enum { REMOTES_MAX = 4096 };

struct remote {
    struct remote *next;
    struct route_id id;
    enum peer peer;
    unsigned call_count;            /* running or queued; kept by whoever holds them */
    bool is_gone;                   /* freed once no call points here */
};

struct remotes { struct remote *first; unsigned count; };

/* Find, or NULL. */
struct remote *remotes_find(struct remotes *r, const struct route_id *id);
/* Find or make; NULL when REMOTES_MAX are known. */
struct remote *remotes_meet(struct remotes *r, const struct route_id *id, enum peer peer);
/* Free those that are gone and have no calls. */
void remotes_sweep(struct remotes *r);
void remotes_end(struct remotes *r);

#endif
