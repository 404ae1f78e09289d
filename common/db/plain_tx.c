#include "db/plain_tx.h"

#include <assert.h>
#include <string.h>

#include "db/connection.h"

enum status db_run(struct db_pool *pool, const struct sql *q, const struct db_param params[], int64_t deadline_ms,
                   PGresult **ret_rows, struct why *why) {
    struct db_connection *c = NULL;
    struct span span;
    span_begin(&span, "db.statement");
    span_text(&span, "db.query.summary", q->name);
    const struct db_step steps[] = { { .sql = &SQL_RESET }, { .sql = &SQL_CLOSE }, { .sql = q, .params = params } };
    PGresult *rows[3] = { NULL };
    enum status st = db_pool_borrow(pool, deadline_ms, &c, why);
    if (st == ST_OK)
        st = connection_run(c, steps, 3, deadline_ms, rows, why);
    db_pool_return(pool, &c);
    span_end(&span, st);
    PQclear(rows[0]);
    PQclear(rows[1]);
    if (st == ST_OK && ret_rows)
        *ret_rows = rows[2];
    else
        PQclear(rows[2]);
    return st;
}

enum status plain_tx_begin_with(struct plain_tx *tx, struct db_pool *pool, const struct db_step steps[], size_t n,
                                PGresult *ret_rows[], int64_t deadline_ms, struct why *why) {
    enum { BEGIN_STEPS = 3 };
    struct db_step all[BEGIN_STEPS + DB_STEPS_MAX] = { { .sql = &SQL_RESET }, { .sql = &SQL_BEGIN }, { .sql = &SQL_CLOSE } };
    PGresult *rows[BEGIN_STEPS + DB_STEPS_MAX] = { NULL };
    assert(n <= DB_STEPS_MAX);
    if (n > 0)
        memcpy(all + BEGIN_STEPS, steps, n * sizeof *all);
    *tx = (struct plain_tx){ .pool = pool, .deadline_ms = deadline_ms };
    span_begin(&tx->span, "db.transaction");
    enum status st = db_pool_borrow(pool, deadline_ms, &tx->conn, why);
    if (st == ST_OK)
        st = connection_run(tx->conn, all, BEGIN_STEPS + n, deadline_ms, rows, why);
    tx->outcome = st;
    for (size_t i = 0; i < BEGIN_STEPS + n; i++)
        if (i >= BEGIN_STEPS && ret_rows && st == ST_OK)
            ret_rows[i - BEGIN_STEPS] = rows[i];
        else
            PQclear(rows[i]);
    if (st != ST_OK)
        plain_tx_end(tx);
    return st;
}

enum status plain_tx_begin(struct plain_tx *tx, struct db_pool *pool, int64_t deadline_ms, struct why *why) {
    return plain_tx_begin_with(tx, pool, NULL, 0, NULL, deadline_ms, why);
}

enum status plain_tx_run_steps(struct plain_tx *tx, const struct db_step steps[], size_t n, PGresult *ret_rows[],
                               struct why *why) {
    if (!tx->conn)
        return fail(why, ST_INTERNAL, "%s: no open transaction", steps[0].sql->name);
    tx->outcome = connection_run(tx->conn, steps, n, tx->deadline_ms, ret_rows, why);
    span_text(&tx->span, "db.query.summary", steps[n - 1].sql->name);
    return tx->outcome;
}

enum status plain_tx_run(struct plain_tx *tx, const struct sql *q, const struct db_param params[],
                         PGresult **ret_rows, struct why *why) {
    return plain_tx_run_steps(tx, &(struct db_step){ .sql = q, .params = params }, 1, ret_rows, why);
}

enum status plain_tx_commit_with(struct plain_tx *tx, const struct db_step steps[], size_t n, struct why *why) {
    if (!tx->conn)
        return fail(why, ST_INTERNAL, "commit: no open transaction");
    tx->outcome = connection_commit(tx->conn, steps, n, tx->deadline_ms, why);
    if (tx->outcome != ST_OK && n > 0)      /* one of the steps, perhaps: whoever ends the transaction rolls it back */
        return tx->outcome;
    enum status st = tx->outcome;
    db_pool_return(tx->pool, &tx->conn);
    span_end(&tx->span, st);
    return st;
}

enum status plain_tx_commit(struct plain_tx *tx, struct why *why) {
    return plain_tx_commit_with(tx, NULL, 0, why);
}

void plain_tx_end(struct plain_tx *tx) {
    span_end(&tx->span, tx->outcome);
    if (!tx->conn)
        return;
    if (tx->conn->pg && !tx->conn->is_suspect && PQtransactionStatus(tx->conn->pg) != PQTRANS_IDLE)
        connection_rollback(tx->conn);
    db_pool_return(tx->pool, &tx->conn);
}
