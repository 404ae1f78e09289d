/* event_proof — that an event is on the tenant's log, shown to somebody outside: its bytes, the inclusion proof and the
 * signed checkpoint that covers it. Receipts of answers and certificates of erasures rest on it. */
#ifndef CORDON_QUERY_EVENT_PROOF_H
#define CORDON_QUERY_EVENT_PROOF_H

#include <protobuf-c/protobuf-c.h>

#include "query.h"

/* All in call->mem. */
struct event_proof {
    const char *state;          /* pending: not on the log yet | recorded | signed: a checkpoint covers it */
    char *event;                /* canonical bytes, "" while pending; the rest only when signed */
    int64_t seq, size;
    char *checkpoint;
    ProtobufCBinaryData leaf_hash, root, *hashes;
    size_t n_hashes;
};

/* Into the members of a reply that tells one; receipts' and certificates' have the same. */
#define EVENT_PROOF_SHOW(reply, proof) \
    ((reply)->state = (char *)(proof).state, (reply)->event = (proof).event, (reply)->seq = (proof).seq, (reply)->size = (proof).size, \
     (reply)->checkpoint = (proof).checkpoint, (reply)->leaf_hash = (proof).leaf_hash, (reply)->root = (proof).root, \
     (reply)->hashes = (proof).hashes, (reply)->n_hashes = (proof).n_hashes)

/* find: a statement that takes id and gives columns seq and event, of one event or none. The caller's ticket needs scope. */
enum status event_prove(struct query *q, struct call *call, uint64_t scope, const struct sql *find, const struct uuid *id,
                        struct event_proof *ret_proof) MUST_USE;
/* Of the event that vouches for the certificate of a tenant's end, for people of the platform. */
enum status event_prove_ending(struct query *q, struct call *call, const struct uuid *tenant_id, struct event_proof *ret_proof) MUST_USE;

#endif
