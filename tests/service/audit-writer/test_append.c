/* audit.Append through the service's own dispatch: who may say what. */
#include "audit.pb-c.h"
#include "audit_writer.h"
#include "core/arena.h"
#include "rig.h"

static struct metrics *metrics;
static void *writer;
static struct live_secret *database;

static void open_writer(void) {
    rig_open();
    metrics = metrics_new();
    const char *url = pg_url("cordon_audit");
    database = live_secret_new(url, strlen(url));
    struct audit_writer_settings settings = { .database_url = database, .connections = 4 };
    struct runtime rt = { .process = "audit-writer", .metrics = metrics };
    struct why why = { 0 };
    cr_assert_eq(AUDIT_WRITER.open(&writer, &settings, &rt, &why), ST_OK, "%s", why.text);
    cr_assert_eq(AUDIT_WRITER.start(writer, &rt, &why), ST_OK);
}

static void close_writer(void) {
    AUDIT_WRITER.drain(writer, clock_mono_ms() + 5000);
    AUDIT_WRITER.close(&writer);
    live_secret_destroy(&database);
    metrics_destroy(&metrics);
    rig_close();
}

TestSuite(audit_append, .init = open_writer, .fini = close_writer, .timeout = 60);

/* An event of one document to be changed by the test, and the request around it. */
struct asked {
    struct uuid id, document;
    ProtobufCBinaryData document_id;
    Audit__Event event;
    Audit__Event *events[2];
    Audit__AppendRequest req;
    enum peer peer;
    const char *ticket;
    int64_t seq;
    struct why why;
};

static void asked_init(struct asked *a) {
    *a = (struct asked){ .id = uuid_v7(), .document = rig_uuid(DOCUMENT_A1), .event = AUDIT__EVENT__INIT, .req = AUDIT__APPEND_REQUEST__INIT,
                         .peer = PEER_QUERY, .ticket = pg_ticket(PG_SLUG_A, "clinician", "alice") };
    a->event.event_id = (ProtobufCBinaryData){ UUID_BYTES, a->id.bytes };
    a->event.action = "search.disclose";
    a->event.outcome = "success";
    a->document_id = (ProtobufCBinaryData){ UUID_BYTES, a->document.bytes };
    a->event.document_ids = &a->document_id;
    a->event.n_document_ids = 1;
    a->event.detail_json = "{\"hits\":1}";
    a->events[0] = a->events[1] = &a->event;
    a->req.events = a->events;
    a->req.n_events = 1;
}

static enum status ask(struct asked *a) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct call call = { .mem = mem, .request_id = uuid_v7(), .ticket = a->ticket, .peer = a->peer, .deadline_ms = clock_mono_ms() + 10000 };
    ProtobufCBinaryData body = { .len = audit__append_request__get_packed_size(&a->req) };
    body.data = arena_alloc(mem, body.len + 1);
    audit__append_request__pack(&a->req, body.data);
    ProtobufCMessage *reply = NULL;
    enum status st = service_dispatch(&AUDIT_WRITER, writer, &call, "audit.Append", body, &reply);
    if (st == ST_OK)
        a->seq = ((Audit__AppendReply *)reply)->seqs[0];
    a->why = call.why;
    return st;
}

Test(audit_append, puts_the_event_on_the_ticket_holders_log) {
    struct asked a;
    asked_init(&a);
    cr_assert_eq(ask(&a), ST_OK, "%s", a.why.text);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT tenant_id || ' ' || document_ids::text || ' ' || (convert_from(event, 'UTF8')::jsonb ->> 'reported_by') "
        "FROM audit.audit_logs WHERE event_id = '%s'", rig_text(&a.id)), PG_TENANT_A " {" DOCUMENT_A1 "} query");
}

Test(audit_append, only_auth_ingest_and_query_may_call) {
    struct asked a;
    asked_init(&a);
    enum peer others[] = { PEER_EDGE, PEER_EMBEDDING_WORKER, PEER_AUDIT_WRITER, PEER_NONE };
    for (int i = 0; i < 4; i++) {
        a.peer = others[i];
        cr_expect_eq(ask(&a), ST_FORBIDDEN, "%s", peer_name(others[i]));
    }
}

Test(audit_append, only_auth_reports_without_a_tenant) {
    struct asked a;
    asked_init(&a);
    a.event.action = "auth.denied";
    a.event.outcome = "denied";
    a.event.n_document_ids = 0;
    a.req.without_tenant = true;
    a.ticket = "";
    cr_assert_eq(ask(&a), ST_FORBIDDEN, "query");
    a.peer = PEER_INGEST_WORKER;
    cr_assert_eq(ask(&a), ST_FORBIDDEN, "ingest-worker");
    a.peer = PEER_AUTH;
    cr_assert_eq(ask(&a), ST_OK, "%s", a.why.text);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT tenant_id || ' ' || kind FROM audit.audit_logs WHERE event_id = '%s'", rig_text(&a.id)), NIL_TENANT " denial");
}

Test(audit_append, a_ticket_is_needed_and_must_be_good) {
    struct asked a;
    asked_init(&a);
    a.ticket = "";
    cr_assert_eq(ask(&a), ST_UNAUTHENTICATED);
    a.ticket = "1.1.7b7d.00";
    cr_assert_eq(ask(&a), ST_UNAUTHENTICATED);
    a.ticket = "1.1.\xff\xfe.00";
    cr_assert_eq(ask(&a), ST_UNAUTHENTICATED, "bytes that PostgreSQL would refuse as text");
}

Test(audit_append, nobody_may_say_that_a_change_happened) {
    struct asked a;
    asked_init(&a);
    for (int i = 0; i < AUDIT_ACTION_COUNT; i++) {
        enum audit_kind kind = audit_action_kind((enum audit_action)i);
        a.id = uuid_v7();
        a.event.action = (char *)audit_action_name((enum audit_action)i);
        cr_expect_eq(ask(&a), kind == AUDIT_KIND_DISCLOSURE || kind == AUDIT_KIND_DENIAL || i == AUDIT_MODEL_USE ? ST_OK : ST_FORBIDDEN, "%s", a.event.action);
    }
}

Test(audit_append, malformed_events_are_refused) {
    struct asked a;
    asked_init(&a);
    a.event.action = "no.such";
    cr_expect_eq(ask(&a), ST_INVALID);
    asked_init(&a);
    a.event.outcome = "maybe";
    cr_expect_eq(ask(&a), ST_INVALID);
    asked_init(&a);
    a.event.event_id.len = 15;
    cr_expect_eq(ask(&a), ST_INVALID);
    asked_init(&a);
    a.id = rig_uuid("01920000-0000-7000-8000-000000000001");
    cr_expect_eq(ask(&a), ST_INVALID, "a UUIDv7 of long ago");
    asked_init(&a);
    a.id.bytes[6] = 0x40;
    cr_expect_eq(ask(&a), ST_INVALID, "a UUIDv4");
    asked_init(&a);
    a.document_id.len = 4;
    cr_expect_eq(ask(&a), ST_INVALID);
    asked_init(&a);
    a.event.detail_json = "{\"name\":\"John Doe\"}";
    cr_expect_eq(ask(&a), ST_INVALID);
    asked_init(&a);
    a.req.n_events = 2;
    cr_expect_eq(ask(&a), ST_INVALID, "one id twice");
    asked_init(&a);
    a.req.n_events = 0;
    cr_expect_eq(ask(&a), ST_INVALID);
}

Test(audit_append, the_same_id_with_other_content_is_a_conflict_and_is_counted) {
    struct asked a;
    asked_init(&a);
    cr_assert_eq(ask(&a), ST_OK);
    a.event.detail_json = "{\"hits\":2}";
    cr_assert_eq(ask(&a), ST_CONFLICT);
    cr_assert_eq(counter_value(metrics_counter(metrics, "cordon_audit_conflicts_total", "", "")), 1);
}

Test(audit_append, every_rpc_is_routed) {
    const ProtobufCServiceDescriptor *d = &audit__audit__descriptor;
    for (unsigned i = 0; i < d->n_methods; i++) {
        unsigned rows = 0;
        for (const struct route *r = AUDIT_WRITER.routes; r->method; r++)
            if (strcmp(strchr(r->method, '.') + 1, d->methods[i].name) == 0) {
                rows++;
                cr_expect_eq(r->req, d->methods[i].input);
                cr_expect_eq(r->reply, d->methods[i].output);
            }
        cr_assert_eq(rows, 1, "rpc %s has %u rows", d->methods[i].name, rows);
    }
}

/* A check has little time; the next one may have an answer. */
static enum status check_database(struct why *why) {
    int64_t until_ms = clock_mono_ms() + 10000;
    enum status st;
    do {
        *why = (struct why){ 0 };
        st = AUDIT_WRITER.ready[0].check(writer, why);
    } while ((st == ST_TIMEOUT || st == ST_UNAVAILABLE) && clock_mono_ms() < until_ms);
    return st;
}

Test(audit_append, is_ready_while_its_role_is_as_it_should_be) {
    struct why why = { 0 };
    cr_assert_eq(check_database(&why), ST_OK, "%s", why.text);
    pg_ask(pg_admin(), "GRANT UPDATE ON audit.audit_logs TO cordon_audit");
    cr_assert_eq(check_database(&why), ST_FORBIDDEN, "%s", why.text);
}

Test(audit_append, refuses_to_open_as_anybody_else) {
    const char *roles[] = { NULL, "cordon_query", "cordon_audit_reader" };
    for (int i = 0; i < 3; i++) {
        const char *url = pg_url(roles[i]);
        CLEANUP(live_secret_destroy) struct live_secret *secret = live_secret_new(url, strlen(url));
        struct audit_writer_settings settings = { .database_url = secret, .connections = 4 };
        struct runtime rt = { .process = "audit-writer", .metrics = metrics };
        struct why why = { 0 };
        void *self = NULL;
        cr_expect_neq(AUDIT_WRITER.open(&self, &settings, &rt, &why), ST_OK, "%s", roles[i] ? roles[i] : "superuser");
        AUDIT_WRITER.close(&self);
    }
}
