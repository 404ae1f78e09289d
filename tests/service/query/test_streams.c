/* Answers as streams, conversations, and answers shown again. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "core/str.h"
#include "rig.h"

#define DOC_1   "01920000-0000-7000-8000-000000000001"
#define DOC_2   "01920000-0000-7000-8000-000000000002"
#define CHUNK_1 "01920000-0000-7000-8000-00000000c001"
#define CHUNK_2 "01920000-0000-7000-8000-00000000c002"

static void set_up(void) {
    rig_open();
    rig_document(PG_TENANT_A, DOC_1, "ready", "referral.txt", NULL, 0);
    rig_document(PG_TENANT_A, DOC_2, "ready", "lab.txt", NULL, 0);
    rig_chunk(DOC_1, CHUNK_1, "Metformin 500 mg twice a day.", 0.1);
    rig_chunk(DOC_2, CHUNK_2, "HbA1c 7.2 %.", 0.2);
}

TestSuite(query_streams, .init = set_up, .fini = rig_close, .timeout = 60);

static const char *clinician(void) {
    return pg_ticket(PG_SLUG_A, "clinician", "ann");
}

/* What was heard, one line an event; the ids of the answer. */
struct heard { struct buffer log; const char *answer_id, *conversation_id; enum status st; size_t parts; };

static void hear_event(void *ctx, const void *data, size_t len) {
    struct heard *h = ctx;
    const Query__AnswerEvent *e = query__answer_event__unpack(arena_wire(rig.mem), len, data);
    cr_assert_not_null(e);
    h->parts++;
    if (e->sources) {
        h->answer_id = rig_id_text(e->sources->answer_id);
        h->conversation_id = rig_id_text(e->sources->conversation_id);
        buffer_printf(&h->log, "%u sources %zu\n", e->number, e->sources->n_sources);
    }
    if (e->token)
        buffer_printf(&h->log, "%u token %s\n", e->number, e->token->text);
    if (e->citation)
        buffer_printf(&h->log, "%u citation %u %s: %s\n", e->number, e->citation->number, e->citation->document_name, e->citation->quote);
    if (e->usage)
        buffer_printf(&h->log, "%u usage %s\n", e->number, e->usage->model);
    if (e->done)
        buffer_printf(&h->log, "%u done %d\n", e->number, e->done->found);
}

static struct heard hear(const char *method, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *want, size_t max_parts) {
    struct heard h = { 0 };
    h.st = rig_listen(method, clinician(), req, want, max_parts, hear_event, &h);
    return h;
}

static struct heard ask(const char *question, const char *conversation_id, size_t max_parts) {
    Query__QueryRequest req = QUERY__QUERY_REQUEST__INIT;
    req.question = (char *)question;
    if (conversation_id)
        req.conversation_id = rig_id(conversation_id);
    return hear("query.Query", &req.base, &query__query_reply__descriptor, max_parts);
}

static struct heard again(const char *answer_id, uint32_t after) {
    Query__GetAnswerRequest req = QUERY__GET_ANSWER_REQUEST__INIT;
    req.answer_id = rig_id(answer_id);
    req.after = after;
    return hear("query.GetAnswer", &req.base, &query__get_answer_reply__descriptor, 0);
}

static const Query__StoredAnswer *get(const char *ticket, const char *answer_id) {
    Query__GetAnswerRequest req = QUERY__GET_ANSWER_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.answer_id = rig_id(answer_id);
    (void)rig_call("query.GetAnswer", ticket, &req.base, &reply);
    return reply ? ((Query__GetAnswerReply *)reply)->answer : NULL;
}

static const char WHOLE[] = "1 sources 2\n2 token Metformin twice. [1]\n3 citation 1 referral.txt: Metformin 500 mg twice a day.\n"
                            "4 token  HbA1c is 7.2 [2][1].\n5 citation 2 lab.txt: HbA1c 7.2 %.\n6 usage claude-test\n7 done 1\n";

Test(query_streams, an_answer_is_told_as_it_is_written_and_again_as_it_was_told) {
    rig.answer = "Metformin twice. [1] HbA1c is 7.2 [2][9][1]. I guess. See www.evil.example [7]";
    struct heard h = ask("Which dose?", NULL, 0);
    cr_assert_eq(h.st, ST_OK, "%s", rig.why.text);
    cr_expect_str_eq(h.log.data, WHOLE);
    struct heard replayed = again(h.answer_id, 0), rest = again(h.answer_id, 4);
    cr_expect_eq(replayed.st, ST_OK, "%s", rig.why.text);
    cr_expect_str_eq(replayed.log.data, WHOLE);
    cr_expect_str_eq(rest.log.data, strstr(WHOLE, "5 citation"));
    cr_expect_eq(rig_count("answer.read"), 2, "a replay is a disclosure");
    cr_expect_str_eq(rig_last("answer.read")->detail, "{\"after\":4}");
    cr_expect_eq(rig_last("answer.read")->document_count, 2);
    const Query__StoredAnswer *a = get(clinician(), h.answer_id);
    cr_assert_not_null(a, "%s", rig.why.text);
    cr_expect_str_eq(a->answer, "Metformin twice. [1] HbA1c is 7.2 [2][1].");
    cr_expect_str_eq(a->question, "Which dose?");
    cr_expect_str_eq(a->state, "complete");
    cr_expect_str_eq(a->citations[1]->quote, "HbA1c 7.2 %.");
    buffer_end(&h.log), buffer_end(&replayed.log), buffer_end(&rest.log);
}

Test(query_streams, what_the_documents_do_not_hold_is_told_so_and_again) {
    rig.answer = NULL;
    struct heard h = ask("Who won?", NULL, 0);
    cr_assert_eq(h.st, ST_OK, "%s", rig.why.text);
    cr_expect_str_eq(h.log.data, "1 sources 2\n2 token The answer was not found in the documents.\n3 usage claude-test\n4 done 0\n");
    struct heard replayed = again(h.answer_id, 1);
    cr_expect_str_eq(replayed.log.data, "2 token The answer was not found in the documents.\n3 usage claude-test\n4 done 0\n");
    buffer_end(&h.log), buffer_end(&replayed.log);
}

Test(query_streams, before_the_record_is_committed_not_a_byte_is_told) {
    static const char *const ACTIONS[] = { "question.ask", "answer.disclose", "model.disclose" };
    rig.answer = "Metformin. [1]";
    for (size_t i = 0; i < 3; i++) {
        rig.audit_away_for = ACTIONS[i];
        struct heard h = ask("Which dose?", NULL, 0);
        cr_expect_eq(h.parts, 0, "%s", ACTIONS[i]);
        cr_expect_eq(rig.why.code, ERR_AUDIT_UNAVAILABLE, "%s", rig.why.text);
    }
    cr_expect_eq(rig.generate_count, 0);
}

Test(query_streams, an_answer_that_breaks_off_is_never_done_and_kept_as_far_as_it_was_shown) {
    rig.answer = "Metformin twice. [1] HbA1c is";
    rig.breaks_off = ERR_MODEL_BROKE_OFF;
    struct heard h = ask("Which dose?", NULL, 0);
    cr_expect_eq(h.st, ST_UNAVAILABLE);
    cr_expect_eq(rig.why.code, ERR_MODEL_BROKE_OFF, "%s", rig.why.text);
    cr_expect_null(strstr(h.log.data, "done"), "%s", h.log.data);
    const Query__StoredAnswer *a = get(clinician(), h.answer_id);
    cr_assert_not_null(a, "%s", rig.why.text);
    cr_expect_str_eq(a->state, "interrupted");
    cr_expect_str_eq(a->answer, "Metformin twice. [1]");
    struct heard replayed = again(h.answer_id, 0);
    cr_expect_eq(rig.why.code, ERR_ANSWER_INTERRUPTED, "%s", rig.why.text);
    cr_expect_str_eq(replayed.log.data, "1 sources 1\n2 token Metformin twice. [1]\n3 citation 1 referral.txt: Metformin 500 mg twice a day.\n");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.receipts"), "1", "with the receipt of what was shown");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.questions"), "0");
    buffer_end(&h.log), buffer_end(&replayed.log);
}

Test(query_streams, a_client_that_goes_stops_the_model_at_once_and_what_it_saw_is_kept) {
    rig.answer = "Metformin twice. [1] HbA1c";
    rig.model_hangs = true;
    struct heard h = ask("Which dose?", NULL, 3);
    cr_expect_eq(h.parts, 3);
    rig_wait(&rig.model_was_left);
    for (int i = 0; i < 5000 && str_equal(pg_ask(pg_admin(), "SELECT count(*) FROM app.answers"), "0"); i++)
        usleep(1000);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(state, ' ') FROM app.answers"), "interrupted");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'state' FROM audit.audit_outbox WHERE action = 'answer.store'"), "interrupted");
    buffer_end(&h.log);
}

Test(query_streams, a_question_whose_process_died_says_so_and_one_under_way_is_waited_for) {
    rig.answer = "Metformin. [1]";
    struct heard h = ask("Which dose?", NULL, 0);
    const char *other = DOC_2;
    pg_ask(pg_admin(), "ALTER TABLE app.questions DISABLE TRIGGER audit; INSERT INTO app.questions (tenant_id, id, user_id, conversation_id, event_id, "
                       "document_ids) SELECT tenant_id, '%s', user_id, id, id, '{}' FROM app.conversations", other);
    const Query__StoredAnswer *a = get(clinician(), other);
    cr_assert_not_null(a, "%s", rig.why.text);
    cr_expect_str_eq(a->state, "running");
    pg_ask(pg_admin(), "UPDATE app.questions SET asked_at = now() - interval '6 min'");
    a = get(clinician(), other);
    cr_assert_not_null(a, "%s", rig.why.text);
    cr_expect_str_eq(a->state, "interrupted");
    struct heard lost = again(other, 0);
    cr_expect_eq(rig.why.code, ERR_ANSWER_INTERRUPTED);
    cr_expect_eq(lost.parts, 0);
    buffer_end(&h.log);
}

/* ---- conversations ---- */

Test(query_streams, a_conversation_goes_on_with_what_was_said_under_the_key_that_it_has) {
    rig.answer = "Metformin twice. [1]";
    struct heard first = ask("Which drug?", NULL, 0);
    cr_expect_str_eq(first.answer_id, first.conversation_id);
    rig.answer = "500 mg. [1]";
    struct heard second = ask("And how much of it?", first.conversation_id, 0);
    cr_assert_eq(second.st, ST_OK, "%s", rig.why.text);
    cr_expect_str_eq(second.conversation_id, first.conversation_id);
    cr_expect_str_neq(second.answer_id, first.answer_id);
    cr_assert_eq(rig.turn_count, 1);
    cr_expect_str_eq(rig.turns[0], "Which drug? > Metformin twice.", "without numbers of other sources");
    cr_expect_str_eq(rig_last("conversation.read")->detail, "{\"purpose\":\"follow_up\",\"answers\":1}");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM keys.conversation_keys"), "1");
    Query__GetConversationRequest req = QUERY__GET_CONVERSATION_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.conversation_id = rig_id(first.conversation_id);
    cr_assert_eq(rig_call("query.GetConversation", clinician(), &req.base, &reply), ST_OK, "%s", rig.why.text);
    const Query__GetConversationReply *c = (const void *)reply;
    cr_assert_eq(c->n_answers, 2);
    cr_expect_str_eq(c->answers[0]->question, "And how much of it?");
    cr_expect_str_eq(c->answers[1]->answer, "Metformin twice. [1]");
    buffer_end(&first.log), buffer_end(&second.log);
}

Test(query_streams, history_is_bounded) {
    rig.answer = "Metformin twice. [1]";
    struct heard first = ask("Which drug?", NULL, 0);
    for (int i = 0; i < 8; i++) {
        struct heard h = ask("Again?", first.conversation_id, 0);
        cr_assert_eq(h.st, ST_OK, "%s", rig.why.text);
        buffer_end(&h.log);
    }
    cr_expect_eq(rig.turn_count, 6);
    buffer_end(&first.log);
}

Test(query_streams, nobody_else_reads_a_conversation_or_goes_on_with_it) {
    rig.answer = "Metformin twice. [1]";
    struct heard first = ask("Which drug?", NULL, 0);
    const char *bob = pg_ticket(PG_SLUG_A, "clinician", "bob");
    Query__QueryRequest req = QUERY__QUERY_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.question = (char *)"And?";
    req.conversation_id = rig_id(first.conversation_id);
    cr_expect_eq(rig_call("query.Query", bob, &req.base, &reply), ST_NOT_FOUND);
    cr_expect_null(get(bob, first.answer_id));
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND);
    PGconn *conn = pg_connect("cordon_query");              /* nor by hand: the key comes only behind a record of one's own */
    pg_ask(conn, "BEGIN; SELECT * FROM authz.enter('%s')", bob);
    cr_expect_str_eq(pg_try(conn, "SELECT * FROM keys.open_conversation('%s')", first.answer_id), "42501");
    pg_ask(conn, "ROLLBACK; BEGIN; SELECT * FROM authz.enter('%s')", bob);
    cr_expect_str_eq(pg_try(conn, "SELECT * FROM keys.conversation_keys"), "42501");
    pg_ask(conn, "ROLLBACK");
    PQfinish(conn);
    buffer_end(&first.log);
}

Test(query_streams, labels_are_looked_at_again_at_each_reading) {
    rig.answer = "Metformin twice. [1]";
    struct heard first = ask("Which drug?", NULL, 0);
    pg_ask(pg_admin(), "INSERT INTO auth.labels (tenant_id, label) SELECT '" PG_TENANT_A "', 'psychotherapy' ON CONFLICT DO NOTHING");
    pg_ask(pg_admin(), "UPDATE app.documents SET labels = '{psychotherapy}' WHERE id = '" DOC_1 "'");
    cr_expect_null(get(clinician(), first.answer_id), "%s", rig.why.text);
    cr_expect_eq(rig.why.code, ERR_NOT_FOUND);
    rig.answer = "HbA1c 7.2 [1].";
    struct heard second = ask("And?", first.conversation_id, 0);
    cr_expect_eq(second.st, ST_OK, "%s", rig.why.text);
    cr_expect_eq(rig.turn_count, 0, "what it cites is hidden now, so it is not told to the model either");
    Query__GetConversationRequest req = QUERY__GET_CONVERSATION_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.conversation_id = rig_id(first.conversation_id);
    cr_assert_eq(rig_call("query.GetConversation", clinician(), &req.base, &reply), ST_OK, "%s", rig.why.text);
    const Query__StoredAnswer *hidden = ((Query__GetConversationReply *)reply)->answers[1];
    cr_expect_str_eq(hidden->state, "withheld");
    cr_expect_str_eq(hidden->answer, "");
    cr_expect_str_eq(hidden->question, "");
    buffer_end(&first.log), buffer_end(&second.log);
}

#define ASKED_SQL "SELECT string_agg(e.reason_code || ' ' || i.kind || ' ' || i.state || ' ' || j.kind, ',') FROM app.erasures e " \
                  "JOIN app.erasure_items i ON i.erasure_id = e.id JOIN jobs.jobs j ON j.id = e.id WHERE i.id = '%s'"

Test(query_streams, a_deleted_conversation_is_gone_and_so_are_those_that_were_given_a_deleted_document) {
    rig.answer = "Metformin twice. [1]";
    struct heard first = ask("Which drug?", NULL, 0), other = ask("Which one?", NULL, 0);
    Query__DeleteConversationRequest req = QUERY__DELETE_CONVERSATION_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.conversation_id = rig_id(first.conversation_id);
    cr_assert_eq(rig_call("query.DeleteConversation", clinician(), &req.base, &reply), ST_OK, "%s", rig.why.text);
    cr_expect_null(get(clinician(), first.answer_id));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM keys.conversation_keys"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'answers' FROM audit.audit_outbox WHERE action = 'conversation.delete'"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), ASKED_SQL, first.conversation_id), "conversation_deleted conversation intended erase");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.erasures e JOIN app.conversations c USING (tenant_id) WHERE e.requested_by = c.user_id"), "1");
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = '" DOC_2 "'");
    cr_expect_str_eq(pg_ask(pg_admin(), ASKED_SQL, other.conversation_id), "document_deleted conversation intended erase", "it was given that document");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.answers) + (SELECT count(*) FROM keys.conversation_keys)"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.erasures"), "2");
    buffer_end(&first.log), buffer_end(&other.log);
}

Test(query_streams, an_answer_made_from_a_document_that_is_deleted_meanwhile_is_not_stored) {
    rig.answer = "Metformin twice. [1]";
    rig.deletes_while_answering = DOC_2;
    struct heard late = ask("Which drug?", NULL, 0);
    cr_expect_eq(late.st, ST_UNAVAILABLE, "%s", rig.why.text);
    cr_expect_eq(rig.why.code, ERR_ANSWER_INTERRUPTED, "asked again, there is an answer or the truth about the conversation");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.answers) + (SELECT count(*) FROM app.conversations)"), "0");
    buffer_end(&late.log);
}
