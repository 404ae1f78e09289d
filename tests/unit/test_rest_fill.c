#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "auth.pb-c.h"
#include "embedding.pb-c.h"
#include "query.pb-c.h"
#include "rest/fill.h"
#include "rest/instant.h"
#include "rest/print.h"

static const struct fill_rule RULES[] = {
    { "query.SearchRequest", "question", true, 1, 20, "", "" },
    { "query.SearchRequest", "top_k", false, 1, 32, "", "" },
    { "query.Filter", "document_ids", false, 0, 2, "", "" },
    { "query.ListDocumentsRequest", "status", false, 1, 16, "^(ready|failed)$", "" },
    { 0 }
};

static enum status fill_from(struct fill *f, struct arena *mem, struct why *why, const ProtobufCMessageDescriptor *want,
                             const char *json) {
    fill_init(f, mem, RULES, want, why);
    enum status st = fill_json(f, json, strlen(json));
    return st == ST_OK ? fill_end(f) : st;
}

Test(rest_fill, maps_a_search_request) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct why why = { 0 };
    struct fill f;
    cr_assert_eq(fill_from(&f, mem, &why, &query__search_request__descriptor,
                           "{\"question\":\"caf\\u00e9?\",\"top_k\":3,\"filter\":{\"document_ids\":"
                           "[\"0190b6ce-0000-7000-8000-0123456789ab\"]}}"), ST_OK, "%s", f.detail);
    const Query__SearchRequest *req = (const void *)f.msg;
    cr_expect_str_eq(req->question, "caf\xc3\xa9?");
    cr_expect_eq(req->top_k, 3);
    cr_assert_eq(req->filter->n_document_ids, 1);
    cr_expect_eq(req->filter->document_ids[0].len, 16);
    cr_expect_eq(req->filter->document_ids[0].data[15], 0xab);
}

struct refused_case { char json[160], member[48]; };

ParameterizedTestParameters(rest_fill, refuses_by_name) {
    static struct refused_case cases[] = {
        { "{}", "'question' is required" },
        { "{\"question\":\"\"}", "'question'" },
        { "{\"question\":\"123456789012345678901\"}", "'question'" },
        { "{\"question\":1}", "'question' must be a string" },
        { "{\"question\":null}", "'question'" },
        { "{\"question\":\"a\",\"top_k\":0}", "'top_k'" },
        { "{\"question\":\"a\",\"top_k\":33}", "'top_k'" },
        { "{\"question\":\"a\",\"top_k\":\"3\"}", "'top_k' must be an integer" },
        { "{\"question\":\"a\",\"top_k\":3.5}", "'top_k' must be an integer" },
        { "{\"question\":\"a\",\"top_k\":4294967296}", "'top_k'" },
        { "{\"question\":\"a\",\"nope\":1}", "'nope' is not a member" },
        { "{\"question\":\"a\",\"filter\":[]}", "'filter' must be an object" },
        { "{\"question\":\"a\",\"filter\":{\"x\":1}}", "'filter.?' is not a member" },
        { "{\"question\":\"a\",\"filter\":{\"document_ids\":\"x\"}}", "'filter.document_ids' must be an array" },
        { "{\"question\":\"a\",\"filter\":{\"document_ids\":[\"x\"]}}", "'filter.document_ids[0]' must be a UUID" },
        { "{\"question\":\"a\",\"filter\":{\"document_ids\":[1,2,3]}}", "'filter.document_ids' must have an" },
        { "{\"question\":\"a\",\"question\":\"b\"}", "repeated members" },
        { "{\"question\":\"a\"} x", "The body must be" },
        { "[]", "The body must be" },
        { "{\"question\":\"\\ud800\"}", "The body must be" },
        { "{\"question\":\"a\\u0000b\"}", "The body must be" },
        { "", "The body must be" },
    };
    return cr_make_param_array(struct refused_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct refused_case *c, rest_fill, refuses_by_name) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct why why = { 0 };
    struct fill f;
    cr_assert_eq(fill_from(&f, mem, &why, &query__search_request__descriptor, c->json), ST_INVALID, "%s", c->json);
    cr_expect(strstr(f.detail, c->member), "%s: %s", c->json, f.detail);
    cr_expect_eq(error_http(why.code), 400);
}

Test(rest_fill, a_very_deep_body_is_refused_on_a_small_stack) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    static char json[60001];
    struct why why = { 0 };
    struct fill f;
    memset(json, '[', sizeof json - 1);
    cr_expect_eq(fill_from(&f, mem, &why, &query__search_request__descriptor, json), ST_INVALID);
}

static enum status query_into(struct fill *f, struct arena *mem, struct why *why, const ProtobufCMessageDescriptor *want,
                              const char *query) {
    fill_init(f, mem, RULES, want, why);
    enum status st = fill_query(f, query);
    return st == ST_OK ? fill_end(f) : st;
}

Test(rest_fill, reads_a_query_string) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct why why = { 0 };
    struct fill f;
    cr_assert_eq(query_into(&f, mem, &why, &query__list_audit_events_request__descriptor,
                            "cursor=a%2Bb+c&limit=7&from=2026-01-31T23%3A59%3A59.5Z&"
                            "actor_id=0190b6ce-0000-7000-8000-0123456789ab"), ST_OK, "%s", f.detail);
    const Query__ListAuditEventsRequest *req = (const void *)f.msg;
    cr_expect_str_eq(req->cursor, "a+b c");
    cr_expect_eq(req->limit, 7);
    cr_expect_eq(req->from_us, 1769903999500000);
    cr_expect_eq(req->actor_id.len, 16);
    cr_expect_eq(query_into(&f, mem, &why, &query__list_audit_events_request__descriptor, NULL), ST_OK);
    cr_expect_eq(query_into(&f, mem, &why, &query__list_audit_events_request__descriptor, ""), ST_OK);
}

ParameterizedTestParameters(rest_fill, refuses_a_query_string) {
    static struct refused_case cases[] = {
        { "limit=1&limit=2", "twice" }, { "limit", "well formed" }, { "=1", "well formed" }, { "&limit=1", "well formed" },
        { "limit=1&", "ends in" }, { "nope=1", "'nope'" }, { "limit=x", "integer" }, { "limit=-1", "'limit'" },
        { "limit=99999999999999999999", "integer" }, { "cursor=%", "well formed" }, { "cursor=%4", "well formed" },
        { "cursor=%zz", "well formed" }, { "cursor=%00", "well formed" }, { "cursor=%ff", "well formed" },
        { "status=other", "form" }, { "status=ready%0a", "form" }, { "limit=1&&cursor=a", "well formed" },
    };
    return cr_make_param_array(struct refused_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct refused_case *c, rest_fill, refuses_a_query_string) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct why why = { 0 };
    struct fill f;
    cr_assert_eq(query_into(&f, mem, &why, &query__list_documents_request__descriptor, c->json), ST_INVALID, "%s", c->json);
    cr_expect(strstr(f.detail, c->member), "%s: %s", c->json, f.detail);
}

Test(rest_fill, a_path_parameter_cannot_be_given_again) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct why why = { 0 };
    struct fill f;
    fill_init(&f, mem, RULES, &query__get_document_request__descriptor, &why);
    cr_assert_eq(fill_text(&f, "document_id", "0190b6ce-0000-7000-8000-0123456789ab", 36), ST_OK);
    cr_expect_eq(fill_query(&f, "document_id=0190b6ce-0000-7000-8000-0123456789ab"), ST_INVALID);
}

Test(rest_fill, enums_are_named_without_their_prefix) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct why why = { 0 };
    struct fill f;
    cr_assert_eq(fill_from(&f, mem, &why, &embedding__embed_request__descriptor, "{\"texts\":[\"a\",\"b\"],\"purpose\":\"question\"}"),
                 ST_OK, "%s", f.detail);
    cr_expect_eq(((Embedding__EmbedRequest *)f.msg)->purpose, EMBEDDING__PURPOSE__QUESTION);
    cr_expect_eq(((Embedding__EmbedRequest *)f.msg)->n_texts, 2);
    cr_expect_eq(fill_from(&f, mem, &why, &embedding__embed_request__descriptor, "{\"purpose\":\"PURPOSE_UNSPECIFIED\"}"), ST_INVALID);
}

struct instant_case { char text[40]; int64_t us; bool ok; };

ParameterizedTestParameters(rest_instant, is_strict) {
    static struct instant_case cases[] = {
        { "1970-01-01T00:00:00Z", 0, true },
        { "2026-02-28T12:00:00.000001Z", 1772280000000001, true },
        { "2026-02-28T13:00:00+01:00", 1772280000000000, true },
        { "2024-02-29T00:00:00Z", 1709164800000000, true },
        { "2026-02-29T00:00:00Z", 0, false }, { "2026-13-01T00:00:00Z", 0, false }, { "2026-01-01T24:00:00Z", 0, false },
        { "2026-01-01 00:00:00Z", 0, false }, { "2026-01-01T00:00:00", 0, false }, { "2026-01-01T00:00:00.Z", 0, false },
        { "2026-01-01T00:00:00.1234567Z", 0, false }, { "2026-01-01T00:00:00Zx", 0, false }, { "", 0, false },
    };
    return cr_make_param_array(struct instant_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct instant_case *c, rest_instant, is_strict) {
    int64_t us = 0;
    cr_assert_eq(instant_parse(c->text, strlen(c->text), &us), c->ok, "%s", c->text);
    cr_expect_eq(us, c->us, "%s", c->text);
}

static bool printed(const ProtobufCMessage *msg, struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    return print_message(msg, &w) && json_finish(&w);
}

Test(rest_print, prints_an_audit_event) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    uint8_t id[16] = { 1 }, hash[2] = { 0xab, 0x01 };
    ProtobufCBinaryData ids[1] = { { 16, id } };
    Query__AuditEvent event = QUERY__AUDIT_EVENT__INIT;
    event.id = ids[0];
    event.seq = 1LL << 60;
    event.occurred_at_us = 1;
    event.action = "a\"b";
    event.document_ids = ids;
    event.n_document_ids = 1;
    event.event_json = "{\"b\":[1,2.5,null,true],\"a\":{\"x\":\"\\u00e9\"}}";
    event.leaf_hash = (ProtobufCBinaryData){ 2, hash };
    cr_assert(printed(&event.base, &out));
    cr_expect_str_eq(out.data, "{\"id\":\"01000000-0000-0000-0000-000000000000\",\"seq\":1152921504606846976,"
                     "\"occurred_at\":\"1970-01-01T00:00:00.000001Z\",\"action\":\"a\\\"b\",\"outcome\":\"\","
                     "\"document_ids\":[\"01000000-0000-0000-0000-000000000000\"],"
                     "\"event\":{\"b\":[1,2.5,null,true],\"a\":{\"x\":\"\xc3\xa9\"}},\"leaf_hash\":\"ab01\"}");
}

Test(rest_print, refuses_what_it_cannot_say) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    uint8_t id[3] = { 1 };
    Query__AuditEvent event = QUERY__AUDIT_EVENT__INIT;
    event.id = (ProtobufCBinaryData){ 3, id };
    cr_expect_not(printed(&event.base, &out));
    event.id = (ProtobufCBinaryData){ 0, NULL };
    event.event_json = "[1]";
    cr_expect_not(printed(&event.base, &out));
}

Test(rest_print, a_full_buffer_is_told) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 10 };
    Auth__Tenant tenant = AUTH__TENANT__INIT;
    tenant.name = "a name that is longer than that";
    cr_expect_not(printed(&tenant.base, &out));
}

Test(rest_fill, what_print_writes_fill_reads) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    CLEANUP(buffer_end) struct buffer again = { .limit_bytes = 0 };
    uint8_t id[16] = { 1, 2, 3 };
    struct why why = { 0 };
    struct fill f;
    Query__Hit hit = QUERY__HIT__INIT, *hits[] = { &hit, &hit };
    hit.chunk_id = hit.document_id = (ProtobufCBinaryData){ 16, id };
    hit.document_name = "a.txt";
    hit.text = "line\n\xf0\x9f\x98\x80";
    hit.score = 0.1;
    hit.end_offset = -5;
    Query__SearchReply reply = QUERY__SEARCH_REPLY__INIT;
    reply.hits = hits;
    reply.n_hits = 2;
    reply.event_id = hit.chunk_id;
    cr_assert(printed(&reply.base, &out));
    fill_init(&f, mem, RULES, &query__search_reply__descriptor, &why);
    cr_assert_eq(fill_json(&f, out.data, out.len), ST_OK, "%s", f.detail);
    cr_assert(printed(f.msg, &again));
    cr_expect_str_eq(out.data, again.data);
}
