/* fair — a queue that serves tenants by weight, however much each has waiting (start-time fair queueing: Goyal, Vin, Cheng,
 * SIGCOMM 1996). An item is served in the order in which its tenant's part would begin if all were served side by side; a
 * tenant that was silent begins with the others, not with what it has saved up. Not thread-safe. */
#ifndef CORDON_EMBEDDING_FAIR_H
#define CORDON_EMBEDDING_FAIR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/uuid.h"

struct fair;
struct fair_flow;

/* A member of what is queued. Its owner keeps it where it is while it is in the queue. */
struct fair_item {
    struct fair_item *next, *prev;
    struct fair_flow *flow;         /* NULL: in no queue */
    double cost;                    /* above 0 */
};

struct fair *fair_new(void);
/* Nothing may be in it. */
void fair_destroy(struct fair **fair_p);

/* Behind what the tenant has waiting; at_front: before it, for an item that was served in vain. weight above 0. */
void fair_put(struct fair *fair, const struct uuid *tenant, double weight, struct fair_item *item, bool at_front);
/* Whose turn it is; NULL when there is none. It stays until fair_serve. */
struct fair_item *fair_first(struct fair *fair);
/* Take out what fair_first gave, at its tenant's cost. */
void fair_serve(struct fair *fair, struct fair_item *item);
/* Take out an item that needs nothing any more. */
void fair_drop(struct fair *fair, struct fair_item *item);
size_t fair_count(const struct fair *fair);

#endif
