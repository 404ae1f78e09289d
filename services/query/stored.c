#include "stored.h"

#include <string.h>

#include "columns.h"
#include "core/fault.h"
#include "core/wire.h"
#include "db/tenant_tx.h"
#include "json/reader.h"
#include "json/writer.h"

const char NOT_FOUND_TEXT[] = "The answer was not found in the documents.";

/* ---- writing ---- */

/* Ids, pages and offsets of what the answer cites; never text. */
static const char *citations_json(struct call *call, const struct made_answer *made) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct json_writer w;
    json_begin(&w, &out);
    json_open_array(&w);
    for (size_t i = 0; i < made->citation_count; i++) {
        const Query__Citation *c = made->citations[i];
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

/* The key of a conversation that begins. Its second share is in its store before any row can need it. */
static enum status make_key(struct query *q, struct call *call, const struct made_answer *made, struct document_key **ret_key,
                            struct blob *ret_wrapped) {
    CLEANUP(secret_destroy) struct secret *share = NULL;
    const struct uuid *id = &made->asked->conversation_id;
    enum status st = document_key_new(made->shown->tenant_key, id, call->mem, ret_key, ret_wrapped, &share, &call->why);
    return st == ST_OK ? shares_put(q->shares, &made->shown->tenant, id, share, call->deadline_ms, &call->why) : st;
}

static enum status begin_conversation(struct tenant_tx *tx, struct call *call, const struct made_answer *made, const struct blob *wrapped) {
    static const struct sql BEGIN = { "begin_conversation", "INSERT INTO app.conversations (tenant_id, id, user_id) VALUES ($1, $2, $3)", 3 };
    static const struct sql PUT_KEY = { "put_conversation_key", "SELECT keys.put_conversation_key($1, $2, $3)", 3 };
    const struct uuid *id = &made->asked->conversation_id;
    enum status st = tenant_tx_run(tx, &BEGIN, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(id), DB_UUID(&tx->claims.user_id) },
                                   NULL, &call->why);
    return st == ST_OK ? tenant_tx_run(tx, &PUT_KEY, (struct db_param[]){ DB_UUID(id), DB_INT(tenant_key_version(made->shown->tenant_key)),
                                       DB_BYTES(wrapped->data, wrapped->len) }, NULL, &call->why) : st;
}

/* And what processes that died left of this user's, a day later. */
static enum status end_question(struct tenant_tx *tx, struct call *call, const struct uuid *answer_id) {
    static const struct sql END = { "end_question",
        "DELETE FROM app.questions WHERE tenant_id = $1 AND (id = $2 OR asked_at < now() - interval '1 day')", 2 };
    return tenant_tx_run(tx, &END, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(answer_id) }, NULL, &call->why);
}

static enum status write_answer(struct tenant_tx *tx, struct call *call, const struct made_answer *made, const struct document_key *key) {
    static const struct sql STORE = { "store_answer",
        "INSERT INTO app.answers (tenant_id, id, user_id, conversation_id, state, document_ids, question_enc, answer_enc, citations, model, "
        "event_id, salt_enc, source_salts_enc) VALUES ($1, $2, $3, $4, $5, $6::uuid[], $7, $8, $9::jsonb, $10, $11, $12, $13::bytea[])", 13 };
    const struct receipt_answer *a = &made->receipt;
    struct receipt_salts salts = { 0 };
    struct blob question_enc = { 0 }, answer_enc = { 0 };
    enum status st = receipt_store(made->asked->receipt, tx, call, made->shown, key, a, &salts);
    if (st == ST_OK)
        st = document_key_seal_field(key, FIELD_QUESTION, &a->id, a->question, strlen(a->question), call->mem, &question_enc, &call->why);
    if (st == ST_OK)
        st = document_key_seal_field(key, FIELD_ANSWER, &a->id, a->output, strlen(a->output), call->mem, &answer_enc, &call->why);
    if (st != ST_OK)
        return st;
    return tenant_tx_run(tx, &STORE, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&a->id), DB_UUID(&tx->claims.user_id),
                         DB_UUID(&made->asked->conversation_id), DB_TEXT(made->is_interrupted ? "interrupted" : "complete"),
                         DB_TEXT(disclosure_documents(made->shown, call->mem)),
                         DB_BYTES(question_enc.data, question_enc.len), DB_BYTES(answer_enc.data, answer_enc.len),
                         DB_TEXT(citations_json(call, made)), DB_TEXT(*a->model ? a->model : "none"), DB_UUID(&made->shown->event_id),
                         DB_BYTES(salts.salt_enc.data, salts.salt_enc.len), DB_TEXT(salts.source_salts_enc) }, NULL, &call->why);
}

enum status answer_store(struct query *q, struct call *call, const struct made_answer *made) {
    CLEANUP(document_key_destroy) struct document_key *fresh = NULL;
    struct blob wrapped = { 0 };
    bool begins = !made->conversation_key;
    enum status st = begins ? make_key(q, call, made, &fresh, &wrapped) : ST_OK;
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK && begins)
        st = begin_conversation(&tx, call, made, &wrapped);
    if (st == ST_OK)
        st = write_answer(&tx, call, made, begins ? fresh : made->conversation_key);
    if (st == ST_NOT_FOUND)     /* not what was asked for is gone but what the answer rests on: who asks again has an answer from what is left */
        st = fail_as(&call->why, ERR_ANSWER_INTERRUPTED, "a document or the conversation of the answer was deleted meanwhile");
    if (st == ST_OK)
        st = end_question(&tx, call, &made->receipt.id);
    if (st == ST_OK)
        st = fault_status(FAULT_QUERY_BEFORE_STORE, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    return st == ST_OK ? fault_status(FAULT_QUERY_STORED, &call->why) : st;
}

enum status question_forget(struct query *q, struct call *call, const struct uuid *answer_id) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = end_question(&tx, call, answer_id);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

/* ---- reading ---- */

enum { COL_ID, COL_CONVERSATION, COL_CREATED, COL_STATE, COL_MODEL, COL_QUESTION, COL_ANSWER, COL_CITATIONS, COL_WITHHELD };
enum { COL_CHUNK, COL_DOCUMENT, COL_TEXT, COL_NAME };
enum { CITATIONS_MAX_BYTES = 64 << 10, TEXTS_MAX_BYTES = 700000 };

/* What is cited, each once. */
struct cited { struct uuid *documents, *chunks; size_t document_count, chunk_count; };

static void add_once(struct uuid ids[], size_t *count, const struct uuid *id) {
    if (!uuid_is_among(id, ids, *count))
        ids[(*count)++] = *id;
}

static enum status read_citation(struct call *call, const json_t *item, Query__Citation *c, struct cited *all) {
    const char *chunk = NULL, *document = NULL;
    struct uuid chunk_id, document_id;
    int64_t number = 0, from = 0, to = 0;
    enum status st = json_get_i64(item, "number", JSON_REQUIRED, 1, TOP_K_MAX, &number, &call->why);
    if (st == ST_OK)
        st = json_get_text(item, "chunk_id", JSON_REQUIRED, UUID_TEXT_BYTES, &chunk, &call->why);
    if (st == ST_OK)
        st = json_get_text(item, "document_id", JSON_REQUIRED, UUID_TEXT_BYTES, &document, &call->why);
    if (st == ST_OK)
        st = json_get_i64(item, "page_from", JSON_REQUIRED, 0, UINT32_MAX, &from, &call->why);
    if (st == ST_OK)
        st = json_get_i64(item, "page_to", JSON_REQUIRED, 0, UINT32_MAX, &to, &call->why);
    if (st == ST_OK)
        st = json_get_i64(item, "start_offset", JSON_REQUIRED, 0, INT64_MAX, &c->start_offset, &call->why);
    if (st == ST_OK)
        st = json_get_i64(item, "end_offset", JSON_REQUIRED, 0, INT64_MAX, &c->end_offset, &call->why);
    if (st != ST_OK || !uuid_parse(chunk, strlen(chunk), &chunk_id) || !uuid_parse(document, strlen(document), &document_id))
        return fail(&call->why, ST_INTERNAL, "a stored citation does not read");
    c->number = (uint32_t)number;
    c->page_from = (uint32_t)from;
    c->page_to = (uint32_t)to;
    c->chunk_id = wire_id(call->mem, &chunk_id);
    c->document_id = wire_id(call->mem, &document_id);
    add_once(all->documents, &all->document_count, &document_id);
    add_once(all->chunks, &all->chunk_count, &chunk_id);
    return ST_OK;
}

static enum status read_citations(struct call *call, const char *text, Query__StoredAnswer *a, struct cited *all) {
    CLEANUP(json_destroy) json_t *array = NULL;
    enum status st = json_parse(text, strlen(text), CITATIONS_MAX_BYTES, &array, &call->why);
    size_t n = json_array_size(array);
    if (st != ST_OK || n > TOP_K_MAX)
        return fail(&call->why, ST_INTERNAL, "stored citations do not read");
    a->citations = arena_alloc(call->mem, n * sizeof *a->citations);
    for (; st == ST_OK && a->n_citations < n; a->n_citations++) {
        Query__Citation *c = a->citations[a->n_citations] = arena_alloc(call->mem, sizeof *c);
        query__citation__init(c);
        st = read_citation(call, json_array_get(array, a->n_citations), c, all);
    }
    return st;
}

/* Everything of a row but its texts, which want the key. */
static enum status read_row(struct call *call, const PGresult *rows, int row, Query__StoredAnswer *a, struct cited *all) {
    bool is_withheld = db_bool(rows, row, COL_WITHHELD);
    query__stored_answer__init(a);
    a->answer_id = column_id(call->mem, rows, row, COL_ID);
    a->conversation_id = column_id(call->mem, rows, row, COL_CONVERSATION);
    a->created_at_us = db_micros(rows, row, COL_CREATED);
    a->state = is_withheld ? (char *)"withheld" : column_text(call->mem, rows, row, COL_STATE);
    a->model = column_text(call->mem, rows, row, COL_MODEL);
    enum status st = is_withheld ? ST_OK : read_citations(call, db_text(rows, row, COL_CITATIONS), a, all);
    a->found = a->n_citations > 0;
    return st;
}

static enum status open_field(struct call *call, const struct disclosure *shown, enum field_kind kind, const PGresult *rows, int row, int column,
                              char **ret_text) {
    size_t len = 0;
    struct blob plain;
    struct uuid id = db_uuid(rows, row, COL_ID);
    const uint8_t *sealed = db_bytea(rows, row, column, &len);
    if (!shown->conversation_key)
        return fail(&call->why, ST_NOT_FOUND, "the conversation was deleted since it was found");
    enum status st = document_key_open_field(shown->conversation_key, kind, &id, sealed, len, call->mem, &plain, &call->why);
    if (st == ST_OK)
        *ret_text = (char *)plain.data;
    return st;
}

/* Names and quotes of what is cited, as far as it is still there. */
static enum status open_quotes(struct call *call, const struct disclosure *shown, const PGresult *chunks, Query__StoredAnswer *a) {
    enum status st = ST_OK;
    for (size_t i = 0; i < a->n_citations; i++) {
        Query__Citation *c = a->citations[i];
        for (int row = 0; st == ST_OK && row < db_count(chunks); row++) {
            struct uuid chunk_id = db_uuid(chunks, row, COL_CHUNK), document_id = db_uuid(chunks, row, COL_DOCUMENT);
            if (memcmp(chunk_id.bytes, c->chunk_id.data, UUID_BYTES) != 0 || !disclosure_has_key(shown, &document_id))
                continue;
            st = disclosure_open_text(shown, call, &document_id, FIELD_CHUNK_TEXT, &chunk_id, chunks, row, COL_TEXT, &c->quote);
            if (st == ST_OK)
                st = disclosure_open_text(shown, call, &document_id, FIELD_FILE_NAME, &document_id, chunks, row, COL_NAME, &c->document_name);
        }
    }
    return st;
}

static enum status find(struct query *q, struct call *call, const struct recall *which, PGresult **ret_rows, PGresult **ret_chunks) {
    static const struct sql FIND = { "find_answers",
        "SELECT a.id, a.conversation_id, a.created_at, a.state, a.model, a.question_enc, a.answer_enc, a.citations::text, "
        "EXISTS (SELECT FROM pg_catalog.jsonb_array_elements(a.citations) c WHERE NOT EXISTS (SELECT FROM app.documents d "
        "WHERE d.tenant_id = $1 AND d.id = (c ->> 'document_id')::uuid AND d.status <> 'deleted')) "
        "FROM app.answers a WHERE a.tenant_id = $1 AND ($2::uuid IS NULL OR a.id = $2) AND ($3::uuid IS NULL OR a.conversation_id = $3) "
        "AND ($4::uuid IS NULL OR a.id < $4) ORDER BY a.id DESC LIMIT $5", 5 };
    static const struct sql QUOTES = { "cited_chunks",
        "SELECT c.id, c.document_id, c.text_enc, d.name_enc FROM app.chunks c JOIN app.documents d ON d.tenant_id = $1 AND d.id = c.document_id "
        "WHERE c.tenant_id = $1 AND c.id IN (SELECT (x ->> 'chunk_id')::uuid FROM app.answers a, pg_catalog.jsonb_array_elements(a.citations) x "
        "WHERE a.tenant_id = $1 AND a.id = $2)", 2 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(which->answer_id),
                           DB_UUID(which->conversation_id), DB_UUID(which->before), DB_INT(which->limit + 1) }, ret_rows, &call->why);
    if (st == ST_OK && which->answer_id)
        st = tenant_tx_run(&tx, &QUOTES, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(which->answer_id) }, ret_chunks, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

static enum status disclose(struct query *q, struct call *call, const struct recall *which, const struct cited *all, struct recalled *r) {
    bool is_one = which->answer_id != NULL, is_for_model = strcmp(which->purpose, "follow_up") == 0;
    struct disclosed what = { .action = is_one ? AUDIT_ANSWER_READ : AUDIT_CONVERSATION_READ, .document_ids = all->documents,
                              .document_count = all->document_count, .chunk_ids = all->chunks, .chunk_count = all->chunk_count,
                              .resource_id = is_one ? which->answer_id : which->conversation_id, .opens_conversation = true };
    what.detail_json = is_one ? arena_printf(call->mem, "{\"after\":%u}", which->after)
                              : arena_printf(call->mem, "{\"purpose\":\"%s\",\"answers\":%zu}", which->purpose, r->count);
    if (is_for_model)
        what.model_detail_json = arena_printf(call->mem, "{\"purpose\":\"follow_up\",\"texts\":%zu}", 2 * r->count);
    return disclosure_begin(&r->shown, q, call, &what, SCOPE_QUERY);
}

/* As many as are asked for, and fit into one reply. */
static enum status read_rows(struct call *call, const struct recall *which, const PGresult *rows, struct cited *all, struct recalled *r) {
    size_t bytes = 0;
    enum status st = ST_OK;
    for (int row = 0; st == ST_OK && row < db_count(rows) && r->count < which->limit; row++) {
        size_t question_len = 0, answer_len = 0;
        (void)db_bytea(rows, row, COL_QUESTION, &question_len);
        (void)db_bytea(rows, row, COL_ANSWER, &answer_len);
        bytes += question_len + answer_len;
        if (r->count > 0 && bytes > TEXTS_MAX_BYTES)
            break;
        r->answers[r->count] = arena_alloc(call->mem, sizeof **r->answers);
        st = read_row(call, rows, row, r->answers[r->count++], all);
    }
    r->has_more = (size_t)db_count(rows) > r->count;
    return st;
}

enum status recall(struct query *q, struct call *call, const struct recall *which, struct recalled *ret) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(pgrows_destroy) PGresult *chunks = NULL;
    size_t most = RECALL_MAX * TOP_K_MAX;
    struct cited all = { .documents = arena_alloc(call->mem, most * sizeof *all.documents), .chunks = arena_alloc(call->mem, most * sizeof *all.chunks) };
    *ret = (struct recalled){ 0 };
    enum status st = find(q, call, which, &rows, &chunks);
    if (st == ST_OK)
        st = read_rows(call, which, rows, &all, ret);
    if (st != ST_OK || ret->count == 0)
        return st;
    st = disclose(q, call, which, &all, ret);
    for (size_t i = 0; st == ST_OK && i < ret->count; i++) {
        Query__StoredAnswer *a = ret->answers[i];
        if (strcmp(a->state, "withheld") == 0)
            continue;
        st = open_field(call, &ret->shown, FIELD_QUESTION, rows, (int)i, COL_QUESTION, &a->question);
        if (st == ST_OK)
            st = open_field(call, &ret->shown, FIELD_ANSWER, rows, (int)i, COL_ANSWER, &a->answer);
        if (st == ST_OK && chunks)
            st = open_quotes(call, &ret->shown, chunks, a);
    }
    if (st != ST_OK)
        recalled_end(ret);
    return st;
}

void recalled_end(struct recalled *r) {
    disclosure_end(&r->shown);
    r->count = 0;
}
