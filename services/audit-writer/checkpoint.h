/* checkpoint — the database's half of signing heads: which are due, their notes kept, each on the platform's log, and
 * what of it belongs into one object of the bucket (format: docs/AUDIT_FORMAT.md). One signer at a time by a lock of
 * the database. Any thread. */
#ifndef CORDON_AUDIT_WRITER_CHECKPOINT_H
#define CORDON_AUDIT_WRITER_CHECKPOINT_H

#include "core/buffer.h"
#include "crypto/note.h"
#include "db/pool.h"

/* When heads are signed: once they have grown by so many events together, or one has waited so long. */
struct checkpoint_pace { int64_t events, wait_ms; };

struct anchor_state {
    int64_t last;           /* number of the newest checkpoint of the platform's log; 0: none */
    int64_t anchored;       /* the newest known to be in the bucket */
    int64_t recovered;      /* how far an operator has said that the bucket is ahead */
};

enum status checkpoint_state(struct db_pool *pool, struct anchor_state *ret_state, struct why *why) MUST_USE;
int64_t checkpoint_next(const struct anchor_state *state);          /* the number that is signed next */

/* ST_CONFLICT: a head has less than was signed of it before, or another root. */
enum status checkpoint_intact(struct db_pool *pool, struct why *why) MUST_USE;
/* Is it time to sign? */
enum status checkpoint_is_due(struct db_pool *pool, const struct checkpoint_pace *pace, bool *ret_is_due, struct why *why) MUST_USE;
/* Sign what is due, if anything is: the tenants' heads, then the platform's. *ret_signed: how many heads; 0 also while
 * another audit-writer signs. ST_CONFLICT as above; nothing is signed then. */
enum status checkpoint_sign(struct db_pool *pool, const struct note_key *key, const struct checkpoint_pace *pace,
                            size_t *ret_signed, struct why *why) MUST_USE;

/* The object of one number: a JSON line of each note, the platform's first. ST_NOT_FOUND: no such number. */
enum status checkpoint_object(struct db_pool *pool, int64_t number, struct buffer *out, struct why *why) MUST_USE;
enum status checkpoint_anchored(struct db_pool *pool, int64_t number, struct why *why) MUST_USE;

#endif
