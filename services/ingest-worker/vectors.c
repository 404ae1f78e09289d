#include "vectors.h"

#include <stdlib.h>
#include <string.h>

#include "audit/client.h"
#include "core/buffer.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "embedding.pb-c.h"

static struct counter *reused(struct metrics *m) {
    return metrics_counter(m, "cordon_embed_reused_texts_total", "Texts that the tenant had vectors of already, and no model was asked for.", "");
}

void vectors_metrics(struct metrics *m) {
    (void)reused(m);
}

char *vectors_text(struct arena *mem, const char *file_name, const char *text, size_t len) {
    return *file_name ? arena_printf(mem, "%s\n%.*s", file_name, (int)len, text) : arena_strndup(mem, text, len);
}

void vectors_blind(const struct tenant_key *search_key, const char *text, uint8_t out[BLIND_BYTES]) {
    tenant_key_blind(search_key, "embedded-text", text, strlen(text), out);
}

/* The next of them, as an element of a bytea[]. */
static bool add_blind(struct buffer *out, const uint8_t blind[BLIND_BYTES]) {
    char hex[2 * BLIND_BYTES + 1];
    return buffer_printf(out, "%s\"\\\\x%s\"", out->len > 1 ? "," : "", hex_encode(blind, BLIND_BYTES, hex));
}

/* Of a model and these tokens, "{" and no end yet. */
static enum status ask(struct job_run *run, struct tenant_tx *tx, const struct sql *q, const char *model, struct buffer *blinds, PGresult **ret_rows) {
    if (!buffer_add_str(blinds, "}"))
        return fail(&run->call.why, ST_INTERNAL, "tokens of texts");
    return tenant_tx_run(tx, q, (struct db_param[]){ DB_TEXT(model), DB_TEXT(blinds->data) }, ret_rows, &run->call.why);
}

static enum status known(struct job_run *run, const struct sql *q, const char *model, struct buffer *blinds, PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = ask(run, &tx, q, model, blinds, ret_rows);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

enum status vectors_known(struct job_run *run, const char *model, const uint8_t blinds[][BLIND_BYTES], size_t n, bool ret_is_known[],
                          size_t *ret_known_count) {
    static const struct sql KNOWN = { "known_texts",
        "SELECT b.n FROM pg_catalog.unnest($2::bytea[]) WITH ORDINALITY b (blind, n) "
        "WHERE b.blind IN (SELECT k.text_blind FROM keys.known_vectors($1, $2::bytea[]) k)", 2 };
    CLEANUP(buffer_end) struct buffer list = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    *ret_known_count = 0;
    if (!*model)
        return ST_OK;
    bool is_good = buffer_add_str(&list, "{");
    for (size_t i = 0; is_good && i < n; i++)
        is_good = add_blind(&list, blinds[i]);
    enum status st = is_good ? known(run, &KNOWN, model, &list, &rows) : fail(&run->call.why, ST_INTERNAL, "tokens of texts");
    for (int row = 0; st == ST_OK && row < db_count(rows); row++)
        ret_is_known[db_i64(rows, row, 0) - 1] = true;
    *ret_known_count = st == ST_OK ? (size_t)db_count(rows) : 0;
    return st;
}

static size_t take_known(const PGresult *rows, struct vector_text texts[], size_t n) {
    size_t taken = 0;
    for (int row = 0; row < db_count(rows); row++) {
        size_t len = 0, vector_len = 0;
        const uint8_t *blind = db_bytea(rows, row, 0, &len), *vector = db_bytea(rows, row, 1, &vector_len);
        for (size_t i = 0; i < n && len == BLIND_BYTES && vector_len == HALFVEC_BYTES; i++)
            if (!texts[i].is_made && memcmp(texts[i].blind, blind, BLIND_BYTES) == 0) {
                memcpy(texts[i].halfvec, vector, HALFVEC_BYTES);
                texts[i].is_made = true;
                taken++;
            }
    }
    return taken;
}

enum status vectors_recall(struct job_run *run, const char *model, struct vector_text texts[], size_t n) {
    static const struct sql KNOWN = { "known_vectors", "SELECT text_blind, embedding FROM keys.known_vectors($1, $2::bytea[])", 2 };
    CLEANUP(buffer_end) struct buffer list = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (!*model)
        return ST_OK;
    bool is_good = buffer_add_str(&list, "{");
    for (size_t i = 0; is_good && i < n; i++)
        is_good = texts[i].is_made || add_blind(&list, texts[i].blind);
    enum status st = is_good ? known(run, &KNOWN, model, &list, &rows) : fail(&run->call.why, ST_INTERNAL, "tokens of texts");
    if (st == ST_OK)
        counter_add(reused(run->ingest->runtime->metrics), take_known(rows, texts, n));
    return st;
}

/* texts[i] is the first of its kind that is wanted, or its vector is that of an earlier one. */
static size_t first_equal(const struct vector_text texts[], size_t i) {
    for (size_t j = 0; j < i; j++)
        if (memcmp(texts[j].blind, texts[i].blind, BLIND_BYTES) == 0)
            return j;
    return i;
}

enum status vectors_ask(struct job_run *run, const char *model, struct vector_text texts[], size_t n, const char **ret_model) {
    Embedding__EmbedRequest req = EMBEDDING__EMBED_REQUEST__INIT;
    size_t places[VECTORS_AT_ONCE], repeated = 0;
    req.texts = arena_alloc(run->call.mem, n * sizeof *req.texts);
    req.purpose = EMBEDDING__PURPOSE__DOCUMENT;
    req.model = (char *)model;
    *ret_model = model;
    for (size_t i = 0; i < n; i++) {
        if (texts[i].is_made)
            continue;
        if (first_equal(texts, i) < i) {
            repeated++;
            continue;
        }
        places[req.n_texts] = i;
        req.texts[req.n_texts++] = (char *)texts[i].text;
    }
    if (req.n_texts == 0)
        return ST_OK;
    ProtobufCMessage *message = NULL;
    enum status st = bus_ask(&run->call, "embedding.Embed", &req.base, &embedding__embed_reply__descriptor, &message);
    if (st != ST_OK)
        return st;
    const Embedding__EmbedReply *reply = (const void *)message;
    if (reply->n_vectors != req.n_texts || (*model && !str_equal(model, reply->model)))
        return fail(&run->call.why, ST_INTERNAL, "the model gave %zu vectors for %zu texts", reply->n_vectors, req.n_texts);
    for (size_t k = 0; k < req.n_texts; k++) {
        if (reply->vectors[k]->n_values != VECTOR_DIMENSIONS)
            return fail(&run->call.why, ST_INTERNAL, "a vector of %zu dimensions", reply->vectors[k]->n_values);
        (void)db_halfvec_param(reply->vectors[k]->values, texts[places[k]].halfvec);
        texts[places[k]].is_made = true;
    }
    for (size_t i = 0; i < n; i++)
        if (!texts[i].is_made) {
            memcpy(texts[i].halfvec, texts[first_equal(texts, i)].halfvec, HALFVEC_BYTES);
            texts[i].is_made = true;
        }
    counter_add(reused(run->ingest->runtime->metrics), repeated);
    *ret_model = reply->model;
    return ST_OK;
}

enum status vectors_record_model(struct job_run *run, const char *model, const struct uuid document_ids[], size_t document_count) {
    return audit_append(&run->call, &(struct audit_record){ .action = AUDIT_MODEL_USE, .document_ids = document_ids, .document_count = document_count,
                        .resource_id = run->job->id, .detail_json = arena_printf(run->call.mem, "{\"model\":\"%s\",\"purpose\":\"embed\"}", model) }, NULL);
}

enum status vectors_hold(struct job_run *run, struct tenant_tx *tx, const struct vector_models *models, const char *model, struct uuid *ret_home,
                         bool *ret_is_same) {
    static const struct sql HOLD = { "hold_vector_set", "SELECT model, next_model, home FROM keys.hold_vector_set($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &HOLD, (struct db_param[]){ DB_TEXT(model) }, &rows, &run->call.why);
    if (st != ST_OK)
        return st;
    const char *wanted = *models->names[0] ? models->names[0] : model;
    *ret_is_same = str_equal(wanted, db_text(rows, 0, 0)) && str_equal(models->count > 1 ? models->names[1] : "", db_text(rows, 0, 1));
    *ret_home = db_uuid(rows, 0, 2);
    return ST_OK;
}

/* Policies are asked once a statement, and each answer is a ticket verified, so there is one for several rows. Rows that a short one
 * does not have are NULL. In the order of the tokens, as everybody's: two who store the same texts do not wait for each other. */
enum { SHARED = 3, PER_ROW = 2, PARAMS = 19, ROUNDS_MAX = 3 };
static const struct sql ADD_VECTORS = { "add_vectors",
    "INSERT INTO app.text_vectors (tenant_id, model, home, text_blind, embedding) SELECT $1::uuid, $2::text, $3::uuid, v.* FROM (VALUES "
    "($4::bytea, $5::ext.halfvec), ($6, $7), ($8, $9), ($10, $11), ($12, $13), ($14, $15), ($16, $17), ($18, $19)) v (text_blind) "
    "WHERE v.text_blind IS NOT NULL ORDER BY v.text_blind ON CONFLICT DO NOTHING", PARAMS };
_Static_assert(PARAMS == SHARED + VECTOR_ROWS * PER_ROW, "a row of ADD_VECTORS for each of a batch");

static int by_blind(const void *a, const void *b) {
    const struct vector_text *const *x = a, *const *y = b;
    return memcmp((*x)->blind, (*y)->blind, BLIND_BYTES);
}

/* One of each text, in the order of the tokens. */
static size_t each_once(const struct vector_text texts[], size_t n, const struct vector_text *ret_each[]) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        ret_each[i] = &texts[i];
    qsort(ret_each, n, sizeof *ret_each, by_blind);
    for (size_t i = 0; i < n; i++)
        if (count == 0 || by_blind(&ret_each[count - 1], &ret_each[i]) != 0)
            ret_each[count++] = ret_each[i];
    return count;
}

/* Hold the vectors that are there, and leave the others in each. */
static enum status hold_those_there(struct job_run *run, struct tenant_tx *tx, const char *model, const struct vector_text *each[], size_t *count) {
    static const struct sql HOLD = { "hold_vectors", "SELECT h FROM keys.hold_vectors($1, $2::bytea[]) h", 2 };
    CLEANUP(buffer_end) struct buffer list = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    bool is_good = buffer_add_str(&list, "{");
    for (size_t i = 0; is_good && i < *count; i++)
        is_good = add_blind(&list, each[i]->blind);
    enum status st = is_good ? ask(run, tx, &HOLD, model, &list, &rows) : fail(&run->call.why, ST_INTERNAL, "tokens of texts");
    size_t left = 0, len = 0;
    int row = 0;
    for (size_t i = 0; st == ST_OK && i < *count; i++) {           /* both in one order */
        bool is_there = row < db_count(rows) && memcmp(db_bytea(rows, row, 0, &len), each[i]->blind, BLIND_BYTES) == 0;
        row += is_there;
        if (!is_there)
            each[left++] = each[i];
    }
    *count = left;
    return st;
}

static enum status add_rows(struct job_run *run, struct tenant_tx *tx, const char *model, const struct uuid *home, const struct vector_text *const each[],
                            size_t n, int64_t *ret_added) {
    enum status st = ST_OK;
    for (size_t at = 0; st == ST_OK && at < n; at += VECTOR_ROWS) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        struct db_param params[PARAMS] = { DB_UUID(&run->claims.tenant_id), DB_TEXT(model), DB_UUID(home) };
        for (size_t i = 0; i < VECTOR_ROWS && at + i < n; i++) {
            params[SHARED + i * PER_ROW] = DB_BYTES(each[at + i]->blind, BLIND_BYTES);
            params[SHARED + i * PER_ROW + 1] = DB_BYTES(each[at + i]->halfvec, HALFVEC_BYTES);
        }
        st = tenant_tx_run(tx, &ADD_VECTORS, params, &rows, &run->call.why);
        *ret_added += st == ST_OK ? db_affected(rows) : 0;
    }
    return st;
}

enum status vectors_store(struct job_run *run, struct tenant_tx *tx, const char *model, const struct uuid *home, const struct vector_text texts[],
                          size_t n) {
    const struct vector_text *each[VECTORS_AT_ONCE];
    size_t count = each_once(texts, n, each);
    for (int round = 0; round < ROUNDS_MAX && count > 0; round++) {       /* again for one that somebody stored in between */
        int64_t added = 0;
        enum status st = hold_those_there(run, tx, model, each, &count);
        if (st == ST_OK)
            st = add_rows(run, tx, model, home, each, count, &added);
        if (st != ST_OK || added == (int64_t)count)
            return st;
    }
    return count == 0 ? ST_OK : fail(&run->call.why, ST_UNAVAILABLE, "others store the same texts");
}
