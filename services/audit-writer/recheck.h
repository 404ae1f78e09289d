/* recheck — reads the log again, bit by bit and for ever, and compares it with the signed heads in the bucket: hashes of
 * the events as they are now must give each root that was signed of them. What somebody with all rights in the
 * database has changed behind the triggers is found by it. It goes from the first number of the bucket to the last,
 * each event read once on the way, then through the archived months, whose objects must hold what the hashes say, and their
 * rows what the objects say (archiver.h), and begins again after an hour. A thread of its own; begun with the first turn. */
#ifndef CORDON_AUDIT_WRITER_RECHECK_H
#define CORDON_AUDIT_WRITER_RECHECK_H

#include "anchor.h"
#include "obs/metrics.h"

struct recheck;

/* events_s: how many events a second it may read. All are borrowed; the anchor has a bucket. */
struct recheck *recheck_new(struct db_pool *pool, const struct anchor *anchor, int64_t events_s, struct metrics *metrics);
/* As much as one second allows, as the thread does it. *ret_is_done: the pass ended with it. */
enum status recheck_turn(struct recheck *r, bool *ret_is_done, struct why *why) MUST_USE;
void recheck_start(struct recheck *r);
void recheck_stop(struct recheck *r);                   /* may run twice */
void recheck_destroy(struct recheck **recheck_p);       /* stops too */

#endif
