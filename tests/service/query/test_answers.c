/* Search and answers: what is found, cited, stored, and on the record at each step. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "crypto/commitment.h"
#include "json/canonical.h"
#include "json/writer.h"
#include "log.h"
#include "rig.h"

#define DOC_1   "01920000-0000-7000-8000-000000000001"
#define DOC_2   "01920000-0000-7000-8000-000000000002"
#define DOC_3   "01920000-0000-7000-8000-000000000003"
#define CHUNK_1 "01920000-0000-7000-8000-00000000c001"
#define CHUNK_2 "01920000-0000-7000-8000-00000000c002"
#define CHUNK_3 "01920000-0000-7000-8000-00000000c003"

static void set_up(void) {
    rig_open();
    rig_document(PG_TENANT_A, DOC_1, "ready", "referral.txt", NULL, 0);
    rig_document(PG_TENANT_A, DOC_2, "ready", "lab.txt", NULL, 0);
    rig_document(PG_TENANT_A, DOC_3, "failed", "draft.txt", NULL, 0);
    rig_chunk(DOC_1, CHUNK_1, "Metformin 500 mg twice a day.", 0.1);
    rig_chunk(DOC_2, CHUNK_2, "HbA1c 7.2 %.", 0.2);
    rig_chunk(DOC_3, CHUNK_3, "What is left of an attempt.", 0);       /* exactly where the question is */
}

TestSuite(query_answers, .init = set_up, .fini = rig_close, .timeout = 60);

static const char *clinician(void) {
    return pg_ticket(PG_SLUG_A, "clinician", "ann");
}

static Query__Filter *only(const char *const ids[], size_t n) {
    Query__Filter *filter = arena_alloc(rig.mem, sizeof *filter);
    query__filter__init(filter);
    filter->n_document_ids = n;
    filter->document_ids = arena_alloc(rig.mem, n * sizeof *filter->document_ids);
    for (size_t i = 0; i < n; i++)
        filter->document_ids[i] = rig_id(ids[i]);
    return filter;
}

static Query__SearchReply *search(const char *question, uint32_t top_k, Query__Filter *filter) {
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.question = (char *)question;
    req.top_k = top_k;
    req.filter = filter;
    (void)rig_call("query.Search", clinician(), &req.base, &reply);
    return (Query__SearchReply *)reply;
}

static Query__QueryReply *ask(const char *question) {
    Query__QueryRequest req = QUERY__QUERY_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.question = (char *)question;
    (void)rig_call("query.Query", clinician(), &req.base, &reply);
    return (Query__QueryReply *)reply;
}

/* ---- search ---- */

Test(query_answers, hits_come_nearest_first_with_their_texts_and_places) {
    const Query__SearchReply *r = search("Which dose?", 0, NULL);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_eq(r->n_hits, 2);
    const Query__Hit *hit = r->hits[0];
    cr_expect_str_eq(hit->text, "Metformin 500 mg twice a day.");
    cr_expect_str_eq(hit->document_name, "referral.txt");
    cr_expect_str_eq(rig_id_text(hit->chunk_id), CHUNK_1);
    cr_expect_str_eq(rig_id_text(hit->document_id), DOC_1);
    cr_expect_eq(hit->page_from, 2);
    cr_expect_eq(hit->end_offset - hit->start_offset, (int64_t)strlen(hit->text));
    cr_expect_gt(hit->score, r->hits[1]->score);
    cr_expect_str_eq(r->hits[1]->text, "HbA1c 7.2 %.");
}

Test(query_answers, a_search_is_on_the_record_with_what_was_asked_and_shown) {
    const Query__SearchReply *r = search("Which dose?", 5, NULL);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_str_eq(rig_last("question.ask")->detail, "{\"purpose\":\"search\"}");
    const struct rig_event *e = rig_last("search.disclose");
    cr_expect_str_eq(e->detail, "{\"top_k\":5,\"hits\":2,\"model\":\"" RIG_MODEL "\"}");
    cr_expect_eq(e->document_count, 2);
    cr_expect_eq(e->chunk_count, 2);
    cr_expect_eq(memcmp(r->event_id.data, e->id.bytes, UUID_BYTES), 0);
    cr_expect_eq(rig_count("model.disclose"), 0);
}

/* While the model changes, and before: by the one whose vectors are searched, whichever is the present one. */
Test(query_answers, a_question_is_embedded_by_the_model_that_is_searched) {
    pg_ask(pg_admin(), "UPDATE app.text_vectors SET model = 'older'; UPDATE app.vector_sets SET next_model = 'older';"
                       "UPDATE app.vector_sets SET model = 'older', next_model = NULL; UPDATE app.vector_sets SET next_model = '" RIG_MODEL "'");
    const Query__SearchReply *r = search("Which dose?", 0, NULL);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_eq(r->n_hits, 2);
    cr_expect_eq(rig.embed_count, 2, "the present model was asked first");
    cr_expect_str_eq(rig_last("search.disclose")->detail, "{\"top_k\":8,\"hits\":2,\"model\":\"older\"}");
}

/* In a partition of the tenant's own, by its index, under labels and with rows that have not moved yet. */
Test(query_answers, an_index_of_the_tenant_s_own_finds_what_the_scan_finds) {
    pg_ask(pg_admin(), "BEGIN; SET LOCAL ROLE cordon_keys_definer; SELECT app.make_vector_partition('" PG_TENANT_A "'), app.index_vectors('" PG_TENANT_A "', '" RIG_MODEL "');"
                       "UPDATE app.vector_sets SET home = tenant_id WHERE tenant_id = '" PG_TENANT_A "'; "
                       "UPDATE app.text_vectors SET home = tenant_id WHERE text_blind = (SELECT k.text_blind FROM app.chunks k WHERE k.id = '" CHUNK_1 "'); COMMIT");
    const Query__SearchReply *r = search("Which dose?", 0, NULL);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_eq(r->n_hits, 2);
    cr_expect_str_eq(rig_id_text(r->hits[0]->chunk_id), CHUNK_1);
    pg_ask(pg_admin(), "UPDATE app.text_vectors SET home = tenant_id WHERE home <> tenant_id AND tenant_id = '" PG_TENANT_A "'");
    r = search("Which dose?", 1, NULL);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_eq(r->n_hits, 1);
}

Test(query_answers, top_k_bounds_the_hits) {
    const Query__SearchReply *r = search("Which dose?", 1, NULL);
    cr_assert(r && r->n_hits == 1);
    cr_expect_str_eq(rig_id_text(r->hits[0]->chunk_id), CHUNK_1);
    cr_expect_not_null(search("Which dose?", 32, NULL));
    cr_expect_null(search("Which dose?", 33, NULL));
    cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
}

Test(query_answers, chunks_of_documents_that_are_not_ready_take_nobodys_place) {
    const Query__SearchReply *r = search("Which dose?", 2, NULL);
    cr_assert(r && r->n_hits == 2);
    cr_expect_str_eq(rig_id_text(r->hits[0]->chunk_id), CHUNK_1);
    cr_expect_eq(rig_last("search.disclose")->chunk_count, 2);
}

Test(query_answers, a_filter_bounds_the_documents_and_itself) {
    const Query__SearchReply *r = search("Which dose?", 0, only((const char *const[]){ DOC_2 }, 1));
    cr_assert(r && r->n_hits == 1, "%s", rig.why.text);
    cr_expect_str_eq(rig_id_text(r->hits[0]->document_id), DOC_2);
    const char *many[101];
    for (size_t i = 0; i < 101; i++)
        many[i] = DOC_2;
    cr_expect_not_null(search("Which dose?", 0, only(many, 100)), "%s", rig.why.text);
    cr_expect_null(search("Which dose?", 0, only(many, 101)));
    cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
    Query__Filter *bad = only(many, 1);
    bad->document_ids[0].len = 15;
    cr_expect_null(search("Which dose?", 0, bad));
    cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
}

Test(query_answers, questions_that_are_none_are_refused_before_anybody_hears_them) {
    char long_question[4002];
    memset(long_question, 'q', sizeof long_question - 1);
    long_question[sizeof long_question - 1] = '\0';
    const char *const bad[] = { "", long_question, "\xff\xfe" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_null(search(bad[i], 0, NULL));
        cr_expect_eq(rig.why.code, ERR_REQ_FIELD);
    }
    long_question[4000] = '\0';
    cr_expect_not_null(search(long_question, 0, NULL), "%s", rig.why.text);
    cr_expect_eq(rig.embed_count, 1);
    cr_expect_eq(rig_count("question.ask"), 1);
}

Test(query_answers, a_hit_whose_document_is_deleted_meanwhile_is_left_out) {
    rig.deletes = DOC_1;
    const Query__SearchReply *r = search("Which dose?", 0, NULL);
    cr_assert(r && r->n_hits == 1, "%s", rig.why.text);
    cr_expect_str_eq(r->hits[0]->text, "HbA1c 7.2 %.");
    cr_expect_str_eq(r->hits[0]->document_name, "lab.txt");
}

Test(query_answers, hits_that_are_too_much_for_one_reply_end_before_it) {
    char *big = arena_alloc(rig.mem, 100001);
    memset(big, 'x', 100000);
    for (unsigned i = 0; i < 12; i++)
        rig_chunk(DOC_1, arena_printf(rig.mem, "01920000-0000-7000-8000-00000000d0%02u", i), big, 0.01);
    const Query__SearchReply *r = search("Which dose?", 32, NULL);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_eq(r->n_hits, 8);
    cr_expect_eq(rig_last("search.disclose")->chunk_count, 8, "no more is on the record than was shown");
}

Test(query_answers, without_a_model_nothing_is_disclosed) {
    rig.embed_failure = ERR_MODEL_UNAVAILABLE;
    cr_expect_null(search("Which dose?", 0, NULL));
    cr_expect_eq(rig.why.code, ERR_MODEL_UNAVAILABLE, "%s", rig.why.text);
    rig.embed_failure = ERR_MODEL_LIMITED;
    cr_expect_null(ask("Which dose?"));
    cr_expect_eq(rig.why.code, ERR_MODEL_LIMITED, "%s", rig.why.text);
    cr_expect_eq(rig_count("question.ask"), 2, "the questions were sent");
    cr_expect_eq(rig.event_count, 2, "and nothing else happened");
}

Test(query_answers, a_disabled_key_shows_nothing_and_nothing_goes_to_the_model) {
    rig.is_kms_disabled = true;
    cr_expect_null(search("Which dose?", 0, NULL));
    cr_expect_eq(rig.why.code, ERR_KMS_DISABLED, "%s", rig.why.text);
    cr_expect_null(ask("Which dose?"));
    cr_expect_eq(rig.why.code, ERR_KMS_DISABLED, "%s", rig.why.text);
    cr_expect_eq(rig.generate_count, 0);
}

/* ---- answers ---- */

Test(query_answers, an_answer_cites_its_sources) {
    rig.answer = "Metformin 500 mg twice a day. [1] The moon is full. [9] See http://evil.example [2]";
    const Query__QueryReply *r = ask("Which dose?");
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert(r->found);
    cr_expect_not_null(strstr(r->answer, "Metformin 500 mg twice a day. [1]"), "%s", r->answer);
    cr_expect_null(strstr(r->answer, "moon"), "%s", r->answer);
    cr_expect_null(strstr(r->answer, "evil"), "%s", r->answer);
    cr_expect_eq(r->dropped_citations, 1);
    cr_assert_geq(r->n_citations, 1);
    cr_expect_eq(r->citations[0]->number, 1);
    cr_expect_str_eq(rig_id_text(r->citations[0]->chunk_id), CHUNK_1);
    cr_expect_str_eq(r->citations[0]->quote, "Metformin 500 mg twice a day.");
    cr_expect_str_eq(r->citations[0]->document_name, "referral.txt");
    cr_expect_str_eq(r->model, "claude-test");
    cr_expect_eq(rig.source_count, 2);
    cr_expect_str_eq(rig.sources[1], "2 lab.txt: HbA1c 7.2 %.");
}

Test(query_answers, what_the_chat_model_is_given_is_on_the_record_beside_the_answer) {
    rig.answer = "Metformin. [1]";
    const Query__QueryReply *r = ask("Which dose?");
    cr_assert_not_null(r, "%s", rig.why.text);
    const struct rig_event *shown = rig_last("answer.disclose"), *sent = rig_last("model.disclose"), *asked = rig_last("question.ask");
    cr_expect(str_starts_with(asked->detail, "{\"purpose\":\"answer\",\"question\":\""), "%s", asked->detail);
    cr_expect_str_eq(shown->detail, "{\"top_k\":8,\"sources\":2,\"model\":\"" RIG_MODEL "\"}");
    cr_expect_str_eq(sent->detail, "{\"purpose\":\"answer\",\"texts\":2}");
    cr_expect_eq(sent->document_count, 2);
    cr_expect_eq(sent->chunk_count, 2);
    const struct rig_event *const all[] = { shown, sent, asked };
    for (size_t i = 0; i < 3; i++)
        cr_expect_eq(memcmp(all[i]->resource_id.bytes, r->answer_id.data, UUID_BYTES), 0, "%s", all[i]->action);
    cr_expect_eq(memcmp(shown->id.bytes, r->event_id.data, UUID_BYTES), 0);
}

Test(query_answers, an_answer_is_stored_sealed_and_its_record_tells_whether_it_was_found) {
    rig.answer = "Metformin. [1]";
    const Query__QueryReply *r = ask("Which dose?");
    cr_assert_not_null(r, "%s", rig.why.text);
    const char *row = pg_ask(pg_admin(), "SELECT a.event_id || ' ' || (a.citations -> 0 ->> 'chunk_id') || ' ' || jsonb_array_length(a.citations) "
                                         "FROM app.answers a WHERE a.id = '%s'", rig_id_text(r->answer_id));
    cr_expect_str_eq(row, arena_printf(rig.mem, "%s " CHUNK_1 " 1", rig_id_text(r->event_id)));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.answers WHERE position('Metformin'::bytea IN answer_enc) > 0 "
                                        "OR position('dose'::bytea IN question_enc) > 0"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'citations' FROM audit.audit_outbox WHERE action = 'answer.store'"), "1");
}

Test(query_answers, what_is_not_in_the_documents_is_not_answered) {
    static const char NOT_FOUND[] = "The answer was not found in the documents.";
    rig.answer = NULL;
    const Query__QueryReply *r = ask("Who won?");
    cr_assert(r && !r->found, "%s", rig.why.text);
    cr_expect_str_eq(r->answer, NOT_FOUND);
    cr_expect_eq(r->n_citations, 0);
    rig.answer = "Somebody won.";                   /* claims without a source */
    r = ask("Who won?");
    cr_assert(r && !r->found, "%s", rig.why.text);
    cr_expect_str_eq(r->answer, NOT_FOUND);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(detail ->> 'citations', ' ') FROM audit.audit_outbox WHERE action = 'answer.store'"), "0 0");
}

Test(query_answers, without_any_source_no_model_is_asked) {
    rig.answer = "Anything. [1]";
    pg_ask(pg_admin(), "DELETE FROM app.chunks");
    const Query__QueryReply *r = ask("Which dose?");
    cr_assert(r && !r->found, "%s", rig.why.text);
    cr_expect_eq(rig.generate_count, 0);
    cr_expect_eq(rig_count("model.disclose"), 0);
    cr_expect_eq(rig_count("answer.disclose"), 1);
}

Test(query_answers, a_source_that_is_deleted_meanwhile_does_not_reach_the_model) {
    rig.answer = "HbA1c 7.2 %. [1]";
    rig.deletes = DOC_1;
    const Query__QueryReply *r = ask("Which dose?");
    cr_assert(r && r->found, "%s", rig.why.text);
    cr_expect_eq(rig.source_count, 1);
    cr_expect_str_eq(rig.sources[0], "1 lab.txt: HbA1c 7.2 %.");
    cr_assert_eq(r->n_citations, 1);
    cr_expect_str_eq(rig_id_text(r->citations[0]->chunk_id), CHUNK_2);
}

Test(query_answers, a_chat_model_that_is_away_leaves_no_answer) {
    rig.generate_failure = ERR_MODEL_UNAVAILABLE;
    cr_expect_null(ask("Which dose?"));
    cr_expect_eq(rig.why.code, ERR_MODEL_UNAVAILABLE, "%s", rig.why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.answers"), "0");
    cr_expect_eq(rig_count("model.disclose"), 1, "the texts were sent");
}

Test(query_answers, an_answer_is_stored_only_beside_its_own_disclosure) {
    const char *ticket = clinician();
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.question = (char *)"Which dose?";
    cr_assert_eq(rig_call("query.Search", ticket, &req.base, &reply), ST_OK);
    PGconn *conn = pg_connect("cordon_query");
    static const char STORE[] = "INSERT INTO app.answers (tenant_id, id, user_id, conversation_id, document_ids, question_enc, answer_enc, citations, model, "
                                "event_id) SELECT tenant_id, '%s', user_id, id, '{}', 'q', 'a', '[]', 'm', '%s' FROM app.conversations";
    static const char BEGIN[] = "INSERT INTO app.questions (tenant_id, id, user_id, conversation_id, document_ids, event_id) "
                                "VALUES (authz.tenant(), '%s', authz.user_id(), '%s', '{}', '%s')";
    rig.answer = "Metformin. [1]";
    Query__QueryRequest question = QUERY__QUERY_REQUEST__INIT;
    question.question = req.question;
    ProtobufCMessage *answered = NULL;
    cr_assert_eq(rig_call("query.Query", ticket, &question.base, &answered), ST_OK);
    const char *const events[] = { CHUNK_1, rig_id_text(((Query__SearchReply *)reply)->event_id),       /* none, another kind, another answer's */
                                   rig_id_text(((Query__QueryReply *)answered)->event_id) };
    for (size_t i = 0; i < 3; i++) {
        pg_ask(conn, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
        cr_expect_str_eq(pg_try(conn, STORE, DOC_1, events[i]), "42501", "%zu", i);
        cr_expect_not_null(strstr(pg_message(), "an answer without its disclosure"), "%s", pg_message());
        pg_ask(conn, "ROLLBACK; BEGIN; SELECT * FROM authz.enter('%s')", ticket);
        cr_expect_str_eq(pg_try(conn, BEGIN, DOC_1, DOC_1, events[i]), "42501", "%zu", i);
        cr_expect_not_null(strstr(pg_message(), "a question without its disclosure"), "%s", pg_message());
        pg_ask(conn, "ROLLBACK");
    }
    PQfinish(conn);
}

/* ---- receipts ---- */

static Query__GetReceiptReply *receipt_of(const Query__QueryReply *answer, const char *ticket, bool open) {
    Query__GetReceiptRequest req = QUERY__GET_RECEIPT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.answer_id = answer->answer_id;
    req.open = open;
    (void)rig_call("query.GetReceipt", ticket, &req.base, &reply);
    return (Query__GetReceiptReply *)reply;
}

static const char *member(const char *body, const char *path) {
    return pg_ask(pg_admin(), "SELECT '%s'::jsonb #>> '%s'", body, path);
}

static void expect_commitment(const char *body, const char *path, const char *kind, ProtobufCBinaryData salt, const char *text) {
    uint8_t commitment[COMMITMENT_BYTES];
    char hex[2 * COMMITMENT_BYTES + 1];
    cr_assert_eq(salt.len, COMMITMENT_SALT_BYTES, "%s", path);
    commitment_make(kind, salt.data, text, strlen(text), commitment);
    cr_expect_str_eq(member(body, path), hex_encode(commitment, sizeof commitment, hex), "%s", path);
}

Test(query_answers, every_answer_has_a_receipt_whose_commitments_open_to_what_was_asked_given_and_shown) {
    rig.answer = "Metformin 500 mg twice a day. [1]";
    const Query__QueryReply *a = ask("Which dose?");
    cr_assert_not_null(a, "%s", rig.why.text);
    const Query__GetReceiptReply *r = receipt_of(a, clinician(), true);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_str_eq(r->question, "Which dose?");
    cr_expect_str_eq(r->output, a->answer);
    cr_assert_eq(r->n_chunk_texts, 2);
    cr_expect_str_eq(r->chunk_texts[1], "HbA1c 7.2 %.");
    expect_commitment(r->receipt, "{question}", "question", r->question_salt, "Which dose?");
    expect_commitment(r->receipt, "{output}", "output", r->output_salt, a->answer);
    expect_commitment(r->receipt, "{chunks,0}", "chunk", r->chunk_salts[0], "Metformin 500 mg twice a day.");
    expect_commitment(r->receipt, "{chunks,1}", "chunk", r->chunk_salts[1], "HbA1c 7.2 %.");
    expect_commitment(r->receipt, "{prompt}", "prompt", r->prompt_salt, "the prompt");
    cr_expect_str_eq(member(r->receipt, "{chunk_ids,0}"), CHUNK_1);
    cr_expect_str_eq(member(r->receipt, "{disclosure_id}"), rig_id_text(a->event_id));
    cr_expect_str_eq(member(r->receipt, "{model}"), "claude-test");
    cr_expect_str_eq(member(r->receipt, "{policy,decision}"), "allow");
    cr_expect(json_is_canonical(r->receipt, strlen(r->receipt)));
    cr_expect_eq(memcmp(r->chunk_salts[0].data, r->chunk_salts[1].data, COMMITMENT_SALT_BYTES) != 0, 1);
    cr_expect_not_null(strstr(rig_last("question.ask")->detail, member(r->receipt, "{question}")), "the question was committed to before it was sent");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'receipt' = encode(sha256(convert_to('%s', 'UTF8')), 'hex') FROM audit.audit_outbox "
                                        "WHERE action = 'answer.receipt' AND resource_id = '%s'", r->receipt, rig_id_text(a->answer_id)), "t");
}

Test(query_answers, a_receipt_shows_no_text_unless_it_is_opened_and_either_way_it_is_on_the_record_first) {
    rig.answer = "Metformin. [1]";
    const Query__QueryReply *a = ask("Which dose?");
    cr_assert_not_null(a, "%s", rig.why.text);
    const Query__GetReceiptReply *r = receipt_of(a, clinician(), false);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect(!*r->question && !*r->output && r->n_chunk_texts == 0 && r->question_salt.len == 0 && r->prompt_salt.len == 0);
    cr_expect_null(strstr(r->receipt, "Metformin"));
    cr_expect_str_eq(r->state, "pending");
    const struct rig_event *e = rig_last("answer.receipt.read");
    cr_expect_str_eq(e->detail, "{\"opened\":false}");
    cr_expect_eq(e->document_count, 2);
    rig.audit_away_for = "answer.receipt.read";
    cr_expect_null(receipt_of(a, clinician(), true));
    cr_expect_eq(rig.why.code, ERR_AUDIT_UNAVAILABLE, "%s", rig.why.text);
}

Test(query_answers, a_receipt_is_for_whom_the_answer_was_and_nobody_can_change_or_remove_it) {
    rig.answer = "Metformin. [1]";
    const Query__QueryReply *a = ask("Which dose?");
    cr_assert_not_null(a, "%s", rig.why.text);
    cr_expect_null(receipt_of(a, pg_ticket(PG_SLUG_A, "clinician", "bob"), true));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND, "%s", rig.why.text);
    cr_expect_null(receipt_of(a, pg_ticket(PG_SLUG_B, "clinician", "eve"), true));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND, "%s", rig.why.text);
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.receipts SET body = replace(body, 'allow', 'deny')"), "42501");
    cr_expect_str_eq(pg_try(pg_admin(), "DELETE FROM app.receipts"), "42501");
    cr_expect_str_eq(pg_try(pg_admin(), "INSERT INTO app.receipts (tenant_id, answer_id, user_id, body) SELECT tenant_id, '" DOC_1 "', user_id, body FROM app.receipts"), "23514");
}

Test(query_answers, of_a_source_that_is_hidden_the_receipt_keeps_the_commitment_and_of_a_deleted_one_nobody_has_any_salt) {
    rig.answer = "Metformin. [1]";
    const Query__QueryReply *a = ask("Which dose?");
    cr_assert_not_null(a, "%s", rig.why.text);
    pg_ask(pg_admin(), "INSERT INTO auth.labels (tenant_id, label) VALUES ('" PG_TENANT_A "', 'hiv') ON CONFLICT DO NOTHING");
    pg_ask(pg_admin(), "UPDATE app.documents SET labels = '{hiv}' WHERE id = '" DOC_1 "'");
    const Query__GetReceiptReply *r = receipt_of(a, clinician(), true);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_eq(r->n_chunk_salts, 2);
    cr_expect(r->chunk_salts[0].len == 0 && !*r->chunk_texts[0]);
    cr_expect_str_eq(r->chunk_texts[1], "HbA1c 7.2 %.");
    cr_expect_eq(r->prompt_salt.len, 0, "the prompt held its text too");
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = '" DOC_1 "'");
    r = receipt_of(a, clinician(), true);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_expect_eq(strlen(member(r->receipt, "{chunks,0}")), 64);
    cr_expect(r->n_chunk_salts == 0 && r->prompt_salt.len == 0 && !*r->question, "the answer went with it");
}

/* ---- receipts, for a stranger ---- */

/* The receipt's record from the outbox onto the log, as audit-writer puts it there. */
static void put_receipt_on_the_log(void) {
    pg_ask(pg_admin(),
        "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, resource_id, document_ids, content_digest, event, leaf_hash) "
        "SELECT x.event_id, x.tenant_id, x.seq, now(), now(), 'mutation', 'answer.receipt', 'success', x.actor_id, x.resource_id, '{}', sha256(''), e, sha256('\\x00'::bytea || e) "
        "FROM (SELECT o.*, n.seq, convert_to(format('{\"action\":\"answer.receipt\",\"detail\":{\"receipt\":\"%%s\"},\"resource_id\":\"%%s\",\"seq\":%%s,\"tenant_id\":\"%%s\",\"v\":1}', "
        "o.detail ->> 'receipt', o.resource_id, n.seq, o.tenant_id), 'UTF8') e FROM audit.audit_outbox o, (SELECT count(*) AS seq FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "') n "
        "WHERE o.action = 'answer.receipt') x");
}

static void put_bytes(struct json_writer *w, ProtobufCBinaryData bytes) {
    json_put_text(w, hex_encode(bytes.data, bytes.len, arena_alloc(rig.mem, 2 * bytes.len + 1)));
}

static void put_texts(struct json_writer *w, const Query__GetReceiptReply *r) {
    const struct { const char *name, *value; } TEXTS[] = { { "receipt", r->receipt }, { "event", r->event }, { "checkpoint", r->checkpoint },
                                                           { "question", r->question }, { "output", r->output } };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        json_put_name(w, TEXTS[i].name);
        json_put_text(w, TEXTS[i].value);
    }
    const struct { const char *name; ProtobufCBinaryData value; } BYTES[] = { { "leaf_hash", r->leaf_hash }, { "question_salt", r->question_salt },
                                                                              { "output_salt", r->output_salt }, { "prompt_salt", r->prompt_salt } };
    for (size_t i = 0; i < sizeof BYTES / sizeof *BYTES; i++)
        if (BYTES[i].value.len > 0) {
            json_put_name(w, BYTES[i].name);
            put_bytes(w, BYTES[i].value);
        }
}

/* As the edge prints it. */
static void print_receipt(const Query__GetReceiptReply *r, struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    put_texts(&w, r);
    json_put_name(&w, "seq");
    json_put_i64(&w, r->seq);
    json_put_name(&w, "size");
    json_put_i64(&w, r->size);
    json_put_name(&w, "hashes");
    json_open_array(&w);
    for (size_t i = 0; i < r->n_hashes; i++)
        put_bytes(&w, r->hashes[i]);
    json_close_array(&w);
    json_put_name(&w, "chunk_texts");
    json_open_array(&w);
    for (size_t i = 0; i < r->n_chunk_texts; i++)
        json_put_text(&w, r->chunk_texts[i]);
    json_close_array(&w);
    json_put_name(&w, "chunk_salts");
    json_open_array(&w);
    for (size_t i = 0; i < r->n_chunk_salts; i++)
        put_bytes(&w, r->chunk_salts[i]);
    json_close_array(&w);
    json_close_object(&w);
    cr_assert(json_finish(&w));
}

Test(query_answers, a_stranger_verifies_a_receipt_and_no_byte_of_it_can_be_changed) {
    static const char *const ARGS[] = { "record", "--key", LOG_VERIFIER, NULL };
    rig.answer = "Metformin \"500\" mg\ttwice a day. [1]";
    const Query__QueryReply *a = ask("Which dose, \\ and why?");
    cr_assert_not_null(a, "%s", rig.why.text);
    put_receipt_on_the_log();
    log_fill(PG_TENANT_A, 300);
    log_sign(PG_TENANT_A);
    const Query__GetReceiptReply *r = receipt_of(a, clinician(), true);
    cr_assert_not_null(r, "%s", rig.why.text);
    cr_assert_str_eq(r->state, "signed");
    CLEANUP(buffer_end) struct buffer json = { 0 }, said = { 0 };
    ((Query__GetReceiptReply *)r)->prompt_salt.len = 0;      /* nobody has the prompt here, so nothing is compared with it */
    print_receipt(r, &json);
    cr_expect_eq(log_verify(ARGS, json.data, json.len, &said), 0, "%s", said.data);
    cr_expect_not_null(strstr(said.data, "commitments opened: 4, still closed: 1"), "%s", said.data);
    for (size_t i = 1; i + 2 < json.len; i += 37) {         /* names of members are not covered: another one is as good as none */
        buffer_clear(&said);
        char kept = json.data[i];
        json.data[i] = (char)(kept == 'a' ? 'b' : 'a');
        int status = log_verify(ARGS, json.data, json.len, &said);
        cr_expect(status == 1 || (status == 0 && !strstr(said.data, "opened: 4")), "byte %zu of %s: %s", i, json.data, said.data);
        json.data[i] = kept;
    }
}
