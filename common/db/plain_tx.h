/* plain_tx — SQL that needs no ticket because its functions decide by themselves: authz.mint,
 * jobs.claim, the audit writer's. db_run is one statement by itself; plain_tx is several that commit
 * together. Tables of tenants show nothing here. One thread; the pool outlives it. */
#ifndef CORDON_DB_PLAIN_TX_H
#define CORDON_DB_PLAIN_TX_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "db/pool.h"
#include "db/rows.h"
#include "db/sql.h"
#include "obs/trace.h"

/* One statement in its own transaction, until deadline_ms. Parameters and results as tenant_tx_run.
 * A lost connection leaves the outcome unknown: ST_UNAVAILABLE. */
enum status db_run(struct db_pool *pool, const struct sql *q, const struct db_param params[], int64_t deadline_ms,
                   PGresult **ret_rows, struct why *why) MUST_USE;

struct plain_tx {
    struct db_pool *pool;
    struct db_connection *conn;     /* NULL: not open */
    int64_t deadline_ms;
    struct span span;               /* from borrowing the connection to giving it back */
    enum status outcome;            /* of the statement that failed */
};

/* The meaning and the statuses of these are tenant_tx's. */
enum status plain_tx_begin(struct plain_tx *tx, struct db_pool *pool, int64_t deadline_ms, struct why *why) MUST_USE;
/* The same with the first n statements, at most DB_STEPS_MAX, in its round trip. ret_rows has n places, or is NULL. */
enum status plain_tx_begin_with(struct plain_tx *tx, struct db_pool *pool, const struct db_step steps[], size_t n,
                                PGresult *ret_rows[], int64_t deadline_ms, struct why *why) MUST_USE;
enum status plain_tx_run(struct plain_tx *tx, const struct sql *q, const struct db_param params[],
                         PGresult **ret_rows, struct why *why) MUST_USE;
/* Several statements in one round trip, none of which sees that another failed. */
enum status plain_tx_run_steps(struct plain_tx *tx, const struct db_step steps[], size_t n, PGresult *ret_rows[],
                               struct why *why) MUST_USE;
enum status plain_tx_commit(struct plain_tx *tx, struct why *why) MUST_USE;
/* The last n statements, at most DB_STEPS_MAX, and COMMIT in one round trip: nothing is committed when one fails. */
enum status plain_tx_commit_with(struct plain_tx *tx, const struct db_step steps[], size_t n, struct why *why) MUST_USE;
void plain_tx_end(struct plain_tx *tx);

#endif
