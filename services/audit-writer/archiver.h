/* archiver — takes closed months of the log out of the database: their events become objects of the anchor bucket under
 * Object Lock, each read back and followed, hash by hash, to a signed head in the bucket, before the database exchanges the
 * month's partition for one of hashes (docs/retention.md, ADR 0034). Nothing is deleted here. Tells S3 of legal holds, too.
 * A thread of its own; killed anywhere it goes on where the database says it was. Of several writers one archives at a time. */
#ifndef CORDON_AUDIT_WRITER_ARCHIVER_H
#define CORDON_AUDIT_WRITER_ARCHIVER_H

#include "anchor.h"
#include "archive/archive.h"
#include "obs/metrics.h"

struct archiver;

/* live_months: how many full months stay in the database; retention_years: how long nobody may remove the objects, from the
 * end of their month. All are borrowed; the anchor has a bucket and a key. */
struct archive_terms { int64_t live_months, retention_years; };
struct archiver *archiver_new(struct db_pool *pool, const struct anchor *anchor, const struct archive_terms *terms, struct metrics *metrics);
/* One step: a hold told, an object made or a month exchanged. *ret_is_done: there is nothing to do now. */
enum status archiver_turn(struct archiver *a, bool *ret_is_done, struct why *why) MUST_USE;
/* Both since the epoch. ST_UNAVAILABLE: they are a day apart, and a month that is closed too early is closed for good. */
enum status archive_check_clock(int64_t database_us, int64_t own_us, struct why *why) MUST_USE;
void archiver_start(struct archiver *a);
void archiver_stop(struct archiver *a);                 /* may run twice */
void archiver_destroy(struct archiver **archiver_p);    /* stops too */

/* An object that the database speaks of. */
struct archive_object { struct uuid tenant_id; char month[ARCHIVE_MONTH_BYTES]; int64_t first, last, bytes; bool is_to_be_held, is_detached; };
/* The next ones behind *at (month "" for the first), at most count; is_changed: only those whose hold S3 is to be told of. */
enum status archive_objects(struct db_pool *pool, const struct archive_object *at, bool is_changed, struct archive_object out[], size_t count,
                            size_t *ret_count, struct why *why) MUST_USE;
/* Read it, and compare every line with the hash that the log has of it. ST_CONFLICT: it is not there, or not what was put. *ret_differs:
 * the first event of which the database's row says something else than its line; -1: none. */
enum status archive_verify(const struct anchor *anchor, struct db_pool *pool, const struct archive_object *o, int64_t *ret_differs, struct why *why) MUST_USE;

#endif
