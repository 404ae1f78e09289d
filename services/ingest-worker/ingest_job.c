/* ingest_job — from a stored original to searchable chunks. Each stage ends in the database, under the
 * job's ticket and fence, so that a worker that was stopped and comes back cannot write, and a crash
 * repeats at most the stage that was running: chunks that are in are not embedded again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/client.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "db/tenant_tx.h"
#include "ingest.h"
#include "job_run.h"
#include "keystore/original.h"
#include "obs/log.h"
#include "obs/trace.h"
#include "text/splitter.h"
#include "vectors.h"
#include "verdict.h"

enum {
    EMBED_BUDGET_MS = 120000,       /* for one batch of embeddings: a throttled model is slow, not broken */
    FETCH_BUDGET_MS = 300000,
    PAGES_INTERVAL_MS = 500,        /* between two words on how many pages are read */
    BATCH_CHUNKS = VECTOR_ROWS,     /* progress is kept after each; threads and documents run beside each other */
    CHUNKS_MAX = 20000,
    WIRE_CAP_BYTES = 4 << 20,
};

/* A document's ingestion under way. Strings and keys live in run.mem until the job ends. */
struct work {
    struct job_run run;
    const char *content_type, *file_name;
    struct document_key *key;
    struct tenant_key *search_key;
    struct vector_models models;
    uint8_t (*blinds)[BLIND_BYTES];     /* of each chunk's text */
    bool *has_equal;                    /* its vector may be there: the tenant's already, or one that this document has made before */
    struct buffer text;
    struct text_chunk *chunks;
    size_t chunk_count, done_count;     /* done: already in the database, in order of ordinal */
    uint32_t page_count;
    bool is_model_recorded[VECTOR_MODELS_MAX], is_disclosed;
    int64_t model_us;                   /* what this stage has waited for the model */
    int64_t told_ms;                    /* when pages_done was last said */
    uint32_t told_pages;
};

/* Every step has a fresh ticket and a budget of its own. */
enum status job_run_step(struct job_run *run, enum job_step step, int64_t budget_ms) {
    run->step = step;
    /* What is in hand is still written, so that nobody need make it again. */
    if (step != STEP_DATABASE && job_should_stop(run->pool, run->job))
        return fail(&run->call.why, ST_UNAVAILABLE, "stopping");
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    run->call.deadline_ms = clock_mono_ms() + budget_ms;
    enum status st = job_ticket(run->pool, run->job, mem, &run->call.ticket, &run->call.why);
    if (st == ST_OK) {
        struct arena *old = run->ticket_mem;
        run->ticket_mem = mem;
        mem = old;
    }
    return st;
}

enum status job_run_tx(struct job_run *run, struct tenant_tx *tx) {
    enum status st = job_run_step(run, STEP_DATABASE, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = tenant_tx_begin(tx, run->ingest->db, run->call.ticket, &run->call.request_id, run->scope, run->call.deadline_ms, &run->call.why);
    if (st == ST_OK)
        run->claims = tx->claims;
    return st;
}

enum status job_run_ask(struct job_run *run, const struct sql *q, const struct db_param params[], PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    if (job_should_stop(run->pool, run->job))
        return fail(&run->call.why, ST_UNAVAILABLE, "stopping");
    enum status st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, q, params, ret_rows, &run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

static enum status run_progress(struct tenant_tx *tx, struct work *w, const struct sql *q, const char *stage) {
    bool knows = w->chunks;         /* before, what an earlier attempt has said stands */
    return tenant_tx_run(tx, q, (struct db_param[]){ DB_TEXT(stage), knows ? DB_INT(w->page_count) : DB_NULL,
                         knows ? DB_INT(w->done_count) : DB_NULL, knows ? DB_INT(w->chunk_count) : DB_NULL }, NULL, &w->run.call.why);
}

static enum status progress(struct tenant_tx *tx, struct work *w, const char *stage) {
    static const struct sql PROGRESS = { "progress", "SELECT jobs.progress($1, $2, $3, $4)", 4 };
    return run_progress(tx, w, &PROGRESS, stage);
}

/* In a transaction that says nothing else: losing it with the database's last moments costs nobody anything, so its commit
 * need not wait for the disk. */
static enum status progress_alone(struct tenant_tx *tx, struct work *w, const char *stage) {
    static const struct sql PROGRESS = { "progress_alone",
        "SELECT jobs.progress($1, $2, $3, $4), pg_catalog.set_config('synchronous_commit', 'off', true)", 4 };
    return run_progress(tx, w, &PROGRESS, stage);
}

/* ---- stages ---- */

/* What the database knows of the document, and its key. */
static enum status open_document(struct work *w) {
    static const struct sql FIND = { "job_document",
        "SELECT d.content_type, d.name_enc, d.status, "
        "(SELECT pg_catalog.count(*) FROM app.chunks c WHERE c.tenant_id = $1 AND c.document_id = $2), k.version, k.wrapped, s.model, s.next_model "
        "FROM app.documents d CROSS JOIN keys.job_document_key() k LEFT JOIN app.vector_sets s ON s.tenant_id = $1 "
        "WHERE d.tenant_id = $1 AND d.id = $2", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct tenant_keys keys = { 0 };
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        enum status st = job_run_tx(&w->run, &tx);
        if (st == ST_OK)
            st = progress_alone(&tx, w, "fetch");
        if (st == ST_OK)
            st = tenant_tx_run(&tx, &FIND, (struct db_param[]){ DB_UUID(&w->run.claims.tenant_id), DB_UUID(&w->run.job->document_id) }, &rows,
                               &w->run.call.why);
        if (st == ST_OK)
            st = keystore_read_tenant(&tx, w->run.mem, &keys, &w->run.call.why);
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, &w->run.call.why);
        if (st != ST_OK)
            return st;
    }
    if (db_count(rows) == 0 || !str_equal(db_text(rows, 0, 2), "processing"))
        return fail(&w->run.call.why, ST_NOT_FOUND, "the document is gone");
    w->content_type = arena_strdup(w->run.mem, db_text(rows, 0, 0));
    w->done_count = (size_t)db_i64(rows, 0, 3);
    w->models = (struct vector_models){ { arena_strdup(w->run.mem, db_text(rows, 0, 6)), arena_strdup(w->run.mem, db_text(rows, 0, 7)) },
                                        db_is_null(rows, 0, 7) ? 1 : 2 };

    w->run.step = STEP_KEYS;
    CLEANUP(tenant_key_release) struct tenant_key *tenant_key = NULL;
    size_t len = 0;
    const uint8_t *wrapped = db_bytea(rows, 0, 5, &len);
    enum status st = keystore_open_tenant(w->run.ingest->keyring, &keys, TENANT_KEY_DATA, (unsigned)db_i64(rows, 0, 4),
                                          w->run.call.deadline_ms, &tenant_key, &w->run.call.why);
    if (st == ST_OK)
        st = keystore_open_tenant(w->run.ingest->keyring, &keys, TENANT_KEY_SEARCH, 0, w->run.call.deadline_ms, &w->search_key, &w->run.call.why);
    if (st == ST_OK)
        st = keystore_open_document(w->run.ingest->shares, tenant_key, &w->run.claims.tenant_id, &w->run.job->document_id, wrapped, len,
                                    w->run.call.deadline_ms, &w->key, &w->run.call.why);
    w->file_name = "";
    if (st == ST_OK && !db_is_null(rows, 0, 1)) {
        struct blob name = { 0 };
        const uint8_t *sealed = db_bytea(rows, 0, 1, &len);
        st = document_key_open_field(w->key, FIELD_FILE_NAME, &w->run.job->document_id, sealed, len, w->run.mem, &name, &w->run.call.why);
        if (st == ST_OK)
            w->file_name = (const char *)name.data;
    }
    return st;
}

struct extract_pipe { struct work *work; struct extraction *extraction; struct frames_opener *opener; struct buffer plain; };

static enum status pipe_take(void *ctx, const void *data, size_t len, struct why *why) {
    struct extract_pipe *p = ctx;
    if (job_should_stop(p->work->run.pool, p->work->run.job))
        return fail(why, ST_UNAVAILABLE, "stopping");
    enum status st = frames_open_add(p->opener, data, len, &p->plain, why);
    if (st == ST_OK)
        st = extraction_feed(p->extraction, p->plain.data, p->plain.len, why);
    buffer_clear(&p->plain);
    return st;
}

/* Called while the text grows: says how far it is, now and then, and ends it when the job shall stop. */
static enum status watch_pages(void *ctx, uint32_t pages, struct why *why) {
    static const struct sql PAGES = { "progress_pages", "SELECT jobs.progress('extract', $1, NULL, NULL)", 1 };
    struct work *w = ctx;
    if (job_should_stop(w->run.pool, w->run.job))
        return fail(why, ST_UNAVAILABLE, "stopping");
    if (!extract_has_pages(w->content_type) || pages == w->told_pages || clock_mono_ms() < w->told_ms + PAGES_INTERVAL_MS)
        return ST_OK;
    w->told_ms = clock_mono_ms();
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    const char *ticket = NULL;
    enum status st = job_ticket(w->run.pool, w->run.job, w->run.mem, &ticket, why);
    if (st == ST_OK)
        st = tenant_tx_begin(&tx, w->run.ingest->db, ticket, &w->run.call.request_id, w->run.scope, clock_mono_ms() + STEP_BUDGET_MS, why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PAGES, (struct db_param[]){ DB_INT(pages) }, NULL, why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, why);
    w->told_pages = st == ST_OK ? pages : w->told_pages;
    return ST_OK;               /* what is wrong with the database, or the lease, the next stage will say */
}

/* Fetch, decrypt and extract in one stream: the original is never whole in memory, nor on a disk. */
static enum status extract_text(struct work *w) {
    enum status st = job_run_step(&w->run, STEP_ORIGINAL, FETCH_BUDGET_MS);
    if (st != ST_OK)
        return st;
    CLEANUP(extraction_destroy) struct extraction *extraction = NULL;
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    st = extraction_new(&w->run.ingest->extract, w->content_type, &extraction, &w->run.call.why);
    if (st == ST_OK)
        st = document_key_open_original(w->key, &opener, &w->run.call.why);
    if (st != ST_OK)
        return st;
    extraction_watch(extraction, watch_pages, w);
    struct extract_pipe pipe = { .work = w, .extraction = extraction, .opener = opener };
    const char *object = original_object_key(w->run.mem, &w->run.claims.tenant_id, &w->run.job->document_id);
    st = s3_get(w->run.ingest->s3, object, 0, 0, pipe_take, &pipe, w->run.call.deadline_ms, &w->run.call.why);
    if (st == ST_OK)
        st = frames_open_end(opener, &pipe.plain, &w->run.call.why);
    if (st == ST_OK)
        st = extraction_feed(extraction, pipe.plain.data, pipe.plain.len, &w->run.call.why);
    if (st == ST_OK)
        st = extraction_finish(extraction, &w->text, &w->run.call.why);
    buffer_end(&pipe.plain);
    return st;
}

static enum status split(struct work *w) {
    struct split_options options = { .max_tokens = SPLIT_MAX_TOKENS, .overlap_tokens = SPLIT_OVERLAP_TOKENS,
                                     .max_chunks_count = CHUNKS_MAX };
    enum status st = split_text(w->run.mem, w->text.data, w->text.len, &options, &w->chunks, &w->chunk_count, &w->run.call.why);
    if (st != ST_OK)
        return st;
    if (w->chunk_count == 0)
        return fail_as(&w->run.call.why, ERR_DOC_NO_TEXT, "no chunks");
    if (w->done_count > w->chunk_count)
        return fail(&w->run.call.why, ST_INTERNAL, "more chunks stored than the text has");
    w->page_count = extract_has_pages(w->content_type) ? w->chunks[w->chunk_count - 1].page_to : 0;
    return ST_OK;
}

/* Text goes to the model only when that is on the record. */
static enum status record_disclosure(struct work *w) {
    if (w->is_disclosed)
        return ST_OK;
    w->is_disclosed = true;
    enum status st = job_run_step(&w->run, STEP_AUDIT, STEP_BUDGET_MS);
    if (st != ST_OK)
        return st;
    return audit_append(&w->run.call, &(struct audit_record){ .action = AUDIT_MODEL_DISCLOSE, .document_ids = &w->run.job->document_id,
                        .document_count = 1, .resource_id = w->run.job->id,
                        .detail_json = arena_printf(w->run.mem, "{\"purpose\":\"embed\",\"texts\":%zu}", w->chunk_count - w->done_count) }, NULL);
}

/* Once in a run, for each of the wanted models: another run may meet another one. */
static enum status record_model(struct work *w, size_t which, const char *model) {
    if (w->is_model_recorded[which])
        return ST_OK;
    w->is_model_recorded[which] = true;
    return vectors_record_model(&w->run, model, &w->run.job->document_id, 1);
}

static char *text_for_model(struct work *w, struct arena *mem, size_t ordinal) {
    const struct text_chunk *c = &w->chunks[ordinal];
    return vectors_text(mem, w->file_name, w->text.data + c->start_byte, c->end_byte - c->start_byte);
}

static int by_blind(const void *a, const void *b, void *ctx) {
    const uint8_t (*blinds)[BLIND_BYTES] = ctx;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = memcmp(blinds[x], blinds[y], BLIND_BYTES);
    return order ? order : (x > y) - (x < y);
}

/* Texts that equal one before them in this document. */
static void find_repeats(struct work *w) {
    uint32_t *order = arena_alloc(w->run.mem, w->chunk_count * sizeof *order);
    for (size_t i = 0; i < w->chunk_count; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, w->chunk_count, sizeof *order, by_blind, w->blinds);
    for (size_t i = 1; i < w->chunk_count; i++)
        w->has_equal[order[i]] |= memcmp(w->blinds[order[i]], w->blinds[order[i - 1]], BLIND_BYTES) == 0;
}

/* Are there texts that must go to a model? Which ones the tenant has vectors of is asked once a document. */
static enum status find_known(struct work *w, bool *ret_lacks) {
    w->blinds = arena_alloc(w->run.mem, w->chunk_count * sizeof *w->blinds);
    w->has_equal = arena_alloc(w->run.mem, w->chunk_count * sizeof *w->has_equal);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    for (size_t i = 0; i < w->chunk_count; i++)
        vectors_blind(w->search_key, text_for_model(w, mem, i), w->blinds[i]);
    size_t known = 0;
    enum status st = vectors_known(&w->run, w->models.names[0], (const uint8_t (*)[BLIND_BYTES])w->blinds + w->done_count,
                                   w->chunk_count - w->done_count, w->has_equal + w->done_count, &known);
    find_repeats(w);
    *ret_lacks = known < w->chunk_count - w->done_count || w->models.count > 1;
    return st;
}

static enum status record_texts(struct work *w) {
    bool lacks = false;
    enum status st = find_known(w, &lacks);
    return st == ST_OK && lacks ? record_disclosure(w) : st;
}

/* A batch is one statement for its chunks, because policies are asked once a statement, and each answer is a ticket verified.
 * Rows that a short batch does not have are NULL. */
enum { CHUNK_SHARED = 2, CHUNK_PARAMS = 9, CHUNKS_PARAMS = 74 };

static const struct sql ADD_CHUNKS = { "add_chunks",
    "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, page_from, page_to, start_offset, end_offset, token_count, text_enc, text_blind) "
    "SELECT $1::uuid, $2::uuid, v.* FROM (VALUES "
    "($3::uuid, $4::integer, $5::integer, $6::integer, $7::integer, $8::integer, $9::integer, $10::bytea, $11::bytea), "
    "($12, $13, $14, $15, $16, $17, $18, $19, $20), ($21, $22, $23, $24, $25, $26, $27, $28, $29), "
    "($30, $31, $32, $33, $34, $35, $36, $37, $38), ($39, $40, $41, $42, $43, $44, $45, $46, $47), "
    "($48, $49, $50, $51, $52, $53, $54, $55, $56), ($57, $58, $59, $60, $61, $62, $63, $64, $65), "
    "($66, $67, $68, $69, $70, $71, $72, $73, $74)) v (id) WHERE v.id IS NOT NULL", CHUNKS_PARAMS };
_Static_assert(CHUNKS_PARAMS == CHUNK_SHARED + BATCH_CHUNKS * CHUNK_PARAMS, "a row of ADD_CHUNKS for each of a batch");

static struct db_param int_param(struct arena *mem, int64_t value) {
    return db_int_param(arena_alloc(mem, DB_INT_TEXT_BYTES), value);
}

/* A batch on its way: its chunks' parameters, and their texts for each model. In run.call.mem. */
struct batch { struct db_param chunks[CHUNKS_PARAMS]; struct vector_text texts[VECTOR_MODELS_MAX][BATCH_CHUNKS]; };

static enum status add_row(struct work *w, struct batch *b, size_t i, size_t ordinal) {
    struct arena *mem = w->run.call.mem;
    const struct text_chunk *c = &w->chunks[ordinal];
    bool has_pages = extract_has_pages(w->content_type);
    struct vector_text *t = &b->texts[0][i];
    t->chunk_id = uuid_v7();
    t->text = text_for_model(w, mem, ordinal);
    memcpy(t->blind, w->blinds[ordinal], BLIND_BYTES);
    b->texts[1][i] = *t;
    struct blob sealed = { 0 };
    enum status st = document_key_seal_field(w->key, FIELD_CHUNK_TEXT, &t->chunk_id, w->text.data + c->start_byte,
                                             c->end_byte - c->start_byte, mem, &sealed, &w->run.call.why);
    if (st != ST_OK)
        return st;
    struct db_param *p = b->chunks + CHUNK_SHARED + i * CHUNK_PARAMS;
    *p++ = DB_UUID(&t->chunk_id);
    *p++ = int_param(mem, (int64_t)ordinal);
    *p++ = has_pages ? int_param(mem, c->page_from) : DB_NULL;
    *p++ = has_pages ? int_param(mem, c->page_to) : DB_NULL;
    *p++ = int_param(mem, (int64_t)c->start_char);
    *p++ = int_param(mem, (int64_t)c->end_char);
    *p++ = int_param(mem, c->token_count);
    *p++ = DB_BYTES(sealed.data, sealed.len);
    *p++ = DB_BYTES(t->blind, BLIND_BYTES);
    return ST_OK;
}

/* The vectors of a batch by one of the wanted models: from the tenant's own rows where they are there, else from the model. */
static enum status embed(struct work *w, struct batch *b, size_t model, size_t n, const char **ret_model) {
    struct vector_text *texts = b->texts[model];
    bool may_know = false, lacks = false;
    for (size_t i = 0; i < n; i++)
        may_know |= w->has_equal[w->done_count + i];
    enum status st = may_know ? vectors_recall(&w->run, w->models.names[model], texts, n) : ST_OK;
    for (size_t i = 0; i < n; i++)
        lacks |= !texts[i].is_made;
    *ret_model = w->models.names[model];
    if (st != ST_OK || !lacks)
        return st;
    st = record_disclosure(w);
    if (st == ST_OK)
        st = job_run_step(&w->run, STEP_MODEL, EMBED_BUDGET_MS);
    int64_t began_us = clock_mono_us();
    if (st == ST_OK)
        st = vectors_ask(&w->run, w->models.names[model], texts, n, ret_model);
    w->model_us += clock_mono_us() - began_us;
    return st == ST_OK ? record_model(w, model, *ret_model) : st;
}

static enum status store_rows(struct work *w, struct tenant_tx *tx, struct batch *b, size_t n, const char *const models[]) {
    struct uuid home;
    bool is_same = false;
    enum status st = vectors_hold(&w->run, tx, &w->models, models[0], &home, &is_same);
    if (st == ST_OK && !is_same)            /* the next attempt embeds what is wanted then */
        st = fail(&w->run.call.why, ST_UNAVAILABLE, "another model is wanted meanwhile");
    b->chunks[0] = DB_UUID(&w->run.claims.tenant_id);
    b->chunks[1] = DB_UUID(&w->run.job->document_id);
    if (st == ST_OK)
        st = tenant_tx_run(tx, &ADD_CHUNKS, b->chunks, NULL, &w->run.call.why);
    for (size_t m = 0; st == ST_OK && m < w->models.count; m++)
        st = vectors_store(&w->run, tx, models[m], &home, b->texts[m], n);
    return st;
}

/* Embed the next n chunks and commit them together with the progress that says so. */
static enum status store_batch(struct work *w, size_t n) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(WIRE_CAP_BYTES);
    struct batch *b = arena_alloc(mem, sizeof *b);
    const char *models[VECTOR_MODELS_MAX] = { NULL };
    enum status st = ST_OK;
    w->run.call.mem = mem;
    for (size_t i = 0; st == ST_OK && i < n; i++)
        st = add_row(w, b, i, w->done_count + i);
    for (size_t m = 0; st == ST_OK && m < w->models.count; m++)
        st = embed(w, b, m, n, &models[m]);
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_EMBEDDED, &w->run.call.why);
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    if (st == ST_OK)
        st = job_run_tx(&w->run, &tx);
    if (st == ST_OK)
        st = store_rows(w, &tx, b, n, models);
    w->done_count += st == ST_OK ? n : 0;
    if (st == ST_OK)
        st = progress(&tx, w, "embed");
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_BEFORE_STORE, &w->run.call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &w->run.call.why);
    if (st == ST_OK && !*w->models.names[0])
        w->models.names[0] = arena_strdup(w->run.mem, models[0]);
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_STORED, &w->run.call.why);
    w->run.call.mem = w->run.mem;
    return st;
}

/* The document becomes ready and the job done, together. */
static enum status finish(struct work *w) {
    static const struct sql READY = { "document_ready",
        "UPDATE app.documents SET status = 'ready', pages = $3, chunks = $4 WHERE tenant_id = $1 AND id = $2 AND status = 'processing'", 4 };
    static const struct sql COMPLETE = { "complete_job", "SELECT jobs.progress($1, $2, $3, $4), jobs.complete()", 4 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = job_run_tx(&w->run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &READY, (struct db_param[]){ DB_UUID(&w->run.claims.tenant_id), DB_UUID(&w->run.job->document_id),
                           w->page_count ? DB_INT(w->page_count) : DB_NULL, DB_INT(w->chunk_count) }, &rows, &w->run.call.why);
    if (st == ST_OK && db_affected(rows) != 1)
        st = fail(&w->run.call.why, ST_NOT_FOUND, "the document is gone");
    if (st == ST_OK)
        st = run_progress(&tx, w, &COMPLETE, "done");
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_BEFORE_COMPLETE, &w->run.call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &w->run.call.why);
    return st == ST_OK ? fault_status(FAULT_INGEST_COMPLETED, &w->run.call.why) : st;
}

/* The next chunks that are not in the database yet. */
static enum status store_next(struct work *w) {
    size_t left = w->chunk_count - w->done_count;
    return store_batch(w, left < BATCH_CHUNKS ? left : BATCH_CHUNKS);
}

static void observe_stage(struct work *w, const char *stage, int64_t us) {
    histogram_observe_us(metrics_histogram(w->run.ingest->runtime->metrics, "cordon_job_stage_seconds", "Duration of the stages of attempts at jobs.",
                                           arena_printf(w->run.mem, "stage=\"%s\"", stage)), us);
}

/* The wait for the model is a stage of its own. */
static enum status run_stage(struct work *w, const char *name, enum status (*run)(struct work *w)) {
    struct trace_scope scope;
    trace_begin(&scope, SPAN_INTERNAL, name, NULL);
    int64_t began_us = clock_mono_us();
    w->model_us = 0;
    enum status st = run(w);
    observe_stage(w, strchr(name, '.') + 1, clock_mono_us() - began_us - w->model_us);
    if (w->model_us)
        observe_stage(w, "embed", w->model_us);
    trace_end(&scope, st);
    return st;
}

static enum status run_stages(struct work *w) {
    enum status st = run_stage(w, "stage.open", open_document);
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_OPENED, &w->run.call.why);
    if (st == ST_OK)
        st = run_stage(w, "stage.extract", extract_text);
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_EXTRACTED, &w->run.call.why);
    if (st == ST_OK)
        st = run_stage(w, "stage.split", split);
    if (st == ST_OK && w->done_count < w->chunk_count)
        st = run_stage(w, "stage.record", record_texts);
    if (st == ST_OK)
        st = fault_status(FAULT_INGEST_DISCLOSED, &w->run.call.why);
    while (st == ST_OK && w->done_count < w->chunk_count)
        st = run_stage(w, "stage.store", store_next);
    return st == ST_OK ? run_stage(w, "stage.finish", finish) : st;
}

enum status ingest_document(struct job_run *run) {
    struct work w = { .run = *run };
    buffer_init(&w.text, 0);
    enum status st = run_stages(&w);
    document_key_destroy(&w.key);
    tenant_key_release(&w.search_key);
    buffer_end(&w.text);
    *run = w.run;
    return st;
}

/* ---- the end of an attempt ---- */

/* One statement about the job, under its newest ticket. When even that fails, the lease runs out and says it. */
static enum status tell(struct ingest *g, struct job_pool *pool, const struct job *job, struct call *call, const struct sql *q,
                        const struct db_param params[]) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_ticket(pool, job, call->mem, &call->ticket, &call->why);
    if (st == ST_OK)
        st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_NONE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, q, params, NULL, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

/* Others may take it at once; this attempt was none. */
static const struct sql RELEASE = { "release_job", "SELECT jobs.release(0)", 0 };

/* How an attempt ended, as metrics and log name it. Lost: the lease is, or the end could not be recorded; the next worker finds
 * the job by its lease. */
enum outcome { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_GIVEN_UP, OUTCOME_POSTPONED, OUTCOME_RELEASED, OUTCOME_CANCELLED, OUTCOME_LOST, OUTCOME_COUNT };

static const char *const OUTCOMES[OUTCOME_COUNT] = { "done", "failed", "given_up", "postponed", "released", "cancelled", "lost" };

static const struct job_kind { const char *name; uint64_t scope; enum status (*run)(struct job_run *run); } KINDS[] = {
    { "ingest", SCOPE_JOB_INGEST, ingest_document },
    { "erase",  SCOPE_JOB_ERASE,  erase },
    { "evidence", SCOPE_JOB_EVIDENCE, pack_evidence },
    { "rewrap", SCOPE_JOB_REWRAP, rewrap_keys },
    { "promote", SCOPE_JOB_PROMOTE, promote_vectors },
    { "reembed", SCOPE_JOB_REEMBED, reembed },
    { 0 }
};

static const struct job_kind *find_kind(const struct job *job) {
    for (const struct job_kind *k = KINDS; k->name; k++)
        if (str_equal(k->name, job->kind))
            return k;
    return NULL;
}

static struct counter *ended(struct metrics *m, const char *kind, enum outcome outcome) {
    char labels[96];
    (void)snprintf(labels, sizeof labels, "kind=\"%s\",outcome=\"%s\"", kind, OUTCOMES[outcome]);
    return metrics_counter(m, "cordon_jobs_ended_total", "Attempts at jobs, by how they ended.", labels);
}

void ingest_job_metrics(struct metrics *m) {
    vectors_metrics(m);
    for (const struct job_kind *k = KINDS; k->name; k++)
        for (int i = 0; i < OUTCOME_COUNT; i++)
            (void)ended(m, k->name, (enum outcome)i);
}

/* Say in the database how the attempt ended. */
static enum outcome record_failure(struct job_run *w, enum status st) {
    static const struct sql FAIL = { "fail_job", "SELECT jobs.fail($1, $2)", 2 };
    static const struct sql POSTPONE = { "postpone_job", "SELECT jobs.postpone($1, $2)", 2 };
    struct why cause = w->call.why;
    struct job_verdict v = job_verdict(w->step, st, cause.code);
    struct db_param params[] = { DB_TEXT(v.reason), v.verdict == VERDICT_OUTAGE ? DB_INT(cause.retry_after_ms) : DB_BOOL(v.verdict == VERDICT_PERMANENT) };
    bool is_stopping = v.verdict == VERDICT_OUTAGE && job_should_stop(w->pool, w->job);
    enum outcome outcome = job_is_cancelled(w->pool, w->job) ? OUTCOME_CANCELLED : is_stopping ? OUTCOME_RELEASED
                         : v.verdict == VERDICT_OUTAGE ? OUTCOME_POSTPONED : v.verdict == VERDICT_COUNTED ? OUTCOME_FAILED : OUTCOME_GIVEN_UP;
    w->call.deadline_ms = clock_mono_ms() + STEP_BUDGET_MS;
    fault_point(FAULT_INGEST_BEFORE_FAILURE);
    enum status told = tell(w->ingest, w->pool, w->job, &w->call, is_stopping ? &RELEASE : v.verdict == VERDICT_OUTAGE ? &POSTPONE : &FAIL, params);
    char job_id[UUID_TEXT_BYTES];
    log_event(v.verdict == VERDICT_PERMANENT || is_stopping ? LOG_INFO : LOG_WARN, "job_not_done",
              LOG_TEXT("job_id", uuid_format(&w->job->id, job_id)), LOG_NUMBER("attempt", w->job->attempt), LOG_TEXT("outcome", OUTCOMES[outcome]),
              LOG_TEXT("status", status_name(st)), LOG_TEXT("reason", v.reason), LOG_TEXT("why", cause.text),
              LOG_TEXT("recorded", told == ST_OK ? "yes" : w->call.why.text));
    return told == ST_OK ? outcome : OUTCOME_LOST;
}

void ingest_job_hand_back(void *self, struct job_pool *pool, const struct job *job, int64_t deadline_ms) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(WIRE_CAP_BYTES);
    struct call call = { .mem = mem, .request_id = uuid_v7(), .ticket = "", .deadline_ms = deadline_ms };
    enum status told = tell(self, pool, job, &call, &RELEASE, NULL);
    char job_id[UUID_TEXT_BYTES];
    log_event(LOG_WARN, "job_handed_back", LOG_TEXT("job_id", uuid_format(&job->id, job_id)),
              LOG_TEXT("recorded", told == ST_OK ? "yes" : call.why.text));
}

void ingest_job_run(void *self, struct job_pool *pool, const struct job *job, struct bus_client *bus) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(WIRE_CAP_BYTES);
    const struct job_kind *kind = find_kind(job);
    const char *name = kind ? kind->name : "unknown";
    struct job_run run = { .ingest = self, .pool = pool, .job = job, .mem = mem, .scope = kind ? kind->scope : SCOPE_NONE };
    run.call = (struct call){ .mem = mem, .bus = bus, .request_id = uuid_v7(), .method = "", .ticket = "", .traceparent = "", .attempt = 1 };
    int64_t start_us = clock_mono_us();
    struct trace_scope scope;
    char job_id[UUID_TEXT_BYTES];
    trace_begin(&scope, SPAN_CONSUMER, arena_printf(mem, "job.%s", name), job->traceparent);
    trace_request(&run.call.request_id);
    span_text(&scope.span, "cordon.job_id", uuid_format(&job->id, job_id));
    span_number(&scope.span, "cordon.attempt", job->attempt);
    enum status st = kind ? kind->run(&run) : fail(&run.call.why, ST_INVALID, "no such kind of job");
    enum outcome outcome = st == ST_OK ? OUTCOME_DONE : record_failure(&run, st);
    struct metrics *m = run.ingest->runtime->metrics;
    counter_add(ended(m, name, outcome), 1);
    histogram_observe_us(metrics_histogram(m, "cordon_job_seconds", "Duration of attempts at jobs.", arena_printf(mem, "kind=\"%s\"", name)),
                         clock_mono_us() - start_us);
    trace_end(&scope, st);
    arena_destroy(&run.ticket_mem);
}
