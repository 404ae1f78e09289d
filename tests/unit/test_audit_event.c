/* Records, details and the canonical form of an event, version 1. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "audit/event.h"
#include "core/text_codec.h"
#include "crypto/digest.h"
#include "json/reader.h"

static struct uuid id_of(const char *text) {
    struct uuid id;
    cr_assert(uuid_parse(text, strlen(text), &id));
    return id;
}

static struct audit_event *event_of(const struct audit_record *record, const char *ticket) {
    struct why why = { 0 };
    struct audit_event *event = NULL;
    uint8_t digest[SHA256_BYTES];
    sha256(ticket ? ticket : "", ticket ? strlen(ticket) : 0, digest);
    struct audit_origin origin = { .reported_by = "query", .request_id = id_of("01920000-0000-7000-8000-000000000009"), .ticket_digest = ticket ? digest : NULL };
    cr_assert_eq(audit_event_new(record, &origin, &event, &why), ST_OK, "%s", why.text);
    return event;
}

static struct uuid documents[2];

static struct audit_record search_record(void) {
    documents[0] = id_of("01920000-0000-7000-8000-0000000000d1");
    documents[1] = id_of("01920000-0000-7000-8000-0000000000d2");
    return (struct audit_record){ .event_id = id_of("01920000-0000-7000-8000-000000000001"), .action = AUDIT_SEARCH_DISCLOSE,
        .outcome = AUDIT_SUCCESS, .document_ids = documents, .document_count = 2, .detail_json = "{\"top_k\": 8, \"hits\": 2}" };
}

Test(audit_event, canonical_form_is_exactly_this) {
    struct audit_record record = search_record();
    CLEANUP(audit_event_destroy) struct audit_event *event = event_of(&record, "1.1.aa.bb");
    struct why why = { 0 };
    struct audit_stamp stamp = { .tenant_id = id_of("01920000-0000-7000-8000-00000000000a"), .actor_id = id_of("01920000-0000-7000-8000-0000000000aa"),
        .session_id = id_of("01920000-0000-7000-8000-0000000000ab"), .occurred_at_us = 1767225599123456, .recorded_at_us = 1767225599123456, .seq = 41 };
    cr_assert_eq(audit_event_stamp(event, &stamp, &why), ST_OK);
    const char *want = "{\"action\":\"search.disclose\",\"actor_id\":\"01920000-0000-7000-8000-0000000000aa\","
        "\"detail\":{\"hits\":2,\"top_k\":8},"
        "\"document_ids\":[\"01920000-0000-7000-8000-0000000000d1\",\"01920000-0000-7000-8000-0000000000d2\"],"
        "\"event_id\":\"01920000-0000-7000-8000-000000000001\",\"kind\":\"disclosure\",\"occurred_at\":\"2025-12-31T23:59:59.123456Z\","
        "\"outcome\":\"success\",\"recorded_at\":\"2025-12-31T23:59:59.123456Z\",\"reported_by\":\"query\","
        "\"request_id\":\"01920000-0000-7000-8000-000000000009\",\"seq\":41,\"session_id\":\"01920000-0000-7000-8000-0000000000ab\","
        "\"tenant_id\":\"01920000-0000-7000-8000-00000000000a\",\"v\":1}";
    cr_assert_str_eq(event->bytes.data, want);
    struct merkle_hash leaf = merkle_leaf(want, strlen(want));
    cr_assert(merkle_equal(&leaf, &event->leaf));
}

Test(audit_event, stamping_again_replaces_the_stamp_whole) {
    struct audit_record record = search_record();
    CLEANUP(audit_event_destroy) struct audit_event *event = event_of(&record, "1.1.aa.bb");
    struct why why = { 0 };
    struct audit_stamp first = { .actor_id = id_of("01920000-0000-7000-8000-0000000000aa"), .seq = 7 }, second = { .seq = 8 };
    cr_assert_eq(audit_event_stamp(event, &first, &why), ST_OK);
    cr_assert_eq(audit_event_stamp(event, &second, &why), ST_OK);
    cr_assert_null(strstr(event->bytes.data, "actor_id"));
    cr_assert_not_null(strstr(event->bytes.data, "\"seq\":8,"));
    cr_assert_not_null(strstr(event->bytes.data, "\"tenant_id\":\"00000000-0000-0000-0000-000000000000\""));
}

Test(audit_event, content_digest_tells_a_repeat_from_other_content) {
    struct audit_record record = search_record();
    CLEANUP(audit_event_destroy) struct audit_event *one = event_of(&record, "1.1.aa.bb");
    CLEANUP(audit_event_destroy) struct audit_event *same = event_of(&record, "1.1.aa.bb");
    CLEANUP(audit_event_destroy) struct audit_event *other_ticket = event_of(&record, "1.1.aa.bc");
    record.document_count = 1;
    CLEANUP(audit_event_destroy) struct audit_event *other_content = event_of(&record, "1.1.aa.bb");
    cr_assert_eq(memcmp(one->content_digest, same->content_digest, 32), 0);
    cr_assert_neq(memcmp(one->content_digest, other_ticket->content_digest, 32), 0);
    cr_assert_neq(memcmp(one->content_digest, other_content->content_digest, 32), 0);
    uint8_t digest[32];
    sha256("1.1.aa.bb", 9, digest);
    cr_assert_eq(memcmp(one->ticket_digest, digest, 32), 0, "what PostgreSQL's sha256() says of the ticket");
}

Test(audit_event, no_event_without_an_id_and_no_nil_documents) {
    struct why why = { 0 };
    struct audit_event *event = NULL;
    struct audit_origin origin = { .reported_by = "query" };
    struct audit_record record = search_record();
    record.event_id = (struct uuid){ 0 };
    cr_assert_eq(audit_event_new(&record, &origin, &event, &why), ST_INVALID);
    record = search_record();
    documents[1] = (struct uuid){ 0 };
    cr_assert_eq(audit_event_new(&record, &origin, &event, &why), ST_INVALID);
    record = search_record();
    record.document_count = AUDIT_DOCUMENTS_MAX + 1;
    cr_assert_eq(audit_event_new(&record, &origin, &event, &why), ST_INVALID);
    cr_assert_null(event);
}

struct detail_case { char text[120]; enum status want; };

ParameterizedTestParameters(audit_detail, holds_codes_and_no_prose) {
    static struct detail_case cases[] = {
        { "", ST_OK },
        { "{}", ST_OK },
        { "{\"a\":1,\"b_2\":true,\"c\":\"amazon.titan-embed-text-v2:0\",\"d\":[\"x\",{\"e\":-5}]}", ST_OK },
        { "{\"a\":\"two words\"}", ST_INVALID },
        { "{\"a\":\"line\\nbreak\"}", ST_INVALID },
        { "{\"a\":\"M\xc3\xbcller\"}", ST_INVALID },
        { "{\"a\":1.5}", ST_INVALID },
        { "{\"a\":null}", ST_INVALID },
        { "{\"a\":1,\"a\":2}", ST_INVALID },
        { "{\"Patient Name\":1}", ST_INVALID },
        { "{\"\":1}", ST_INVALID },
        { "[1]", ST_INVALID },
        { "{\"a\":", ST_INVALID },
        { "{\"a\":[[[[[1]]]]]}", ST_INVALID },
    };
    return cr_make_param_array(struct detail_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct detail_case *c, audit_detail, holds_codes_and_no_prose) {
    CLEANUP(json_destroy) json_t *detail = NULL;
    struct why why = { 0 };
    cr_assert_eq(audit_detail_parse(c->text, &detail, &why), c->want, "%s", c->text);
}

Test(audit_detail, texts_have_a_limit) {
    char text[AUDIT_DETAIL_TEXT_MAX_BYTES + 16];
    CLEANUP(json_destroy) json_t *detail = NULL;
    struct why why = { 0 };
    int len = snprintf(text, sizeof text, "{\"a\":\"");
    memset(text + len, 'x', AUDIT_DETAIL_TEXT_MAX_BYTES + 1);
    memcpy(text + len + AUDIT_DETAIL_TEXT_MAX_BYTES + 1, "\"}", 3);
    cr_assert_eq(audit_detail_parse(text, &detail, &why), ST_INVALID);
}

Test(audit_actions, names_are_unique_and_found_again) {
    for (int i = 0; i < AUDIT_ACTION_COUNT; i++)
        cr_assert_eq(audit_action_find(audit_action_name((enum audit_action)i)), (enum audit_action)i, "%s twice", audit_action_name((enum audit_action)i));
    cr_assert_eq(audit_action_find("no.such"), AUDIT_ACTION_COUNT);
    cr_assert_eq(audit_action_find(NULL), AUDIT_ACTION_COUNT);
    cr_assert_eq(audit_outcome_find("denied"), AUDIT_REFUSED);
    cr_assert_eq(audit_outcome_find(""), AUDIT_OUTCOME_COUNT);
}
