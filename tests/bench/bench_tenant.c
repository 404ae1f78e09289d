// links: db bench
/* The price of tickets and row-level security: one SELECT by the door to tenant tables, beside the usual
 * policy on a session variable, beside the same SELECT with nothing before it. */
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "db/tenant_tx.h"
#include "support/database.h"
#include "support/measure.h"

enum { ANSWER_MS = 10000 };
#define TENANT   "33333333-3333-7333-8333-333333333333"
#define DOCUMENT "44444444-4444-7444-8444-444444444444"

static const char LAYOUT[] =
    "INSERT INTO auth.tenants (id, slug, name) VALUES ('" TENANT "', 'bench-tenant', 'Bench');"
    "INSERT INTO app.documents (tenant_id, id, status, content_type, bytes, key_version, created_by)"
    " SELECT '" TENANT "', CASE n WHEN 0 THEN '" DOCUMENT "' ELSE gen_random_uuid() END, 'ready', 'text/plain', 1000, 1, gen_random_uuid()"
    " FROM generate_series(0, 999) n;"
    /* the usual way: the policy believes a variable that any statement may set */
    "CREATE SCHEMA bench; GRANT USAGE ON SCHEMA bench TO cordon_query;"
    "CREATE TABLE bench.documents (LIKE app.documents INCLUDING DEFAULTS INCLUDING INDEXES);"
    "INSERT INTO bench.documents SELECT * FROM app.documents WHERE tenant_id = '" TENANT "';"
    "ALTER TABLE bench.documents ENABLE ROW LEVEL SECURITY; GRANT SELECT ON bench.documents TO cordon_query;"
    "CREATE POLICY usual ON bench.documents USING (tenant_id = current_setting('app.tenant')::uuid);"
    "CREATE TABLE bench.open (LIKE app.documents INCLUDING DEFAULTS INCLUDING INDEXES);"
    "INSERT INTO bench.open SELECT * FROM bench.documents; GRANT SELECT ON bench.open TO cordon_query;"
    "ANALYZE app.documents, bench.documents, bench.open;";

/* ---- ours ---- */

struct door { char *ticket; };

static void *door_begin(void *ctx, unsigned caller) {
    struct door *door = xalloc(sizeof *door);
    (void)ctx;
    door->ticket = bench_ticket("bench-tenant", caller);
    return door;
}

static void door_end(void *state) {
    struct door *door = state;
    free(door->ticket);
    free(door);
}

static struct db_pool *pool;

static void door_select(void *state, struct stopwatch *watch) {
    static const struct sql FIND = { "find", "SELECT status FROM app.documents WHERE tenant_id = $1 AND id = $2", 2 };
    struct door *door = state;
    struct why why = { 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    (void)watch;
    bench_check(tenant_tx_begin(&tx, pool, door->ticket, NULL, SCOPE_DOCUMENTS_READ, clock_mono_ms() + ANSWER_MS, &why), &why, "begin");
    bench_check(tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_TEXT(DOCUMENT) }, &rows, &why), &why, "run");
    bench_check(tenant_tx_commit(&tx, &why), &why, "commit");
    if (db_count(rows) != 1)
        bench_fail("the ticket shows %d documents", db_count(rows));
}

/* What the clean session and the layer around libpq cost, without the ticket. */
static void plain_select(void *state, struct stopwatch *watch) {
    static const struct sql FIND = { "find", "SELECT status FROM bench.open WHERE tenant_id = $1 AND id = $2", 2 };
    struct why why = { 0 };
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    (void)state;
    (void)watch;
    bench_check(plain_tx_begin(&tx, pool, clock_mono_ms() + ANSWER_MS, &why), &why, "begin");
    bench_check(plain_tx_run(&tx, &FIND, (struct db_param[]){ DB_TEXT(TENANT), DB_TEXT(DOCUMENT) }, &rows, &why), &why, "run");
    bench_check(plain_tx_commit(&tx, &why), &why, "commit");
}

/* ---- libpq alone ---- */

struct bare { PGconn *conn; const char *begin, *select; };

static void *connect_as(const char *variable, const char *begin, const char *select) {
    struct bare *bare = xalloc(sizeof *bare);
    *bare = (struct bare){ bench_connect(variable), begin, select };
    return bare;
}

static void *usual_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    return connect_as("BENCH_QUERY_URL", "BEGIN; SELECT set_config('app.tenant', '" TENANT "', true)",
                      "SELECT status FROM bench.documents WHERE tenant_id = $1 AND id = $2");
}

static void *bare_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    return connect_as("BENCH_ADMIN_URL", "BEGIN", "SELECT status FROM app.documents WHERE tenant_id = $1 AND id = $2");
}

static void bare_select(void *state, struct stopwatch *watch) {
    struct bare *bare = state;
    (void)watch;
    bench_do(bare->conn, bare->begin);
    PGresult *rows = PQexecParams(bare->conn, bare->select, 2, NULL, (const char *const[]){ TENANT, DOCUMENT }, NULL, NULL, 1);
    if (PQntuples(rows) != 1)
        bench_fail("%s", PQresultErrorMessage(rows));
    PQclear(rows);
    bench_do(bare->conn, "COMMIT");
}

static void bare_end(void *state) {
    struct bare *bare = state;
    PQfinish(bare->conn);
    free(bare);
}

#define ROW(label, n, reference, begin, work, end) { label, n, 1, "tx", reference, NULL, begin, work, end }

int main(void) {
    struct why why = { 0 };
    bench_prepare(LAYOUT);
    struct db_options options = { .url = bench_setting("BENCH_QUERY_URL"), .process = "bench", .connections = 4 };
    bench_check(db_pool_new(&options, &pool, &why), &why, "pool");
    const struct bench_row rows[] = {
        ROW("tenant_tx: clean session, BEGIN, ticket; SELECT; COMMIT", 1, 6, door_begin, door_select, door_end),
        ROW("the same", 4, 7, door_begin, door_select, door_end),
        ROW("plain_tx: clean session, BEGIN; SELECT without policy; COMMIT", 1, 6, door_begin, plain_select, door_end),
        ROW("the same", 4, 7, door_begin, plain_select, door_end),
        ROW("the usual policy on a session variable: BEGIN, set_config; SELECT; COMMIT", 1, 6, usual_begin, bare_select, bare_end),
        ROW("the same", 4, 7, usual_begin, bare_select, bare_end),
        ROW("no policy: BEGIN; SELECT; COMMIT", 1, NO_ROW, bare_begin, bare_select, bare_end),
        ROW("the same", 4, NO_ROW, bare_begin, bare_select, bare_end),
    };
    measure("tenant", "One row by its key among a tenant's 1,000; three round trips over loopback each.", rows, sizeof rows / sizeof *rows);
    db_pool_destroy(&pool);
    return 0;
}
