/* outbox — moves what triggers wrote into audit_outbox onto the log: taken and inserted in one
 * transaction, so that each record is in exactly one of the two. A thread of its own, woken by NOTIFY
 * and every second; it also makes the log's next partitions. Several writers may drain at once. */
#ifndef CORDON_AUDIT_WRITER_OUTBOX_H
#define CORDON_AUDIT_WRITER_OUTBOX_H

#include "batch.h"
#include "db/pool.h"
#include "obs/metrics.h"
#include "signer.h"

struct outbox;

/* options: of the same database as the pool, for the connection that listens. Checks them; starts nothing. */
enum status outbox_new(struct db_pool *pool, const struct db_options *options, struct metrics *metrics,
                       struct outbox **ret_outbox, struct why *why) MUST_USE;
/* Waits while the signer does not permit appending. memory: of where heads were left; outlives the thread. */
void outbox_start(struct outbox *o, struct signer *signer, struct batch_memory *memory);
void outbox_stop(struct outbox *o);                     /* after the batch in hand; may run twice */
void outbox_destroy(struct outbox **outbox_p);          /* stops too */

/* One batch of at most n records, oldest first. memory: or NULL. *ret_moved: how many. Any thread. */
enum status outbox_drain(struct db_pool *pool, struct batch_memory *memory, int n, size_t *ret_moved, struct why *why) MUST_USE;

/* The same, without tenants that have a record of a month that the log does not take: none is made (docs/retention.md), but should
 * one be there it fails every batch that it is in. */
enum status outbox_drain_others(struct db_pool *pool, int n, size_t *ret_moved, struct why *why) MUST_USE;
/* Count such records, and log whose they are when they are not *count, as they were last. */
enum status outbox_tell_refused(struct db_pool *pool, int64_t *count, struct why *why) MUST_USE;

/* Make the partitions of the coming months. */
enum status outbox_make_partitions(struct db_pool *pool, struct why *why) MUST_USE;

#endif
