/* watch — no answer goes on for whoever has lost the right to it. While requests are under way a thread asks auth, a few
 * times a second and once for all of them, which of their sessions have ended (revoked, their user disabled, their tenant
 * suspended), and shuts the connections of those. So a download, an export, an upload or a streamed answer ends within a
 * second of the revocation, as the next request does (auth_cache.h). Short requests are over before anybody asks. When auth
 * has not answered for as long as a ticket lives, nobody can say who may go on, and nobody does. Any thread. */
#ifndef CORDON_EDGE_WATCH_H
#define CORDON_EDGE_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/bus.h"
#include "core/uuid.h"
#include "obs/metrics.h"

enum { WATCH_PAUSE_MS = 400, WATCH_BLIND_MS = 60000 };

struct watch;

/* One request under way; in its exchange. */
struct watched {
    struct watched *next, *previous;
    struct uuid tenant_id, session_id;
    const char *address;            /* of the connection, with the port: finds the socket */
    int port;
    int64_t since_ms;
    bool is_open;
    atomic_bool is_ended;           /* its session is over, and its connection shut */
};

/* bus: borrowed until watch_destroy. */
struct watch *watch_new(struct bus *bus, struct metrics *metrics);
void watch_destroy(struct watch **watch_p);         /* nothing may be watched any more */

/* w's ids, address and port are set and live until watch_end, which must come before the connection can be closed. */
void watch_begin(struct watch *watch, struct watched *w);
/* True when it was ended. Harmless when it never began. */
bool watch_end(struct watch *watch, struct watched *w);

#endif
