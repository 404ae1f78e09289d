/* keys.open(): no committed disclosure under the same ticket, no key. */
#include "rig.h"

TestSuite(keys_open, .init = rig_open, .fini = rig_close, .timeout = 60);

/* What cordon_query gets under ticket: "document:key ..." or the SQLSTATE. */
static const char *open_keys(const char *ticket, const char *event_id) {
    PGconn *query = pg_connect("cordon_query");
    pg_ask(query, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
    const char *state = pg_try(query, "SELECT keys.open('%s')", event_id);
    if (strcmp(state, "00000") == 0)
        state = pg_ask(query, "SELECT coalesce(string_agg(right(document_id::text, 2) || ':' || encode(wrapped, 'hex'), ' ' ORDER BY document_id), '') FROM keys.open('%s')", event_id);
    PQfinish(query);
    return state;
}

Test(keys_open, gives_the_keys_of_the_documents_that_the_event_names) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    cr_assert_str_eq(open_keys(ticket, rig_append(AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_A1)), "a1:0000000000a1");
    cr_assert_str_eq(open_keys(ticket, rig_append(AUDIT_SEARCH_DISCLOSE, ticket, NULL)), "", "an event that names none");
    cr_assert_str_eq(open_keys(ticket, rig_append(AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_B1)), "", "a document of another tenant");
}

Test(keys_open, refuses_without_a_committed_event) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    struct uuid id = uuid_v7();
    cr_assert_str_eq(open_keys(ticket, rig_text(&id)), "42501");
    PGconn *query = pg_connect("cordon_query");
    const char *event = rig_append(AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_A1);
    cr_assert_str_eq(pg_try(query, "SELECT keys.open('%s')", event), "42501", "without a ticket");
    cr_assert_str_eq(pg_try(query, "SELECT keys.open_conversation('%s')", event), "42501", "without a ticket");
    pg_ask(query, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
    cr_assert_str_eq(pg_try(query, "SELECT keys.open('%s')", event), "00000");
    pg_ask(query, "COMMIT");
    cr_assert_str_eq(pg_try(query, "SELECT keys.open('%s')", event), "42501", "without a ticket, by a plan that was made with one");
    PQfinish(query);
}

Test(keys_open, is_not_planned_for_each_answer) {
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM unnest('{keys.open(uuid), keys.open_conversation(uuid)}'::regprocedure[]) f "
        "JOIN pg_proc p ON p.oid = f WHERE 'plan_cache_mode=force_generic_plan' = ANY (p.proconfig)"), "2");
}

Test(keys_open, refuses_an_event_of_another_ticket_user_or_tenant) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    const char *event = rig_append(AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_A1);
    cr_assert_str_eq(open_keys(pg_ticket(PG_SLUG_A, "clinician", "alice"), event), "42501", "the same person, a later ticket");
    cr_assert_str_eq(open_keys(pg_ticket(PG_SLUG_A, "clinician", "mallory"), event), "42501");
    cr_assert_str_eq(open_keys(pg_ticket(PG_SLUG_B, "clinician", "bob"), event), "42501");
    cr_assert_str_eq(open_keys(ticket, event), "a1:0000000000a1");
}

Test(keys_open, refuses_events_that_are_no_successful_young_disclosure) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    cr_assert_str_eq(open_keys(ticket, rig_append(AUDIT_AUTH_DENIED, ticket, DOCUMENT_A1)), "42501", "a denial");
    struct rig_call c;
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_A1, NULL);
    c.event->outcome = AUDIT_FAILURE;
    cr_assert_eq(rig_commit(&c, 1), ST_OK);
    cr_assert_str_eq(open_keys(ticket, rig_text(&c.event->event_id)), "42501", "a disclosure that failed");
    rig_call_end(&c);

    const char *event = rig_append(AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_A1);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL; UPDATE audit.audit_logs SET recorded_at = now() - interval '6 min'");
    cr_assert_str_eq(open_keys(ticket, event), "42501", "an event of six minutes ago");
}

Test(keys_open, gives_nothing_for_a_deleted_document) {
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    const char *event = rig_append(AUDIT_DOCUMENT_CONTENT_READ, ticket, DOCUMENT_A2);
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = '" DOCUMENT_A2 "'");
    cr_assert_str_eq(open_keys(ticket, event), "");
}

Test(keys_open, is_for_query_only) {
    const char *roles[] = { "cordon_ingest", "cordon_auth", "cordon_jobs", "cordon_audit", "cordon_audit_reader" };
    for (int i = 0; i < 5; i++) {
        PGconn *conn = pg_connect(roles[i]);
        cr_expect_str_eq(pg_try(conn, "SELECT keys.open('" DOCUMENT_A1 "')"), "42501", "%s", roles[i]);
        PQfinish(conn);
    }
    PGconn *query = pg_connect("cordon_query");
    cr_expect_str_eq(pg_try(query, "SELECT 1 FROM keys.document_keys"), "42501");
    cr_expect_str_eq(pg_try(query, "SELECT 1 FROM audit.audit_logs"), "42501");
    PQfinish(query);
}
