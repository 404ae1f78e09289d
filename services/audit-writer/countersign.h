/* countersign — a second signature of the newest heads, by a key in KMS that nobody can take away: whoever stole
 * CORDON_CHECKPOINT_KEY still cannot make one without a trace in CloudTrail. It is a line of its own, added to the note
 * when it is given out, so that KMS being away holds up nothing. Used by the signer's thread. */
#ifndef CORDON_AUDIT_WRITER_COUNTERSIGN_H
#define CORDON_AUDIT_WRITER_COUNTERSIGN_H

#include "aws/kms.h"
#include "db/pool.h"

struct countersigner {
    struct kms *kms;            /* NULL: none */
    const char *key_id;
    uint8_t *spki;              /* its public half, asked for once */
    size_t spki_len;
};

/* Sign the newest heads that have no such line. *ret_count: how many. What fails is repeated by the next turn. */
enum status countersign(struct countersigner *c, struct db_pool *pool, size_t *ret_count, struct why *why) MUST_USE;
void countersigner_end(struct countersigner *c);

#endif
