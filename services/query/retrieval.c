#include "retrieval.h"

#include <string.h>

#include "audit/client.h"
#include "columns.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/utf8.h"
#include "db/halfvec.h"
#include "db/tenant_tx.h"
#include "embedding.pb-c.h"
#include "json/writer.h"

enum { TOP_K_DEFAULT = 8, FILTER_MAX = 100, ROUNDS_MAX = 3 };

void retrieval_end(struct retrieval *r) {
    pgrows_destroy(&r->rows);
}

enum { COL_CHUNK_ID, COL_DOCUMENT_ID, COL_DISTANCE, COL_PAGE_FROM, COL_PAGE_TO, COL_START, COL_END, COL_TEXT_ENC, COL_NAME_ENC };

static enum status check_request(struct call *call, const struct asked *asked) {
    const char *question = asked->question;
    const Query__Filter *filter = asked->filter;
    size_t len = strlen(question);
    if (len == 0 || len > QUESTION_MAX_BYTES || !utf8_is_text(question, len, NULL))
        return fail_as(&call->why, ERR_REQ_FIELD, "question");
    if (asked->top_k > TOP_K_MAX)
        return fail_as(&call->why, ERR_REQ_FIELD, "top_k");
    struct uuid id;
    if (filter && filter->subject_id.len > 0 && !uuid_from_bytes(filter->subject_id.data, filter->subject_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "filter.subject_id");
    for (size_t i = 0; filter && i < filter->n_document_ids; i++)
        if (filter->n_document_ids > FILTER_MAX || !uuid_from_bytes(filter->document_ids[i].data, filter->document_ids[i].len, &id))
            return fail_as(&call->why, ERR_REQ_FIELD, "filter.document_ids");
    return ST_OK;
}

/* The documents of a filter, which are ids by now. */
static const char *filter_array(struct arena *mem, const Query__Filter *filter) {
    size_t n = filter ? filter->n_document_ids : 0;
    struct uuid *ids = arena_alloc(mem, n * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        memcpy(ids[i].bytes, filter->document_ids[i].data, UUID_BYTES);
    return uuid_array(mem, ids, n);
}

/* The question's own text goes to the model too: it is on the record before it does. */
static enum status record_question(struct call *call, const struct asked *asked) {
    const char *detail = !asked->receipt ? "{\"purpose\":\"search\"}"
                       : arena_printf(call->mem, "{\"purpose\":\"answer\",\"question\":\"%s\"}", receipt_question(asked->receipt, asked->question));
    return audit_append(call, &(struct audit_record){ .action = AUDIT_QUESTION_ASK, .resource_id = asked->answer_id, .detail_json = detail }, NULL);
}

/* model: its name; "": the present one. */
static enum status embed_question(struct call *call, const char *question, const char *model, const Embedding__Vector **ret_vector,
                                  const char **ret_model) {
    Embedding__EmbedRequest req = EMBEDDING__EMBED_REQUEST__INIT;
    char *texts[] = { (char *)question };
    req.texts = texts;
    req.n_texts = 1;
    req.purpose = EMBEDDING__PURPOSE__QUESTION;
    req.model = (char *)model;
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

/* $1 tenant, $2 question, $3 model, $4 how many. The tenant stands in the statements as well as in the policies: it prunes the
 * partitions. A tenant that is searched by another model finds nothing. */
#define VECTORS "WHERE n.tenant_id = $1 AND n.home = ANY (ARRAY['00000000-0000-0000-0000-000000000000', $1]::uuid[]) AND n.model = $3 "
#define DISTANCE "n.embedding OPERATOR(ext.<=>) $2::ext.halfvec"
#define SEARCHED "JOIN app.vector_sets s ON s.tenant_id = $1 AND s.model = $3 "

/* Of all documents: the nearest texts, and the chunks that have them. Nothing stands between LIMIT and the vectors, so an index may give
 * their order. Texts of which no document is ready are few, and taken away afterwards: some more are fetched for that. */
const struct sql NEAREST_CHUNKS = { "nearest_chunks",
    "SELECT h.id, h.document_id, x.distance, h.page_from, h.page_to, h.start_offset, h.end_offset, h.text_enc, h.name_enc "
    "FROM (SELECT n.text_blind, " DISTANCE " AS distance FROM app.text_vectors n " VECTORS "ORDER BY " DISTANCE " LIMIT 2 * $4::bigint + 16) x "
    "CROSS JOIN LATERAL (SELECT c.id, c.document_id, c.page_from, c.page_to, c.start_offset, c.end_offset, c.text_enc, d.name_enc FROM app.chunks c "
    "JOIN app.documents d ON d.tenant_id = $1 AND d.id = c.document_id AND d.status = 'ready' "
    "WHERE c.tenant_id = $1 AND c.text_blind = x.text_blind ORDER BY c.document_id, c.id LIMIT $4::bigint) h " SEARCHED
    "ORDER BY x.distance, h.document_id, h.id LIMIT $4::bigint", 4 };

/* $5 of these documents, or {}, $6 of this patient, or NULL. All of them are compared. Whether a document is ready is asked before the
 * LIMIT: what is left of one that failed must not take the place of a hit. */
static const struct sql EXACTLY_NEAREST_CHUNKS = { "exactly_nearest_chunks",
    "SELECT v.id, v.document_id, v.distance, c.page_from, c.page_to, c.start_offset, c.end_offset, c.text_enc, v.name_enc "
    "FROM (SELECT k.id, k.document_id, " DISTANCE " AS distance, r.name_enc FROM app.text_vectors n "
    "JOIN app.chunks k ON k.tenant_id = $1 AND k.text_blind = n.text_blind "
    "JOIN app.documents r ON r.tenant_id = $1 AND r.id = k.document_id AND r.status = 'ready' AND ($6::uuid IS NULL OR r.subject_id = $6::uuid) "
    VECTORS "AND (pg_catalog.cardinality($5::uuid[]) = 0 OR k.document_id = ANY ($5::uuid[])) "
    "ORDER BY (" DISTANCE ") + 0, k.document_id, k.id LIMIT $4::bigint) v " SEARCHED
    "JOIN app.chunks c ON c.tenant_id = $1 AND c.id = v.id ORDER BY v.distance, v.document_id, v.id", 6 };

/* In the transaction of a search that found too little: the model that the tenant is searched by, and whether an index searched. */
static enum status ask_vector_set(struct tenant_tx *tx, struct call *call, const char **ret_model, bool *ret_has_index) {
    static const struct sql ASK = { "vector_set", "SELECT s.model, s.home = s.tenant_id FROM app.vector_sets s WHERE s.tenant_id = $1", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &ASK, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id) }, &rows, &call->why);
    bool is_there = st == ST_OK && db_count(rows) == 1;
    *ret_model = is_there ? arena_strdup(call->mem, db_text(rows, 0, 0)) : NULL;
    *ret_has_index = is_there && db_bool(rows, 0, 1);
    return st;
}

/* The r->top_k nearest chunks that the ticket may see, nearest first. Where an index gives fewer, because labels hide many, all are
 * compared, as with a filter. *ret_other: the model that the question must be embedded by, and nothing was found for that; else NULL. */
static enum status find_candidates(struct query *q, struct call *call, const Embedding__Vector *vector, const Query__Filter *filter,
                                   struct retrieval *r, const char **ret_other) {
    uint8_t halfvec[HALFVEC_BYTES];
    bool has_subject = filter && filter->subject_id.len > 0, has_index = false, is_filtered = has_subject || (filter && filter->n_document_ids > 0);
    const char *model = r->model;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    const struct db_param params[] = { DB_UUID(&tx.claims.tenant_id), db_halfvec_param(vector->values, halfvec), DB_TEXT(r->model), DB_INT(r->top_k),
                                       DB_TEXT(filter_array(call->mem, filter)), has_subject ? DB_BYTES(filter->subject_id.data, UUID_BYTES) : DB_NULL };
    if (st == ST_OK)
        st = tenant_tx_run(&tx, is_filtered ? &EXACTLY_NEAREST_CHUNKS : &NEAREST_CHUNKS, params, &r->rows, &call->why);
    if (st == ST_OK && (uint32_t)db_count(r->rows) < r->top_k)
        st = ask_vector_set(&tx, call, &model, &has_index);
    *ret_other = st == ST_OK && model && !str_equal(model, r->model) ? model : NULL;
    if (st == ST_OK && has_index && !is_filtered && !*ret_other) {
        pgrows_destroy(&r->rows);
        st = tenant_tx_run(&tx, &EXACTLY_NEAREST_CHUNKS, params, &r->rows, &call->why);
    }
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    r->tenant_id = tx.claims.tenant_id;
    if (st == ST_OK)
        keep_candidates(call->mem, r);
    return st;
}

enum status retrieve(struct query *q, struct call *call, const struct asked *asked, struct retrieval *r) {
    enum status st = check_request(call, asked);
    if (st != ST_OK)
        return st;
    const Embedding__Vector *vector = NULL;
    r->top_k = asked->top_k ? asked->top_k : TOP_K_DEFAULT;
    st = record_question(call, asked);
    const char *text = asked->before ? arena_printf(call->mem, "%s\n%s", asked->before, asked->question) : asked->question, *other = "";
    for (int round = 0; st == ST_OK && other && round < ROUNDS_MAX; round++) {     /* again for a tenant whose vectors another model made */
        pgrows_destroy(&r->rows);
        st = embed_question(call, text, other, &vector, &r->model);
        if (st == ST_OK)
            st = fault_status(FAULT_QUERY_EMBEDDED, &call->why);
        if (st == ST_OK)
            st = find_candidates(q, call, vector, asked->filter, r, &other);
    }
    if (st == ST_OK && other)
        st = fail(&call->why, ST_UNAVAILABLE, "the tenant's model changed again and again");
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

enum status reveal(struct query *q, struct call *call, const struct asked *asked, struct retrieval *r, struct disclosure *ret_shown) {
    struct uuid *chunks = arena_alloc(call->mem, r->count * sizeof *chunks);
    r->document_ids = arena_alloc(call->mem, r->count * sizeof *r->document_ids);
    r->document_count = r->count;
    for (size_t i = 0; i < r->count; i++) {
        r->document_ids[i] = r->candidates[i].document_id;
        chunks[i] = r->candidates[i].chunk_id;
    }
    bool is_answer = asked->receipt != NULL;
    struct disclosed what = { .action = is_answer ? AUDIT_ANSWER_DISCLOSE : AUDIT_SEARCH_DISCLOSE, .tenant = &r->tenant_id, .document_ids = r->document_ids,
                              .document_count = r->count, .chunk_ids = chunks, .chunk_count = r->count,
                              .resource_id = is_answer ? &asked->answer_id : NULL,
                              .begins_in = is_answer ? &asked->conversation_id : NULL };
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    enum status st = print_detail(call, r, is_answer ? "sources" : "hits", &detail);
    if (st != ST_OK)
        return st;
    what.detail_json = detail.data;
    if (is_answer && r->count > 0)
        what.model_detail_json = arena_printf(call->mem, "{\"purpose\":\"answer\",\"texts\":%zu}", r->count);
    st = disclosure_begin(ret_shown, q, call, &what, SCOPE_QUERY);
    return st == ST_OK ? open_candidates(call, ret_shown, r) : st;
}
