/* listener — the operators' door of a process: /metrics in Prometheus text, /health/live, /health/ready
 * as JSON, over plain HTTP on an address of its own, so that it answers while the process is busy. One
 * short-lived thread per connection, at most LISTENER_CONNECTIONS; slow clients are cut. */
#ifndef CORDON_OBS_LISTENER_H
#define CORDON_OBS_LISTENER_H

#include "core/status.h"
#include "obs/metrics.h"

enum { LISTENER_CONNECTIONS = 32, LISTENER_IDLE_S = 10 };

struct health_report;

/* One named check of a readiness answer; any status but ST_OK makes the answer 503. why: for operators. */
void health_report_add(struct health_report *report, const char *name, enum status st, const char *why);

/* A line of the answer that does not decide about readiness. */
void health_report_note(struct health_report *report, const char *name, const char *text);

/* What the listener asks; called on its threads, one call of each at a time. */
struct listener_source {
    void *ctx;
    struct metrics *metrics;
    void (*collect)(void *ctx);                                     /* NULL, or refresh gauges before a scrape */
    void (*ready)(void *ctx, struct health_report *report);
};

struct listener;

/* address: "127.0.0.1:9100", or "[::]:9100" for both families. Port 0 takes a free one. source is copied.
 * ST_INVALID: not a numeric address with a port. ST_UNAVAILABLE: it cannot be bound. */
enum status listener_start(const char *address, const struct listener_source *source, struct listener **ret_listener,
                           struct why *why) MUST_USE;
unsigned listener_port(const struct listener *listener);
void listener_stop(struct listener **listener_p);

#endif
