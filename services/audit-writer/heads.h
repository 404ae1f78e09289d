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
    struct array tenants;
    struct array filled_tenants, filled_levels, filled_indexes, filled_hashes;      /* subtrees that this batch filled */
};

/* Those of all calls whose status is ST_OK, each once, in the order of tenants. */
void heads_collect(struct heads *h, struct batch_call *calls[], size_t count);
extern const struct sql HEADS_LOCK;     /* of heads.tenants */
/* What it answered. ST_INTERNAL: a stored head contradicts itself, and nothing may be appended to it. */
enum status heads_read(struct heads *h, const PGresult *rows, struct why *why) MUST_USE;
void heads_end(struct heads *h);                            /* may run twice */

struct head *heads_find(struct heads *h, const struct uuid *tenant_id);     /* NULL: not locked */

/* Put the next leaf on a head's tree. */
void heads_append(struct heads *h, struct head *head, const struct merkle_hash *leaf);

/* What moves the heads, and keeps the roots of the subtrees that they filled: parameters of one or two statements, which
 * live until heads_moves_end. */
enum { HEADS_STEPS_MAX = 2, HEADS_MOVES = 5 };
struct heads_moves { struct array of[HEADS_MOVES]; struct db_param advance[HEADS_MOVES + 1], put[4]; };
void heads_moves_init(struct heads_moves *m);
void heads_moves_end(struct heads_moves *m);
/* The statements that tell the database where those that grew now end; event_ids: every event inserted in between, in
 * order. Returns how many. */
size_t heads_steps(struct heads *h, struct heads_moves *m, struct db_param event_ids, struct db_step ret_steps[HEADS_STEPS_MAX]);

#endif
