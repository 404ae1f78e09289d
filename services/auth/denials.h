/* denials — refusals that are so many of one kind that they go on the record together. The first few of a kind in a
 * minute are recorded one by one, and of refusals without a tenant, which cost a stranger nothing, a bounded number of all kinds;
 * the others are counted, and a thread puts "so many more like this" on the record. So a flood grows
 * the log by its kinds and not by its requests, and nothing is dropped without a number. What is counted is in memory:
 * a process that is killed loses the numbers of at most DENIALS_HOLD_MS. Any thread. */
#ifndef CORDON_AUTH_DENIALS_H
#define CORDON_AUTH_DENIALS_H

#include <stdbool.h>

#include "audit/actions.h"
#include "bus/bus.h"

enum { DENIALS_HOLD_MS = 30000, DENIALS_KINDS = 1024, DENIALS_ALL_KINDS_FACTOR = 60 };

struct denials;

/* So many that are held back; ticket and detail are the holder's. */
struct denial {
    enum audit_action action;
    struct uuid request_id;             /* of the last one */
    char *ticket, *detail;              /* of the last one; ticket "" without a tenant. The detail says "repeated" */
};

/* per_minute: of one kind. */
struct denials *denials_new(int64_t per_minute);
void denials_destroy(struct denials **denials_p);

/* A kind is the action, the detail and, with a ticket, who asked (the edge's word, for counting only). True: record this
 * one now. False: it has been counted. */
bool denials_admit(struct denials *denials, const struct call *call, const ProtobufCBinaryData *user_id, enum audit_action action,
                   const char *detail, int64_t now_ms);
/* One kind's count that has been held for DENIALS_HOLD_MS, or, at the end, any. False: there is none. */
bool denials_take(struct denials *denials, bool is_end, int64_t now_ms, struct denial *ret_denial);
void denial_end(struct denial *denial);

#endif
