#include "db/tenant_tx.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "db/connection.h"

/* The ticket, and for the record whose request it is. */
static const struct sql ENTER = { "enter",
    "SELECT tenant_id, user_id, session_id, scopes, job_id, document_id, fence, set_config('cordon.request_id', $2, true), "
    "set_config('cordon.traceparent', $3, true) FROM authz.enter($1)", 3 };

static void read_claims(const PGresult *rows, struct claims *ret_claims) {
    enum { TENANT_ID, USER_ID, SESSION_ID, SCOPES, JOB_ID, DOCUMENT_ID, FENCE };
    struct claims c = {
        .tenant_id = db_uuid(rows, 0, TENANT_ID),
        .user_id = db_uuid(rows, 0, USER_ID),
        .session_id = db_uuid(rows, 0, SESSION_ID),
        .job_id = db_uuid(rows, 0, JOB_ID),
        .document_id = db_uuid(rows, 0, DOCUMENT_ID),
        .fence = db_is_null(rows, 0, FENCE) ? 0 : db_i64(rows, 0, FENCE),
    };
    const char *text;
    size_t len;
    for (int i = 0; db_text_item(rows, 0, SCOPES, i, &text, &len); i++)
        c.scopes |= scope_from_text(text, len);
    *ret_claims = c;
}

enum { AT_ENTER = 3, ENTER_STEPS = 4, END_STEPS = 1 };

/* One attempt on one connection; `ends`: the transaction's end goes with it. *ret_lost: it broke before anything happened on it. */
static enum status enter(struct tenant_tx *tx, const char *ticket, const struct uuid *request_id, const struct db_step also[], size_t n,
                         bool ends, PGresult *ret_rows[], bool *ret_lost, struct why *why) {
    char request[UUID_TEXT_BYTES] = "", traceparent[TRACEPARENT_BYTES] = "";
    if (request_id && !uuid_is_nil(request_id))
        uuid_format(request_id, request);
    span_begin(&tx->plain.span, "db.transaction");
    if (tx->plain.span.scope)
        (void)trace_format(&tx->plain.span.context, traceparent);
    const struct db_param params[] = { DB_TEXT(ticket), DB_TEXT(request), DB_TEXT(traceparent) };
    struct db_step steps[ENTER_STEPS + DB_STEPS_MAX + END_STEPS] = {
        { .sql = &SQL_RESET }, { .sql = &SQL_BEGIN }, { .sql = &SQL_CLOSE }, { .sql = &ENTER, .params = params },
    };
    PGresult *rows[ENTER_STEPS + DB_STEPS_MAX + END_STEPS] = { NULL };
    assert(n <= DB_STEPS_MAX);
    if (n > 0)
        memcpy(steps + ENTER_STEPS, also, n * sizeof *also);
    steps[ENTER_STEPS + n] = (struct db_step){ .sql = &SQL_ROLLBACK };
    *ret_lost = false;
    enum status st = db_pool_borrow(tx->plain.pool, tx->plain.deadline_ms, &tx->plain.conn, why);
    if (st == ST_OK)
        st = connection_run(tx->plain.conn, steps, ENTER_STEPS + n + (ends ? END_STEPS : 0), tx->plain.deadline_ms, rows, why);
    tx->plain.outcome = st;
    if (st != ST_OK) {
        *ret_lost = st == ST_UNAVAILABLE && tx->plain.conn && tx->plain.conn->is_suspect;
        tenant_tx_end(tx);
        return st;
    }
    read_claims(rows[AT_ENTER], &tx->claims);
    trace_tenant(&tx->claims.tenant_id);
    for (size_t i = 0; i < ENTER_STEPS; i++)
        PQclear(rows[i]);
    PQclear(rows[ENTER_STEPS + n]);
    for (size_t i = 0; i < n; i++) {
        span_text(&tx->plain.span, "db.query.summary", also[i].sql->name);
        PQclear(ret_rows[i]);
        ret_rows[i] = rows[ENTER_STEPS + i];
    }
    return ST_OK;
}

static enum status begin(struct tenant_tx *tx, struct db_pool *pool, const char *ticket, const struct uuid *request_id, uint64_t scope,
                         const struct db_step steps[], size_t n, bool ends, PGresult *ret_rows[], int64_t deadline_ms, struct why *why) {
    *tx = (struct tenant_tx){ .plain = { .pool = pool, .deadline_ms = deadline_ms } };
    if (!ticket || !*ticket)
        return fail(why, ST_UNAUTHENTICATED, "no ticket");
    bool lost = false;
    enum status st = enter(tx, ticket, request_id, steps, n, ends, ret_rows, &lost, why);
    if (lost)                       /* the server went away since the last use; nothing has happened yet */
        st = enter(tx, ticket, request_id, steps, n, ends, ret_rows, &lost, why);
    if (ends)
        tenant_tx_end(tx);
    if (st != ST_OK)
        return st;
    uint64_t missing = scope & ~tx->claims.scopes;
    if (missing) {
        for (size_t i = 0; i < n; i++)
            pgrows_destroy(&ret_rows[i]);
        tenant_tx_end(tx);
        return fail(why, ST_FORBIDDEN, "the ticket lacks scope %s", scope_text(missing & -missing));
    }
    return ST_OK;
}

enum status tenant_tx_begin_with(struct tenant_tx *tx, struct db_pool *pool, const char *ticket, const struct uuid *request_id, uint64_t scope,
                                 const struct db_step steps[], size_t n, PGresult *ret_rows[], int64_t deadline_ms, struct why *why) {
    return begin(tx, pool, ticket, request_id, scope, steps, n, false, ret_rows, deadline_ms, why);
}

enum status tenant_tx_read(struct db_pool *pool, const char *ticket, const struct uuid *request_id, uint64_t scope, const struct db_step steps[],
                           size_t n, PGresult *ret_rows[], struct claims *ret_claims, int64_t deadline_ms, struct why *why) {
    struct tenant_tx tx;
    enum status st = begin(&tx, pool, ticket, request_id, scope, steps, n, true, ret_rows, deadline_ms, why);
    if (st == ST_OK)
        *ret_claims = tx.claims;
    return st;
}

enum status tenant_tx_begin(struct tenant_tx *tx, struct db_pool *pool, const char *ticket, const struct uuid *request_id,
                            uint64_t scope, int64_t deadline_ms, struct why *why) {
    return tenant_tx_begin_with(tx, pool, ticket, request_id, scope, NULL, 0, NULL, deadline_ms, why);
}

enum status tenant_tx_run(struct tenant_tx *tx, const struct sql *q, const struct db_param params[],
                          PGresult **ret_rows, struct why *why) {
    return plain_tx_run(&tx->plain, q, params, ret_rows, why);
}

enum status tenant_tx_commit(struct tenant_tx *tx, struct why *why) {
    return plain_tx_commit(&tx->plain, why);
}

void tenant_tx_end(struct tenant_tx *tx) {
    plain_tx_end(&tx->plain);
}
