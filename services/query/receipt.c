#include "receipt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/text_codec.h"
#include "json/canonical.h"
#include "json/reader.h"
#include "json/writer.h"

enum { HEX_BYTES = 2 * COMMITMENT_BYTES + 1, SCORE_UNITS = 1000000 };

void receipt_begin(struct receipt *r, struct arena *mem, size_t max_sources) {
    *r = (struct receipt){ .mem = mem, .max = max_sources, .sources = arena_alloc(mem, max_sources * sizeof *r->sources),
                           .documents = arena_alloc(mem, max_sources * sizeof *r->documents) };
    commitment_seed(r->seed);
}

/* Question and output, under the answer's own seed. */
static char *commit_text(const struct receipt *r, const char *kind, const char *text) {
    uint8_t salt[COMMITMENT_SALT_BYTES], commitment[COMMITMENT_BYTES];
    commitment_salt(r->seed, kind, NULL, 0, salt);
    commitment_make(kind, salt, text, strlen(text), commitment);
    return hex_encode(commitment, sizeof commitment, arena_alloc(r->mem, HEX_BYTES));
}

const char *receipt_question(const struct receipt *r, const char *question) {
    return commit_text(r, "question", question);
}

static size_t document_of(struct receipt *r, const struct uuid *id) {
    size_t i = 0;
    while (i < r->document_count && !uuid_equal(&r->documents[i].id, id))
        i++;
    if (i == r->document_count) {
        r->documents[r->document_count++].id = *id;
        commitment_seed(r->documents[i].seed);
    }
    return i;
}

void receipt_add_source(struct receipt *r, const struct uuid *chunk_id, const struct uuid *document_id, double score, const char *text) {
    uint8_t salt[COMMITMENT_SALT_BYTES];
    if (r->source_count == r->max)
        return;
    struct receipt_source *s = &r->sources[r->source_count++];
    *s = (struct receipt_source){ .chunk_id = *chunk_id, .document = document_of(r, document_id), .score = score };
    commitment_salt(r->documents[s->document].seed, "chunk", chunk_id->bytes, UUID_BYTES, salt);
    commitment_make("chunk", salt, text, strlen(text), s->commitment);
}

void receipt_prompt_salt(const struct receipt *r, uint8_t out[COMMITMENT_SALT_BYTES]) {
    uint8_t *seeds = arena_alloc(r->mem, (r->document_count + 1) * COMMITMENT_SALT_BYTES);
    for (size_t i = 0; i < r->document_count; i++)
        memcpy(seeds + i * COMMITMENT_SALT_BYTES, r->documents[i].seed, COMMITMENT_SALT_BYTES);
    commitment_salt(r->seed, "prompt", seeds, r->document_count * COMMITMENT_SALT_BYTES, out);
}

/* ---- the body ---- */

static void put_text(struct json_writer *w, const char *name, const char *value) {
    if (!*value)
        return;
    json_put_name(w, name);
    json_put_text(w, value);
}

static void put_id(struct json_writer *w, const char *name, const struct uuid *id) {
    char text[UUID_TEXT_BYTES];
    if (name)
        json_put_name(w, name);
    json_put_text(w, uuid_format(id, text));
}

static void put_sources(struct json_writer *w, const struct receipt *r) {
    char hex[HEX_BYTES];
    json_put_name(w, "chunk_ids");
    json_open_array(w);
    for (size_t i = 0; i < r->source_count; i++)
        put_id(w, NULL, &r->sources[i].chunk_id);
    json_close_array(w);
    json_put_name(w, "chunks");
    json_open_array(w);
    for (size_t i = 0; i < r->source_count; i++)
        json_put_text(w, hex_encode(r->sources[i].commitment, COMMITMENT_BYTES, hex));
    json_close_array(w);
    json_put_name(w, "document_ids");
    json_open_array(w);
    for (size_t i = 0; i < r->source_count; i++)
        put_id(w, NULL, &r->documents[r->sources[i].document].id);
    json_close_array(w);
    json_put_name(w, "scores");
    json_open_array(w);
    for (size_t i = 0; i < r->source_count; i++)
        json_put_i64(w, llround(r->sources[i].score * SCORE_UNITS));
    json_close_array(w);
}

/* What let it be asked, as the database sees the ticket of this transaction. */
static enum status put_policy(struct json_writer *w, struct tenant_tx *tx, struct why *why) {
    static const struct sql LABELS = { "receipt_labels", "SELECT pg_catalog.unnest(authz.labels()) ORDER BY 1", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &LABELS, NULL, &rows, why);
    if (st != ST_OK)
        return st;
    json_put_name(w, "policy");
    json_open_object(w);
    put_text(w, "decision", "allow");
    json_put_name(w, "labels");
    json_open_array(w);
    for (int i = 0; i < db_count(rows); i++)
        json_put_text(w, db_text(rows, i, 0));
    json_close_array(w);
    put_text(w, "scope", scope_text(SCOPE_QUERY));
    put_id(w, "session_id", &tx->claims.session_id);
    json_close_object(w);
    return ST_OK;
}

static enum status print(const struct receipt *r, struct tenant_tx *tx, struct call *call, const struct disclosure *shown,
                         const struct receipt_answer *a, struct buffer *out) {
    struct json_writer w;
    char hex[HEX_BYTES];
    json_begin(&w, out);
    json_open_object(&w);
    json_put_name(&w, "v");
    json_put_i64(&w, 1);
    put_id(&w, "answer_id", &a->id);
    put_id(&w, "tenant_id", &tx->claims.tenant_id);
    put_id(&w, "user_id", &tx->claims.user_id);
    put_id(&w, "request_id", &call->request_id);
    put_id(&w, "disclosure_id", &shown->event_id);
    json_put_name(&w, "found");
    json_put_bool(&w, a->is_found);
    json_put_name(&w, "top_k");
    json_put_u64(&w, a->top_k);
    put_text(&w, "model", a->model);
    put_text(&w, "vector_model", a->vector_model);
    put_text(&w, "question", commit_text(r, "question", a->question));
    put_text(&w, "output", commit_text(r, "output", a->output));
    if (a->prompt_commitment)
        put_text(&w, "prompt", hex_encode(a->prompt_commitment, COMMITMENT_BYTES, hex));
    put_sources(&w, r);
    enum status st = put_policy(&w, tx, &call->why);
    json_close_object(&w);
    return st == ST_OK && !json_finish(&w) ? fail(&call->why, ST_INTERNAL, "a receipt does not print") : st;
}

static enum status canonical(const struct buffer *printed, struct buffer *out, struct why *why) {
    CLEANUP(json_destroy) json_t *value = NULL;
    enum status st = json_parse(printed->data, printed->len, printed->len, &value, why);
    return st == ST_OK ? json_canonical(value, out, why) : st;
}

/* ---- the seeds ---- */

/* '{"\\x…","\\x…"}': a bytea[] in text form. */
static enum status seal_seeds(const struct receipt *r, struct call *call, const struct disclosure *shown, const struct document_key *key,
                              const struct uuid *answer_id, struct receipt_salts *out) {
    enum status st = document_key_seal_field(key, FIELD_AUDIT_SALT, answer_id, r->seed, sizeof r->seed, call->mem, &out->salt_enc, &call->why);
    CLEANUP(buffer_end) struct buffer array = { 0 };
    buffer_add_str(&array, "{");
    for (size_t i = 0; st == ST_OK && i < r->document_count; i++) {
        const struct document_key *own = NULL;
        struct blob sealed;
        st = disclosure_key(shown, &r->documents[i].id, &own, &call->why);
        if (st == ST_OK)
            st = document_key_seal_field(own, FIELD_AUDIT_SALT, answer_id, r->documents[i].seed, COMMITMENT_SALT_BYTES, call->mem, &sealed, &call->why);
        if (st == ST_OK)
            buffer_printf(&array, "%s\"\\\\x%s\"", i ? "," : "", hex_encode(sealed.data, sealed.len, arena_alloc(call->mem, 2 * sealed.len + 1)));
    }
    buffer_add_str(&array, "}");
    out->source_salts_enc = arena_strdup(call->mem, array.data);
    return st;
}

enum status receipt_store(const struct receipt *r, struct tenant_tx *tx, struct call *call, const struct disclosure *shown,
                          const struct document_key *key, const struct receipt_answer *answer, struct receipt_salts *ret_salts) {
    static const struct sql STORE = { "store_receipt",
        "INSERT INTO app.receipts (tenant_id, answer_id, user_id, body) VALUES ($1, $2, $3, $4)", 4 };
    CLEANUP(buffer_end) struct buffer printed = { 0 }, body = { 0 };
    enum status st = print(r, tx, call, shown, answer, &printed);
    if (st == ST_OK)
        st = canonical(&printed, &body, &call->why);
    if (st == ST_OK)
        st = seal_seeds(r, call, shown, key, &answer->id, ret_salts);
    if (st != ST_OK)
        return st;
    return tenant_tx_run(tx, &STORE, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&answer->id), DB_UUID(&tx->claims.user_id),
                         DB_TEXT(body.data) }, NULL, &call->why);
}
