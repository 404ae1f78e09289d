/* pool — a few connections to one database under one role.
 *
 * Opened when first needed, borrowed for one transaction, given back. A connection that saw an
 * unexpected error, or whose borrower left it in an unknown state, is closed. While the server is away
 * borrowing fails at once, except for one attempt per back-off interval; while it only refuses more connections,
 * those that are open serve in turn. The pool is thread-safe; a
 * borrowed connection belongs to one thread.
 *
 * Handlers do not borrow: tenant_tx_begin() and db_run() do. */
#ifndef CORDON_DB_POOL_H
#define CORDON_DB_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/live_secret.h"
#include "core/status.h"
#include "obs/metrics.h"

struct db_options {
    const char *url;                    /* libpq URL or key=value string; copied. Or, instead: */
    struct live_secret *live_url;       /* one that may change: a new connection takes the present one; borrowed */
    struct live_secret *password;       /* likewise, wins over the URL's; NULL: none but that */
    const char *process;                /* application_name: "query" */
    int connections;                    /* 1 to 64; 0: 4 */
    int statement_timeout_ms;           /* 0: 10 s */
    bool is_production;                 /* refuse anything but sslmode=verify-full */
    const char *const *settings;        /* more run-time settings, "name=value", NULL-terminated; or NULL */
    struct metrics *metrics;            /* NULL: nothing is counted */
};

struct db_pool;
struct db_connection;

/* ST_INVALID: url does not parse or, in production, does not verify the server (sslmode=verify-full). */
enum status db_url_check(const char *url, bool is_production, struct why *why) MUST_USE;

/* Checks the options, connects to nothing yet. ST_INVALID: url does not parse, or is not verify-full in production. */
enum status db_pool_new(const struct db_options *options, struct db_pool **ret_pool, struct why *why) MUST_USE;
void db_pool_destroy(struct db_pool **pool_p);      /* nobody may still borrow */

/* An open, idle connection, outside any transaction. Waits for a free one until deadline_ms
 * (clock_mono_ms). ST_TIMEOUT: none came free; ST_UNAVAILABLE: the server does not answer. */
enum status db_pool_borrow(struct db_pool *pool, int64_t deadline_ms, struct db_connection **ret_conn,
                           struct why *why) MUST_USE;
/* Gives it back; closes it unless it is idle and unsuspected. NULL is fine. */
void db_pool_return(struct db_pool *pool, struct db_connection **conn_p);

/* For metrics and readiness. */
struct db_pool_state { int open, busy, waiting; };
struct db_pool_state db_pool_state(struct db_pool *pool);

#endif
