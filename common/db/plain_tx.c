#include "db/plain_tx.h"

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

enum status plain_tx_begin(struct plain_tx *tx, struct db_pool *pool, int64_t deadline_ms, struct why *why) {
    const struct db_step steps[] = { { .sql = &SQL_RESET }, { .sql = &SQL_BEGIN }, { .sql = &SQL_CLOSE } };
    *tx = (struct plain_tx){ .pool = pool, .deadline_ms = deadline_ms };
    span_begin(&tx->span, "db.transaction");
    enum status st = db_pool_borrow(pool, deadline_ms, &tx->conn, why);
    if (st == ST_OK)
        st = connection_run(tx->conn, steps, 3, deadline_ms, NULL, why);
    tx->outcome = st;
    if (st != ST_OK)
        plain_tx_end(tx);
    return st;
}

enum status plain_tx_run(struct plain_tx *tx, const struct sql *q, const struct db_param params[],
                         PGresult **ret_rows, struct why *why) {
    if (!tx->conn)
        return fail(why, ST_INTERNAL, "%s: no open transaction", q->name);
    PGresult *rows = NULL;
    enum status st = connection_run(tx->conn, &(struct db_step){ .sql = q, .params = params }, 1, tx->deadline_ms, &rows, why);
    tx->outcome = st;
    span_text(&tx->span, "db.query.summary", q->name);
    if (st == ST_OK && ret_rows)
        *ret_rows = rows;
    else
        PQclear(rows);
    return st;
}

enum status plain_tx_run_many(struct plain_tx *tx, const struct sql *q, const struct db_param params[],
                              size_t times, struct why *why) {
    if (!tx->conn)
        return fail(why, ST_INTERNAL, "%s: no open transaction", q->name);
    if (times == 0)
        return ST_OK;
    tx->outcome = connection_run(tx->conn, &(struct db_step){ .sql = q, .params = params, .times = times }, 1, tx->deadline_ms, NULL, why);
    span_text(&tx->span, "db.query.summary", q->name);
    return tx->outcome;
}

enum status plain_tx_commit(struct plain_tx *tx, struct why *why) {
    if (!tx->conn)
        return fail(why, ST_INTERNAL, "commit: no open transaction");
    enum status st = connection_commit(tx->conn, tx->deadline_ms, why);
    db_pool_return(tx->pool, &tx->conn);
    span_end(&tx->span, st);
    return st;
}

void plain_tx_end(struct plain_tx *tx) {
    span_end(&tx->span, tx->outcome);
    if (!tx->conn)
        return;
    if (tx->conn->pg && !tx->conn->is_suspect)
        connection_rollback(tx->conn);
    db_pool_return(tx->pool, &tx->conn);
}
