/* intent — the row of app.uploads that says that an upload is under way. It is committed before the document store
 * hears of the upload, renewed while bytes come, and deleted in the transaction that commits the document; what a
 * dead process leaves behind it tells the janitor. Who was given up meanwhile finds no row any more, and can neither
 * renew nor commit. One upload's, on its thread. */
#ifndef CORDON_INGEST_INTENT_H
#define CORDON_INGEST_INTENT_H

#include "bus/bus.h"
#include "db/tenant_tx.h"

struct intent {
    struct uuid tenant_id, document_id;
    struct uuid fence;              /* nil until it may be in the database */
    int64_t lease_ms;
    int64_t renewed_ms;             /* clock_mono_ms() when the database last took it */
    int64_t tried_ms;               /* and when it was last asked to */
};

/* Add the row, inside tx. key_digest: of the Idempotency-Key, 32 bytes, or NULL. ST_CONFLICT: DOC_008 when the tenant
 * has an upload of this id, IDEM_002 when an upload with this key is under way. */
enum status intent_begin(struct intent *intent, struct tenant_tx *tx, const char *content_type, int64_t announced_bytes,
                         const uint8_t *key_digest, struct why *why) MUST_USE;
/* ST_CONFLICT (DOC_008): the tenant has a document of this id. */
enum status intent_check_id(const struct intent *intent, struct tenant_tx *tx, struct why *why) MUST_USE;
/* Say that we live and how far we are; asks the database once a second at most. A database that is away, and a
 * ticket that it refuses, are borne for half the lease. ST_UNAVAILABLE: DOC_009 given up, or not known not to be; statuses of tenant_tx_begin when the caller's
 * access has ended. */
enum status intent_renew(struct intent *intent, struct db_pool *db, struct call *call, int64_t received_bytes) MUST_USE;
/* Delete the row in the transaction that commits the document. ST_UNAVAILABLE (DOC_009): it was given up. */
enum status intent_fulfil(struct intent *intent, struct tenant_tx *tx, struct why *why) MUST_USE;
/* Nothing of it is in the store: the row may go. jobs_db: role cordon_jobs. Shared with the janitor. */
enum status intent_clear(struct db_pool *jobs_db, const struct uuid *tenant_id, const struct uuid *document_id,
                         const struct uuid *fence, int64_t deadline_ms, struct why *why) MUST_USE;

#endif
