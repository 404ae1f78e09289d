/* receipts — what an answer was made of, shown to whom it was given: the receipt, the event that holds its digest, the
 * proof that the event is in the signed log, and on demand the texts and salts that open its commitments. */
#include <string.h>

#include "audit/client.h"
#include "columns.h"
#include "core/text_codec.h"
#include "core/wire.h"
#include "db/tenant_tx.h"
#include "disclosure.h"
#include "event_proof.h"
#include "json/reader.h"
#include "query.h"
#include "query.pb-c.h"
#include "receipt.h"

enum { SOURCES_MAX = 256, BODY_MAX_BYTES = 65536 };
enum { COL_BODY, COL_QUESTION, COL_ANSWER, COL_SALT, COL_SOURCE_SALTS };

struct shown_receipt {
    PGresult *row;              /* the receipt and, unless it was erased, its answer */
    json_t *body;
    struct uuid answer_id, *chunk_ids, *document_ids;
    size_t count;
};

static void shown_receipt_end(struct shown_receipt *s) {
    pgrows_destroy(&s->row);
    json_destroy(&s->body);
}

static enum status read_ids(struct call *call, const json_t *body, const char *name, struct uuid **ret_ids, size_t *ret_count) {
    const json_t *array = NULL;
    enum status st = json_get_array(body, name, JSON_REQUIRED, SOURCES_MAX, &array, &call->why);
    if (st != ST_OK)
        return st;
    *ret_count = json_array_size(array);
    *ret_ids = arena_alloc(call->mem, (*ret_count + 1) * sizeof **ret_ids);
    for (size_t i = 0; i < *ret_count; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_string(item) || !uuid_parse(json_string_value(item), json_string_length(item), &(*ret_ids)[i]))
            return fail(&call->why, ST_INTERNAL, "a receipt names no id in %s", name);
    }
    return ST_OK;
}

/* A receipt of the ticket's user, or with scope audit:read anybody's of the tenant. ST_NOT_FOUND: none that the ticket may see. */
static enum status find(struct query *q, struct call *call, uint64_t scope, const ProtobufCBinaryData *id, struct shown_receipt *s) {
    static const struct sql FIND = { "find_receipt",
        "SELECT r.body, a.question_enc, a.answer_enc, a.salt_enc, "
        "ARRAY(SELECT pg_catalog.encode(e.seed, 'hex') FROM pg_catalog.unnest(a.source_salts_enc) WITH ORDINALITY e (seed, n) ORDER BY e.n) "
        "FROM app.receipts r LEFT JOIN app.answers a ON a.tenant_id = r.tenant_id AND a.id = r.answer_id "
        "WHERE r.tenant_id = $1 AND r.answer_id = $2", 2 };
    if (!uuid_from_bytes(id->data, id->len, &s->answer_id))
        return fail_as(&call->why, ERR_REQ_FIELD, "answer_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, scope, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&s->answer_id) }, &s->row, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st == ST_OK && db_count(s->row) != 1)
        st = fail(&call->why, ST_NOT_FOUND, "receipt");
    if (st != ST_OK)
        return st;
    const char *body = db_text(s->row, 0, COL_BODY);
    size_t documents = 0;
    st = json_parse(body, strlen(body), BODY_MAX_BYTES, &s->body, &call->why);
    if (st == ST_OK)
        st = read_ids(call, s->body, "chunk_ids", &s->chunk_ids, &s->count);
    if (st == ST_OK)
        st = read_ids(call, s->body, "document_ids", &s->document_ids, &documents);
    return st == ST_OK && documents != s->count ? fail(&call->why, ST_INTERNAL, "a receipt's chunks and documents do not line up") : st;
}

/* ---- the proof ---- */

static enum status prove(struct query *q, struct call *call, uint64_t scope, const struct shown_receipt *s, Query__GetReceiptReply *reply) {
    static const struct sql EVENT = { "receipt_event", "SELECT seq, event FROM audit.receipt_event($1)", 1 };
    struct event_proof proof;
    enum status st = event_prove(q, call, scope, &EVENT, &s->answer_id, &proof);
    if (st != ST_OK)
        return st;
    EVENT_PROOF_SHOW(reply, proof);
    return ST_OK;
}

/* ---- the opening ---- */

static enum status open_seed(struct call *call, const struct document_key *key, const struct uuid *answer_id, const void *sealed, size_t len,
                             uint8_t out[COMMITMENT_SALT_BYTES]) {
    struct blob plain;
    enum status st = document_key_open_field(key, FIELD_AUDIT_SALT, answer_id, sealed, len, call->mem, &plain, &call->why);
    if (st == ST_OK && plain.len != COMMITMENT_SALT_BYTES)
        st = fail(&call->why, ST_INTERNAL, "a receipt's seed of %zu bytes", plain.len);
    if (st == ST_OK)
        memcpy(out, plain.data, plain.len);
    return st;
}

static ProtobufCBinaryData salt_of(struct call *call, const uint8_t seed[COMMITMENT_SALT_BYTES], const char *kind, const void *more, size_t len) {
    uint8_t salt[COMMITMENT_SALT_BYTES];
    commitment_salt(seed, kind, more, len, salt);
    return wire_bytes(call->mem, salt, sizeof salt);
}

static enum status open_text(struct call *call, const struct document_key *key, enum field_kind kind, const struct shown_receipt *s, int column,
                             char **ret_text) {
    size_t len;
    struct blob plain;
    const uint8_t *sealed = db_bytea(s->row, 0, column, &len);
    enum status st = document_key_open_field(key, kind, &s->answer_id, sealed, len, call->mem, &plain, &call->why);
    if (st == ST_OK)
        *ret_text = (char *)plain.data;
    return st;
}

static enum status open_answer(struct call *call, const struct shown_receipt *s, const struct disclosure *shown,
                               uint8_t ret_seed[COMMITMENT_SALT_BYTES], Query__GetReceiptReply *reply) {
    const struct document_key *key = shown->conversation_key;
    size_t len;
    if (!key)
        return fail(&call->why, ST_NOT_FOUND, "the conversation was deleted since its receipt was found");
    enum status st = open_text(call, key, FIELD_QUESTION, s, COL_QUESTION, &reply->question);
    if (st == ST_OK)
        st = open_text(call, key, FIELD_ANSWER, s, COL_ANSWER, &reply->output);
    const uint8_t *sealed = db_bytea(s->row, 0, COL_SALT, &len);
    if (st == ST_OK)
        st = open_seed(call, key, &s->answer_id, sealed, len, ret_seed);
    if (st != ST_OK)
        return st;
    reply->question_salt = salt_of(call, ret_seed, "question", NULL, 0);
    reply->output_salt = salt_of(call, ret_seed, "output", NULL, 0);
    return ST_OK;
}

/* The sealed texts of its chunks, as many as are still there and may be seen. */
static enum status find_chunks(struct query *q, struct call *call, const struct shown_receipt *s, PGresult **ret_rows) {
    static const struct sql CHUNKS = { "receipt_chunks",
        "SELECT c.id, c.text_enc FROM app.chunks c WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[])", 2 };
    CLEANUP(buffer_end) struct buffer ids = { 0 };
    char text[UUID_TEXT_BYTES];
    buffer_add_str(&ids, "{");
    for (size_t i = 0; i < s->count; i++)
        buffer_printf(&ids, "%s%s", i ? "," : "", uuid_format(&s->chunk_ids[i], text));
    buffer_add_str(&ids, "}");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &CHUNKS, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_TEXT(ids.data) }, ret_rows, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

static int row_of(const PGresult *rows, const struct uuid *id) {
    for (int i = 0; i < db_count(rows); i++) {
        struct uuid own = db_uuid(rows, i, 0);
        if (uuid_equal(&own, id))
            return i;
    }
    return -1;
}

/* The seed of the n-th document that the receipt names, under that document's key. *ret_is_there false: it is gone. */
static enum status document_seed(struct call *call, const struct shown_receipt *s, const struct disclosure *shown, int n, const struct uuid *document_id,
                                 uint8_t out[COMMITMENT_SALT_BYTES], bool *ret_is_there) {
    const struct document_key *key = NULL;
    const char *hex = NULL;
    size_t len = 0;
    *ret_is_there = disclosure_has_key(shown, document_id) && db_text_item(s->row, 0, COL_SOURCE_SALTS, n, &hex, &len);
    if (!*ret_is_there)
        return ST_OK;
    uint8_t *sealed = arena_alloc(call->mem, len / 2 + 1);
    enum status st = disclosure_key(shown, document_id, &key, &call->why);
    if (st == ST_OK && !hex_decode(hex, len, sealed))
        st = fail(&call->why, ST_INTERNAL, "a receipt's seed is damaged");
    return st == ST_OK ? open_seed(call, key, &s->answer_id, sealed, len / 2, out) : st;
}

static enum status open_chunks(struct query *q, struct call *call, const struct shown_receipt *s, const struct disclosure *shown,
                               const uint8_t answer_seed[COMMITMENT_SALT_BYTES], Query__GetReceiptReply *reply) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    uint8_t *seeds = arena_alloc(call->mem, (s->count + 1) * COMMITMENT_SALT_BYTES);
    struct uuid *documents = arena_alloc(call->mem, (s->count + 1) * sizeof *documents);
    bool *is_there = arena_alloc(call->mem, (s->count + 1) * sizeof *is_there), are_all_there = true;
    size_t document_count = 0;
    enum status st = find_chunks(q, call, s, &rows);
    reply->chunk_texts = arena_alloc(call->mem, (s->count + 1) * sizeof *reply->chunk_texts);
    reply->chunk_salts = arena_alloc(call->mem, (s->count + 1) * sizeof *reply->chunk_salts);
    for (size_t i = 0; st == ST_OK && i < s->count; i++) {
        size_t d = 0;
        while (d < document_count && !uuid_equal(&documents[d], &s->document_ids[i]))
            d++;
        if (d == document_count) {
            documents[document_count++] = s->document_ids[i];
            st = document_seed(call, s, shown, (int)d, &documents[d], seeds + d * COMMITMENT_SALT_BYTES, &is_there[d]);
            are_all_there &= is_there[d];
        }
        int row = row_of(rows, &s->chunk_ids[i]);
        reply->chunk_texts[i] = (char *)"";
        reply->chunk_salts[i] = (ProtobufCBinaryData){ 0 };
        if (st != ST_OK || row < 0 || !is_there[d])
            continue;
        st = disclosure_open_text(shown, call, &documents[d], FIELD_CHUNK_TEXT, &s->chunk_ids[i], rows, row, 1, &reply->chunk_texts[i]);
        reply->chunk_salts[i] = salt_of(call, seeds + d * COMMITMENT_SALT_BYTES, "chunk", s->chunk_ids[i].bytes, UUID_BYTES);
    }
    if (st != ST_OK)
        return st;
    reply->n_chunk_texts = reply->n_chunk_salts = s->count;
    if (are_all_there && json_object_get(s->body, "prompt"))
        reply->prompt_salt = salt_of(call, answer_seed, "prompt", seeds, document_count * COMMITMENT_SALT_BYTES);
    return ST_OK;
}

/* Hashes, ids and scores: on the record, and without a key. */
static enum status show_closed(struct query *q, struct call *call, uint64_t scope, const ProtobufCBinaryData *id, Query__GetReceiptReply *reply) {
    CLEANUP(shown_receipt_end) struct shown_receipt s = { 0 };
    enum status st = find(q, call, scope, id, &s);
    if (st == ST_OK)
        st = audit_append(call, &(struct audit_record){ .action = AUDIT_RECEIPT_READ, .document_ids = s.document_ids, .document_count = s.count,
                          .chunk_ids = s.chunk_ids, .chunk_count = s.count, .resource_id = s.answer_id, .detail_json = "{\"opened\":false}" }, NULL);
    if (st == ST_OK)
        st = prove(q, call, scope, &s, reply);
    if (st == ST_OK)
        reply->receipt = column_text(call->mem, s.row, 0, COL_BODY);
    return st;
}

static enum status show_open(struct query *q, struct call *call, const ProtobufCBinaryData *id, Query__GetReceiptReply *reply) {
    CLEANUP(shown_receipt_end) struct shown_receipt s = { 0 };
    enum status st = find(q, call, SCOPE_QUERY, id, &s);
    if (st != ST_OK)
        return st;
    CLEANUP(disclosure_end) struct disclosure shown = { 0 };
    uint8_t seed[COMMITMENT_SALT_BYTES];
    st = disclosure_begin(&shown, q, call, &(struct disclosed){ .action = AUDIT_RECEIPT_READ, .document_ids = s.document_ids, .document_count = s.count,
                          .chunk_ids = s.chunk_ids, .chunk_count = s.count, .resource_id = &s.answer_id, .opens_conversation = true,
                          .detail_json = "{\"opened\":true}" }, SCOPE_QUERY);
    if (st == ST_OK)
        st = prove(q, call, SCOPE_QUERY, &s, reply);
    if (st != ST_OK)
        return st;
    reply->receipt = column_text(call->mem, s.row, 0, COL_BODY);
    if (db_is_null(s.row, 0, COL_SALT))         /* the answer was erased */
        return ST_OK;
    st = open_answer(call, &s, &shown, seed, reply);
    return st == ST_OK ? open_chunks(q, call, &s, &shown, seed, reply) : st;
}

enum status on_get_receipt(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetReceiptRequest *req = (const void *)in;
    return req->open ? show_open(self, call, &req->answer_id, (void *)out) : show_closed(self, call, SCOPE_QUERY, &req->answer_id, (void *)out);
}

enum status on_get_audit_receipt(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetAuditReceiptRequest *req = (const void *)in;
    return show_closed(self, call, SCOPE_AUDIT_READ, &req->answer_id, (void *)out);
}
