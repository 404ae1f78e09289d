/* resolver — turns the endpoints of the settings into addresses, again and again, on a thread of its
 * own, because getaddrinfo blocks and libzmq would use a name's first address only. Each result goes to
 * the network thread as NOTE_ADDRESSES. An endpoint that does not resolve keeps its last addresses.
 *
 * An endpoint is tcp://host:port, or file:///path of a file with one such endpoint a line, for places where a name
 * cannot have several addresses; whoever writes the file replaces it by renaming another one onto it. */
#ifndef CORDON_BUS_RESOLVER_H
#define CORDON_BUS_RESOLVER_H

#include "bus/options.h"

enum { RESOLVER_ADDRESSES_MAX = 32 };           /* per name; what is beyond is not used */

struct resolver;

/* ST_INVALID: an endpoint is neither tcp://host:port nor file:///path. opt is borrowed. */
enum status resolver_start(void *zmq_context, const struct bus_options *opt, struct resolver **ret_resolver,
                           struct why *why) MUST_USE;
void resolver_stop(struct resolver **resolver_p);

#endif
