/* shares — the second shares of document keys: one small object for each document, in a bucket of its own that keeps
 * no versions and is in no backup, so that deleting it is the end of the document everywhere (ADR 0023). Shares that
 * were read are kept a short while in locked memory, at most SHARES_KEPT of them; whoever had one cached can still
 * only use it together with what the database gives. Any thread. */
#ifndef CORDON_KEYSTORE_SHARES_H
#define CORDON_KEYSTORE_SHARES_H

#include "aws/s3.h"
#include "core/arena.h"
#include "core/secret.h"
#include "core/uuid.h"
#include "crypto/keyring.h"

enum { SHARES_KEPT = 4096, SHARES_AT_ONCE = 8, SHARE_OBJECT_BYTES = 1 + DOCUMENT_SHARE_BYTES };     /* the byte that numbers its layout, and the share */

struct shares;

/* bucket: as s3_new. keep_ms: how long a share is used without asking again; 0: not at all. */
struct shares *shares_new(struct aws *aws, const char *endpoint, const char *bucket, int64_t keep_ms);
void shares_destroy(struct shares **shares_p);

/* Key in the bucket, "tenants/<tenant>/<document>"; in mem. IAM policies rely on the first folders. */
const char *share_object_key(struct arena *mem, const struct uuid *tenant, const struct uuid *document);

/* Keep a new share; one that is there is never replaced. ST_CONFLICT: there is another. Failures as s3_put. */
enum status shares_put(struct shares *shares, const struct uuid *tenant, const struct uuid *document, const struct secret *share,
                       int64_t deadline_ms, struct why *why) MUST_USE;
/* The caller owns *ret_share. ST_NOT_FOUND: it was destroyed; ST_UNAVAILABLE STORE_003: no share; failures as s3_get. */
enum status shares_get(struct shares *shares, const struct uuid *tenant, const struct uuid *document, int64_t deadline_ms,
                       struct secret **ret_share, struct why *why) MUST_USE;
/* Have those of several documents at hand for shares_get: what is not kept is fetched side by side, SHARES_AT_ONCE at a
 * time. Returns when all have come or failed; why one failed says shares_get. Nothing happens where nothing is kept. */
void shares_fetch(struct shares *shares, const struct uuid *tenant, const struct uuid documents[], size_t count, int64_t deadline_ms);
/* The same while the caller does something else, until shares_fetch_end, which waits and takes NULL. Both on one thread, in one
 * trace scope; the caller's cancel_on ends it early. */
struct shares_fetching;
struct shares_fetching *shares_fetch_begin(struct shares *shares, const struct uuid *tenant, const struct uuid documents[], size_t count,
                                           int64_t deadline_ms);
void shares_fetch_end(struct shares_fetching **fetching_p);
/* Destroy it, for ever. ST_OK also when there was none. */
enum status shares_delete(struct shares *shares, const struct uuid *tenant, const struct uuid *document, int64_t deadline_ms,
                          struct why *why) MUST_USE;
/* Its bucket, for a comparison of what is there; borrowed. */
struct s3 *shares_bucket(const struct shares *shares);
/* Destroy all of a tenant's. *ret_count: how many, also when the rest could not be. */
enum status shares_delete_all(struct shares *shares, const struct uuid *tenant, int64_t deadline_ms, unsigned *ret_count, struct why *why) MUST_USE;

#endif
