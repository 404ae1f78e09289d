#include "obs/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

struct counter { _Atomic uint64_t value; };
struct gauge { _Atomic double value; };

static const double BOUNDS_S[] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                   0.25,   0.5,   1,      2.5,   5,    10,    30,   60 };
enum { BOUND_COUNT = sizeof BOUNDS_S / sizeof *BOUNDS_S };

struct histogram {
    _Atomic uint64_t buckets[BOUND_COUNT + 1];      /* not cumulative; the last is +Inf */
    _Atomic uint64_t sum_us;
};

enum metric_type { COUNTER, TOTAL, GAUGE, HISTOGRAM };

static const char *const TYPE_NAMES[] = { [COUNTER] = "counter", [TOTAL] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };

struct metric {
    struct metric *next;                            /* by name, then labels */
    char *name, *help, *labels;
    enum metric_type type;
    union { struct counter counter; struct gauge gauge; struct histogram histogram; } as;
};

struct metrics {
    pthread_mutex_t lock;                           /* of the list; values are atomics */
    struct metric *first;
};

struct metrics *metrics_new(void) {
    struct metrics *m = xalloc(sizeof *m);
    (void)pthread_mutex_init(&m->lock, NULL);
    return m;
}

void metrics_destroy(struct metrics **metrics_p) {
    if (!*metrics_p)
        return;
    for (struct metric *metric = (*metrics_p)->first, *next; metric; metric = next) {
        next = metric->next;
        free(metric->name);
        free(metric->help);
        free(metric->labels);
        free(metric);
    }
    (void)pthread_mutex_destroy(&(*metrics_p)->lock);
    free(*metrics_p);
    *metrics_p = NULL;
}

static int compare(const struct metric *metric, const char *name, const char *labels) {
    int by_name = strcmp(metric->name, name);
    return by_name ? by_name : strcmp(metric->labels, labels);
}

static struct metric *find_or_make(struct metrics *m, enum metric_type type, const char *name, const char *help,
                                   const char *labels) {
    (void)pthread_mutex_lock(&m->lock);
    struct metric **place = &m->first;
    while (*place && compare(*place, name, labels) < 0)
        place = &(*place)->next;
    if (!*place || compare(*place, name, labels) != 0) {
        struct metric *fresh = xalloc(sizeof *fresh);
        *fresh = (struct metric){
            .next = *place, .name = xstrdup(name), .help = xstrdup(help), .labels = xstrdup(labels), .type = type
        };
        *place = fresh;
    }
    struct metric *metric = *place;
    (void)pthread_mutex_unlock(&m->lock);
    assert(metric->type == type);
    return metric;
}

struct counter *metrics_counter(struct metrics *m, const char *name, const char *help, const char *labels) {
    return &find_or_make(m, COUNTER, name, help, labels)->as.counter;
}

struct gauge *metrics_total(struct metrics *m, const char *name, const char *help, const char *labels) {
    return &find_or_make(m, TOTAL, name, help, labels)->as.gauge;
}

struct gauge *metrics_gauge(struct metrics *m, const char *name, const char *help, const char *labels) {
    return &find_or_make(m, GAUGE, name, help, labels)->as.gauge;
}

struct histogram *metrics_histogram(struct metrics *m, const char *name, const char *help, const char *labels) {
    return &find_or_make(m, HISTOGRAM, name, help, labels)->as.histogram;
}

void counter_add(struct counter *c, uint64_t n) {
    atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

uint64_t counter_value(const struct counter *c) {
    return atomic_load_explicit(&c->value, memory_order_relaxed);
}

void gauge_set(struct gauge *g, double value) {
    atomic_store_explicit(&g->value, value, memory_order_relaxed);
}

void gauge_add(struct gauge *g, double delta) {
    double seen = atomic_load_explicit(&g->value, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&g->value, &seen, seen + delta, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

void histogram_observe_us(struct histogram *h, int64_t us) {
    uint64_t taken_us = us > 0 ? (uint64_t)us : 0;
    unsigned i = 0;
    while (i < BOUND_COUNT && (double)taken_us > BOUNDS_S[i] * 1e6)
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, taken_us, memory_order_relaxed);
}

static void print_value(struct buffer *out, const struct metric *metric, double value) {
    const char *open = *metric->labels ? "{" : "", *close = *metric->labels ? "}" : "";
    (void)buffer_printf(out, "%s%s%s%s %.17g\n", metric->name, open, metric->labels, close, value);
}

static void print_histogram(struct buffer *out, const struct metric *metric) {
    const struct histogram *h = &metric->as.histogram;
    const char *comma = *metric->labels ? "," : "";
    const char *open = *metric->labels ? "{" : "", *close = *metric->labels ? "}" : "";
    uint64_t total = 0;
    for (unsigned i = 0; i <= BOUND_COUNT; i++) {
        total += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        char bound[32] = "+Inf";
        if (i < BOUND_COUNT)
            (void)snprintf(bound, sizeof bound, "%g", BOUNDS_S[i]);
        (void)buffer_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", metric->name, metric->labels, comma, bound,
                            (unsigned long long)total);
    }
    double sum_s = (double)atomic_load_explicit(&h->sum_us, memory_order_relaxed) / 1e6;
    (void)buffer_printf(out, "%s_sum%s%s%s %.17g\n", metric->name, open, metric->labels, close, sum_s);
    (void)buffer_printf(out, "%s_count%s%s%s %llu\n", metric->name, open, metric->labels, close,
                        (unsigned long long)total);
}

void metrics_print(struct metrics *m, struct buffer *out) {
    (void)pthread_mutex_lock(&m->lock);
    const char *family = "";
    for (const struct metric *metric = m->first; metric; metric = metric->next) {
        if (strcmp(family, metric->name) != 0) {
            family = metric->name;
            (void)buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family, metric->help, family,
                                TYPE_NAMES[metric->type]);
        }
        if (metric->type == COUNTER)
            print_value(out, metric, (double)counter_value(&metric->as.counter));
        else if (metric->type == GAUGE || metric->type == TOTAL)
            print_value(out, metric, atomic_load_explicit(&metric->as.gauge.value, memory_order_relaxed));
        else
            print_histogram(out, metric);
    }
    (void)pthread_mutex_unlock(&m->lock);
}
