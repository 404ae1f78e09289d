/* reembed — a tenant's vectors are made anew by another model, beside those that are searched; when no chunk lacks one, searches
 * change over at once, and the old ones go. Uploads meanwhile get both. Text goes to the model, and its keys are handed out,
 * after the record says so. The vectors of a batch commit together: killed anywhere, the job goes on behind what is there. */
#include <string.h>

#include "audit/client.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/wire.h"
#include "embedding.pb-c.h"
#include "ingest.pb-c.h"
#include "keystore/keystore.h"
#include "vectors.h"

enum { BATCH_CHUNKS = 32, EMBED_BUDGET_MS = 120000, CLEAN_ROWS = 500, PASSES_MAX = 3, PROGRESS_EVERY = 16, WIRE_CAP_BYTES = 8 << 20 };
enum { COL_DOCUMENT, COL_CHUNK, COL_VERSION, COL_WRAPPED, COL_NAME, COL_TEXT, COL_BLIND };

/* ---- what people ask for ---- */

enum status on_create_reembedding(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql BEGIN = { "begin_reembedding", "SELECT keys.begin_reembedding($1, $2)", 2 };
    Ingest__CreateReembeddingReply *reply = (void *)out;
    struct ingest *g = self;
    (void)in;
    Embedding__ModelsRequest ask = EMBEDDING__MODELS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    enum status st = bus_ask(call, "embedding.Models", &ask.base, &embedding__models_reply__descriptor, &message);
    if (st != ST_OK)
        return st;
    const Embedding__ModelsReply *models = (const void *)message;
    struct uuid id = uuid_v7();
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_VECTORS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &BEGIN, (struct db_param[]){ DB_UUID(&id), DB_TEXT(models->embed_model) }, &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK)
        return st;
    reply->job_id = wire_id(call->mem, &id);
    reply->from_model = arena_strdup(call->mem, db_text(rows, 0, 0));
    reply->to_model = models->embed_model;
    return ST_OK;
}

/* ---- the job ---- */

/* A batch under way: chunks of a few documents. Everything in run->call.mem. */
struct batch {
    struct job_run *run;
    const struct vector_models *models;     /* [1] is the one to come */
    struct tenant_keys keys;
    struct document_key *key;               /* of key_of */
    struct uuid key_of;
    char *name;
    PGresult *chunks, *texts;
    struct uuid *document_ids;              /* of these chunks */
    size_t document_count;
    struct vector_text made[BATCH_CHUNKS];
    size_t count;
};

static void batch_end(struct batch *b) {
    document_key_destroy(&b->key);
    pgrows_destroy(&b->chunks);
    pgrows_destroy(&b->texts);
}

/* Where the pass stands. */
struct place { struct uuid document_id; int64_t ordinal; };

static enum status find(struct batch *b, const struct place *at) {
    static const struct sql NEXT = { "reembed_next", "SELECT document_id, chunk_id, ordinal FROM keys.reembed_next($1, $2, $3)", 3 };
    struct job_run *run = b->run;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = keystore_read_tenant(&tx, run->call.mem, &b->keys, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &NEXT, (struct db_param[]){ DB_UUID(&at->document_id), DB_INT(at->ordinal), DB_INT(BATCH_CHUNKS) }, &b->chunks, &run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

static const char *chunk_ids(struct batch *b) {
    struct uuid *ids = NULL;
    size_t n = db_uuids(b->run->call.mem, b->chunks, COL_CHUNK, &ids);
    return uuid_array(b->run->call.mem, ids, n);
}

/* The record, and then, under the same ticket, the keys and the sealed texts. */
static enum status disclose(struct batch *b) {
    static const struct sql OPEN = { "open_reembedding",
        "SELECT document_id, chunk_id, version, wrapped, name_enc, text_enc, text_blind FROM keys.open_reembedding($1, $2::uuid[])", 2 };
    struct job_run *run = b->run;
    struct uuid event_id;
    b->document_count = db_uuids(run->call.mem, b->chunks, COL_DOCUMENT, &b->document_ids);
    enum status st = job_run_step(run, STEP_AUDIT, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = audit_append(&run->call, &(struct audit_record){ .action = AUDIT_MODEL_DISCLOSE, .document_ids = b->document_ids,
                          .document_count = b->document_count, .resource_id = run->job->id,
                          .detail_json = arena_printf(run->call.mem, "{\"purpose\":\"embed\",\"texts\":%d}", db_count(b->chunks)) }, &event_id);
    if (st == ST_OK)
        st = fault_status(FAULT_REEMBED_DISCLOSED, &run->call.why);
    if (st != ST_OK)
        return st;
    run->step = STEP_DATABASE;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, run->ingest->db, run->call.ticket, &run->call.request_id, run->scope, run->call.deadline_ms, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &OPEN, (struct db_param[]){ DB_UUID(&event_id), DB_TEXT(chunk_ids(b)) }, &b->texts, &run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

static enum status open_field(struct batch *b, enum field_kind kind, const struct uuid *row_id, int row, int column, char **ret_text) {
    struct job_run *run = b->run;
    size_t len = 0;
    const uint8_t *sealed = db_bytea(b->texts, row, column, &len);
    struct blob plain = { 0 };
    *ret_text = arena_strdup(run->call.mem, "");
    if (len == 0)
        return ST_OK;
    enum status st = document_key_open_field(b->key, kind, row_id, sealed, len, run->call.mem, &plain, &run->call.why);
    if (st == ST_OK)
        *ret_text = (char *)plain.data;
    return st;
}

/* The key of the row's document, which the rows before may have had too. */
static enum status open_document(struct batch *b, int row) {
    struct job_run *run = b->run;
    struct uuid id = db_uuid(b->texts, row, COL_DOCUMENT);
    if (b->key && uuid_equal(&b->key_of, &id))
        return ST_OK;
    CLEANUP(tenant_key_release) struct tenant_key *sealer = NULL;
    size_t len = 0;
    const uint8_t *wrapped = db_bytea(b->texts, row, COL_WRAPPED, &len);
    document_key_destroy(&b->key);
    enum status st = keystore_open_tenant(run->ingest->keyring, &b->keys, TENANT_KEY_DATA, (unsigned)db_i64(b->texts, row, COL_VERSION),
                                          run->call.deadline_ms, &sealer, &run->call.why);
    if (st == ST_OK)
        st = keystore_open_document(run->ingest->shares, sealer, &run->claims.tenant_id, &id, wrapped, len, run->call.deadline_ms, &b->key, &run->call.why);
    b->key_of = id;
    return st == ST_OK ? open_field(b, FIELD_FILE_NAME, &id, row, COL_NAME, &b->name) : st;
}

static enum status open_texts(struct batch *b) {
    struct job_run *run = b->run;
    enum status st = job_run_step(run, STEP_KEYS, STEP_BUDGET_MS);
    for (int row = 0; st == ST_OK && row < db_count(b->texts); row++) {
        struct vector_text *t = &b->made[b->count];
        char *text = NULL;
        size_t len = 0;
        const uint8_t *blind = db_bytea(b->texts, row, COL_BLIND, &len);
        t->chunk_id = db_uuid(b->texts, row, COL_CHUNK);
        st = open_document(b, row);
        if (st == ST_NOT_FOUND) {               /* it is being erased: its share is gone */
            document_key_destroy(&b->key);
            st = ST_OK;
            continue;
        }
        if (st == ST_OK)
            st = open_field(b, FIELD_CHUNK_TEXT, &t->chunk_id, row, COL_TEXT, &text);
        if (st != ST_OK)
            return st;
        t->text = vectors_text(run->call.mem, b->name, text, strlen(text));
        if (len != BLIND_BYTES)
            return fail(&run->call.why, ST_INTERNAL, "a token of %zu bytes", len);
        memcpy(t->blind, blind, BLIND_BYTES);
        b->count++;
    }
    return st;
}

/* Chunks that went meanwhile take their texts along. Those that are left stay until the transaction is over. */
static enum status hold_texts(struct batch *b, struct tenant_tx *tx) {
    static const struct sql HOLD = { "hold_texts", "SELECT h FROM keys.hold_texts($1::uuid[]) h", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &HOLD, (struct db_param[]){ DB_TEXT(chunk_ids(b)) }, &rows, &b->run->call.why);
    size_t left = 0;
    for (size_t i = 0; st == ST_OK && i < b->count; i++)
        for (int row = 0; row < db_count(rows); row++) {
            struct uuid id = db_uuid(rows, row, 0);
            if (!uuid_equal(&id, &b->made[i].chunk_id))
                continue;
            b->made[left++] = b->made[i];
            break;
        }
    b->count = left;
    return st;
}

static enum status store(struct batch *b, const char *model) {
    struct job_run *run = b->run;
    struct uuid home;
    bool is_same = false;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = hold_texts(b, &tx);
    if (st == ST_OK)
        st = vectors_hold(run, &tx, b->models, b->models->names[0], &home, &is_same);
    if (st == ST_OK && !is_same)
        st = fail(&run->call.why, ST_UNAVAILABLE, "another model is wanted meanwhile");
    if (st == ST_OK)
        st = vectors_store(run, &tx, model, &home, b->made, b->count);
    if (st == ST_OK)
        st = fault_status(FAULT_REEMBED_BEFORE_STORE, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &run->call.why);
    return st == ST_OK ? fault_status(FAULT_REEMBED_STORED, &run->call.why) : st;
}

static enum status make_batch(struct batch *b, struct place *at) {
    struct job_run *run = b->run;
    const char *model = b->models->names[1], *name = NULL;
    enum status st = find(b, at);
    int n = st == ST_OK ? db_count(b->chunks) : 0;
    if (n == 0)
        return st;
    at->document_id = db_uuid(b->chunks, n - 1, COL_DOCUMENT);
    at->ordinal = db_i64(b->chunks, n - 1, 2);
    st = disclose(b);
    if (st == ST_OK)
        st = open_texts(b);
    if (st == ST_OK)
        st = job_run_step(run, STEP_MODEL, EMBED_BUDGET_MS);
    if (st == ST_OK)
        st = vectors_ask(run, model, b->made, b->count, &name);
    if (st == ST_OK && b->count > 0)
        st = vectors_record_model(run, name, b->document_ids, b->document_count);
    return st == ST_OK ? store(b, model) : st;
}

static enum status tell_progress(struct job_run *run) {
    static const struct sql PROGRESS = { "reembed_progress",
        "SELECT jobs.progress('embed', NULL, p.done::integer, p.total::integer) FROM keys.reembed_progress() p", 0 };
    return job_run_ask(run, &PROGRESS, NULL, NULL);
}

/* One pass over the chunks whose texts lack the next model's vector. */
static enum status embed_all(struct job_run *run, const struct vector_models *models) {
    struct place at = { .ordinal = -1 };
    enum status st = ST_OK;
    unsigned batch = 0;
    for (int n = 1; st == ST_OK && n > 0; batch++) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(WIRE_CAP_BYTES);
        struct batch *b = arena_alloc(mem, sizeof *b);
        *b = (struct batch){ .run = run, .models = models };
        run->call.mem = mem;
        st = make_batch(b, &at);
        n = b->chunks ? db_count(b->chunks) : 0;
        batch_end(b);
        run->call.mem = run->mem;
        if (st == ST_OK && (batch % PROGRESS_EVERY == 0 || n == 0))
            st = tell_progress(run);
    }
    return st;
}

static enum status change_over(struct job_run *run, const char *next, bool *ret_is_done) {
    static const struct sql SEARCHED = { "reembed_searched", "SELECT s.model FROM app.vector_sets s WHERE s.tenant_id = $1", 1 };
    static const struct sql SWITCH = { "reembed_switch", "SELECT keys.reembed_switch()", 0 };
    CLEANUP(pgrows_destroy) PGresult *searched = NULL;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = job_run_ask(run, &SEARCHED, (struct db_param[]){ DB_UUID(&run->claims.tenant_id) }, &searched);
    if (st != ST_OK)
        return st;
    struct vector_models models = { { arena_strdup(run->mem, db_text(searched, 0, 0)), next }, 2 };
    st = embed_all(run, &models);
    if (st == ST_OK)
        st = fault_status(FAULT_REEMBED_BEFORE_SWITCH, &run->call.why);
    if (st == ST_OK)
        st = job_run_ask(run, &SWITCH, NULL, &rows);
    if (st == ST_OK)
        *ret_is_done = db_bool(rows, 0, 0);
    return st == ST_OK ? fault_status(FAULT_REEMBED_SWITCHED, &run->call.why) : st;
}

enum status reembed(struct job_run *run) {
    static const struct sql BEGIN = { "reembed_begin", "SELECT keys.reembed_begin()", 0 };
    static const struct sql CLEAN = { "reembed_clean", "SELECT keys.reembed_clean($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = job_run_ask(run, &BEGIN, NULL, &rows);
    if (st != ST_OK)
        return st;
    bool is_done = db_is_null(rows, 0, 0);
    const char *next = arena_strdup(run->mem, db_text(rows, 0, 0));
    for (int pass = 0; st == ST_OK && !is_done && pass < PASSES_MAX; pass++)
        st = change_over(run, next, &is_done);
    if (st == ST_OK && !is_done)
        st = fail(&run->call.why, ST_UNAVAILABLE, "chunks that cannot be embedded");
    for (bool is_over = false; st == ST_OK && !is_over;) {
        CLEANUP(pgrows_destroy) PGresult *over = NULL;
        st = job_run_ask(run, &CLEAN, (struct db_param[]){ DB_INT(CLEAN_ROWS) }, &over);
        is_over = st == ST_OK && db_bool(over, 0, 0);
        if (st == ST_OK)
            st = fault_status(FAULT_REEMBED_CLEANED, &run->call.why);
    }
    return st;
}
