/* metrics — counters, gauges and histograms, printed in Prometheus text format. A metric is found or
 * made by name and labels once and kept; updating one is a lock-free atomic from any thread. Label
 * values come from closed sets (route templates, status names, peer names), never from users' data. */
#ifndef CORDON_OBS_METRICS_H
#define CORDON_OBS_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"

struct metrics;
struct counter;
struct gauge;
struct histogram;

struct metrics *metrics_new(void);
void metrics_destroy(struct metrics **metrics_p);

/* labels: `route="query.Search",status="ST_OK"` or "". name, help and labels are copied. The result is
 * borrowed and lives as long as the metrics. Same name and labels: the same object. */
struct counter *metrics_counter(struct metrics *m, const char *name, const char *help, const char *labels);
/* A count that somebody else keeps (the kernel): set like a gauge, printed as a counter. */
struct gauge *metrics_total(struct metrics *m, const char *name, const char *help, const char *labels);
struct gauge *metrics_gauge(struct metrics *m, const char *name, const char *help, const char *labels);
/* Seconds; buckets from 0.5 ms to 60 s. */
struct histogram *metrics_histogram(struct metrics *m, const char *name, const char *help, const char *labels);

void counter_add(struct counter *c, uint64_t n);
uint64_t counter_value(const struct counter *c);
void gauge_set(struct gauge *g, double value);
void gauge_add(struct gauge *g, double delta);
void histogram_observe_us(struct histogram *h, int64_t us);

/* Whole exposition, sorted by name, with HELP and TYPE once per name. */
void metrics_print(struct metrics *m, struct buffer *out);

#endif
