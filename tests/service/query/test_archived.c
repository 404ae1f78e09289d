/* Months of the log that are objects of the bucket: whoever reads the log reads them as before, or is told that it cannot be. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/str.h"
#include "log.h"
#include "rig.h"

#define DOC "01920000-0000-7000-8000-0000000000d1"

TestSuite(query_archived, .init = rig_open, .fini = rig_close, .timeout = 60);

static const char *olga(void) { return pg_ticket(PG_SLUG_A, "auditor", "olga"); }

static enum status export(const char *format, struct buffer *out) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    req.format = (char *)format;
    return rig_stream("query.ExportAudit", olga(), &req.base, &query__export_audit_reply__descriptor, out);
}

static const Query__ListAuditEventsReply *list(void) {
    Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.limit = 200;
    return rig_call("query.ListAuditEvents", olga(), &req.base, &reply) == ST_OK ? (const void *)reply : NULL;
}

Test(query_archived, an_export_is_what_it_was_byte_for_byte_and_verifies) {
    const char *const formats[] = { "jsonl", "fhir", "ocsf" };
    struct buffer before[3] = { 0 }, after[3] = { 0 };
    log_fill(PG_TENANT_A, 600);
    (void)log_sign(PG_TENANT_A);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(export(formats[i], &before[i]), ST_OK, "%s", rig.why.text);
    log_archive(100, 520);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(export(formats[i], &after[i]), ST_OK, "%s", rig.why.text);
        cr_expect(before[i].len == after[i].len && memcmp(before[i].data, after[i].data, after[i].len) == 0, "%s", formats[i]);
    }
    CLEANUP(buffer_end) struct buffer said = { 0 };
    cr_expect_eq(log_verify((const char *[]){ "--key", LOG_VERIFIER, NULL }, after[0].data, after[0].len, &said), 0, "%s", said.data);
    for (int i = 0; i < 3; i++) {
        buffer_end(&before[i]);
        buffer_end(&after[i]);
    }
}

Test(query_archived, a_list_shows_archived_events_as_the_others) {
    log_fill(PG_TENANT_A, 150);
    const Query__ListAuditEventsReply *before = list();
    log_archive(10, 60);
    const Query__ListAuditEventsReply *after = list();
    cr_assert(before && after, "%s", rig.why.text);
    size_t newer = after->n_events - before->n_events;      /* the reading itself */
    for (size_t i = 0; i < before->n_events; i++) {
        cr_expect_eq(before->events[i]->seq, after->events[i + newer]->seq);
        cr_expect_str_eq(before->events[i]->event_json, after->events[i + newer]->event_json);
    }
    cr_expect_lt(atomic_load(&rig.store_bytes), 50 * 200, "neighbours come together, and nothing else does");
}

Test(query_archived, a_report_of_disclosures_has_them_too) {
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    req.document_id = rig_id(DOC);
    log_fill(PG_TENANT_A, 3);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL; UPDATE audit.audit_logs SET document_ids = '{" DOC "}', event = e, leaf_hash = sha256('\\x00'::bytea || e) "
        "FROM (SELECT event_id AS id, convert_to(replace(convert_from(event, 'UTF8'), ',\"seq\"', ',\"document_ids\":[\"" DOC "\"],\"seq\"'), 'UTF8') AS e FROM audit.audit_logs) x "
        "WHERE event_id = id; ALTER TABLE audit.audit_logs ENABLE TRIGGER ALL");
    rig_index_events();
    ProtobufCMessage *reply = NULL;
    cr_assert_eq(rig_call("query.ListDisclosures", olga(), &req.base, &reply), ST_OK, "%s", rig.why.text);
    cr_assert_eq(((Query__ListDisclosuresReply *)reply)->n_disclosures, 3);
    log_archive(0, 2);
    cr_assert_eq(rig_call("query.ListDisclosures", olga(), &req.base, &reply), ST_OK, "%s", rig.why.text);
    const Query__ListDisclosuresReply *r = (const void *)reply;
    cr_assert_eq(r->n_disclosures, 3);
    for (size_t i = 0; i < 3; i++)
        cr_expect_str_eq(r->disclosures[i]->action, "document.read");
    rig.is_store_down = true;
    cr_expect_eq(rig_call("query.ListDisclosures", olga(), &req.base, &reply), ST_UNAVAILABLE);
    cr_expect_eq(rig.why.code, ERR_AUDIT_ARCHIVE, "no report that silently leaves out what it cannot read");
}

Test(query_archived, the_certificate_of_a_tenants_end_comes_with_its_archived_event) {
    Query__GetOffboardingRequest req = QUERY__GET_OFFBOARDING_REQUEST__INIT;
    ProtobufCMessage *before_p = NULL, *after_p = NULL;
    const char *root = pg_ticket(NULL, "platform_admin", "root");
    log_fill(PG_TENANT_A, 20);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL; UPDATE audit.audit_logs SET action = 'tenant.destroy' WHERE tenant_id = '" PG_TENANT_A "' AND seq = 5; "
                       "ALTER TABLE audit.audit_logs ENABLE TRIGGER ALL");
    pg_ask(pg_admin(), "INSERT INTO auth.offboardings (tenant_id, id, state, certificate) VALUES ('" PG_TENANT_A "', gen_random_uuid(), 'destroyed', '{}')");
    (void)log_sign(PG_TENANT_A);
    req.tenant_id = rig_id(PG_TENANT_A);
    cr_assert_eq(rig_call("query.GetOffboarding", root, &req.base, &before_p), ST_OK, "%s", rig.why.text);
    log_archive(0, 10);
    cr_assert_eq(rig_call("query.GetOffboarding", root, &req.base, &after_p), ST_OK, "%s", rig.why.text);
    const Query__GetOffboardingReply *before = (const void *)before_p, *after = (const void *)after_p;
    cr_expect_str_eq(after->state, "signed");
    cr_expect(after->seq == 5 && before->seq == 5);
    cr_expect(strlen(after->event) > 0 && str_equal(before->event, after->event), "%s", after->event);
    rig.is_store_down = true;
    cr_expect_eq(rig_call("query.GetOffboarding", root, &req.base, &after_p), ST_UNAVAILABLE);
    cr_expect_eq(rig.why.code, ERR_AUDIT_ARCHIVE);
    cr_expect_str_eq(pg_try(pg_admin(), "SET ROLE cordon_audit_reader; SELECT * FROM audit.ending_archived('" PG_TENANT_A "')"), "00000");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.ending_archived('" PG_TENANT_A "'); RESET ROLE"), "", "nothing without a ticket of the platform");
}

Test(query_archived, what_cannot_be_read_or_is_not_what_was_hashed_is_said_and_nothing_is_shown) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    log_fill(PG_TENANT_A, 20);
    (void)log_sign(PG_TENANT_A);
    log_archive(0, 10);
    rig.is_store_down = true;
    cr_expect_null(list());
    cr_expect_eq(rig.why.code, ERR_AUDIT_ARCHIVE);
    cr_expect_eq(export("", &out), ST_UNAVAILABLE);
    rig.is_store_down = false;
    rig.damaged_at = 30;
    cr_expect_null(list());
    cr_expect_eq(rig.why.code, ERR_AUDIT_ARCHIVE);
    rig.damaged_at = -1;
    struct s3 *anchor = rig.query.anchor;
    rig.query.anchor = NULL;
    cr_expect_null(list(), "an installation without the bucket's name");
    cr_expect_eq(rig.why.code, ERR_AUDIT_ARCHIVE);
    rig.query.anchor = anchor;
    cr_expect_not_null(list());
}
