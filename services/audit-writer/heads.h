/* heads — the locked tree heads of one batch: where each tenant's log ends, and where it will. Made
 * from the calls' tenants, used by one thread within one transaction. */
#ifndef CORDON_AUDIT_WRITER_HEADS_H
#define CORDON_AUDIT_WRITER_HEADS_H

#include "arrays.h"
#include "audit/merkle.h"
#include "batch.h"

struct head {
    struct uuid tenant_id;
    uint64_t old_size;
    struct merkle_range range;
};

struct heads {
    struct head *items;         /* by tenant_id */
    size_t count;
    int64_t locked_at_us;       /* the database's clock, after the last lock */
    struct array filled_tenants, filled_levels, filled_indexes, filled_hashes;      /* subtrees that this batch filled */
};

/* Lock the heads of all calls whose status is ST_OK. ST_INTERNAL: a stored head contradicts itself, and
 * nothing may be appended to it. */
enum status heads_lock(struct heads *h, struct plain_tx *tx, struct batch_call *calls[], size_t count,
                       struct why *why) MUST_USE;
void heads_end(struct heads *h);                            /* may run twice */

struct head *heads_find(struct heads *h, const struct uuid *tenant_id);     /* NULL: not locked */

/* Put the next leaf on a head's tree. */
void heads_append(struct heads *h, struct head *head, const struct merkle_hash *leaf);

/* Tell the database where those that grew now end; event_ids: every event inserted in between. Keeps the
 * roots of the subtrees that they filled. */
enum status heads_advance(struct heads *h, struct plain_tx *tx, struct db_param event_ids, struct why *why) MUST_USE;

#endif
