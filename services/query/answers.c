/* answers — search, and answers that cite what they say, whole or as a stream of events: both go one way, and differ in
 * whether anybody listens while the model writes. */
#include <string.h>

#include "columns.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/wire.h"
#include "embedding.pb-c.h"
#include "query.h"
#include "query.pb-c.h"
#include "retrieval.h"
#include "stored.h"
#include "telling.h"

enum { ANSWER_MAX_TOKENS = 1024, TURNS_MAX = 6, TURN_MAX_BYTES = 20000, LAST_WORD_MS = 3000, POLL_MS = 500 };

enum status on_search(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__SearchRequest *req = (const void *)in;
    Query__SearchReply *reply = (void *)out;
    struct query *q = self;
    CLEANUP(retrieval_end) struct retrieval r = { 0 };
    struct asked asked = { .question = req->question, .top_k = req->top_k, .filter = req->filter };
    enum status st = retrieve(q, call, &asked, &r);
    if (st != ST_OK)
        return st;
    CLEANUP(disclosure_end) struct disclosure shown = { 0 };
    st = reveal(q, call, &asked, &r, &shown);
    if (st != ST_OK)
        return st;

    reply->event_id = wire_id(call->mem, &shown.event_id);
    reply->hits = arena_alloc(call->mem, r.count * sizeof *reply->hits);
    for (size_t i = 0; i < r.count; i++) {
        const struct candidate *c = &r.candidates[i];
        Query__Hit *hit = arena_alloc(call->mem, sizeof *hit);
        query__hit__init(hit);
        hit->chunk_id = wire_id(call->mem, &c->chunk_id);
        hit->document_id = wire_id(call->mem, &c->document_id);
        hit->document_name = c->document_name;
        hit->score = c->score;
        hit->page_from = c->page_from;
        hit->page_to = c->page_to;
        hit->start_offset = c->start_offset;
        hit->end_offset = c->end_offset;
        hit->text = c->text;
        reply->hits[reply->n_hits++] = hit;
    }
    return ST_OK;
}

/* ---- making an answer ---- */

/* An answer that is being made, and who hears of it. */
struct making {
    struct query *q;
    struct call *call;
    struct asked asked;
    struct receipt receipt;
    struct recalled past;           /* of the conversation that it follows */
    struct retrieval found;
    struct disclosure shown;
    Query__Citation **citations;    /* of all sources; then of those that are cited */
    size_t citation_count;
    struct telling telling;
    const Embedding__GenerateHead *head;
    const Embedding__GenerateReply *generated;
};

static void making_end(struct making *m) {
    telling_end(&m->telling);
    disclosure_end(&m->shown);
    recalled_end(&m->past);
    retrieval_end(&m->found);
}

/* The conversation's last turns, for the model to know what the question refers to. ST_NOT_FOUND: nobody's, or another's. */
static enum status take_up(struct making *m, ProtobufCBinaryData conversation_id) {
    struct call *call = m->call;
    if (conversation_id.len == 0)
        return ST_OK;
    if (!uuid_from_bytes(conversation_id.data, conversation_id.len, &m->asked.conversation_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "conversation_id");
    struct recall which = { .conversation_id = &m->asked.conversation_id, .limit = TURNS_MAX, .purpose = "follow_up" };
    enum status st = recall(m->q, call, &which, &m->past);
    if (st == ST_OK && (m->past.count == 0 || !m->past.shown.conversation_key))
        return fail(&call->why, ST_NOT_FOUND, "conversation");
    if (st == ST_OK && *m->past.answers[0]->question)
        m->asked.before = m->past.answers[0]->question;
    return st;
}

/* Oldest first, and without the numbers of sources that this answer does not have. */
static void put_history(const struct making *m, Embedding__GenerateRequest *req) {
    req->history = arena_alloc(m->call->mem, (m->past.count + 1) * sizeof *req->history);
    for (size_t i = m->past.count; i-- > 0;) {
        const Query__StoredAnswer *a = m->past.answers[i];
        if (!*a->question || !*a->answer || strlen(a->answer) > TURN_MAX_BYTES)
            continue;               /* withheld, or longer than answers are */
        Embedding__Turn *turn = req->history[req->n_history++] = arena_alloc(m->call->mem, sizeof *turn);
        embedding__turn__init(turn);
        turn->question = a->question;
        turn->answer = citations_strip(m->call->mem, a->answer);
    }
}

static void put_sources(struct making *m, Embedding__GenerateRequest *req) {
    const struct retrieval *r = &m->found;
    req->sources = arena_alloc(m->call->mem, r->count * sizeof *req->sources);
    req->n_sources = r->count;
    for (size_t i = 0; i < r->count; i++) {
        const struct candidate *c = &r->candidates[i];
        Embedding__Source *s = req->sources[i] = arena_alloc(m->call->mem, sizeof *s);
        embedding__source__init(s);
        s->number = (uint32_t)i + 1;
        s->title = c->document_name;
        s->page = c->page_from;
        s->text = c->text;
        receipt_add_source(&m->receipt, &c->chunk_id, &c->document_id, c->score, s->text);
    }
}

static enum status open_model(struct making *m, struct bus_stream **ret_stream) {
    struct call *call = m->call;
    uint8_t salt[COMMITMENT_SALT_BYTES];
    const void *data = NULL;
    size_t len = 0;
    ProtobufCMessage *reply = NULL;
    Embedding__GenerateRequest req = EMBEDDING__GENERATE_REQUEST__INIT;
    req.question = (char *)m->asked.question;
    req.max_tokens = ANSWER_MAX_TOKENS;
    put_sources(m, &req);
    put_history(m, &req);
    receipt_prompt_salt(&m->receipt, salt);
    req.prompt_salt = (ProtobufCBinaryData){ sizeof salt, salt };
    enum status st = bus_stream_open(call, "embedding.Generate", &req.base, ret_stream);
    if (st == ST_OK)
        st = bus_stream_read(*ret_stream, &data, &len);
    if (st == ST_OK && !data) {             /* refused before it began; its reply says why */
        st = bus_stream_finish(*ret_stream, &embedding__generate_reply__descriptor, &reply);
        return st == ST_OK ? fail(&call->why, ST_INTERNAL, "an answer without a head") : st;
    }
    if (st != ST_OK)
        return st;
    m->head = embedding__generate_head__unpack(arena_wire(call->mem), len, data);
    return m->head && m->head->prompt_commitment.len == COMMITMENT_BYTES ? ST_OK : fail(&call->why, ST_INTERNAL, "the model's prompt is not committed to");
}

/* The model's text goes through the citations to whoever listens, as it comes. */
static enum status generate(struct making *m) {
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    struct call *call = m->call;
    const void *data = "";
    size_t len = 0;
    ProtobufCMessage *message = NULL;
    enum status st = open_model(m, &stream);
    while (st == ST_OK && data) {
        st = bus_stream_read(stream, &data, &len);
        call_take_tickets(call);
        if (st == ST_OK && data)
            st = citations_feed(&m->telling.kept, data, len, &call->why);
    }
    if (st == ST_OK)
        st = bus_stream_finish(stream, &embedding__generate_reply__descriptor, &message);
    if (st == ST_OK)
        m->generated = (const void *)message;
    if (st == ST_OK)
        st = citations_finish(&m->telling.kept, &call->why);
    return st;
}

/* What each source is cited as. */
static void make_citations(struct making *m) {
    const struct retrieval *r = &m->found;
    m->citations = arena_alloc(m->call->mem, (r->count + 1) * sizeof *m->citations);
    for (size_t i = 0; i < r->count; i++) {
        const struct candidate *c = &r->candidates[i];
        Query__Citation *citation = m->citations[i] = arena_alloc(m->call->mem, sizeof *citation);
        query__citation__init(citation);
        citation->number = (uint32_t)i + 1;
        citation->chunk_id = wire_id(m->call->mem, &c->chunk_id);
        citation->document_id = wire_id(m->call->mem, &c->document_id);
        citation->document_name = c->document_name;
        citation->page_from = c->page_from;
        citation->page_to = c->page_to;
        citation->start_offset = c->start_offset;
        citation->end_offset = c->end_offset;
        citation->quote = c->text;
    }
}

static enum status tell_sources(struct telling *t, Query__AnswerSources *sources, Query__Citation *const citations[], const double scores[],
                                size_t count) {
    Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
    sources->sources = arena_alloc(t->call->mem, (count + 1) * sizeof *sources->sources);
    for (; sources->n_sources < count; sources->n_sources++) {
        const Query__Citation *c = citations[sources->n_sources];
        Query__AnswerSource *s = sources->sources[sources->n_sources] = arena_alloc(t->call->mem, sizeof *s);
        query__answer_source__init(s);
        s->number = c->number;
        s->chunk_id = c->chunk_id;
        s->document_id = c->document_id;
        s->document_name = c->document_name;
        s->page_from = c->page_from;
        s->page_to = c->page_to;
        s->score = scores ? scores[sources->n_sources] : 0;
    }
    event.sources = sources;
    return tell(t, &event, &t->call->why);
}

static enum status tell_all_sources(struct making *m, const Query__QueryReply *reply) {
    Query__AnswerSources sources = QUERY__ANSWER_SOURCES__INIT;
    double *scores = arena_alloc(m->call->mem, (m->found.count + 1) * sizeof *scores);
    for (size_t i = 0; i < m->found.count; i++)
        scores[i] = m->found.candidates[i].score;
    sources.answer_id = reply->answer_id;
    sources.conversation_id = reply->conversation_id;
    sources.event_id = reply->event_id;
    return tell_sources(&m->telling, &sources, m->citations, scores, m->found.count);
}

static enum status tell_usage(struct telling *t, Query__AnswerUsage *usage) {
    Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
    event.usage = usage;
    return tell(t, &event, &t->call->why);
}

static enum status tell_done(struct telling *t, ProtobufCBinaryData answer_id, ProtobufCBinaryData conversation_id, bool is_found) {
    Query__AnswerDone done = QUERY__ANSWER_DONE__INIT;
    Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
    done.answer_id = answer_id;
    done.conversation_id = conversation_id;
    done.found = is_found;
    event.done = &done;
    return tell(t, &event, &t->call->why);
}

static void keep_cited(struct making *m) {
    for (size_t i = 0; i < m->found.count; i++)
        if (m->telling.kept.is_cited[i])
            m->citations[m->citation_count++] = m->citations[i];
}

static enum status store(struct making *m, Query__QueryReply *reply, bool is_interrupted) {
    keep_cited(m);
    reply->found = m->telling.kept.text.len > 0;
    reply->answer = reply->found ? m->telling.kept.text.data : (char *)NOT_FOUND_TEXT;
    reply->model = m->head ? m->head->model : (char *)"";
    struct made_answer made = { .asked = &m->asked, .found = &m->found, .shown = &m->shown, .conversation_key = m->past.shown.conversation_key,
                                .citations = m->citations, .citation_count = m->citation_count, .is_interrupted = is_interrupted };
    made.receipt = (struct receipt_answer){ .id = m->asked.answer_id, .question = m->asked.question, .output = reply->answer, .model = reply->model,
                                            .vector_model = m->found.model, .top_k = m->found.top_k, .is_found = reply->found,
                                            .prompt_commitment = m->head ? m->head->prompt_commitment.data : NULL };
    call_take_tickets(m->call);
    return answer_store(m->q, m->call, &made);
}

/* It broke off. What was shown of it is kept, with its receipt; of nothing, nothing. The failure is the answer's, whatever
 * comes of keeping it. */
static enum status give_up(struct making *m, Query__QueryReply *reply, enum status st) {
    struct why why = m->call->why;
    int64_t until_ms = clock_mono_ms() + LAST_WORD_MS;
    if (m->call->deadline_ms < until_ms)
        m->call->deadline_ms = until_ms;
    enum status kept = call_is_stream(m->call) && m->telling.kept.text.len > 0 ? store(m, reply, true)
                                                                              : question_forget(m->q, m->call, &m->asked.answer_id);
    (void)kept;             /* a question that stays says by its age that nothing came of it */
    m->call->why = why;
    return st;
}

/* Record, embed, find, record, open; then the first event may go. */
static enum status prepare(struct making *m, const Query__QueryRequest *req, Query__QueryReply *reply) {
    struct call *call = m->call;
    enum status st = take_up(m, req->conversation_id);
    if (st == ST_OK)
        st = retrieve(m->q, call, &m->asked, &m->found);
    if (st == ST_OK)
        st = reveal(m->q, call, &m->asked, &m->found, &m->shown);
    if (st != ST_OK)
        return st;
    make_citations(m);
    telling_begin(&m->telling, call, m->citations, m->found.count, 0);
    reply->answer_id = wire_id(call->mem, &m->asked.answer_id);
    reply->conversation_id = wire_id(call->mem, &m->asked.conversation_id);
    reply->event_id = wire_id(call->mem, &m->shown.event_id);
    return ST_OK;
}

static void put_usage(const struct making *m, Query__QueryReply *reply) {
    reply->dropped_citations = m->telling.kept.dropped_count;
    reply->input_tokens = m->generated ? m->generated->input_tokens : 0;
    reply->output_tokens = m->generated ? m->generated->output_tokens : 0;
}

static enum status tell_end(struct making *m, const Query__QueryReply *reply) {
    Query__AnswerUsage usage = QUERY__ANSWER_USAGE__INIT;
    usage.model = reply->model;
    usage.input_tokens = reply->input_tokens;
    usage.output_tokens = reply->output_tokens;
    usage.dropped_citations = reply->dropped_citations;
    enum status st = tell_usage(&m->telling, &usage);
    return st == ST_OK ? tell_done(&m->telling, reply->answer_id, reply->conversation_id, reply->found) : st;
}

enum status on_query(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__QueryRequest *req = (const void *)in;
    Query__QueryReply *reply = (void *)out;
    CLEANUP(making_end) struct making m = { .q = self, .call = call };
    m.asked = (struct asked){ .question = req->question, .top_k = req->top_k, .filter = req->filter, .receipt = &m.receipt };
    /* Known to the client from the first byte; a repeated attempt may find that one taken. */
    m.asked.answer_id = m.asked.conversation_id = call->attempt <= 1 ? call->request_id : uuid_v7();
    receipt_begin(&m.receipt, call->mem, TOP_K_MAX);
    enum status st = prepare(&m, req, reply);
    if (st != ST_OK)
        return st;
    st = tell_all_sources(&m, reply);
    if (st == ST_OK && m.found.count > 0)          /* nothing to cite: nothing to ask a model for */
        st = generate(&m);
    if (st == ST_OK && m.telling.kept.text.len == 0)
        st = tell_token(&m.telling, NOT_FOUND_TEXT, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_QUERY_ANSWERED, &call->why);
    put_usage(&m, reply);
    if (st != ST_OK)
        return give_up(&m, reply, st);
    st = store(&m, reply, false);
    if (st == ST_OK)
        st = tell_end(&m, reply);
    if (st != ST_OK)
        return st;
    reply->citations = m.citations;
    reply->n_citations = m.citation_count;
    reply->answer = arena_strdup(call->mem, reply->answer);
    if (call_is_stream(call)) {         /* all of it was told */
        reply->answer = (char *)"";
        reply->n_citations = 0;
    }
    return ST_OK;
}

/* ---- showing one again ---- */

/* The events of a stored answer: its own text goes the way it came. */
static enum status replay(struct call *call, const Query__StoredAnswer *a, const struct disclosure *shown, uint32_t after) {
    struct telling t;
    Query__AnswerSources sources = QUERY__ANSWER_SOURCES__INIT;
    Query__AnswerUsage usage = QUERY__ANSWER_USAGE__INIT;
    Query__Citation **by_number = arena_alloc(call->mem, TOP_K_MAX * sizeof *by_number);
    for (size_t i = 0; i < a->n_citations; i++)
        by_number[a->citations[i]->number - 1] = a->citations[i];
    telling_begin(&t, call, by_number, TOP_K_MAX, after);
    sources.answer_id = a->answer_id;
    sources.conversation_id = a->conversation_id;
    sources.event_id = wire_id(call->mem, &shown->event_id);
    usage.model = a->model;
    enum status st = tell_sources(&t, &sources, a->citations, NULL, a->n_citations);
    if (st == ST_OK && a->found)
        st = citations_feed(&t.kept, a->answer, strlen(a->answer), &call->why);
    if (st == ST_OK && a->found)
        st = citations_finish(&t.kept, &call->why);
    if (st == ST_OK && !a->found)
        st = tell_token(&t, a->answer, &call->why);
    bool is_whole = strcmp(a->state, "complete") == 0;
    if (st == ST_OK && is_whole)
        st = tell_usage(&t, &usage);
    if (st == ST_OK && is_whole)
        st = tell_done(&t, a->answer_id, a->conversation_id, a->found);
    telling_end(&t);
    return st == ST_OK && !is_whole ? fail_as(&call->why, ERR_ANSWER_INTERRUPTED, "the answer was interrupted when it was made") : st;
}

/* How long ago the question was asked whose answer is not stored; -1: there is none. */
static enum status question_age(struct query *q, struct call *call, const struct uuid *answer_id, int64_t *ret_age_ms) {
    static const struct sql AGE = { "question_age",
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp() - u.asked_at) * 1000)::bigint FROM app.questions u "
        "WHERE u.tenant_id = $1 AND u.id = $2", 2 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &AGE, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(answer_id) }, &rows, &call->why);
    if (st == ST_OK)
        *ret_age_ms = db_count(rows) == 1 ? db_i64(rows, 0, 0) : -1;
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

/* The answer is not there: made elsewhere, lost with the process that made it, or none. Wait a moment when it may come. */
static enum status await_answer(struct query *q, struct call *call, const struct uuid *id, struct telling *t, Query__StoredAnswer *a, bool *ret_again) {
    int64_t age_ms = -1;
    enum status st = question_age(q, call, id, &age_ms);
    if (st != ST_OK || age_ms < 0)
        return st != ST_OK ? st : fail(&call->why, ST_NOT_FOUND, "answer");
    a->answer_id = wire_id(call->mem, id);
    a->state = age_ms < ANSWER_LIFE_MS ? (char *)"running" : (char *)"interrupted";
    if (!call_is_stream(call))
        return ST_OK;
    if (age_ms >= ANSWER_LIFE_MS)
        return fail_as(&call->why, ERR_ANSWER_INTERRUPTED, "the process that made the answer is gone");
    *ret_again = true;
    st = tell_patience(t, &call->why);
    if (st == ST_OK && !call_wait(call, clock_mono_ms() + POLL_MS))
        st = fail(&call->why, ST_UNAVAILABLE, "the caller is gone");
    call_take_tickets(call);
    return st;
}

enum status on_get_answer(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetAnswerRequest *req = (const void *)in;
    Query__GetAnswerReply *reply = (void *)out;
    struct uuid id;
    struct telling silent = { .call = call };
    if (!uuid_from_bytes(req->answer_id.data, req->answer_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "answer_id");
    for (bool again = true; again;) {
        CLEANUP(recalled_end) struct recalled r = { 0 };
        again = false;
        enum status st = recall(self, call, &(struct recall){ .answer_id = &id, .limit = 1, .purpose = "read", .after = req->after }, &r);
        if (st == ST_OK && r.count == 1 && strcmp(r.answers[0]->state, "withheld") == 0)
            st = fail(&call->why, ST_NOT_FOUND, "answer: a document that it cites may not be seen");
        if (st != ST_OK)
            return st;
        if (r.count == 1 && call_is_stream(call))
            return replay(call, r.answers[0], &r.shown, req->after);
        if (r.count == 1) {
            reply->answer = r.answers[0];
            return ST_OK;
        }
        reply->answer = arena_alloc(call->mem, sizeof *reply->answer);
        query__stored_answer__init(reply->answer);
        st = await_answer(self, call, &id, &silent, reply->answer, &again);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}
