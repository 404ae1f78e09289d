/* The tenant's log, read by its auditors. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "rig.h"

#define DOC_1 "01920000-0000-7000-8000-000000000001"
#define USER  "01920000-0000-7000-8000-0000000000aa"

/* n events of the action, each with `bytes` of text, in the log of tenant. */
static void add_events(const char *tenant, unsigned n, size_t bytes, const char *action) {
    pg_ask(pg_admin(),
        "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, document_ids, content_digest, event, leaf_hash) "
        "SELECT authz.uuid_v7(), '%s', (SELECT count(*) FROM audit.audit_logs WHERE tenant_id = '%s') + i, now(), now(), 'disclosure', '%s', 'success', '" USER "', "
        "'{" DOC_1 "}', sha256(''), e, sha256('\\x00'::bytea || e) FROM generate_series(0, %u - 1) i, convert_to(rpad('{\"v\":1}', %zu), 'UTF8') e",
        tenant, tenant, action, n, bytes);
    rig_index_events();
}

TestSuite(query_audit, .init = rig_open, .fini = rig_close, .timeout = 60);

static Query__ListAuditEventsReply *list(Query__ListAuditEventsRequest *req) {
    ProtobufCMessage *reply = NULL;
    (void)rig_call("query.ListAuditEvents", pg_ticket(PG_SLUG_A, "auditor", "olga"), &req->base, &reply);
    return (Query__ListAuditEventsReply *)reply;
}

/* Read to the end; returns how many events came, in how many pages. Asserts that no place of `action`'s is left out. */
static size_t read_all(uint32_t limit, const char *action, size_t *ret_pages) {
    size_t n = 0;
    int64_t last = -1;
    char *cursor = (char *)"";
    *ret_pages = 0;
    do {
        Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
        req.limit = limit;
        req.action = (char *)action;
        req.cursor = cursor;
        const Query__ListAuditEventsReply *r = list(&req);
        cr_assert_not_null(r, "%s", rig.why.text);
        for (size_t i = 0; i < r->n_events; i++, n++) {
            cr_assert(last < 0 || r->events[i]->seq == last - 1, "%lld after %lld", (long long)r->events[i]->seq, (long long)last);
            last = r->events[i]->seq;
        }
        cursor = r->next_cursor;
        ++*ret_pages;
    } while (*cursor);
    cr_expect_eq(last, 0, "down to the first");
    return n;
}

Test(query_audit, pages_follow_each_other_without_a_gap) {
    size_t pages;
    add_events(PG_TENANT_A, 7, 40, "document.read");
    add_events(PG_TENANT_B, 3, 40, "document.read");
    cr_expect_eq(read_all(3, "document.read", &pages), 7);
    cr_expect_eq(pages, 3);
}

Test(query_audit, a_page_ends_where_a_frame_would) {
    size_t pages;
    add_events(PG_TENANT_A, 30, 100000, "document.read");
    cr_expect_eq(read_all(200, "document.read", &pages), 30);
    cr_expect_eq(pages, 4);
    cr_expect_str_eq(rig_last("audit.read")->detail, "{\"events\":6,\"action\":\"document.read\",\"before_seq\":6}", "of the last page only");
}

Test(query_audit, the_largest_event_fits_into_a_page) {
    size_t pages;
    add_events(PG_TENANT_A, 2, 262144, "document.read");
    cr_expect_eq(read_all(1, "document.read", &pages), 2);
    cr_expect_eq(pages, 2);
}

Test(query_audit, an_event_comes_with_the_bytes_that_its_leaf_covers) {
    add_events(PG_TENANT_A, 1, 40, "document.read");
    Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
    const Query__ListAuditEventsReply *r = list(&req);
    cr_assert(r && r->n_events == 1, "%s", rig.why.text);
    const Query__AuditEvent *e = r->events[0];
    cr_expect_str_eq(e->action, "document.read");
    cr_expect_str_eq(rig_id_text(e->actor_id), USER);
    cr_assert_eq(e->n_document_ids, 1);
    cr_expect_str_eq(rig_id_text(e->document_ids[0]), DOC_1);
    cr_expect_eq(strlen(e->event_json), 40);
    cr_expect_eq(e->leaf_hash.len, 32);
}

Test(query_audit, what_was_asked_for_is_on_the_record) {
    enum { HOUR_US = 3600 * 1000000ll };
    char from[CLOCK_TEXT_BYTES], to[CLOCK_TEXT_BYTES];
    add_events(PG_TENANT_A, 2, 40, "document.read");
    add_events(PG_TENANT_A, 2, 40, "search.disclose");
    Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
    req.limit = 1;
    req.action = (char *)"document.read";
    req.actor_id = rig_id(USER);
    req.document_id = rig_id(DOC_1);
    req.from_us = clock_unix_us() - HOUR_US;
    req.to_us = clock_unix_us() + HOUR_US;
    const Query__ListAuditEventsReply *r = list(&req);
    cr_assert(r && r->n_events == 1, "%s", rig.why.text);
    req.cursor = r->next_cursor;
    r = list(&req);
    cr_assert(r && r->n_events == 1, "%s", rig.why.text);
    cr_expect_str_eq(r->next_cursor, "", "the others are of another action");
    cr_expect_str_eq(rig_last("audit.read")->detail,
        arena_printf(rig.mem, "{\"events\":1,\"action\":\"document.read\",\"actor_id\":\"" USER "\",\"document_id\":\"" DOC_1 "\","
                     "\"from\":\"%s\",\"to\":\"%s\",\"before_seq\":1}", clock_format(req.from_us, from), clock_format(req.to_us, to)));
    req.cursor = (char *)"";
    req.to_us = req.from_us;
    r = list(&req);
    cr_assert(r && r->n_events == 0, "%s", rig.why.text);
}

/* Ids are of when an event was made, perhaps by a clock that is wrong by hours; its time is the database's. */
Test(query_audit, a_span_of_time_goes_by_the_event_s_time_and_not_by_its_id) {
    const int64_t ids_h[] = { 24, 2, -20 }, hour_us = INT64_C(3600000000);
    for (int i = 0; i < 3; i++)
        pg_ask(pg_admin(), "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, document_ids, content_digest, event, leaf_hash) "
            "SELECT (lpad(to_hex((extract(epoch FROM now() - interval '%d hours') * 1000)::bigint), 12, '0') || '70008000000000000%03d')::uuid, '" PG_TENANT_A "', %d, "
            "now() - interval '2 hours', now(), 'disclosure', 'document.read', 'success', '{}', sha256(''), e, sha256('\\x00'::bytea || e) FROM convert_to('{}', 'UTF8') e",
            (int)ids_h[i], i, i);
    Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
    req.from_us = clock_unix_us() - 3 * hour_us;
    req.to_us = clock_unix_us() - hour_us;
    const Query__ListAuditEventsReply *r = list(&req);
    cr_assert(r && r->n_events == 3, "%s", rig.why.text);
    req.from_us += 2 * hour_us, req.to_us = INT64_MAX, req.action = (char *)"document.read";
    r = list(&req);
    cr_assert(r && r->n_events == 0, "%s", rig.why.text);
}

Test(query_audit, limits_and_filters_that_are_none_are_refused) {
    static const struct { uint32_t limit; const char *action, *cursor; int64_t from_us; size_t id_len; } BAD[] = {
        { .limit = 201 }, { .action = "Jane Doe" }, { .cursor = "bm90IGEgY3Vyc29y" }, { .from_us = -1 }, { .id_len = 15 },
    };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
        req.limit = BAD[i].limit;
        req.from_us = BAD[i].from_us;
        req.action = (char *)(BAD[i].action ? BAD[i].action : "");
        req.cursor = (char *)(BAD[i].cursor ? BAD[i].cursor : "");
        if (BAD[i].id_len) {
            req.actor_id = rig_id(USER);
            req.actor_id.len = BAD[i].id_len;
        }
        cr_expect_null(list(&req), "%zu", i);
        cr_expect_eq(error_status(rig.why.code), ST_INVALID, "%zu: %s", i, rig.why.text);
    }
    cr_expect_eq(rig.event_count, 0);
}
