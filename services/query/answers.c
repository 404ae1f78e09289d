/* answers — search, and answers that cite what they say. The order is the point: candidates are found
 * under the ticket, the event that names them is committed, only then do their keys open, and only then
 * does any text go to the model or to the caller. */
#include <stdio.h>
#include <string.h>

#include "audit/client.h"
#include "citations.h"
#include "columns.h"
#include "core/fault.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "db/halfvec.h"
#include "db/tenant_tx.h"
#include "disclosure.h"
#include "embedding.pb-c.h"
#include "json/writer.h"
#include "query.h"
#include "query.pb-c.h"
#include "receipt.h"

enum { TOP_K_DEFAULT = 8, TOP_K_MAX = 32, QUESTION_MAX_BYTES = 4000, FILTER_MAX = 100, ANSWER_MAX_TOKENS = 1024 };

static const char NOT_FOUND_TEXT[] = "The answer was not found in the documents.";

/* A retrieved chunk; text and name are filled in once its key is given. */
struct candidate {
    int row;
    struct uuid chunk_id, document_id;
    double score;
    uint32_t page_from, page_to;
    int64_t start_offset, end_offset;
    char *text, *document_name;
};

struct retrieval {
    PGresult *rows;
    struct candidate *candidates;
    size_t count;
    uint32_t top_k;
    const char *model;          /* whose vectors were compared */
};

static void retrieval_end(struct retrieval *r) {
    pgrows_destroy(&r->rows);
}

enum { COL_CHUNK_ID, COL_DOCUMENT_ID, COL_DISTANCE, COL_PAGE_FROM, COL_PAGE_TO, COL_START, COL_END, COL_TEXT_ENC, COL_NAME_ENC };

static enum status check_request(struct call *call, const char *question, uint32_t top_k, const Query__Filter *filter) {
    size_t len = strlen(question);
    if (len == 0 || len > QUESTION_MAX_BYTES || !utf8_is_text(question, len, NULL))
        return fail_as(&call->why, ERR_REQ_FIELD, "question");
    if (top_k > TOP_K_MAX)
        return fail_as(&call->why, ERR_REQ_FIELD, "top_k");
    struct uuid id;
    if (filter && filter->subject_id.len > 0 && !uuid_from_bytes(filter->subject_id.data, filter->subject_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "filter.subject_id");
    for (size_t i = 0; filter && i < filter->n_document_ids; i++)
        if (filter->n_document_ids > FILTER_MAX || !uuid_from_bytes(filter->document_ids[i].data, filter->document_ids[i].len, &id))
            return fail_as(&call->why, ERR_REQ_FIELD, "filter.document_ids");
    return ST_OK;
}

/* "{id,id}": a uuid[] in text form. */
static const char *uuid_array(struct arena *mem, const Query__Filter *filter) {
    CLEANUP(buffer_end) struct buffer b = { 0 };
    buffer_add_str(&b, "{");
    for (size_t i = 0; filter && i < filter->n_document_ids; i++) {
        struct uuid id;
        char text[UUID_TEXT_BYTES];
        memcpy(id.bytes, filter->document_ids[i].data, UUID_BYTES);
        buffer_printf(&b, "%s%s", i ? "," : "", uuid_format(&id, text));
    }
    buffer_add_str(&b, "}");
    return arena_strdup(mem, b.data);
}

struct asked {
    const char *question;
    uint32_t top_k;
    const Query__Filter *filter;
    struct uuid answer_id;      /* of the answer that it is for; nil: only hits are wanted */
    struct receipt *receipt;    /* of that answer */
};

/* The question's own text goes to the model too: it is on the record before it does. */
static enum status record_question(struct call *call, const struct asked *asked) {
    const char *detail = !asked->receipt ? "{\"purpose\":\"search\"}"
                       : arena_printf(call->mem, "{\"purpose\":\"answer\",\"question\":\"%s\"}", receipt_question(asked->receipt, asked->question));
    return audit_append(call, &(struct audit_record){ .action = AUDIT_QUESTION_ASK, .resource_id = asked->answer_id, .detail_json = detail }, NULL);
}

static enum status embed_question(struct call *call, const char *question, const Embedding__Vector **ret_vector,
                                  const char **ret_model) {
    Embedding__EmbedRequest req = EMBEDDING__EMBED_REQUEST__INIT;
    char *texts[] = { (char *)question };
    req.texts = texts;
    req.n_texts = 1;
    req.purpose = EMBEDDING__PURPOSE__QUESTION;
    ProtobufCMessage *message = NULL;
    enum status st = bus_ask(call, "embedding.Embed", &req.base, &embedding__embed_reply__descriptor, &message);
    if (st != ST_OK)
        return st;
    const Embedding__EmbedReply *reply = (const void *)message;
    if (reply->n_vectors != 1 || reply->vectors[0]->n_values != VECTOR_DIMENSIONS)
        return fail(&call->why, ST_INTERNAL, "the model gave no vector of %d", VECTOR_DIMENSIONS);
    *ret_vector = reply->vectors[0];
    *ret_model = reply->model;
    return ST_OK;
}

/* As many of the nearest as fit into one reply, and into one question to the model. */
static void keep_candidates(struct arena *mem, struct retrieval *r) {
    size_t n = (size_t)db_count(r->rows), bytes = 0, text_len = 0, name_len = 0;
    r->candidates = arena_alloc(mem, n * sizeof *r->candidates);
    for (int row = 0; row < (int)n; row++) {
        (void)db_bytea(r->rows, row, COL_TEXT_ENC, &text_len);
        (void)db_bytea(r->rows, row, COL_NAME_ENC, &name_len);
        bytes += text_len + name_len;
        if (bytes > QUERY_PAGE_MAX_BYTES)
            return;
        r->candidates[r->count++] = (struct candidate){
            .row = row, .chunk_id = db_uuid(r->rows, row, COL_CHUNK_ID), .document_id = db_uuid(r->rows, row, COL_DOCUMENT_ID),
            .score = 1.0 - db_f64(r->rows, row, COL_DISTANCE),
            .page_from = column_count(r->rows, row, COL_PAGE_FROM), .page_to = column_count(r->rows, row, COL_PAGE_TO),
            .start_offset = db_i64(r->rows, row, COL_START), .end_offset = db_i64(r->rows, row, COL_END) };
    }
}

/* $1 tenant, $2 question, $3 model, $4 how many, $5 documents or {}, $6 patient or NULL. The tenant stands in the statement as well as in
 * the policies: it prunes the partitions. Whether a document is ready is asked before the LIMIT: what is left of one
 * that failed must not take the place of a hit. */
const struct sql NEAREST_CHUNKS = { "nearest_chunks",
    "SELECT v.chunk_id, v.document_id, v.distance, c.page_from, c.page_to, c.start_offset, c.end_offset, c.text_enc, d.name_enc "
    "FROM (SELECT n.chunk_id, n.document_id, n.embedding OPERATOR(ext.<=>) $2::ext.halfvec AS distance "
    "FROM app.chunk_vectors n WHERE n.tenant_id = $1 AND n.model = $3 "
    "AND (pg_catalog.cardinality($5::uuid[]) = 0 OR n.document_id = ANY ($5::uuid[])) "
    "AND EXISTS (SELECT FROM app.documents r WHERE r.tenant_id = $1 AND r.id = n.document_id AND r.status = 'ready' "
    "AND ($6::uuid IS NULL OR r.subject_id = $6::uuid)) "
    "ORDER BY n.embedding OPERATOR(ext.<=>) $2::ext.halfvec LIMIT $4) v "
    "JOIN app.chunks c ON c.tenant_id = $1 AND c.id = v.chunk_id "
    "JOIN app.documents d ON d.tenant_id = $1 AND d.id = v.document_id AND d.status = 'ready' "
    "ORDER BY v.distance, v.chunk_id", 6 };

/* The r->top_k nearest chunks that the ticket may see, nearest first. */
static enum status find_candidates(struct query *q, struct call *call, const Embedding__Vector *vector, const Query__Filter *filter,
                                   struct retrieval *r) {
    uint8_t halfvec[HALFVEC_BYTES];
    bool has_subject = filter && filter->subject_id.len > 0;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &NEAREST_CHUNKS, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id),
                           db_halfvec_param(vector->values, halfvec), DB_TEXT(r->model), DB_INT(r->top_k),
                           DB_TEXT(uuid_array(call->mem, filter)), has_subject ? DB_BYTES(filter->subject_id.data, UUID_BYTES) : DB_NULL }, &r->rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st == ST_OK)
        keep_candidates(call->mem, r);
    return st;
}

/* Record, embed, find. */
static enum status retrieve(struct query *q, struct call *call, const struct asked *asked, struct retrieval *r) {
    enum status st = check_request(call, asked->question, asked->top_k, asked->filter);
    if (st != ST_OK)
        return st;
    const Embedding__Vector *vector = NULL;
    r->top_k = asked->top_k ? asked->top_k : TOP_K_DEFAULT;
    st = record_question(call, asked);
    if (st == ST_OK)
        st = embed_question(call, asked->question, &vector, &r->model);
    if (st == ST_OK)
        st = fault_status(FAULT_QUERY_EMBEDDED, &call->why);
    if (st == ST_OK)
        st = find_candidates(q, call, vector, asked->filter, r);
    return st == ST_OK ? fault_status(FAULT_QUERY_FOUND, &call->why) : st;
}

static enum status print_detail(struct call *call, const struct retrieval *r, const char *counted, struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    json_put_name(&w, "top_k");
    json_put_u64(&w, r->top_k);
    json_put_name(&w, counted);
    json_put_u64(&w, r->count);
    json_put_name(&w, "model");
    json_put_text(&w, r->model);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(&call->why, ST_INTERNAL, "detail of a disclosure");
}

/* Fill in texts and names. Chunks whose document was deleted meanwhile are not among the candidates any more. */
static enum status open_candidates(struct call *call, const struct disclosure *shown, struct retrieval *r) {
    size_t found = r->count;
    r->count = 0;
    for (size_t i = 0; i < found; i++) {
        struct candidate c = r->candidates[i];
        if (!disclosure_has_key(shown, &c.document_id))
            continue;
        enum status st = disclosure_open_text(shown, call, &c.document_id, FIELD_CHUNK_TEXT, &c.chunk_id, r->rows, c.row, COL_TEXT_ENC,
                                              &c.text);
        if (st == ST_OK)
            st = disclosure_open_text(shown, call, &c.document_id, FIELD_FILE_NAME, &c.document_id, r->rows, c.row, COL_NAME_ENC,
                                      &c.document_name);
        if (st != ST_OK)
            return st;
        r->candidates[r->count++] = c;
    }
    return ST_OK;
}

/* Put the candidates on the record, for the caller or for an answer and the model that writes it; then open their texts. */
static enum status reveal_candidates(struct query *q, struct call *call, const struct uuid *answer_id, struct retrieval *r,
                                     struct disclosure *ret_shown) {
    struct uuid *documents = arena_alloc(call->mem, r->count * sizeof *documents);
    struct uuid *chunks = arena_alloc(call->mem, r->count * sizeof *chunks);
    for (size_t i = 0; i < r->count; i++) {
        documents[i] = r->candidates[i].document_id;
        chunks[i] = r->candidates[i].chunk_id;
    }
    struct disclosed what = { .action = answer_id ? AUDIT_ANSWER_DISCLOSE : AUDIT_SEARCH_DISCLOSE, .document_ids = documents,
                              .document_count = r->count, .chunk_ids = chunks, .chunk_count = r->count, .resource_id = answer_id };
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    enum status st = print_detail(call, r, answer_id ? "sources" : "hits", &detail);
    if (st != ST_OK)
        return st;
    what.detail_json = detail.data;
    if (answer_id && r->count > 0)
        what.model_detail_json = arena_printf(call->mem, "{\"purpose\":\"answer\",\"texts\":%zu}", r->count);
    st = disclosure_begin(ret_shown, q, call, &what, SCOPE_QUERY);
    return st == ST_OK ? open_candidates(call, ret_shown, r) : st;
}

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
    st = reveal_candidates(q, call, NULL, &r, &shown);
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

static enum status generate(struct call *call, const char *question, const struct retrieval *r, struct receipt *receipt,
                            const Embedding__GenerateReply **ret_reply) {
    uint8_t salt[COMMITMENT_SALT_BYTES];
    Embedding__GenerateRequest req = EMBEDDING__GENERATE_REQUEST__INIT;
    req.question = (char *)question;
    req.max_tokens = ANSWER_MAX_TOKENS;
    req.sources = arena_alloc(call->mem, r->count * sizeof *req.sources);
    req.n_sources = r->count;
    for (size_t i = 0; i < r->count; i++) {
        Embedding__Source *s = arena_alloc(call->mem, sizeof *s);
        embedding__source__init(s);
        s->number = (uint32_t)i + 1;
        s->title = r->candidates[i].document_name;
        s->page = r->candidates[i].page_from;
        s->text = r->candidates[i].text;
        req.sources[i] = s;
        receipt_add_source(receipt, &r->candidates[i].chunk_id, &r->candidates[i].document_id, r->candidates[i].score, s->text);
    }
    receipt_prompt_salt(receipt, salt);
    req.prompt_salt = (ProtobufCBinaryData){ sizeof salt, salt };
    ProtobufCMessage *message = NULL;
    enum status st = bus_ask(call, "embedding.Generate", &req.base, &embedding__generate_reply__descriptor, &message);
    if (st != ST_OK)
        return st;
    *ret_reply = (const void *)message;
    return (*ret_reply)->prompt_commitment.len == COMMITMENT_BYTES ? ST_OK : fail(&call->why, ST_INTERNAL, "the model's prompt is not committed to");
}

static void add_citations(struct call *call, const struct retrieval *r, const struct cited_answer *cited, Query__QueryReply *reply) {
    reply->citations = arena_alloc(call->mem, r->count * sizeof *reply->citations);
    for (size_t i = 0; i < r->count; i++) {
        if (!cited->is_cited[i])
            continue;
        const struct candidate *c = &r->candidates[i];
        Query__Citation *citation = arena_alloc(call->mem, sizeof *citation);
        query__citation__init(citation);
        citation->number = (uint32_t)i + 1;
        citation->chunk_id = wire_id(call->mem, &c->chunk_id);
        citation->document_id = wire_id(call->mem, &c->document_id);
        citation->document_name = c->document_name;
        citation->page_from = c->page_from;
        citation->page_to = c->page_to;
        citation->start_offset = c->start_offset;
        citation->end_offset = c->end_offset;
        citation->quote = c->text;
        reply->citations[reply->n_citations++] = citation;
    }
}

/* Ids, pages and offsets of what the answer cites; never text. */
static const char *citations_json(struct call *call, const Query__QueryReply *reply) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct json_writer w;
    json_begin(&w, &out);
    json_open_array(&w);
    for (size_t i = 0; i < reply->n_citations; i++) {
        const Query__Citation *c = reply->citations[i];
        struct uuid chunk_id, document_id;
        char text[UUID_TEXT_BYTES];
        memcpy(chunk_id.bytes, c->chunk_id.data, UUID_BYTES);
        memcpy(document_id.bytes, c->document_id.data, UUID_BYTES);
        json_open_object(&w);
        json_put_name(&w, "number");
        json_put_i64(&w, c->number);
        json_put_name(&w, "chunk_id");
        json_put_text(&w, uuid_format(&chunk_id, text));
        json_put_name(&w, "document_id");
        json_put_text(&w, uuid_format(&document_id, text));
        json_put_name(&w, "page_from");
        json_put_i64(&w, c->page_from);
        json_put_name(&w, "page_to");
        json_put_i64(&w, c->page_to);
        json_put_name(&w, "start_offset");
        json_put_i64(&w, c->start_offset);
        json_put_name(&w, "end_offset");
        json_put_i64(&w, c->end_offset);
        json_close_object(&w);
    }
    json_close_array(&w);
    return json_finish(&w) ? arena_strdup(call->mem, out.data) : "[]";
}

/* Keep question and answer under a key of their own, so that they can be erased without their documents. */
static enum status store_answer(struct query *q, struct call *call, const struct disclosure *shown, const struct receipt *receipt,
                                const struct receipt_answer *a, const Query__QueryReply *reply) {
    static const struct sql STORE = { "store_answer",
        "INSERT INTO app.answers (tenant_id, id, user_id, question_enc, answer_enc, citations, model, event_id, wrapped_key, salt_enc, "
        "source_salts_enc) VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11::bytea[])", 11 };
    struct receipt_salts salts = { 0 };
    CLEANUP(document_key_destroy) struct document_key *key = NULL;
    struct blob wrapped = { 0 }, question_enc = { 0 }, answer_enc = { 0 };
    enum status st = document_key_new(shown->tenant_key, &a->id, call->mem, &key, &wrapped, NULL, &call->why);
    if (st == ST_OK)
        st = document_key_seal_field(key, FIELD_QUESTION, &a->id, a->question, strlen(a->question), call->mem, &question_enc, &call->why);
    if (st == ST_OK)
        st = document_key_seal_field(key, FIELD_ANSWER, &a->id, a->output, strlen(a->output), call->mem, &answer_enc, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = receipt_store(receipt, &tx, call, shown, key, a, &salts);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &STORE, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&a->id),
                           DB_UUID(&tx.claims.user_id), DB_BYTES(question_enc.data, question_enc.len),
                           DB_BYTES(answer_enc.data, answer_enc.len), DB_TEXT(citations_json(call, reply)),
                           DB_TEXT(*a->model ? a->model : "none"), DB_UUID(&shown->event_id),
                           DB_BYTES(wrapped.data, wrapped.len), DB_BYTES(salts.salt_enc.data, salts.salt_enc.len),
                           DB_TEXT(salts.source_salts_enc) }, NULL, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_QUERY_BEFORE_STORE, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    return st == ST_OK ? fault_status(FAULT_QUERY_STORED, &call->why) : st;
}

enum status on_query(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__QueryRequest *req = (const void *)in;
    Query__QueryReply *reply = (void *)out;
    struct query *q = self;
    CLEANUP(retrieval_end) struct retrieval r = { 0 };
    struct uuid answer_id = uuid_v7();
    struct receipt receipt;
    struct asked asked = { req->question, req->top_k, req->filter, answer_id, &receipt };
    receipt_begin(&receipt, call->mem, TOP_K_MAX);
    enum status st = retrieve(q, call, &asked, &r);
    if (st != ST_OK)
        return st;
    CLEANUP(disclosure_end) struct disclosure shown = { 0 };
    st = reveal_candidates(q, call, &answer_id, &r, &shown);
    if (st != ST_OK)
        return st;

    reply->answer_id = wire_id(call->mem, &answer_id);
    reply->event_id = wire_id(call->mem, &shown.event_id);
    reply->answer = (char *)NOT_FOUND_TEXT;
    struct receipt_answer made = { .id = answer_id, .question = req->question, .vector_model = r.model, .top_k = r.top_k };
    if (r.count > 0) {          /* nothing to cite: nothing to ask a model for */
        const Embedding__GenerateReply *generated = NULL;
        st = generate(call, req->question, &r, &receipt, &generated);
        if (st != ST_OK)
            return st;
        struct cited_answer cited = { 0 };
        citations_check(call->mem, generated->found ? generated->text : "", r.count, &cited);
        reply->found = *cited.text != '\0';
        if (reply->found) {
            reply->answer = (char *)cited.text;
            add_citations(call, &r, &cited, reply);
        }
        reply->model = generated->model;
        made.prompt_commitment = generated->prompt_commitment.data;
        reply->dropped_citations = cited.dropped_count;
        reply->input_tokens = generated->input_tokens;
        reply->output_tokens = generated->output_tokens;
    }
    st = fault_status(FAULT_QUERY_ANSWERED, &call->why);
    made.output = reply->answer;
    made.model = reply->model;
    made.is_found = reply->found;
    return st == ST_OK ? store_answer(q, call, &shown, &receipt, &made, reply) : st;
}
