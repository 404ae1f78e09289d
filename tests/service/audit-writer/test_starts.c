/* Starts of processes without a database: each says its own, to the one that may take it, once. */
#include <criterion/criterion.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "db/boot_check.h"
#include "rig.h"

TestSuite(audit_starts, .init = rig_open, .fini = rig_close, .timeout = 60);

#define SETTINGS "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

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
