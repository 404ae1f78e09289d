/* audit_append() over a real bus to a real audit-writer: what a caller gets, also when the writer or its database is
 * away. */
#include "audit/client.h"

#include <stdatomic.h>

#include "audit_writer.h"
#include "rig.h"
#include "unit/bus_fixture.h"

static struct metrics *metrics;
static struct live_secret *database;
static void *writer;
static struct node server, query;

static enum status dispatch(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    return service_dispatch(&AUDIT_WRITER, ctx, call, call->method, body, ret_reply);
}

static void start_server(void) {
    node_init(&server, PEER_AUDIT_WRITER);
    snprintf(server.listen, sizeof server.listen, "tcp://127.0.0.1:%u", free_port());
    server.opt.listen = server.listen;
    server.opt.callers = PEER_AUTH | PEER_INGEST_WORKER | PEER_QUERY;
    server.worker_count = 4;
    server.handle = dispatch;
    server.ctx = writer;
    node_start(&server);
}

static void start_client(struct node *n, enum peer self) {
    node_init(n, self);
    n->opt.endpoints[peer_index(PEER_AUDIT_WRITER)] = server.listen;
    node_start(n);
}

static void open_all(void) {
    rig_open();
    make_keys();
    metrics = metrics_new();
    const char *url = pg_url("cordon_audit");
    database = live_secret_new(url, strlen(url));
    struct audit_writer_settings settings = { .database_url = database, .connections = 4 };
    struct runtime rt = { .process = "audit-writer", .metrics = metrics };
    struct why why = { 0 };
    cr_assert_eq(AUDIT_WRITER.open(&writer, &settings, &rt, &why), ST_OK, "%s", why.text);
    start_server();
    start_client(&query, PEER_QUERY);
}

static void close_all(void) {
    node_stop(&query);
    node_stop(&server);
    AUDIT_WRITER.close(&writer);
    live_secret_destroy(&database);
    metrics_destroy(&metrics);
    rig_close();
}

TestSuite(audit_client, .init = open_all, .fini = close_all, .timeout = 60);

static struct uuid document;

static struct audit_record disclosure(void) {
    document = rig_uuid(DOCUMENT_A1);
    return (struct audit_record){ .action = AUDIT_SEARCH_DISCLOSE, .document_ids = &document, .document_count = 1, .detail_json = "{\"hits\":1}" };
}

/* As if the call were taken only then: the little time that a record has, which a test of its own is about, would be the
 * handshake's too. */
static void ask_patiently(struct asker *a, struct node *n, int64_t budget_ms) {
    asker_start(a, n, budget_ms);
    a->call.received_ms = a->call.deadline_ms;
}

static enum status append(struct node *n, const char *ticket, const struct audit_record *record, int64_t budget_ms, struct uuid *ret_id, struct why *ret_why) {
    struct asker a;
    ask_patiently(&a, n, budget_ms);
    a.call.ticket = ticket;
    enum status st = audit_append(&a.call, record, ret_id);
    *ret_why = a.call.why;
    asker_end(&a);
    return st;
}

/* A writer that notes how long it may take, and answers nothing. */
static enum status note_budget(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    (void)ret_reply;
    atomic_store((atomic_long *)ctx, (long)(call->deadline_ms - clock_mono_ms()));
    return fail(&call->why, ST_UNAVAILABLE, "not today");
}

Test(audit_client, what_was_done_before_counts_as_waiting_for_the_record) {
    static const struct { int64_t before_ms; long most_ms; } ROWS[] = { { 0, 800 }, { 200, 600 }, { 5000, 500 } };
    atomic_long budget = 0;
    struct node silent, asking;
    node_init(&silent, PEER_AUDIT_WRITER);
    snprintf(silent.listen, sizeof silent.listen, "tcp://127.0.0.1:%u", free_port());
    silent.opt.listen = silent.listen;
    silent.opt.callers = PEER_QUERY;
    silent.worker_count = 1;
    silent.handle = note_budget;
    silent.ctx = &budget;
    node_start(&silent);
    node_init(&asking, PEER_QUERY);
    asking.opt.endpoints[peer_index(PEER_AUDIT_WRITER)] = silent.listen;
    node_start(&asking);
    WAIT_FOR(bus_peer_is_up(asking.bus, PEER_AUDIT_WRITER));
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct audit_record record = disclosure();
        struct asker a;
        asker_start(&a, &asking, 60000);
        a.call.ticket = "1.1.ticket";
        a.call.received_ms = clock_mono_ms() - ROWS[i].before_ms;
        atomic_store(&budget, -1);
        cr_expect_eq(audit_append(&a.call, &record, NULL), ST_UNAVAILABLE);
        long left = atomic_load(&budget);
        cr_expect(left <= ROWS[i].most_ms, "after %lld ms: %ld", (long long)ROWS[i].before_ms, left);
        asker_end(&a);
    }
    node_stop(&asking);
    node_stop(&silent);
}

Test(audit_client, an_event_is_committed_when_the_call_returns) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    struct audit_record record = disclosure();
    struct uuid id;
    struct why why;
    cr_assert_eq(append(&query, ticket, &record, PATIENCE_MS, &id, &why), ST_OK, "%s", why.text);
    PGconn *conn = pg_connect("cordon_query");
    pg_ask(conn, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
    cr_assert_str_eq(pg_ask(conn, "SELECT document_id FROM keys.open('%s')", rig_text(&id)), DOCUMENT_A1);
    PQfinish(conn);
}

Test(audit_client, several_events_are_one_commit) {
    struct audit_record records[3] = { disclosure(), disclosure(), disclosure() };
    struct uuid ids[3];
    struct asker a;
    ask_patiently(&a, &query, PATIENCE_MS);
    a.call.ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    cr_assert_eq(audit_append_many(&a.call, records, 3, ids), ST_OK, "%s", a.call.why.text);
    cr_assert_eq(audit_append_many(&a.call, records, 0, ids), ST_INTERNAL);
    asker_end(&a);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 3);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(DISTINCT xmin::text) FROM audit.audit_logs"), "1");
}

Test(audit_client, without_a_writer_nothing_may_be_shown) {
    struct audit_record record = disclosure();
    struct why why;
    node_stop(&server);
    enum status st = append(&query, pg_ticket(PG_SLUG_A, "clinician", "alice"), &record, 500, NULL, &why);
    cr_expect_eq(st, ST_UNAVAILABLE, "%s", status_name(st));
    cr_expect_eq(why.code, ERR_AUDIT_UNAVAILABLE, "%s", error_text_code(why.code));
    start_server();
}

Test(audit_client, an_ended_ticket_is_the_users_to_renew) {
    struct audit_record record = disclosure();
    struct why why;
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    pg_ask(pg_admin(), "UPDATE auth.sessions SET revoked_at = now()");
    cr_assert_eq(append(&query, ticket, &record, PATIENCE_MS, NULL, &why), ST_UNAUTHENTICATED);
}

Test(audit_client, prose_does_not_leave_the_process) {
    struct audit_record record = disclosure();
    struct why why;
    record.detail_json = "{\"note\":\"seen by Dr. Doe\"}";
    cr_assert_eq(append(&query, pg_ticket(PG_SLUG_A, "clinician", "alice"), &record, PATIENCE_MS, NULL, &why), ST_INTERNAL);
}

Test(audit_client, auth_reports_strangers_without_a_ticket) {
    struct node auth;
    struct asker a;
    struct audit_record record = { .action = AUDIT_AUTH_DENIED, .outcome = AUDIT_REFUSED, .detail_json = "{\"code\":\"AUTH_003\"}" };
    start_client(&auth, PEER_AUTH);
    ask_patiently(&a, &auth, PATIENCE_MS);
    cr_expect_eq(audit_append_without_tenant(&a.call, &record), ST_OK, "%s", a.call.why.text);
    cr_expect_str_eq(a.call.ticket, "ticket", "the call keeps its own");
    asker_end(&a);
    node_stop(&auth);
    cr_assert_eq(rig_check_tree(NIL_TENANT), 1);
}

/* ---- the database goes away in the middle ---- */

struct background { const char *ticket; enum status status; struct why why; };

static void *append_in_background(void *arg) {
    struct background *b = arg;
    struct audit_record record = disclosure();
    b->status = append(&query, b->ticket, &record, PATIENCE_MS, NULL, &b->why);
    return NULL;
}

Test(audit_client, a_connection_lost_in_the_middle_is_resolved_by_asking_again) {
    struct background b = { .ticket = pg_ticket(PG_SLUG_A, "clinician", "alice") };
    PGconn *blocker = pg_connect(NULL);
    rig_append(AUDIT_SEARCH_DISCLOSE, b.ticket, NULL);
    pg_ask(blocker, "BEGIN; SELECT * FROM audit.audit_heads FOR UPDATE");
    pthread_t thread;
    pthread_create(&thread, NULL, append_in_background, &b);
    WAIT_FOR(strcmp(pg_ask(pg_admin(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'cordon_audit' AND wait_event_type = 'Lock' AND datname = current_database()"), "1") == 0);
    pg_ask(pg_admin(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cordon_audit' AND wait_event_type = 'Lock' AND datname = current_database()");
    pg_ask(blocker, "ROLLBACK");
    pthread_join(thread, NULL);
    cr_expect(b.status == ST_OK || b.why.code == ERR_AUDIT_UNAVAILABLE, "on a loaded machine the word may come too late: %s", b.why.text);
    WAIT_FOR(strcmp(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "'"), "2") == 0);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2, "once");
    PQfinish(blocker);
}
