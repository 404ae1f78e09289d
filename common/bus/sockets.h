/* sockets — network sockets of the bus, with every limit and the CURVE key set before they touch the
 * network. ROUTER serves, DEALER calls; both refuse anything that is not CURVE. */
#ifndef CORDON_BUS_SOCKETS_H
#define CORDON_BUS_SOCKETS_H

#include "bus/options.h"

/* A ROUTER bound to opt->listen whose handshakes need a live ZAP handler in the same context: without
 * one everybody is refused. ST_INVALID: a key or the address is no such thing; ST_UNAVAILABLE: the
 * address is taken. */
enum status sockets_serve(void *zmq_context, const struct bus_options *opt, void **ret_router,
                          struct why *why) MUST_USE;

/* A DEALER for one replica, which does not connect before it is told to: its monitor comes first, for who attaches
 * one afterwards may miss the handshake. NULL: a key is malformed. */
void *sockets_call(void *zmq_context, const struct bus_options *opt, enum peer peer);
/* False: the address is malformed. */
bool sockets_connect(void *dealer, const char *address) MUST_USE;

/* Events of a network socket, as a PAIR to read with sockets_event. number: unique in the context. */
void *sockets_monitor(void *zmq_context, void *socket, unsigned number, int events);
/* Next event without waiting; 0 when there is none. */
int sockets_event(void *monitor);
/* Close both; NULLs are fine. */
void sockets_close(void **socket_p, void **monitor_p);

#endif
