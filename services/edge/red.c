#include "red.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"

static const int STATUSES[] = { 200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 415, 416, 422, 429, 431, 500, 503, 504, 0 };
enum { STATUS_COUNT = sizeof STATUSES / sizeof *STATUSES };

/* Row ROUTE_COUNT_MAX stands for requests that no route matched. Rare cells are found on first use. */
struct red {
    struct metrics *metrics;
    struct counter *uploaded;
    _Atomic(struct counter *) counters[ROUTE_COUNT_MAX + 1][STATUS_COUNT];
    _Atomic(struct histogram *) seconds[ROUTE_COUNT_MAX + 1];
};

static struct counter *make_counter(struct red *red, unsigned row, const struct http_route *route, unsigned column) {
    char labels[192];
    (void)snprintf(labels, sizeof labels, "route=\"%s\",method=\"%s\",status=\"%d\"", route ? route->path : "", route ? route->verb : "",
                   STATUSES[column]);
    struct counter *counter = metrics_counter(red->metrics, "cordon_http_requests_total", "Answers, by route and status.", labels);
    atomic_store(&red->counters[row][column], counter);
    return counter;
}

static struct histogram *make_histogram(struct red *red, unsigned row, const struct http_route *route) {
    char labels[192];
    (void)snprintf(labels, sizeof labels, "route=\"%s\",method=\"%s\"", route ? route->path : "", route ? route->verb : "");
    struct histogram *seconds =
        metrics_histogram(red->metrics, "cordon_http_request_seconds", "From the request's head to the answer's end.", labels);
    atomic_store(&red->seconds[row], seconds);
    return seconds;
}

static unsigned column_of(int http_status) {
    unsigned column = 0;
    while (STATUSES[column] && STATUSES[column] != http_status)
        column++;
    return column;
}

/* What alerts divide by and wait for is there from the start: a counter that appears with 1 has no rate. */
static void make_rows(struct red *red) {
    static const int FAILURES[] = { 500, 503, 504 };
    for (const struct http_route *route = ROUTES; route->verb; route++) {
        unsigned row = route_index(route);
        (void)make_histogram(red, row, route);
        (void)make_counter(red, row, route, column_of(route->success));
        for (unsigned i = 0; i < sizeof FAILURES / sizeof *FAILURES; i++)
            (void)make_counter(red, row, route, column_of(FAILURES[i]));
    }
}

struct red *red_new(struct metrics *metrics) {
    struct red *red = xalloc(sizeof *red);
    red->metrics = metrics;
    red->uploaded = metrics_counter(metrics, "cordon_http_upload_bytes_total", "Bytes of bodies that uploads brought.", "");
    make_rows(red);
    return red;
}

void red_destroy(struct red **red_p) {
    free(*red_p);
    *red_p = NULL;
}

void red_count(struct red *red, const struct http_route *route, int http_status, int64_t elapsed_us) {
    unsigned row = route ? route_index(route) : ROUTE_COUNT_MAX, column = column_of(http_status);
    struct counter *counter = atomic_load(&red->counters[row][column]);
    struct histogram *seconds = atomic_load(&red->seconds[row]);
    counter_add(counter ? counter : make_counter(red, row, route, column), 1);
    histogram_observe_us(seconds ? seconds : make_histogram(red, row, route), elapsed_us);
}

void red_count_upload(struct red *red, int64_t bytes) {
    if (bytes > 0)
        counter_add(red->uploaded, (uint64_t)bytes);
}
