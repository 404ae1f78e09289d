/* idempotency — the same upload sent twice is done once (Idempotency-Key, draft-ietf-httpapi-idempotency-key-header).
 * The answer is kept for a day beside the document, committed with it: per tenant and user, under keyed digests. */
#ifndef CORDON_INGEST_IDEMPOTENCY_H
#define CORDON_INGEST_IDEMPOTENCY_H

#include "crypto/keyring.h"
#include "db/tenant_tx.h"
#include "ingest.pb-c.h"

enum { IDEMPOTENCY_DIGEST_BYTES = 32 };

struct idempotent_answer {
    bool is_known;
    uint8_t request_digest[IDEMPOTENCY_DIGEST_BYTES];
    struct uuid document_id, job_id;
};

/* Of the key that the client chose. */
void idempotency_key_digest(const struct tenant_key *search_key, const char *key, uint8_t out[IDEMPOTENCY_DIGEST_BYTES]);
/* Of everything that the client sent: what it said of the document, and the body by its SHA-256. */
void idempotency_request_digest(const struct tenant_key *search_key, const Ingest__UploadRequest *req, const uint8_t body_sha256[32],
                                uint8_t out[IDEMPOTENCY_DIGEST_BYTES]);

/* The answer that is kept for this key of tx's user, if its day is not over. */
enum status idempotency_find(struct tenant_tx *tx, const uint8_t key_digest[IDEMPOTENCY_DIGEST_BYTES],
                             struct idempotent_answer *ret_answer, struct why *why) MUST_USE;
/* Keep one, in the transaction that commits the document. ST_CONFLICT (IDEM_002): another was kept meanwhile. */
enum status idempotency_keep(struct tenant_tx *tx, const uint8_t key_digest[IDEMPOTENCY_DIGEST_BYTES],
                             const struct idempotent_answer *answer, struct why *why) MUST_USE;

#endif
