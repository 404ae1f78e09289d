/* Who saw what: the report of disclosures, and the patients that it may be about. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "rig.h"

#define DOC_1    "01920000-0000-7000-8000-000000000001"
#define DOC_2    "01920000-0000-7000-8000-000000000002"
#define CHUNK_1  "01920000-0000-7000-8000-00000000c001"
#define CHUNK_2  "01920000-0000-7000-8000-00000000c002"
#define CHUNK_3  "01920000-0000-7000-8000-00000000c003"
#define ANSWER   "01920000-0000-7000-8000-0000000000a1"
#define PATIENT  "01920000-0000-7000-8000-0000000000d1"
#define USER     "01920000-0000-7000-8000-0000000000aa"
#define GRANT    "01920000-0000-7000-8000-0000000000e1"

TestSuite(query_disclosures, .init = rig_open, .fini = rig_close, .timeout = 60);

/* An event of tenant A as audit-writer keeps it; documents and resource also in their columns. */
static void add_event(const char *kind, const char *action, const char *outcome, const char *documents, const char *resource, const char *more) {
    const char *event = arena_printf(rig.mem, "{\"action\":\"%s\",\"actor_id\":\"" USER "\"%s%s%s%s%s%s%s%s,\"v\":1}", action,
        *documents ? ",\"document_ids\":[\"" : "", documents, *documents ? "\"]" : "", *resource ? ",\"resource_id\":\"" : "", resource,
        *resource ? "\"" : "", *more ? "," : "", more);
    pg_ask(pg_admin(),
        "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, resource_id, document_ids, content_digest, event, leaf_hash) "
        "SELECT authz.uuid_v7(), '" PG_TENANT_A "', (SELECT count(*) FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "'), now(), now(), '%s', '%s', '%s', '" USER "', "
        "nullif('%s', '')::uuid, string_to_array(replace('%s', '\"', ''), ',')::uuid[], sha256(''), e, sha256('\\x00'::bytea || e) FROM convert_to('%s', 'UTF8') e",
        kind, action, outcome, resource, documents, event);
    rig_index_events();
}

static Query__ListDisclosuresReply *ask(Query__ListDisclosuresRequest *req) {
    ProtobufCMessage *reply = NULL;
    (void)rig_call("query.ListDisclosures", pg_ticket(PG_SLUG_A, "auditor", "olga"), &req->base, &reply);
    return (Query__ListDisclosuresReply *)reply;
}

static const Query__ListDisclosuresReply *of_document(const char *id) {
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    req.document_id = rig_id(id);
    const Query__ListDisclosuresReply *r = ask(&req);
    cr_assert_not_null(r, "%s", rig.why.text);
    return r;
}

static void add_an_answer(void) {
    add_event("disclosure", "answer.disclose", "success", DOC_1 "\",\"" DOC_2 "\",\"" DOC_1, ANSWER,
              "\"chunk_ids\":[\"" CHUNK_1 "\",\"" CHUNK_2 "\",\"" CHUNK_3 "\"],\"detail\":{\"model\":\"titan\",\"sources\":3},\"grant_id\":\"" GRANT "\"");
    add_event("disclosure", "model.disclose", "success", DOC_1 "\",\"" DOC_2 "\",\"" DOC_1, ANSWER,
              "\"chunk_ids\":[\"" CHUNK_1 "\",\"" CHUNK_2 "\",\"" CHUNK_3 "\"],\"detail\":{\"purpose\":\"answer\",\"texts\":3}");
    add_event("mutation", "answer.store", "success", "", ANSWER, "\"detail\":{\"model\":\"claude-9\"}");
}

Test(query_disclosures, an_answer_tells_the_reader_the_model_and_the_passages_of_this_document_only) {
    add_an_answer();
    const Query__ListDisclosuresReply *r = of_document(DOC_1);
    cr_assert_eq(r->n_disclosures, 2);
    const Query__Disclosure *model = r->disclosures[0], *user = r->disclosures[1];      /* newest first */
    cr_expect_str_eq(model->recipient, "model");
    cr_expect_str_eq(model->shown, "passages");
    cr_expect_str_eq(model->model, "claude-9", "the one that answered, which answer.store says");
    cr_expect_str_eq(model->purpose, "answer");
    cr_expect_str_eq(user->recipient, "user");
    cr_expect_str_eq(user->shown, "answer");
    cr_expect_str_eq(user->model, "claude-9");
    cr_expect_str_eq(rig_id_text(user->actor_id), USER);
    cr_expect_str_eq(rig_id_text(user->grant_id), GRANT, "the broken glass");
    cr_expect_str_eq(rig_id_text(user->resource_id), ANSWER);
    cr_assert_eq(user->n_document_ids, 1);
    cr_expect_str_eq(rig_id_text(user->document_ids[0]), DOC_1);
    cr_assert_eq(user->n_chunk_ids, 2, "the passage of the other document is not this one's");
    cr_expect_str_eq(rig_id_text(user->chunk_ids[0]), CHUNK_1);
    cr_expect_str_eq(rig_id_text(user->chunk_ids[1]), CHUNK_3);
}

Test(query_disclosures, an_embedding_names_its_model_and_all_chunks_of_its_one_document) {
    add_event("disclosure", "model.disclose", "success", DOC_1, ANSWER, "\"chunk_ids\":[\"" CHUNK_1 "\",\"" CHUNK_2 "\"],\"detail\":{\"purpose\":\"embed\",\"texts\":2}");
    add_event("system", "model.use", "success", DOC_1, ANSWER, "\"detail\":{\"model\":\"titan\",\"purpose\":\"embed\"}");
    const Query__ListDisclosuresReply *r = of_document(DOC_1);
    cr_assert_eq(r->n_disclosures, 1);
    cr_expect_str_eq(r->disclosures[0]->purpose, "embed");
    cr_expect_str_eq(r->disclosures[0]->model, "titan");
    cr_expect_eq(r->disclosures[0]->n_chunk_ids, 2);
}

Test(query_disclosures, changes_refusals_and_other_documents_are_not_among_them) {
    add_event("mutation", "document.create", "success", DOC_1, "", "");
    add_event("disclosure", "document.read", "failure", DOC_1, "", "");
    add_event("disclosure", "document.read", "success", DOC_2, "", "");
    cr_expect_eq(of_document(DOC_1)->n_disclosures, 0);
}

Test(query_disclosures, a_patients_report_outlives_the_documents) {
    add_event("mutation", "document.create", "success", DOC_1, PATIENT, "");
    add_event("disclosure", "document.content.read", "success", DOC_1, "", "");
    add_event("mutation", "document.erase", "success", DOC_1, PATIENT, "");
    add_event("mutation", "document.create", "success", DOC_2, PATIENT, "");
    add_event("disclosure", "document.list", "success", DOC_2, "", "");
    add_event("disclosure", "subject.find", "success", "", PATIENT, "");
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    req.subject_id = rig_id(PATIENT);
    const Query__ListDisclosuresReply *r = ask(&req);
    cr_assert(r && r->n_disclosures == 3, "%s", rig.why.text);
    cr_expect_str_eq(r->disclosures[0]->action, "subject.find");
    cr_expect_str_eq(r->disclosures[1]->shown, "names");
    cr_expect_str_eq(r->disclosures[2]->shown, "original");
    cr_expect_str_eq(rig_last("audit.disclosures")->detail, "{\"format\":\"json\",\"rows\":3,\"subject_id\":\"" PATIENT "\"}");
    cr_expect_eq(rig_last("audit.disclosures")->document_count, 0, "who reads the report has not seen the documents");
}

Test(query_disclosures, pages_follow_each_other_and_csv_holds_the_same_rows) {
    enum { EVENTS = 450 };
    for (int i = 0; i < EVENTS; i++)
        add_event("disclosure", i % 3 ? "document.read" : "search.disclose", "success", DOC_1, "", "\"detail\":{\"model\":\"titan\"}");
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    req.document_id = rig_id(DOC_1);
    req.limit = 200;
    int64_t expected = EVENTS - 1;
    do {
        const Query__ListDisclosuresReply *r = ask(&req);
        cr_assert_not_null(r, "%s", rig.why.text);
        for (size_t i = 0; i < r->n_disclosures; i++)
            cr_assert_eq(r->disclosures[i]->seq, expected--);
        req.cursor = r->next_cursor;
    } while (*req.cursor);
    cr_expect_eq(expected, -1);

    CLEANUP(buffer_end) struct buffer csv = { 0 };
    req.cursor = (char *)"";
    cr_assert_eq(rig_stream("query.ExportDisclosures", pg_ticket(PG_SLUG_A, "auditor", "olga"), &req.base,
                            &query__export_disclosures_reply__descriptor, &csv), ST_OK, "%s", rig.why.text);
    int lines = 0;
    for (const char *at = csv.data; (at = strstr(at, "\r\n")); at += 2)
        lines++;
    cr_expect_eq(lines, 1 + EVENTS);
    cr_expect_not_null(strstr(csv.data, ",user,passages,search.disclose," USER ","));
    cr_expect_str_eq(rig_last("audit.disclosures")->detail, "{\"format\":\"csv\",\"document_id\":\"" DOC_1 "\"}");
}

Test(query_disclosures, a_span_of_time_bounds_them) {
    enum { HOUR_US = 3600 * 1000000ll };
    add_event("disclosure", "document.read", "success", DOC_1, "", "");
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    req.document_id = rig_id(DOC_1);
    req.from_us = clock_unix_us() - HOUR_US;
    req.to_us = clock_unix_us() + HOUR_US;
    cr_expect_eq(ask(&req)->n_disclosures, 1);
    req.to_us = req.from_us + 1;
    cr_expect_eq(ask(&req)->n_disclosures, 0);
    req.to_us = 0;
    req.from_us = clock_unix_us() + HOUR_US;
    cr_expect_eq(ask(&req)->n_disclosures, 0);
}

Test(query_disclosures, one_document_or_one_patient_must_be_named) {
    for (int i = 0; i < 4; i++) {
        Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
        if (i & 1)
            req.document_id = rig_id(DOC_1);
        if (i & 2)
            req.subject_id = rig_id(PATIENT);
        cr_expect_eq(ask(&req) != NULL, i == 1 || i == 2, "%d", i);
    }
    cr_expect_eq(rig_count("audit.disclosures"), 2);
}

/* ---- patients ---- */

static const Query__FindSubjectReply *find(const char *tenant, const char *mrn) {
    Query__FindSubjectRequest req = QUERY__FIND_SUBJECT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.mrn = (char *)mrn;
    (void)rig_call("query.FindSubject", pg_ticket(tenant, "clinician", "ann"), &req.base, &reply);
    return (const Query__FindSubjectReply *)reply;
}

Test(query_disclosures, a_record_number_finds_its_patient_in_its_own_tenant_only) {
    rig_document(PG_TENANT_A, DOC_1, "ready", "a.txt", "a", 1);
    rig_subject(PG_TENANT_A, PATIENT, "MRN 4711/7", DOC_1);
    const Query__FindSubjectReply *found = find(PG_SLUG_A, "MRN 4711/7");
    cr_assert_not_null(found, "%s", rig.why.text);
    cr_expect_str_eq(rig_id_text(found->subject_id), PATIENT);
    cr_expect_gt(found->created_at_us, 0);
    cr_expect_null(find(PG_SLUG_A, "MRN 4711/8"));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND);
    cr_expect_null(find(PG_SLUG_B, "MRN 4711/7"));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND);
    cr_expect_eq(rig_count("subject.find"), 3, "numbers that are nobody's are on the record too");
    for (size_t i = 0; i < rig.event_count; i++)
        cr_expect_null(strstr(rig.events[i].detail, "4711"));
}

Test(query_disclosures, numbers_that_are_none_are_refused) {
    static const char *const BAD[] = { "", "0123456789012345678901234567890123456789012345678901234567890123x", "\xff" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_expect_null(find(PG_SLUG_A, BAD[i]));
        cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
    }
    cr_expect_eq(rig_count("subject.find"), 0);
}

Test(query_disclosures, a_patients_documents_are_listed_and_searched_by_the_patients_id) {
    rig_document(PG_TENANT_A, DOC_1, "ready", "a.txt", "a", 1);
    rig_document(PG_TENANT_A, DOC_2, "ready", "b.txt", "b", 1);
    rig_chunk(DOC_1, CHUNK_1, "One.", 0.5);
    rig_chunk(DOC_2, CHUNK_2, "Two.", 0.1);
    rig_subject(PG_TENANT_A, PATIENT, "1", DOC_1);
    Query__ListDocumentsRequest list = QUERY__LIST_DOCUMENTS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    list.subject_id = rig_id(PATIENT);
    cr_assert_eq(rig_call("query.ListDocuments", pg_ticket(PG_SLUG_A, "clinician", "ann"), &list.base, &reply), ST_OK, "%s", rig.why.text);
    const Query__ListDocumentsReply *listed = (const void *)reply;
    cr_assert_eq(listed->n_documents, 1);
    cr_expect_str_eq(rig_id_text(listed->documents[0]->id), DOC_1);
    cr_expect_str_eq(rig_id_text(listed->documents[0]->subject_id), PATIENT);

    Query__SearchRequest search = QUERY__SEARCH_REQUEST__INIT;
    Query__Filter filter = QUERY__FILTER__INIT;
    filter.subject_id = rig_id(PATIENT);
    search.question = (char *)"What?";
    search.filter = &filter;
    cr_assert_eq(rig_call("query.Search", pg_ticket(PG_SLUG_A, "clinician", "ann"), &search.base, &reply), ST_OK, "%s", rig.why.text);
    const Query__SearchReply *hits = (const void *)reply;
    cr_assert_eq(hits->n_hits, 1, "the nearer passage is another patient's, or nobody's");
    cr_expect_str_eq(rig_id_text(hits->hits[0]->document_id), DOC_1);
}
