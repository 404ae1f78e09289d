#include "fair.h"

#include <stdlib.h>

#include "core/arena.h"

/* One tenant's part. It outlives its items until virtual time has passed what they cost. */
struct fair_flow {
    struct fair_flow *next;
    struct uuid tenant;
    double weight, start;               /* virtual time at which its first item begins */
    struct fair_item *head, *tail;
};

struct fair {
    struct fair_flow *flows;
    double now;                         /* virtual time: the start of what was served last */
    size_t count;
};

struct fair *fair_new(void) {
    return xalloc(sizeof(struct fair));
}

void fair_destroy(struct fair **fair_p) {
    if (!*fair_p)
        return;
    for (struct fair_flow *flow = (*fair_p)->flows, *next; flow; flow = next) {
        next = flow->next;
        free(flow);
    }
    free(*fair_p);
    *fair_p = NULL;
}

/* Forget the flows that begin anew anyway; all of them once nothing waits. */
static void tidy(struct fair *fair) {
    for (struct fair_flow **at = &fair->flows; *at;) {
        struct fair_flow *flow = *at;
        if (flow->head || (fair->count > 0 && flow->start > fair->now)) {
            at = &flow->next;
            continue;
        }
        *at = flow->next;
        free(flow);
    }
}

static struct fair_flow *flow_of(struct fair *fair, const struct uuid *tenant) {
    struct fair_flow *flow = fair->flows;
    while (flow && !uuid_equal(&flow->tenant, tenant))
        flow = flow->next;
    if (flow)
        return flow;
    flow = xalloc(sizeof *flow);
    flow->tenant = *tenant;
    flow->start = fair->now;
    flow->next = fair->flows;
    fair->flows = flow;
    return flow;
}

void fair_put(struct fair *fair, const struct uuid *tenant, double weight, struct fair_item *item, bool at_front) {
    struct fair_flow *flow = flow_of(fair, tenant);
    if (!flow->head && flow->start < fair->now)
        flow->start = fair->now;
    if (at_front && flow->start - item->cost / weight >= fair->now)
        flow->start -= item->cost / weight;         /* what it had paid for it did not get */
    flow->weight = weight;
    item->flow = flow;
    item->prev = at_front ? NULL : flow->tail;
    item->next = at_front ? flow->head : NULL;
    *(item->prev ? &item->prev->next : &flow->head) = item;
    *(item->next ? &item->next->prev : &flow->tail) = item;
    fair->count++;
}

struct fair_item *fair_first(struct fair *fair) {
    struct fair_flow *first = NULL;
    for (struct fair_flow *flow = fair->flows; flow; flow = flow->next)
        if (flow->head && (!first || flow->start < first->start))
            first = flow;
    return first ? first->head : NULL;
}

static void take_out(struct fair *fair, struct fair_item *item) {
    struct fair_flow *flow = item->flow;
    *(item->prev ? &item->prev->next : &flow->head) = item->next;
    *(item->next ? &item->next->prev : &flow->tail) = item->prev;
    item->flow = NULL;
    fair->count--;
}

void fair_serve(struct fair *fair, struct fair_item *item) {
    struct fair_flow *flow = item->flow;
    fair->now = flow->start;
    flow->start += item->cost / flow->weight;
    take_out(fair, item);
    tidy(fair);
}

void fair_drop(struct fair *fair, struct fair_item *item) {
    take_out(fair, item);
    tidy(fair);
}

size_t fair_count(const struct fair *fair) {
    return fair->count;
}
