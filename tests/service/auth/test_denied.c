/* Refusals that edge made by itself are put on record, in the tenant of the ticket when there is one. */
#include <criterion/criterion.h>
#include <string.h>

#include "audit.pb-c.h"
#include "rig.h"

TestSuite(denied, .init = rig_open, .fini = rig_close, .timeout = 60);

static enum status deny(const char *ticket, const char *path) {
    Auth__DeniedRequest req = AUTH__DENIED_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.code = "AUTH_002";
    req.http_method = "GET";
    req.path = (char *)path;
    req.remote_address = "192.0.2.7";
    return rig_call("auth.Denied", ticket, &req.base, &reply);
}

Test(denied, the_edge_s_start_is_recorded_under_its_own_name) {
    static uint8_t instance[16] = { 1, 0x92, 0, 0, 0, 0, 0x70, 0, 0x80 };
    Audit__RecordStartRequest req = AUDIT__RECORD_START_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.instance_id = (ProtobufCBinaryData){ sizeof instance, instance };
    req.version = (char *)"1.2.3";
    req.settings_sha256 = (char *)"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (int i = 0; i < 2; i++)
        cr_assert_eq(rig_call("auth.RecordStart", "", &req.base, &reply), ST_OK, "%s", rig.why.text);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) || min(detail ->> 'process') FROM audit.audit_outbox WHERE action = 'process.start' AND detail ->> 'version' = '1.2.3'"), "1edge");
}

Test(denied, is_recorded_without_a_tenant_when_nobody_is_known) {
    cr_assert_eq(deny("", ""), ST_OK, "%s", rig.why.text);
    cr_assert_eq(rig.event_count, 1);
    cr_assert_eq(rig.events[0].action, AUDIT_AUTH_DENIED);
    cr_assert_not(rig.events[0].has_tenant);
    cr_assert_str_eq(rig.events[0].detail, "{\"code\":\"AUTH_002\",\"method\":\"GET\",\"remote_address\":\"192.0.2.7\"}");
}

Test(denied, is_recorded_in_the_tenant_of_the_ticket) {
    cr_assert_eq(deny(pg_ticket(PG_SLUG_A, "reviewer", "rob"), "/api/v1/documents/{document_id}"), ST_OK);
    cr_assert(rig.events[0].has_tenant);
    cr_assert_not_null(strstr(rig.events[0].detail, "/api/v1/documents/{document_id}"));
}

Test(denied, is_recorded_even_when_the_ticket_has_ended) {
    rig.refuses_tickets = true;
    cr_assert_eq(deny("1.1.00.00", "/api/v1/search"), ST_OK, "%s", rig.why.text);
    cr_assert_eq(rig.event_count, 1);
    cr_assert_not(rig.events[0].has_tenant);
}

Test(denied, says_so_when_it_could_not_be_recorded) {
    rig.audit_answer = ST_UNAVAILABLE;
    cr_assert_eq(deny("", "/api/v1/search"), ST_UNAVAILABLE);
}

Test(denied, paths_are_made_visible) {
    cr_assert_eq(deny("", "/a b\n\"c\\"), ST_OK);
    cr_assert_not_null(strstr(rig.events[0].detail, "\"path\":\"/a_b__c_\""), "%s", rig.events[0].detail);
}
