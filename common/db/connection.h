/* connection — one libpq connection and the only way that SQL leaves this process: the extended
 * protocol, in pipeline mode, statements unnamed. A name would outlive its transaction, and whoever
 * could inject SQL might put another text behind it. Private to common/db; not thread-safe. */
#ifndef CORDON_DB_CONNECTION_H
#define CORDON_DB_CONNECTION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "db/pool.h"
#include "db/sql.h"

struct db_connection {
    PGconn *pg;                 /* NULL: closed */
    bool is_busy;               /* borrowed */
    bool is_suspect;            /* close it when it comes back */
    bool is_open;               /* the pool's own note of pg, under its lock: pg belongs to the borrower */
    int answer_ms;              /* the server's time for one answer; after that it is taken for lost */
};

/* db_url_check() of the URL that the options have now. */
enum status db_options_check(const struct db_options *options, struct why *why) MUST_USE;
/* Of a URL that is given a secret, the caller's, which is options->live_url from then on; NULL: the options have one. */
struct live_secret *db_options_own_url(struct db_options *options);

/* Connect, until deadline_ms, with the present URL and password; once more when they are refused and there are others
 * by then. ST_UNAVAILABLE; ST_INVALID: the URL became one that db_url_check() refuses. */
enum status connection_open(struct db_connection *c, const struct db_options *options, int64_t deadline_ms,
                            struct why *why) MUST_USE;
void connection_close(struct db_connection *c);

/* True when an idle connection still stands: the server has not closed it meanwhile. No round trip. */
bool connection_stands(struct db_connection *c);

/* Send all steps in one round trip and wait for all answers. Stops at the first that fails and says
 * which. ret_rows, when not NULL, has n places: results of steps, each the
 * caller's; on failure none is set. The connection is suspect after every unexpected error; after
 * ST_TIMEOUT or a lost connection (also one on which nothing comes for longer than the server gives a statement) the
 * outcome is unknown. */
enum status connection_run(struct db_connection *c, const struct db_step steps[], size_t n, int64_t deadline_ms,
                           PGresult *ret_rows[], struct why *why) MUST_USE;

/* What every transaction begins with, in this order: RESET ALL, BEGIN, CLOSE ALL. Gone is then what an
 * earlier user of the connection SET or held open. Prepared names may be left, but are never used;
 * temporary tables cannot be made. */
extern const struct sql SQL_RESET, SQL_BEGIN, SQL_CLOSE, SQL_ROLLBACK;

/* These steps, none perhaps, and COMMIT behind them in the same round trip; and look at the tag: a failed transaction
 * answers ROLLBACK with success. When the answer is lost the outcome is unknown: ST_UNAVAILABLE, safe to repeat by id. */
enum status connection_commit(struct db_connection *c, const struct db_step steps[], size_t n, int64_t deadline_ms,
                              struct why *why) MUST_USE;
/* ROLLBACK; a connection on which it fails is suspect. */
void connection_rollback(struct db_connection *c);

#endif
