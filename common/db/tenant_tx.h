/* tenant_tx — the only door to tenant tables.
 *
 * A transaction that acts as the holder of a ticket. It begins, in one round trip, by clearing what an
 * earlier user may have left in the session, and by authz.enter(), which verifies the ticket in the
 * database; row-level security follows from it, and the service learns tenant, user and scopes from
 * its answer only. Rollback is the default: commit explicitly and check it. Keep it short, with no call
 * to another process inside. One thread. The pool outlives it.
 *
 *     CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
 *     enum status st = tenant_tx_begin(&tx, self->db, call->ticket, &call->request_id, SCOPE_QUERY,
 *                                      call->deadline_ms, &call->why);
 *     if (st != ST_OK)
 *         return st;
 *     CLEANUP(pgrows_destroy) PGresult *rows = NULL;
 *     st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&id) }, &rows, &call->why);
 *     ...
 *     return tenant_tx_commit(&tx, &call->why); */
#ifndef CORDON_DB_TENANT_TX_H
#define CORDON_DB_TENANT_TX_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

#include "core/scopes.h"
#include "core/status.h"
#include "core/uuid.h"
#include "db/plain_tx.h"
#include "db/pool.h"
#include "db/rows.h"
#include "db/sql.h"

/* What the database says about the ticket. Ids that the ticket does not name are nil. */
struct claims {
    struct uuid tenant_id;      /* nil: a platform administrator, outside every tenant */
    struct uuid user_id;        /* for a job, who asked for it */
    struct uuid session_id;     /* nil for a job */
    uint64_t scopes;            /* enum scope bits; texts that scopes.def does not know give none */
    struct uuid job_id;         /* nil unless a job's ticket, as the next two */
    struct uuid document_id;
    int64_t fence;
};

struct tenant_tx {
    struct plain_tx plain;
    struct claims claims;
};

/* Open as the holder of ticket, who must have every bit of scope (SCOPE_NONE: any valid ticket).
 * request_id is for the audit record; NULL or nil when there is none. Statements wait until
 * deadline_ms (clock_mono_ms).
 * ST_UNAUTHENTICATED: no ticket, or the database refuses it; ST_FORBIDDEN: a scope is missing;
 * ST_UNAVAILABLE, ST_TIMEOUT: no database in time. On failure tx is not open. */
enum status tenant_tx_begin(struct tenant_tx *tx, struct db_pool *pool, const char *ticket,
                            const struct uuid *request_id, uint64_t scope, int64_t deadline_ms,
                            struct why *why) MUST_USE;

/* The same with n more statements in its round trip, up to DB_STEPS_MAX; their rows come to ret_rows, of n places that are
 * NULL at first. They run before the scope is compared, and are rolled back when it is missing: what they may do is row-level
 * security's to say, and what they gave is not looked at. Tenant and user are not known yet: authz.tenant() is. */
enum status tenant_tx_begin_with(struct tenant_tx *tx, struct db_pool *pool, const char *ticket, const struct uuid *request_id, uint64_t scope,
                                 const struct db_step steps[], size_t n, PGresult *ret_rows[], int64_t deadline_ms, struct why *why) MUST_USE;

/* All of a transaction that only looks, in one round trip: as above, and then it is rolled back, whatever it did. */
enum status tenant_tx_read(struct db_pool *pool, const char *ticket, const struct uuid *request_id, uint64_t scope, const struct db_step steps[],
                           size_t n, PGresult *ret_rows[], struct claims *ret_claims, int64_t deadline_ms, struct why *why) MUST_USE;

/* Run q with params[q->n_params]. On ST_OK *ret_rows is the caller's, to pgrows_destroy(); ret_rows
 * may be NULL. After a failure the transaction is dead: only tenant_tx_end() is left. Statuses come
 * from db/sqlstate.def; ST_TIMEOUT also when deadline_ms passed. */
enum status tenant_tx_run(struct tenant_tx *tx, const struct sql *q, const struct db_param params[],
                          PGresult **ret_rows, struct why *why) MUST_USE;

/* ST_OK: durable. Otherwise rolled back, or, when the answer was lost (ST_UNAVAILABLE),
 * unknown: the caller must be able to repeat it by id. The tx is closed either way. */
enum status tenant_tx_commit(struct tenant_tx *tx, struct why *why) MUST_USE;

void tenant_tx_end(struct tenant_tx *tx);       /* rolls back unless committed; may run twice */

#endif
