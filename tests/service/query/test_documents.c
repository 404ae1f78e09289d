/* Documents and jobs: what is shown, to whom, and that it is on the record first. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "rig.h"

#define DOC_1 "01920000-0000-7000-8000-000000000001"
#define DOC_2 "01920000-0000-7000-8000-000000000002"
#define DOC_3 "01920000-0000-7000-8000-000000000003"
#define DOC_B "01920000-0000-7000-8000-0000000000b1"
#define JOB_1 "01920000-0000-7000-8000-0000000000f1"

enum { ORIGINAL_BYTES = 3000000 };

static uint8_t original[ORIGINAL_BYTES];

static void set_up(void) {
    rig_open();
    for (size_t i = 0; i < sizeof original; i++)
        original[i] = (uint8_t)(i * 7 + i / 251);
    rig_document(PG_TENANT_A, DOC_1, "ready", "referral.txt", original, sizeof original);
    rig_document(PG_TENANT_A, DOC_2, "processing", "lab.txt", "lab", 3);
    rig_document(PG_TENANT_A, DOC_3, "failed", "empty.txt", NULL, 0);
    rig_document(PG_TENANT_B, DOC_B, "ready", "theirs.txt", "theirs", 6);
    pg_ask(pg_admin(), "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, state, stage, attempt, done_at, chunks_done, chunks_total) "
                       "SELECT tenant_id, '" JOB_1 "', 'ingest', 'ingest', id, created_by, 'succeeded', 'embed', 1, now(), 4, 4 "
                       "FROM app.documents WHERE id = '" DOC_1 "'");
}

TestSuite(query_documents, .init = set_up, .fini = rig_close, .timeout = 60);

static const char *clinician(void) {
    return pg_ticket(PG_SLUG_A, "clinician", "ann");
}

static Query__ListDocumentsReply *list(uint32_t limit, const char *status, const char *cursor) {
    Query__ListDocumentsRequest req = QUERY__LIST_DOCUMENTS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.limit = limit;
    req.status = (char *)status;
    req.cursor = (char *)cursor;
    (void)rig_call("query.ListDocuments", clinician(), &req.base, &reply);
    return (Query__ListDocumentsReply *)reply;
}

static Query__Document *get(const char *id) {
    Query__GetDocumentRequest req = QUERY__GET_DOCUMENT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.document_id = rig_id(id);
    return rig_call("query.GetDocument", clinician(), &req.base, &reply) == ST_OK ? ((Query__GetDocumentReply *)reply)->document : NULL;
}

static Query__Job *get_job(const char *id) {
    Query__GetJobRequest req = QUERY__GET_JOB_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.job_id = rig_id(id);
    return rig_call("query.GetJob", clinician(), &req.base, &reply) == ST_OK ? ((Query__GetJobReply *)reply)->job : NULL;
}

/* ---- lists ---- */

Test(query_documents, are_listed_newest_first_with_names_and_on_the_record) {
    const Query__ListDocumentsReply *r = list(0, "", "");
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_eq(r->n_documents, 3);
    cr_expect_str_eq(r->documents[0]->file_name, "empty.txt");
    cr_expect_str_eq(r->documents[0]->reason_code, "DOC_003");
    cr_expect_str_eq(rig_id_text(r->documents[2]->id), DOC_1);
    cr_expect_str_eq(rig_id_text(r->documents[2]->job_id), JOB_1);
    cr_expect_eq(r->documents[2]->chunks_done, 4);
    cr_expect_str_eq(r->next_cursor, "");
    cr_expect_eq(rig_last("document.list")->document_count, 3);
}

Test(query_documents, pages_follow_each_other_without_a_gap) {
    const char *cursor = "", *const want[] = { DOC_3, DOC_2, DOC_1 };
    for (size_t i = 0; i < 3; i++) {
        const Query__ListDocumentsReply *r = list(1, "", cursor);
        cr_assert_not_null(r, "%s", rig.why.text);
        cr_assert_eq(r->n_documents, 1);
        cr_expect_str_eq(rig_id_text(r->documents[0]->id), want[i]);
        cursor = r->next_cursor;
        cr_expect_eq(*cursor == '\0', i == 2, "the last page and no other has no cursor");
    }
}

Test(query_documents, are_filtered_by_their_status) {
    const Query__ListDocumentsReply *r = list(0, "processing", "");
    cr_assert(r && r->n_documents == 1);
    cr_expect_str_eq(rig_id_text(r->documents[0]->id), DOC_2);
}

#define UP_1 "01920000-0000-7000-8000-0000000000a1"
#define UP_2 "01920000-0000-7000-8000-0000000000a2"
#define UP_SWEPT "01920000-0000-7000-8000-0000000000a3"
#define UP_B "01920000-0000-7000-8000-0000000000a4"

static void leave_uploads(void) {
    pg_ask(pg_admin(), "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, bytes_announced, lease_ms) "
                       "SELECT d.tenant_id, u.id::uuid, gen_random_uuid(), d.created_by, 'application/pdf', u.announced, 60000 "
                       "FROM (VALUES ('" UP_1 "', '" DOC_1 "', 4000), ('" UP_2 "', '" DOC_1 "', NULL), ('" UP_SWEPT "', '" DOC_1 "', 4000), "
                       "('" UP_B "', '" DOC_B "', 4000)) u (id, like_document, announced) JOIN app.documents d ON d.id = u.like_document::uuid");
    pg_ask(pg_admin(), "UPDATE app.uploads SET bytes_received = 1000; UPDATE app.uploads SET swept_at = now() WHERE document_id = '" UP_SWEPT "'");
}

Test(query_documents, an_upload_is_followed_while_it_runs) {
    leave_uploads();
    const Query__Document *d = get(UP_1);
    cr_assert_not_null(d, "%s", rig.why.text);
    cr_expect_str_eq(d->status, "uploading");
    cr_expect_eq(d->bytes_received, 1000);
    cr_expect_eq(d->bytes_announced, 4000);
    cr_expect_str_eq(d->content_type, "application/pdf");
    cr_expect_str_eq(d->file_name, "");
    cr_expect_eq(rig_count("document.read"), 1, "that it was shown is on the record");
    cr_assert_not_null(d = get(UP_2));
    cr_expect_eq(d->bytes_announced, 0);
    cr_expect_null(get(UP_SWEPT));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND);
    cr_expect_null(get(UP_B));
    cr_assert_not_null(d = get(DOC_1));
    cr_expect_eq(d->bytes_received, d->bytes);
    cr_expect_eq(d->chunks_total, 4);
    rig.audit_away_for = "*";
    cr_expect_null(get(UP_1));
    cr_expect_eq(rig.why.code, ERR_AUDIT_UNAVAILABLE);
}

Test(query_documents, uploads_are_listed_when_they_are_asked_for) {
    leave_uploads();
    const Query__ListDocumentsReply *r = list(0, "", "");
    cr_assert(r && r->n_documents == 3, "they are no documents yet");
    r = list(1, "uploading", "");
    cr_assert(r && r->n_documents == 1);
    cr_expect_str_eq(rig_id_text(r->documents[0]->id), UP_2);
    cr_expect_str_neq(r->next_cursor, "");
    r = list(1, "uploading", r->next_cursor);
    cr_assert(r && r->n_documents == 1);
    cr_expect_str_eq(rig_id_text(r->documents[0]->id), UP_1);
    cr_expect_str_eq(r->next_cursor, "");
    cr_expect_eq(rig_last("document.list")->document_count, 1);
}

Test(query_documents, an_upload_has_no_content) {
    leave_uploads();
    Query__ContentHead *head = NULL;
    struct buffer out = { 0 };
    cr_expect_eq(rig_content(clinician(), UP_1, 0, &head, &out), ST_NOT_FOUND);
    buffer_end(&out);
}

Test(query_documents, limits_statuses_and_cursors_that_are_none_are_refused) {
    cr_expect_null(list(101, "", ""));
    cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
    cr_expect_null(list(1, "deleted", ""));
    cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
    cr_expect_null(list(1, "", "bm90IGEgY3Vyc29y"));
    cr_expect_eq(rig.why.code, ERR_REQ_CURSOR);
    cr_expect_eq(rig.event_count, 0);
}

Test(query_documents, one_that_is_deleted_while_it_is_listed_is_left_out) {
    rig.deletes = DOC_2;
    const Query__ListDocumentsReply *r = list(0, "", "");
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_eq(r->n_documents, 2);
    cr_expect_str_eq(rig_id_text(r->documents[0]->id), DOC_3);
    cr_expect_str_eq(rig_id_text(r->documents[1]->id), DOC_1);
}

/* ---- one ---- */

Test(query_documents, one_is_shown_and_on_the_record) {
    const Query__Document *d = get(DOC_1);
    cr_assert_not_null(d, "%s", rig.why.text);
    cr_expect_str_eq(d->file_name, "referral.txt");
    cr_expect_str_eq(d->status, "ready");
    cr_expect_eq(d->pages, 3);
    cr_expect_eq(rig_last("document.read")->document_count, 1);
}

Test(query_documents, one_that_is_deleted_meanwhile_does_not_exist) {
    rig.deletes = DOC_1;
    cr_expect_null(get(DOC_1));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND, "%s", rig.why.text);
}

Test(query_documents, a_disabled_key_shows_nothing) {
    rig.is_kms_disabled = true;
    cr_expect_null(get(DOC_1));
    cr_expect_eq(rig.why.code, ERR_KMS_DISABLED, "%s", rig.why.text);
    cr_expect_null(list(0, "", ""));
    cr_expect_eq(rig.why.code, ERR_KMS_DISABLED, "%s", rig.why.text);
}

/* ---- jobs ---- */

Test(query_documents, a_job_is_shown_and_on_the_record) {
    const Query__Job *job = get_job(JOB_1);
    cr_assert_not_null(job, "%s", rig.why.text);
    cr_expect_str_eq(job->state, "succeeded");
    cr_expect_str_eq(rig_id_text(job->document_id), DOC_1);
    cr_expect_eq(job->chunks_total, 4);
    struct uuid id = rig_uuid(JOB_1);
    cr_expect(uuid_equal(&rig_last("job.read")->resource_id, &id));
}

/* ---- the original ---- */

static enum status content(const char *id, size_t max_parts, Query__ContentHead **ret_head, struct buffer *out) {
    return rig_content(clinician(), id, max_parts, ret_head, out);
}

Test(query_documents, the_original_arrives_whole) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    cr_assert_eq(content(DOC_1, 0, &head, &got), ST_OK, "%s", rig.why.text);
    cr_assert_not_null(head);
    cr_expect_str_eq(head->file_name, "referral.txt");
    cr_expect_eq(head->bytes, ORIGINAL_BYTES);
    cr_assert_eq(got.len, ORIGINAL_BYTES);
    cr_expect_eq(memcmp(got.data, original, ORIGINAL_BYTES), 0);
    cr_expect_eq(rig_last("document.content.read")->document_count, 1);
}

/* Ask for a part of the first document. */
static enum status want(Query__ContentPart part, int64_t from, int64_t length, Query__ContentHead **ret_head, struct buffer *out) {
    Query__ContentWanted wanted = QUERY__CONTENT_WANTED__INIT;
    wanted.part = part;
    wanted.from = from;
    wanted.length = length;
    rig.wanted = &wanted;
    atomic_store(&rig.store_bytes, 0);
    buffer_clear(out);
    enum status st = content(DOC_1, 0, ret_head, out);
    rig.wanted = NULL;
    return st;
}

Test(query_documents, a_range_arrives_from_its_own_frames_and_is_on_the_record) {
    static const struct { int64_t from, length, first, bytes; } CASES[] = {
        { 0, 1, 0, 1 }, { 65535, 2, 65535, 2 }, { 1000000, 300000, 1000000, 300000 }, { ORIGINAL_BYTES - 1, 1, ORIGINAL_BYTES - 1, 1 },
        { 2900000, -1, 2900000, 100000 }, { -1, 10, ORIGINAL_BYTES - 10, 10 }, { -1, INT64_MAX, 0, ORIGINAL_BYTES },
        { 2999999, INT64_MAX, 2999999, 1 }, { 0, -1, 0, ORIGINAL_BYTES },
    };
    CLEANUP(buffer_end) struct buffer got = { 0 };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Query__ContentHead *head = NULL;
        cr_assert_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, CASES[i].from, CASES[i].length, &head, &got), ST_OK, "%zu: %s", i, rig.why.text);
        cr_expect(head->from == CASES[i].first && head->length == CASES[i].bytes && head->bytes == ORIGINAL_BYTES, "%zu", i);
        cr_assert_eq(got.len, (size_t)CASES[i].bytes, "%zu", i);
        cr_expect_eq(memcmp(got.data, original + CASES[i].first, got.len), 0, "%zu", i);
        cr_expect_leq(atomic_load(&rig.store_bytes), CASES[i].bytes + 3 * (65536 + 16), "%zu: more of the store than the frames that hold it", i);
        char detail[96];
        (void)snprintf(detail, sizeof detail, "{\"bytes\":%lld,\"from\":%lld,\"part\":\"range\"}", (long long)CASES[i].bytes, (long long)CASES[i].first);
        cr_expect_str_eq(rig_last("document.content.read")->detail, detail);
    }
}

Test(query_documents, a_range_that_is_damaged_is_an_error_and_another_is_not) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    rig.damaged_at = 1500000;
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, 1499000, 100, &head, &got), ST_UNAVAILABLE);
    cr_expect_eq(rig.why.code, ERR_STORE_DAMAGED, "%s", rig.why.text);
    cr_expect(!head && got.len == 0, "nothing of a frame that does not authenticate");
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, 1000, 100, &head, &got), ST_OK, "%s", rig.why.text);
    rig.damaged_at = -1;
    rig.is_object_cut = true;
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, 1499000, 100, &head, &got), ST_UNAVAILABLE);
}

Test(query_documents, a_head_and_an_unchanged_original_are_on_the_record_and_fetch_nothing) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    cr_assert_eq(want(QUERY__CONTENT_PART__CONTENT_HEAD, 0, 0, &head, &got), ST_OK, "%s", rig.why.text);
    cr_expect(head->bytes == ORIGINAL_BYTES && got.len == 0 && atomic_load(&rig.store_bytes) == 0);
    cr_expect_str_eq(head->file_name, "referral.txt");
    cr_expect_str_eq(rig_last("document.content.read")->detail, "{\"part\":\"head\"}");
    cr_assert_eq(want(QUERY__CONTENT_PART__CONTENT_UNCHANGED, 0, 0, &head, &got), ST_OK, "%s", rig.why.text);
    cr_expect(got.len == 0 && atomic_load(&rig.store_bytes) == 0);
    cr_expect_str_eq(head->file_name, "");
    cr_expect_str_eq(rig_last("document.content.read")->detail, "{\"part\":\"unchanged\"}");
    rig.audit_away_for = "document.content.read";
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_HEAD, 0, 0, &head, &got), ST_UNAVAILABLE);
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_UNCHANGED, 0, 0, &head, &got), ST_UNAVAILABLE);
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, 0, 5, &head, &got), ST_UNAVAILABLE);
    cr_expect(!head && got.len == 0 && atomic_load(&rig.store_bytes) == 0);
}

Test(query_documents, a_range_outside_says_how_long_the_original_is_and_no_more) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    cr_assert_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, ORIGINAL_BYTES, -1, &head, &got), ST_OK, "%s", rig.why.text);
    cr_expect(head->bytes == ORIGINAL_BYTES && head->length == 0 && !*head->file_name && !*head->content_type && got.len == 0);
    cr_assert_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, -1, 0, &head, &got), ST_OK, "%s", rig.why.text);
    cr_expect(head->length == 0 && got.len == 0);
    cr_expect(rig_count("document.content.read") == 0 && atomic_load(&rig.store_bytes) == 0);
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, -1, -1, &head, &got), ST_INVALID);
    cr_expect_eq(want(QUERY__CONTENT_PART__CONTENT_RANGE, -2, 5, &head, &got), ST_INVALID);
}

Test(query_documents, an_original_that_is_deleted_meanwhile_does_not_exist) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    rig.deletes = DOC_1;
    cr_expect_eq(content(DOC_1, 0, &head, &got), ST_NOT_FOUND, "%s", rig.why.text);
    cr_expect_null(head);
}

Test(query_documents, a_reader_who_goes_away_ends_the_stream) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    cr_assert_eq(content(DOC_1, 2, &head, &got), ST_OK, "%s", rig.why.text);
    cr_expect_lt(got.len, ORIGINAL_BYTES);
    for (int64_t until_ms = clock_mono_ms() + 5000; rig_in_flight() > 0;) {
        cr_assert_lt(clock_mono_ms(), until_ms, "the call goes on");
        (void)usleep(2000);
    }
    cr_expect_not_null(get(DOC_1), "and the worker serves on: %s", rig.why.text);
}

Test(query_documents, a_damaged_original_is_an_error_and_never_looks_complete) {
    static const int64_t AT[] = { 3, 20, 1500000, 3000600 };       /* header, first frame, a middle one, the last */
    for (size_t i = 0; i < sizeof AT / sizeof *AT; i++) {
        CLEANUP(buffer_end) struct buffer got = { 0 };
        Query__ContentHead *head = NULL;
        rig.damaged_at = AT[i];
        cr_expect_eq(content(DOC_1, 0, &head, &got), ST_UNAVAILABLE, "byte %lld: %s", (long long)AT[i], rig.why.text);
        cr_expect_eq(rig.why.code, ERR_STORE_DAMAGED, "byte %lld: %s", (long long)AT[i], rig.why.text);
        cr_expect_lt(got.len, ORIGINAL_BYTES);
        cr_expect_eq(memcmp(got.len ? got.data : "", original, got.len), 0, "what came before is true");
    }
}

Test(query_documents, an_original_that_is_cut_or_away_is_an_error) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    rig.is_object_cut = true;
    cr_expect_eq(content(DOC_1, 0, &head, &got), ST_UNAVAILABLE, "%s", rig.why.text);
    cr_expect_lt(got.len, ORIGINAL_BYTES);
    rig.is_object_cut = false;
    rig.is_store_down = true;
    cr_expect_eq(content(DOC_1, 0, &head, &got), ST_UNAVAILABLE);
    cr_expect_eq(rig.why.code, ERR_STORE_UNAVAILABLE, "%s", rig.why.text);
}

/* ---- lists of jobs ---- */

static Query__ListJobsReply *jobs(uint32_t limit, const char *state, const char *kind, const char *cursor) {
    Query__ListJobsRequest req = QUERY__LIST_JOBS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.limit = limit;
    req.state = (char *)state;
    req.kind = (char *)kind;
    req.cursor = (char *)cursor;
    (void)rig_call("query.ListJobs", clinician(), &req.base, &reply);
    return (Query__ListJobsReply *)reply;
}

static void add_dead_jobs(void) {
    pg_ask(pg_admin(), "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, state, attempt, done_at, reason_code) "
                       "SELECT tenant_id, ('01920000-0000-7000-8000-0000000001f' || i)::uuid, 'ingest', 'ingest', id, created_by, 'dead', 5, now(), 'worker_lost' "
                       "FROM app.documents, generate_series(1, 3) i WHERE id = '" DOC_3 "'");
}

Test(query_documents, jobs_that_were_given_up_are_listed_newest_first_and_on_the_record) {
    add_dead_jobs();
    const Query__ListJobsReply *r = jobs(0, "dead", "", "");
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_eq(r->n_jobs, 3);
    cr_expect_str_eq(rig_id_text(r->jobs[0]->id), "01920000-0000-7000-8000-0000000001f3");
    cr_expect_str_eq(r->jobs[0]->reason_code, "worker_lost");
    cr_expect_str_eq(r->jobs[0]->queue, "ingest");
    cr_expect_str_eq(r->next_cursor, "");
    cr_expect(strstr(rig_last("job.list")->detail, "\"state\":\"dead\""), "%s", rig_last("job.list")->detail);
    cr_expect_eq(jobs(0, "", "", "")->n_jobs, 4);
    cr_expect_eq(jobs(0, "", "erase", "")->n_jobs, 0);
    cr_expect_eq(jobs(0, "cancelled", "ingest", "")->n_jobs, 0);
}

Test(query_documents, pages_of_jobs_follow_each_other_without_a_gap) {
    add_dead_jobs();
    const char *cursor = "";
    for (char i = '3'; i >= '1'; i--) {
        const Query__ListJobsReply *r = jobs(1, "dead", "", cursor);
        cr_assert_not_null(r, "%s", rig.why.text);
        cr_assert_eq(r->n_jobs, 1);
        cr_expect_eq(rig_id_text(r->jobs[0]->id)[35], i);
        cursor = r->next_cursor;
    }
    cr_expect_str_eq(cursor, "");
}

Test(query_documents, a_job_of_the_whole_tenant_is_listed_without_a_document_on_the_record) {
    pg_ask(pg_admin(), "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id, state, attempt, done_at) "
                       "SELECT tenant_id, '01920000-0000-7000-8000-0000000001ff', 'ingest', 'rewrap', '00000000-0000-0000-0000-000000000000', created_by, "
                       "'succeeded', 1, now() FROM app.documents WHERE id = '" DOC_3 "'");
    const Query__ListJobsReply *r = jobs(0, "", "rewrap", "");
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_eq(r->n_jobs, 1);
    cr_expect_eq(rig_last("job.list")->document_count, 0);
}

Test(query_documents, lists_of_jobs_refuse_what_no_job_has) {
    cr_expect_null(jobs(101, "", "", ""));
    cr_expect_null(jobs(0, "gone", "", ""));
    cr_expect_null(jobs(0, "", "x' OR true", ""));
    cr_expect_null(jobs(0, "", "", "nonsense"));
}
