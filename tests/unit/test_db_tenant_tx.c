/* tenant_tx and pool against a real server: what they promise, and what an injected statement leaves behind. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/cancel.h"
#include "core/clock.h"
#include "db/connection.h"
#include "db/listen.h"
#include "db/tenant_tx.h"
#include "support/pg.h"

static struct db_pool *pool;

static void open_pool(const char *role, int connections) {
    struct why why = { 0 };
    const struct db_options options = { .url = pg_url(role), .process = "test", .connections = connections };
    cr_assert_eq(db_pool_new(&options, &pool, &why), ST_OK, "%s", why.text);
}

static void open_all(void) {
    pg_open();
    open_pool("cordon_query", 2);
}

static void close_all(void) {
    db_pool_destroy(&pool);
    pg_close();
}

TestSuite(db_tenant_tx, .init = open_all, .fini = close_all, .timeout = 60);

static int64_t soon(void) {
    return clock_mono_ms() + 5000;
}

static const struct sql COUNT_DOCUMENTS = { "count_documents", "SELECT count(*) FROM app.documents", 0 };

Test(db_tenant_tx, begin_gives_the_claims) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct why why = { 0 };
    struct uuid request = uuid_v7(), tenant;
    uuid_parse(PG_TENANT_A, 36, &tenant);
    enum status st = tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), &request, SCOPE_QUERY, soon(), &why);
    cr_assert_eq(st, ST_OK, "%s", why.text);
    cr_expect(uuid_equal(&tx.claims.tenant_id, &tenant));
    cr_expect_not(uuid_is_nil(&tx.claims.user_id));
    cr_expect_not(uuid_is_nil(&tx.claims.session_id));
    cr_expect(uuid_is_nil(&tx.claims.job_id));
    cr_expect(uuid_is_nil(&tx.claims.document_id));
    cr_expect_eq(tx.claims.scopes, (uint64_t)(SCOPE_DOCUMENTS_READ | SCOPE_DOCUMENTS_WRITE | SCOPE_QUERY | SCOPE_BREAKGLASS_REQUEST));

    static const struct sql REQUEST = { "request", "SELECT current_setting('cordon.request_id')", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    cr_assert_eq(tenant_tx_run(&tx, &REQUEST, NULL, &rows, &why), ST_OK, "%s", why.text);
    char text[UUID_TEXT_BYTES];
    cr_expect_str_eq(db_text(rows, 0, 0), uuid_format(&request, text));
    cr_assert_eq(tenant_tx_commit(&tx, &why), ST_OK, "%s", why.text);
}

Test(db_tenant_tx, refusals_have_their_status) {
    const struct { const char *ticket; uint64_t scope; enum status want; } cases[] = {
        { NULL, SCOPE_NONE, ST_UNAUTHENTICATED },
        { "", SCOPE_NONE, ST_UNAUTHENTICATED },
        { "1.1.00.00", SCOPE_NONE, ST_UNAUTHENTICATED },
        { pg_ticket(PG_SLUG_A, "reviewer", "rev"), SCOPE_DOCUMENTS_WRITE, ST_FORBIDDEN },
        { pg_ticket(PG_SLUG_A, "reviewer", "rev"), SCOPE_QUERY | SCOPE_AUDIT_READ, ST_FORBIDDEN },
        { pg_ticket(PG_SLUG_A, "reviewer", "rev"), SCOPE_QUERY | SCOPE_DOCUMENTS_READ, ST_OK },
        { pg_ticket(PG_SLUG_A, "nobody", "nob"), SCOPE_NONE, ST_OK },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tenant_tx tx = { 0 };
        struct why why = { 0 };
        cr_expect_eq(tenant_tx_begin(&tx, pool, cases[i].ticket, NULL, cases[i].scope, soon(), &why), cases[i].want, "case %zu: %s", i, why.text);
        tenant_tx_end(&tx);
        tenant_tx_end(&tx);
    }
    cr_expect_eq(db_pool_state(pool).open, 1, "a refused ticket does not cost the connection");
    cr_expect_eq(db_pool_state(pool).busy, 0);
}

Test(db_tenant_tx, statements_that_go_with_the_beginning_act_for_the_ticket_and_leave_nothing_without_its_scope) {
    static const struct sql WHO = { "who", "SELECT authz.tenant(), $1::text", 1 };
    static const struct sql ASK = { "ask", "INSERT INTO app.conversations (tenant_id, id, user_id) VALUES (authz.tenant(), $1, authz.user_id())", 1 };
    const struct { uint64_t scope; enum status want; const char *left; } cases[] = {
        { SCOPE_QUERY | SCOPE_AUDIT_READ, ST_FORBIDDEN, "0" }, { SCOPE_QUERY, ST_OK, "1" } };
    const char *ticket = pg_ticket(PG_SLUG_A, "reviewer", "rev");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct uuid id = uuid_v7();
        const struct db_param word = DB_TEXT("word"), which = DB_UUID(&id);
        const struct db_step steps[] = { { .sql = &WHO, .params = &word }, { .sql = &ASK, .params = &which } };
        PGresult *rows[] = { NULL, NULL };
        struct tenant_tx tx = { 0 };
        struct why why = { 0 };
        cr_expect_eq(tenant_tx_begin_with(&tx, pool, ticket, NULL, cases[i].scope, steps, 2, rows, soon(), &why), cases[i].want, "%s", why.text);
        if (cases[i].want == ST_OK) {
            struct uuid tenant = db_uuid(rows[0], 0, 0);
            cr_expect(uuid_equal(&tenant, &tx.claims.tenant_id));
            cr_expect_str_eq(db_text(rows[0], 0, 1), "word");
            cr_expect_eq(db_affected(rows[1]), 1);
            cr_assert_eq(tenant_tx_commit(&tx, &why), ST_OK, "%s", why.text);
        } else {
            cr_expect_null(rows[0], "what came of it is not given");
            cr_expect_null(rows[1]);
        }
        tenant_tx_end(&tx);
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.conversations"), cases[i].left);
        pgrows_destroy(&rows[0]);
        pgrows_destroy(&rows[1]);
    }
    cr_expect_eq(db_pool_state(pool).busy, 0);
}

Test(db_tenant_tx, a_statement_that_fails_with_the_beginning_ends_it) {
    static const struct sql OTHER = { "other", "INSERT INTO app.conversations (tenant_id, id, user_id) VALUES ($1, $1, authz.user_id())", 1 };
    struct uuid other;
    uuid_parse(PG_TENANT_B, 36, &other);
    const struct db_param param = DB_UUID(&other);
    PGresult *rows[] = { NULL };
    struct tenant_tx tx = { 0 };
    struct why why = { 0 };
    cr_expect_neq(tenant_tx_begin_with(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY,
                                       &(struct db_step){ .sql = &OTHER, .params = &param }, 1, rows, soon(), &why), ST_OK, "another tenant's");
    cr_expect_null(rows[0]);
    tenant_tx_end(&tx);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.conversations"), "0");
    cr_expect_eq(db_pool_state(pool).busy, 0);
}

Test(db_tenant_tx, what_only_reads_acts_for_the_ticket_gives_its_connection_back_and_leaves_nothing) {
    static const struct sql WHO = { "who", "SELECT authz.tenant(), pg_backend_pid()::text", 0 };
    static const struct sql ASK = { "ask", "INSERT INTO app.conversations (tenant_id, id, user_id) VALUES (authz.tenant(), $1, authz.user_id())", 1 };
    static const struct sql WRONG = { "wrong", "SELECT 1 / length('') WHERE $1::uuid IS NOT NULL", 1 };
    const struct { uint64_t scope; const struct sql *then; enum status want; } cases[] = {
        { SCOPE_QUERY, &ASK, ST_OK }, { SCOPE_QUERY | SCOPE_AUDIT_READ, &ASK, ST_FORBIDDEN }, { SCOPE_QUERY, &WRONG, ST_INVALID }, { SCOPE_QUERY, &ASK, ST_OK } };
    const char *ticket = pg_ticket(PG_SLUG_A, "reviewer", "rev");
    char backend[16] = "";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct uuid id = uuid_v7();
        const struct db_param which = DB_UUID(&id);
        const struct db_step steps[] = { { .sql = &WHO }, { .sql = cases[i].then, .params = &which } };
        PGresult *rows[] = { NULL, NULL };
        struct claims claims = { 0 };
        struct why why = { 0 };
        enum status st = tenant_tx_read(pool, ticket, NULL, cases[i].scope, steps, 2, rows, &claims, soon(), &why);
        cr_expect_eq(st, cases[i].want, "case %zu: %d, %s", i, st, why.text);
        cr_expect_eq(rows[0] != NULL, cases[i].want == ST_OK, "case %zu", i);
        if (rows[0]) {
            struct uuid tenant = db_uuid(rows[0], 0, 0);
            cr_expect(uuid_equal(&tenant, &claims.tenant_id));
            cr_expect_eq(db_affected(rows[1]), 1);
            cr_expect(!*backend || strcmp(backend, db_text(rows[0], 0, 1)) == 0, "the same connection again");
            snprintf(backend, sizeof backend, "%s", db_text(rows[0], 0, 1));
        }
        pgrows_destroy(&rows[0]);
        pgrows_destroy(&rows[1]);
        cr_expect_eq(db_pool_state(pool).busy, 0);
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.conversations"), "0");
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'cordon_query' AND datname = current_database() AND state LIKE 'idle in%%'"), "0");
    }
}

static void upload(struct db_pool *writers, const char *slug) {
    static const struct sql ADD = { "add_document",
        "INSERT INTO app.documents (tenant_id, id, content_type, bytes, name_enc, key_version, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)", 7 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct why why = { 0 };
    struct uuid id = uuid_v7();
    cr_assert_eq(tenant_tx_begin(&tx, writers, pg_ticket(slug, "clinician", "ann"), NULL, SCOPE_DOCUMENTS_WRITE, soon(), &why), ST_OK, "%s", why.text);
    const struct db_param params[] = { DB_UUID(&tx.claims.tenant_id), DB_UUID(&id), DB_TEXT("text/plain"), DB_INT(123456789012),
                                       DB_BYTES("\0name\xff", 6), DB_INT(1), DB_UUID(&tx.claims.user_id) };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    cr_assert_eq(tenant_tx_run(&tx, &ADD, params, &rows, &why), ST_OK, "%s", why.text);
    cr_expect_eq(db_affected(rows), 1);
    cr_assert_eq(tenant_tx_commit(&tx, &why), ST_OK, "%s", why.text);
}

static int64_t count_as(const char *slug) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct why why = { 0 };
    cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(slug, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(tenant_tx_run(&tx, &COUNT_DOCUMENTS, NULL, &rows, &why), ST_OK, "%s", why.text);
    return db_i64(rows, 0, 0);
}

Test(db_tenant_tx, values_come_back_as_they_went) {
    struct db_pool *readers = pool;
    open_pool("cordon_ingest", 1);
    upload(pool, PG_SLUG_A);
    db_pool_destroy(&pool);
    pool = readers;
    static const struct sql READ = { "read", "SELECT tenant_id, bytes, name_enc, created_at, subject_id, labels, key_version, status, deleted_at, "
        "true, 2.5::double precision, ARRAY['a', NULL, '', 'long one'], 7::smallint FROM app.documents", 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct why why = { 0 };
    cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(tenant_tx_run(&tx, &READ, NULL, &rows, &why), ST_OK, "%s", why.text);
    cr_assert_eq(db_count(rows), 1);
    struct uuid tenant = db_uuid(rows, 0, 0), none = db_uuid(rows, 0, 4);
    cr_expect(uuid_equal(&tenant, &tx.claims.tenant_id));
    cr_expect(uuid_is_nil(&none));
    cr_expect_eq(db_i64(rows, 0, 1), 123456789012);
    size_t len;
    const uint8_t *name = db_bytea(rows, 0, 2, &len);
    cr_assert_eq(len, 6u);
    cr_expect_arr_eq(name, "\0name\xff", 6);
    int64_t age_us = clock_unix_us() - db_micros(rows, 0, 3);
    cr_expect(age_us > -5000000 && age_us < 60000000, "%lld", (long long)age_us);
    cr_expect(db_is_null(rows, 0, 8));
    cr_expect_eq(db_micros(rows, 0, 8), 0);
    cr_expect_eq(db_i64(rows, 0, 6), 1);
    cr_expect_str_eq(db_text(rows, 0, 7), "processing");
    cr_expect(db_bool(rows, 0, 9));
    cr_expect_float_eq(db_f64(rows, 0, 10), 2.5, 1e-12);
    cr_expect_eq(db_i64(rows, 0, 12), 7);
    const char *item;
    cr_expect_not(db_text_item(rows, 0, 5, 0, &item, &len), "an empty array");
    cr_assert(db_text_item(rows, 0, 11, 0, &item, &len));
    cr_expect(len == 1 && *item == 'a');
    cr_expect_not(db_text_item(rows, 0, 11, 1, &item, &len), "NULL");
    cr_assert(db_text_item(rows, 0, 11, 2, &item, &len));
    cr_expect_eq(len, 0u);
    cr_assert(db_text_item(rows, 0, 11, 3, &item, &len));
    cr_expect(len == 8 && memcmp(item, "long one", 8) == 0);
    cr_expect_not(db_text_item(rows, 0, 11, 4, &item, &len));
    cr_expect_not(db_text_item(rows, 0, 11, -1, &item, &len));
}

Test(db_tenant_tx, rollback_is_the_default_and_a_failed_transaction_does_not_commit) {
    struct db_pool *readers = pool;
    open_pool("cordon_ingest", 1);
    static const struct sql ADD = { "add_subject", "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc) VALUES ($1, $2, $3, $4)", 4 };
    static const struct sql BROKEN = { "broken", "SELECT 1 / 0", 0 };
    struct why why = { 0 };
    struct uuid id = uuid_v7();
    for (int i = 0; i < 2; i++) {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_DOCUMENTS_WRITE, soon(), &why), ST_OK, "%s", why.text);
        const struct db_param params[] = { DB_UUID(&tx.claims.tenant_id), DB_UUID(&id), DB_BYTES("12345678901234567890123456789012", 32), DB_BYTES("x", 1) };
        cr_assert_eq(tenant_tx_run(&tx, &ADD, params, NULL, &why), ST_OK, "%s", why.text);
        if (i == 1) {
            cr_expect_eq(tenant_tx_run(&tx, &BROKEN, NULL, NULL, &why), ST_INVALID);
            cr_expect(strstr(why.text, "22012"), "%s", why.text);
            cr_expect_eq(tenant_tx_commit(&tx, &why), ST_INTERNAL, "COMMIT of a failed transaction says ROLLBACK");
            cr_expect_eq(tenant_tx_run(&tx, &BROKEN, NULL, NULL, &why), ST_INTERNAL, "the tx is closed");
        }
    }
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.subjects"), "0");
    db_pool_destroy(&pool);
    pool = readers;
}

Test(db_tenant_tx, what_goes_with_commit_is_committed_whole_or_not_at_all) {
    struct db_pool *readers = pool;
    open_pool("cordon_ingest", 1);
    static const struct sql ADD = { "add_subject", "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc) VALUES ($1, $2, $3, 'x')", 3 };
    static const char first[33] = "00000000000000000000000000000001", second[33] = "00000000000000000000000000000002";
    struct uuid ids[2] = { uuid_v7(), uuid_v7() };
    struct why why = { 0 };
    for (int round = 0; round < 2; round++) {       /* the second time each of them exists, and its first, new one is not kept */
        struct uuid fresh = uuid_v7();
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_DOCUMENTS_WRITE, soon(), &why), ST_OK, "%s", why.text);
        const struct db_step steps[] = {
            { &ADD, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(round ? &fresh : &ids[0]), DB_BYTES(round ? "0000000000000000000000000000000f" : first, 32) } },
            { &ADD, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&ids[1]), DB_BYTES(second, 32) } } };
        enum status st = plain_tx_commit_with(&tx.plain, steps, 2, &why);
        cr_expect_eq(st, round ? ST_CONFLICT : ST_OK, "%s", why.text);
        cr_expect(!round || strstr(why.text, "subjects_pkey"), "%s", why.text);
    }
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.subjects"), "2");
    db_pool_destroy(&pool);
    pool = readers;
}

/* Statements that somebody injected run inside one request; the next request on the connection must not feel them. */
Test(db_tenant_tx, state_left_by_an_injected_statement_is_gone_at_the_next_begin) {
    db_pool_destroy(&pool);
    open_pool("cordon_query", 1);       /* one connection: the next user gets this one */
    const char *const injected[] = {
        "SELECT set_config('search_path', 'public', false)",
        "SELECT set_config('authz.ticket', 'x', false), set_config('authz.proof', 'y', false)",
        "SET statement_timeout = 1", "SET row_security = off", "SET default_transaction_read_only = on",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "PREPARE count_documents AS SELECT 42::bigint", "PREPARE enter (text) AS SELECT 1", "PREPARE begin AS SELECT 1",
        "LISTEN jobs_ingest", "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
    };
    for (size_t i = 0; i < sizeof injected / sizeof *injected; i++) {
        struct why why = { 0 };
        struct sql evil = { "injected", injected[i], 0 };
        struct tenant_tx tx = { 0 };
        cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_B, "clinician", "eve"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
        cr_expect_eq(tenant_tx_run(&tx, &evil, NULL, NULL, &why), ST_OK, "%s: %s", injected[i], why.text);
        cr_expect_eq(tenant_tx_commit(&tx, &why), ST_OK, "%s: %s", injected[i], why.text);
        cr_expect_eq(count_as(PG_SLUG_A), 0, "after %s", injected[i]);

        static const struct sql SEEN = { "seen", "SELECT current_setting('search_path') || ' ' || current_setting('statement_timeout') || ' ' || "
            "current_setting('row_security') || ' ' || current_setting('transaction_isolation') || ' ' || (SELECT count(*) FROM pg_cursors WHERE is_holdable)", 0 };
        CLEANUP(tenant_tx_end) struct tenant_tx next = { 0 };
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        cr_assert_eq(tenant_tx_begin(&next, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
        cr_assert_eq(tenant_tx_run(&next, &SEEN, NULL, &rows, &why), ST_OK, "%s", why.text);
        cr_expect_str_eq(db_text(rows, 0, 0), "pg_catalog,pg_temp 10s on read committed 0", "after %s", injected[i]);
    }
    cr_expect_eq(db_pool_state(pool).open, 1);
}

/* The one that ends the transaction early: what follows is outside, sees nothing, and is found at commit. */
Test(db_tenant_tx, an_injected_commit_leaves_no_access) {
    struct why why = { 0 };
    const struct sql evil = { "injected", "COMMIT", 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(tenant_tx_run(&tx, &evil, NULL, NULL, &why), ST_OK);
    cr_assert_eq(tenant_tx_run(&tx, &COUNT_DOCUMENTS, NULL, &rows, &why), ST_OK, "%s", why.text);
    cr_expect_eq(db_i64(rows, 0, 0), 0);
    /* one statement per message: the extended protocol refuses two */
    const struct sql two = { "two", "SELECT 1; SELECT 2", 0 };
    cr_expect_eq(tenant_tx_run(&tx, &two, NULL, NULL, &why), ST_INTERNAL);
    cr_expect(strstr(why.text, "42601"), "%s", why.text);
}

Test(db_tenant_tx, a_broken_connection_is_replaced_without_the_caller_noticing) {
    cr_assert_eq(count_as(PG_SLUG_A), 0);
    pg_ask(pg_admin(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'cordon_query' AND datname = current_database()");
    cr_assert_eq(count_as(PG_SLUG_A), 0);
    cr_assert_eq(count_as(PG_SLUG_B), 0);
}

Test(db_tenant_tx, a_connection_lost_inside_is_unavailable_and_closed) {
    struct why why = { 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    pg_ask(pg_admin(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'cordon_query' AND datname = current_database()");
    enum status st = tenant_tx_run(&tx, &COUNT_DOCUMENTS, NULL, NULL, &why);
    cr_expect_eq(st, ST_UNAVAILABLE, "%s: %s", status_name(st), why.text);
    cr_expect_eq(tenant_tx_commit(&tx, &why), ST_UNAVAILABLE);
    cr_expect_eq(db_pool_state(pool).open, 0);
}

Test(db_tenant_tx, deadlines_hold) {
    static const struct sql SLEEP = { "sleep", "SELECT pg_sleep(20)", 0 };
    struct why why = { 0 };
    struct tenant_tx tx = { 0 };
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    cr_assert_eq(tenant_tx_begin(&tx, pool, ticket, NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);     /* connecting takes its time */
    int64_t began = clock_mono_ms();
    tx.plain.deadline_ms = began + 300;
    cr_expect_eq(tenant_tx_run(&tx, &SLEEP, NULL, NULL, &why), ST_TIMEOUT, "%s", why.text);
    tenant_tx_end(&tx);
    cr_expect_lt(clock_mono_ms() - began, 5000, "the server itself would end it after twice as long");
    cr_expect_eq(db_pool_state(pool).open, 0, "what it was doing is unknown: closed");

    struct tenant_tx a = { 0 }, b = { 0 }, c = { 0 };
    cr_assert_eq(tenant_tx_begin(&a, pool, ticket, NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(tenant_tx_begin(&b, pool, ticket, NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    began = clock_mono_ms();
    cr_expect_eq(tenant_tx_begin(&c, pool, ticket, NULL, SCOPE_QUERY, began + 200, &why), ST_TIMEOUT);
    cr_expect(clock_mono_ms() - began >= 190 && clock_mono_ms() - began < 5000);
    tenant_tx_end(&a);
    tenant_tx_end(&b);
}

Test(db_tenant_tx, an_idle_transaction_ends_by_itself) {
    db_pool_destroy(&pool);
    const char *const settings[] = { "idle_in_transaction_session_timeout=200", NULL };
    struct why why = { 0 };
    const struct db_options options = { .url = pg_url("cordon_query"), .process = "test", .connections = 1, .settings = settings };
    cr_assert_eq(db_pool_new(&options, &pool, &why), ST_OK);
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    usleep(400000);
    enum status st = tenant_tx_run(&tx, &COUNT_DOCUMENTS, NULL, NULL, &why);
    cr_expect_eq(st, ST_UNAVAILABLE, "%s: %s", status_name(st), why.text);
}

struct hammer { struct db_pool *pool; const char *ticket; int wrong, done; };

static void *hammer(void *arg) {
    struct hammer *h = arg;
    for (int i = 0; i < 40; i++) {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        struct why why = { 0 };
        static const struct sql WHO = { "who", "SELECT authz.tenant()", 0 };
        if (tenant_tx_begin(&tx, h->pool, h->ticket, NULL, SCOPE_QUERY, clock_mono_ms() + 10000, &why) != ST_OK ||
            tenant_tx_run(&tx, &WHO, NULL, &rows, &why) != ST_OK)
            continue;
        struct uuid tenant = db_uuid(rows, 0, 0);
        h->wrong += !uuid_equal(&tenant, &tx.claims.tenant_id);
        h->done += tenant_tx_commit(&tx, &why) == ST_OK;
    }
    return NULL;
}

Test(db_tenant_tx, threads_share_the_pool_and_keep_their_tenants) {
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    struct hammer all[THREADS];
    for (int i = 0; i < THREADS; i++) {
        all[i] = (struct hammer){ .pool = pool, .ticket = pg_ticket(i % 2 ? PG_SLUG_A : PG_SLUG_B, "clinician", "ann") };
        cr_assert_eq(pthread_create(&threads[i], NULL, hammer, &all[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(all[i].wrong, 0);
        cr_expect_eq(all[i].done, 40);
    }
    cr_expect_leq(db_pool_state(pool).open, 2);
}

Test(db_tenant_tx, a_server_that_is_away_costs_little) {
    struct db_pool *gone = NULL;
    struct why why = { 0 };
    const struct db_options options = { .url = "host=127.0.0.1 port=1 user=cordon_query dbname=x", .process = "test" };
    cr_assert_eq(db_pool_new(&options, &gone, &why), ST_OK);
    int64_t began = clock_mono_ms();
    for (int i = 0; i < 50; i++) {
        struct tenant_tx tx = { 0 };
        cr_expect_eq(tenant_tx_begin(&tx, gone, "1.1.x.x", NULL, SCOPE_NONE, clock_mono_ms() + 2000, &why), ST_UNAVAILABLE);
    }
    cr_expect_lt(clock_mono_ms() - began, 500);
    db_pool_destroy(&gone);
    db_pool_destroy(&gone);
}

struct waiter { struct db_pool *pool; enum status st; struct why why; };

static void *wait_for_turn(void *arg) {
    struct waiter *w = arg;
    struct plain_tx tx = { 0 };
    w->st = plain_tx_begin(&tx, w->pool, clock_mono_ms() + 10000, &w->why);
    plain_tx_end(&tx);
    return NULL;
}

Test(db_tenant_tx, connections_that_there_are_serve_in_turn_while_the_server_refuses_more) {
    struct why why = { 0 };
    pg_ask(pg_admin(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT 2', current_database()); END $$");   /* ours and one */
    struct plain_tx first = { 0 };
    cr_assert_eq(plain_tx_begin(&first, pool, soon(), &why), ST_OK, "%s", why.text);
    struct waiter waiters[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        waiters[i] = (struct waiter){ .pool = pool };
        cr_assert_eq(pthread_create(&threads[i], NULL, wait_for_turn, &waiters[i]), 0);
    }
    while (db_pool_state(pool).waiting < 3)
        usleep(1000);
    plain_tx_end(&first);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(waiters[i].st, ST_OK, "%s", waiters[i].why.text);
    }
}

Test(db_tenant_tx, a_server_that_says_nothing_any_more_is_taken_for_lost) {
    static const struct sql UNLIMITED = { "unlimited", "SET LOCAL statement_timeout = 0", 0 }, SLEEP = { "sleep", "SELECT pg_sleep(20)", 0 };
    struct why why = { 0 };
    struct db_pool *quick = NULL;
    const struct db_options options = { .url = pg_url("cordon_query"), .process = "test", .statement_timeout_ms = 100 };
    cr_assert_eq(db_pool_new(&options, &quick, &why), ST_OK);
    struct plain_tx tx = { 0 };
    int64_t began = clock_mono_ms();
    cr_assert_eq(plain_tx_begin(&tx, quick, began + 15000, &why), ST_OK, "%s", why.text);
    cr_assert_eq(plain_tx_run(&tx, &UNLIMITED, NULL, NULL, &why), ST_OK, "%s", why.text);
    cr_expect_eq(plain_tx_run(&tx, &SLEEP, NULL, NULL, &why), ST_UNAVAILABLE, "%s", why.text);
    plain_tx_end(&tx);
    cr_expect_lt(clock_mono_ms() - began, 6000);
    cr_expect_eq(db_pool_state(quick).open, 0);
    db_pool_destroy(&quick);
}

Test(db_tenant_tx, urls_are_checked) {
    struct db_pool *none = NULL;
    struct why why = { 0 };
    const struct { const char *url; bool is_production; enum status want; } cases[] = {
        { "postgresql://u:hunter2@h/db", false, ST_OK }, { "postgresql://u:hunter2@h/db", true, ST_INVALID },
        { "postgresql://u:hunter2@h/db?sslmode=require", true, ST_INVALID }, { "postgresql://u:hunter2@h/db?sslmode=verify-ca", true, ST_INVALID },
        { "postgresql://u:hunter2@h/db?sslmode=verify-full", true, ST_OK }, { "host=h sslmode=verify-full", true, ST_OK },
        { "postgresql://u:hunter2@h/db?nonsense=1", false, ST_INVALID }, { NULL, false, ST_INVALID },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct db_options options = { .url = cases[i].url, .process = "test", .is_production = cases[i].is_production };
        cr_expect_eq(db_pool_new(&options, &none, &why), cases[i].want, "case %zu", i);
        cr_expect_not(strstr(why.text, "hunter2"), "%s", why.text);
        db_pool_destroy(&none);
    }
}

Test(db_tenant_tx, a_listener_wakes) {
    struct db_listener *l = NULL;
    struct why why = { 0 };
    const struct db_options options = { .url = pg_url("cordon_jobs"), .process = "test" };
    cr_assert_neq(db_listener_new(&options, "Robert'); DROP", &l, &why), ST_OK);
    cr_assert_eq(db_listener_new(&options, "jobs_ingest", &l, &why), ST_OK, "%s", why.text);
    cr_expect_eq(db_listener_fd(l), -1);
    bool woken = false;
    cr_assert_eq(db_listener_turn(l, soon(), &woken, &why), ST_OK, "%s", why.text);
    cr_expect(woken, "connecting counts: something may have come before");
    cr_assert_eq(db_listener_turn(l, soon(), &woken, &why), ST_OK);
    cr_expect_not(woken);
    pg_ask(pg_admin(), "NOTIFY jobs_ingest");
    for (int64_t until = soon(); !woken && clock_mono_ms() < until;)
        cr_assert_eq(db_listener_turn(l, soon(), &woken, &why), ST_OK);
    cr_expect(woken);

    pg_ask(pg_admin(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'cordon_jobs' AND datname = current_database()");
    enum status st = ST_OK;
    for (int64_t until = soon(); st == ST_OK && clock_mono_ms() < until;)
        st = db_listener_turn(l, soon(), &woken, &why);
    cr_expect_eq(st, ST_UNAVAILABLE);
    woken = false;
    for (int64_t until = soon(); !woken && clock_mono_ms() < until; usleep(10000))
        (void)!db_listener_turn(l, soon(), &woken, &why);
    cr_expect(woken, "connected again");
    db_listener_destroy(&l);
    db_listener_destroy(&l);
}

Test(db_tenant_tx, plain_statements_have_no_tenant) {
    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    cr_assert_eq(db_run(pool, &COUNT_DOCUMENTS, NULL, soon(), &rows, &why), ST_OK, "%s", why.text);
    cr_expect_eq(db_i64(rows, 0, 0), 0);
    static const struct sql FORBIDDEN = { "forbidden", "SELECT * FROM keys.document_keys", 0 };
    cr_expect_eq(db_run(pool, &FORBIDDEN, NULL, soon(), NULL, &why), ST_FORBIDDEN);
    cr_expect(strstr(why.text, "permission denied"), "%s", why.text);
}

Test(db_tenant_tx, a_cancelled_thread_waits_for_no_statement) {
    static const struct sql SLEEP = { "sleep", "SELECT pg_sleep(5)", 0 };
    struct why why = { 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    cr_assert_eq(tenant_tx_begin(&tx, pool, pg_ticket(PG_SLUG_A, "clinician", "ann"), NULL, SCOPE_QUERY, soon(), &why), ST_OK, "%s", why.text);
    int fd = eventfd(1, EFD_CLOEXEC);
    int64_t from = clock_mono_ms();
    cancel_on(fd);
    cr_expect_neq(tenant_tx_run(&tx, &SLEEP, NULL, NULL, &why), ST_OK);
    cancel_on(-1);
    cr_expect_lt(clock_mono_ms() - from, 3000);
    close(fd);
}
