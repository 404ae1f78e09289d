/* Starts of processes without a database: each says its own, to the one that may take it, once. */
#include <criterion/criterion.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "db/boot_check.h"
#include "rig.h"

TestSuite(audit_starts, .init = rig_open, .fini = rig_close, .timeout = 60);

#define SETTINGS "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static bool has_ended;      /* what is said is the end */

static enum status say(enum peer peer, const struct uuid *instance, const char *settings, const char *changed) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 16);
    struct audit_writer writer = { .db = rig_pool() };
    struct call call = { .mem = mem, .ticket = "", .peer = peer, .deadline_ms = clock_mono_ms() + 10000 };
    Audit__RecordStartRequest req = AUDIT__RECORD_START_REQUEST__INIT;
    uint8_t packed[512];
    req.instance_id = (ProtobufCBinaryData){ instance ? UUID_BYTES : 0, instance ? (uint8_t *)instance->bytes : NULL };
    req.version = (char *)"1.2.3";
    req.settings_sha256 = (char *)settings;
    req.settings_changed = (char *)changed;
    req.ended = has_ended;
    ProtobufCBinaryData body = { audit__record_start_request__pack(&req, packed), packed };
    ProtobufCMessage *reply = NULL;
    return service_dispatch(&AUDIT_WRITER, &writer, &call, "audit.RecordStart", body, &reply);
}

static const char *starts(void) {
    return pg_ask(pg_admin(), "SELECT coalesce(string_agg(resource_id || ' ' || (detail ->> 'process') || ' ' || (detail ->> 'changed'), ','), '') "
                              "FROM audit.audit_outbox WHERE action = 'process.start' AND tenant_id = '" NIL_TENANT "'");
}

Test(audit_starts, embedding_worker_s_is_put_on_the_record_once) {
    struct uuid instance = uuid_v7();
    cr_assert_eq(say(PEER_EMBEDDING_WORKER, &instance, SETTINGS, "LOG_LEVEL,CORDON_WORKERS"), ST_OK);
    const char *once = starts();
    cr_assert_str_eq(once, pg_ask(pg_admin(), "SELECT '%s embedding-worker [\"LOG_LEVEL\", \"CORDON_WORKERS\"]'", rig_text(&instance)));
    cr_assert_eq(say(PEER_EMBEDDING_WORKER, &instance, SETTINGS, "LOG_LEVEL,CORDON_WORKERS"), ST_OK);
    cr_assert_str_eq(starts(), once, "an answer that was lost makes no second start");
}

Test(audit_starts, nobody_else_says_one_here) {
    const enum peer others[] = { PEER_EDGE, PEER_AUTH, PEER_INGEST_WORKER, PEER_QUERY, PEER_AUDIT_WRITER, PEER_NONE };
    struct uuid instance = uuid_v7();
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_eq(say(others[i], &instance, SETTINGS, ""), ST_FORBIDDEN, "%s", peer_name(others[i]));
    cr_assert_str_eq(starts(), "");
}

Test(audit_starts, what_is_no_start_is_refused) {
    struct uuid instance = uuid_v7();
    cr_expect_eq(say(PEER_EMBEDDING_WORKER, NULL, SETTINGS, ""), ST_INVALID);
    cr_expect_eq(say(PEER_EMBEDDING_WORKER, &instance, "secret", ""), ST_FORBIDDEN);
    cr_expect_eq(say(PEER_EMBEDDING_WORKER, &instance, SETTINGS, "Jane Doe"), ST_FORBIDDEN, "names of settings, no prose");
    cr_assert_str_eq(starts(), "");
}

Test(audit_starts, a_flood_of_them_ends_soon) {
    int taken = 0;
    for (int i = 0; i < 80; i++) {
        struct uuid instance = uuid_v7();
        taken += say(PEER_EMBEDDING_WORKER, &instance, SETTINGS, "") == ST_OK;
    }
    cr_assert_eq(taken, 60);
}

/* A role says the start of its neighbour, of itself by the wrong door, or of the other's neighbour. */
Test(audit_starts, roles_report_only_whom_they_hear) {
    static const struct { const char *role, *process, *state; } ROWS[] = {
        { "cordon_auth", "edge", "00000" }, { "cordon_audit", "embedding-worker", "00000" }, { "cordon_auth", "embedding-worker", "42501" },
        { "cordon_audit", "edge", "42501" }, { "cordon_auth", "auth", "42501" }, { "cordon_query", "edge", "42501" }, { "cordon_ingest", "embedding-worker", "42501" } };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        PGconn *conn = pg_connect(ROWS[i].role);
        cr_expect_str_eq(pg_try(conn, "SELECT audit.process_reported('%s', '01920000-0000-7000-8000-%012zu', '1', '" SETTINGS "', '')", ROWS[i].process, i), ROWS[i].state,
                         "%s of %s", ROWS[i].role, ROWS[i].process);
        PQfinish(conn);
    }
}

#define UNENDED_SQL "SELECT detail ->> 'unended' FROM audit.audit_outbox WHERE action = 'process.start' ORDER BY id DESC LIMIT 1"
#define ENDS_SQL "SELECT coalesce(string_agg(resource_id || ' ' || (detail ->> 'process'), ','), '') FROM audit.audit_outbox WHERE action = 'process.end' AND tenant_id = '" NIL_TENANT "'"

Test(audit_starts, an_end_is_on_the_record_once_and_the_next_start_tells_of_those_without_one) {
    struct uuid first = uuid_v7(), second = uuid_v7(), third = uuid_v7(), nobody = uuid_v7();
    size_t moved = 0;
    cr_assert_eq(say(PEER_EMBEDDING_WORKER, &first, SETTINGS, ""), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), UNENDED_SQL), "0");
    cr_assert_eq(outbox_drain(rig_pool(), NULL, 100, &moved, &(struct why){ 0 }), ST_OK);     /* on the log, or still in the outbox */
    cr_assert_eq(say(PEER_EMBEDDING_WORKER, &second, SETTINGS, ""), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), UNENDED_SQL), "1", "the first runs, or was killed");
    has_ended = true;
    cr_expect_eq(say(PEER_EMBEDDING_WORKER, &first, "", ""), ST_OK);
    cr_expect_eq(say(PEER_EMBEDDING_WORKER, &first, "", ""), ST_OK);
    cr_expect_eq(say(PEER_EMBEDDING_WORKER, &nobody, "", ""), ST_OK);
    cr_expect_eq(say(PEER_EDGE, &second, "", ""), ST_FORBIDDEN);
    cr_expect_str_eq(pg_ask(pg_admin(), ENDS_SQL), pg_ask(pg_admin(), "SELECT '%s embedding-worker'", rig_text(&first)), "once, and of no start that is not there");
    has_ended = false;
    cr_assert_eq(say(PEER_EMBEDDING_WORKER, &third, SETTINGS, ""), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), UNENDED_SQL), "1", "the second");
}

Test(audit_starts, an_end_is_the_process_s_own) {
    static const char START[] = "01920000-0000-7000-8000-0000000000c1";
    PGconn *query = pg_connect("cordon_query"), *auth = pg_connect("cordon_auth");
    pg_ask(query, "SELECT audit.process_started('query', '%s', '1', '" SETTINGS "', '')", START);
    cr_expect_str_eq(pg_try(auth, "SELECT audit.process_ended('query', '%s')", START), "42501");
    cr_expect_str_eq(pg_ask(auth, "SELECT audit.process_ended('auth', '%s')", START), "f", "another's start");
    cr_expect_str_eq(pg_ask(query, "SELECT audit.process_ended('query', '%s')", START), "t");
    PQfinish(query);
    PQfinish(auth);
}
