/* serve — civetweb's callbacks: a request from its head to its log line, in the one order that holds for
 * all routes: guard, route, admission, body, handler, answer. */
#ifndef CORDON_EDGE_SERVE_H
#define CORDON_EDGE_SERVE_H

#include "edge.h"

/* Listen. ST_UNAVAILABLE: the address cannot be bound. */
enum status serve_start(struct edge *edge, struct why *why) MUST_USE;
/* Wait until deadline_ms for the connections that are open; the doors are closed. */
void serve_wait(struct edge *edge, int64_t deadline_ms);
/* Wait until deadline_ms for the requests that run, then cut and stop. May run twice. */
void serve_stop(struct edge *edge, int64_t deadline_ms);

#endif
