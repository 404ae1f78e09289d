/* heads — the tree heads of one batch: where each tenant's log ends, and where it will. Made from the calls' tenants, used
 * by one thread for one attempt. */
#ifndef CORDON_AUDIT_WRITER_HEADS_H
#define CORDON_AUDIT_WRITER_HEADS_H

#include "arrays.h"
#include "audit/merkle.h"
#include "batch.h"

struct head {
    struct uuid tenant_id;
    uint64_t old_size;
    struct merkle_hash old_root;
    struct merkle_range range;
};

/* Parameters of audit.put() that say where the heads go, in its order, and the roots of the subtrees that are filled. */
enum head_column { H_TENANT, H_OLD_SIZE, H_OLD_ROOT, H_NEW_SIZE, H_RANGE, H_ROOT, H_NODE_TENANT, H_NODE_LEVEL, H_NODE_INDEX, H_NODE_HASH, HEAD_COLUMNS };

struct heads {
    struct head *items;         /* by tenant_id */
    size_t count;
    int64_t recorded_at_us;     /* the database's clock: after the last lock, or what heads_memory makes of it */
    struct array tenants;
    struct array of[HEAD_COLUMNS];
};

/* Those of all calls whose status is ST_OK, each once, in the order of tenants. */
void heads_collect(struct heads *h, struct batch_call *calls[], size_t count);
extern const struct sql HEADS_LOCK;     /* of heads.tenants */
/* What it answered. ST_INTERNAL: a stored head contradicts itself, and nothing may be appended to it. */
enum status heads_read(struct heads *h, const PGresult *rows, struct why *why) MUST_USE;
void heads_end(struct heads *h);                            /* may run twice */

void head_set(struct head *head, const struct merkle_range *range);         /* where it is before the batch */
struct head *heads_find(struct heads *h, const struct uuid *tenant_id);     /* NULL: not locked */

/* Put the next leaf on a head's tree. */
void heads_append(struct heads *h, struct head *head, const struct merkle_hash *leaf);

/* Once nothing more is appended: those that grew, and what they filled. They live until heads_end. */
void heads_params(struct heads *h, struct db_param ret_params[HEAD_COLUMNS]);

#endif
