/* red — rate, errors and durations of every route, for Prometheus. Labels are route templates, verbs and
 * statuses from closed sets; nothing that a client sends becomes a label. Any thread. */
#ifndef CORDON_EDGE_RED_H
#define CORDON_EDGE_RED_H

#include "obs/metrics.h"
#include "routes.h"

struct red;

struct red *red_new(struct metrics *metrics);
void red_destroy(struct red **red_p);
/* route: NULL when none matched. */
void red_count(struct red *red, const struct http_route *route, int http_status, int64_t elapsed_us);
void red_count_upload(struct red *red, int64_t bytes);

#endif
