/* signer — signs the heads of the log and keeps them outside the database, on a thread of its own, and says whether the
 * log may be appended to: not while the bucket knows of heads that this database has not. Several audit-writers may each
 * run one; the database lets one sign at a time. Thread-safe. */
#ifndef CORDON_AUDIT_WRITER_SIGNER_H
#define CORDON_AUDIT_WRITER_SIGNER_H

#include "anchor.h"
#include "checkpoint.h"
#include "countersign.h"
#include "obs/metrics.h"

struct signer;

/* key NULL: nothing is signed or checked, and everything may be appended (development, tests). anchor.s3 NULL: heads are
 * signed but stay in the database. kms NULL, or its kms NULL: no second signature. All are borrowed. */
struct signer *signer_new(struct db_pool *pool, const struct note_key *key, const struct anchor *anchor,
                          const struct countersigner *kms, const struct checkpoint_pace *pace, struct metrics *metrics);
/* One look at bucket and database, as the thread does it: what is wrong is remembered. */
void signer_turn(struct signer *s);
void signer_start(struct signer *s);
void signer_stop(struct signer *s);                     /* may run twice */
void signer_destroy(struct signer **signer_p);          /* stops too */

/* May the log be appended to? ST_UNAVAILABLE AUDIT_002: it ends before a signed head; else: nobody could look yet. */
enum status signer_permits(struct signer *s, struct why *why) MUST_USE;
/* The same, after the first look, which a process that has just started waits for until deadline_ms (clock_mono_ms). */
enum status signer_permits_by(struct signer *s, int64_t deadline_ms, struct why *why) MUST_USE;

#endif
