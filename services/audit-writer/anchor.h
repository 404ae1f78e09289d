/* anchor — the bucket's half of signing heads: each numbered checkpoint is one object that nobody can change or remove
 * for years (Object Lock, compliance mode), made only if it is not there yet. So the bucket knows what this database
 * once had: a database that was put back, or another one, is found out by its first step. Any thread. */
#ifndef CORDON_AUDIT_WRITER_ANCHOR_H
#define CORDON_AUDIT_WRITER_ANCHOR_H

#include "audit/merkle.h"
#include "aws/s3.h"
#include "core/buffer.h"
#include "crypto/note.h"
#include "db/pool.h"

struct anchor { struct s3 *s3; const struct note_key *key; int64_t keep_days; };

/* Bring the bucket up to the database, and look whether it knows more. ST_OK: it knows what the database knows; every
 * number is in it. ST_CONFLICT: the bucket has a checkpoint that this database has not, or another under the same
 * number: nothing may be appended. *ret_ahead: the newest number in the bucket then, for cordon-migrate recover-audit.
 * ST_UNAVAILABLE, ST_TIMEOUT: not known; also when what comes from the bucket is nothing that our key signed. */
enum status anchor_check(const struct anchor *anchor, struct db_pool *pool, int64_t *ret_ahead, struct why *why) MUST_USE;

/* The object of one number: lines of notes, the first of which our key signed. out is initialised here, the caller's to
 * end. ST_NOT_FOUND: there is none; ST_UNAVAILABLE: or none that our key signed. */
enum status anchor_read(const struct anchor *anchor, int64_t number, struct buffer *out, struct why *why) MUST_USE;

/* The heads that were signed with a number, the platform's first. *ret_heads: the caller's to free. As anchor_read; also ST_UNAVAILABLE
 * when one of them is not signed by our key. */
struct signed_head { struct uuid tenant_id; uint64_t size; struct merkle_hash root; };       /* tenant_id nil: the platform's */
enum status anchor_heads(const struct anchor *anchor, int64_t number, struct signed_head **ret_heads, size_t *ret_count, struct why *why) MUST_USE;

#endif
