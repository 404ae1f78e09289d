/* keystore — wrapped keys as the database hands them out under a ticket, made ready for the keyring. The
 * database decides who gets which; KMS decides whether they still open. */
#ifndef CORDON_KEYSTORE_KEYSTORE_H
#define CORDON_KEYSTORE_KEYSTORE_H

#include "core/arena.h"
#include "crypto/keyring.h"
#include "db/tenant_tx.h"
#include "keystore/shares.h"

/* The tenant's wrapped keys, all kinds and versions, in the memory of whoever read them. */
struct tenant_keys {
    struct uuid tenant;
    struct tenant_key_blob *rows;
    size_t count;
};

/* Read the keys of tx's tenant into mem. Statuses of tenant_tx_run; ST_INTERNAL: a kind nobody knows. */
enum status keystore_read_tenant(struct tenant_tx *tx, struct arena *mem, struct tenant_keys *ret_keys,
                                 struct why *why) MUST_USE;

/* The same as all that tx is for: it is committed, and closed before anybody asks KMS. */
enum status keystore_take_tenant(struct tenant_tx *tx, struct arena *mem, struct tenant_keys *ret_keys, struct why *why) MUST_USE;
/* The same for whoever runs the statement beside others: its rows, of this tenant, as keystore_read_tenant gives them. */
extern const struct sql KEYSTORE_TENANT;
enum status keystore_rows_tenant(const struct uuid *tenant, const PGresult *rows, struct arena *mem, struct tenant_keys *ret_keys,
                                 struct why *why) MUST_USE;

/* The newest tenant key of `kind` (version 0) or the one that something was sealed with. Not inside a transaction. */
enum status keystore_open_tenant(struct keyring *keyring, const struct tenant_keys *keys, enum tenant_key_kind kind,
                                 unsigned version, int64_t deadline_ms, struct tenant_key **ret_key,
                                 struct why *why) MUST_USE;

/* A document's key, from its wrapped form under key and, where it has one, its second share. Not inside a transaction.
 * Failures of document_key_open and shares_get. */
enum status keystore_open_document(struct shares *shares, const struct tenant_key *key, const struct uuid *tenant,
                                   const struct uuid *document, const void *wrapped, size_t len, int64_t deadline_ms,
                                   struct document_key **ret_key, struct why *why) MUST_USE;

#endif
