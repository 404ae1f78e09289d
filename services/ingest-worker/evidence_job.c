/* evidence_job — makes a package of evidence: originals as they were uploaded, what the database says of them, events with
 * their inclusion proofs, receipts, and last the manifest with the proof that the log vouches for it (docs/AUDIT_FORMAT.md). One
 * stream from the store through the seal and back into the store: memory is a frame, a page of events, receipts of a megabyte, the list of
 * the originals and the manifest. The keys of the originals come only for a committed event that names them. Whoever takes the job over
 * begins anew: until the last transaction nothing of the package can be read. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "audit/client.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/text_codec.h"
#include "crypto/digest.h"
#include "http/backoff.h"
#include "job_run.h"
#include "json/writer.h"
#include "keystore/original.h"
#include "archive/archive.h"
#include "ledger/ledger.h"

enum {
    BLOCK_BYTES = 512, NAME_BYTES = 100, MEMBERS_MAX = 16384, PAGE_EVENTS = 256, LIST_PAGES = 256, RECEIPTS_BYTES = 1 << 20, PAGE_MEM_BYTES = 16 << 20,
    ORIGINAL_BUDGET_MS = 3600000, HEAD_WAIT_MS = 60000, HEAD_LOOK_MS = 250, TELL_MS = 1000,
};

struct member { char name[NAME_BYTES]; int64_t size; uint8_t sha256[SHA256_BYTES]; };

struct pack {
    struct job_run *run;
    struct tenant_keys keys;
    struct document_key *key;           /* the package's */
    struct frames_sealer *sealer;
    struct s3_upload *store;
    struct sha256 *digest;              /* of the member that is being put */
    struct member *members;
    size_t count;
    int64_t bytes, member_bytes;
    struct audit_head head;             /* that the events are proven by */
    PGresult *sources;
    struct buffer text;                 /* of a member that is made in memory */
    struct buffer receipts;             /* that the next member of them will have */
    unsigned pages, receipt_pages;      /* members of events and of receipts */
    int64_t told_ms;                    /* when progress was told last */
};

enum { SOURCE_ID, SOURCE_TYPE, SOURCE_BYTES, SOURCE_SUBJECT, SOURCE_LABELS, SOURCE_CREATED_BY, SOURCE_CREATED_AT };

/* ---- the archive ---- */

static enum status put(struct pack *p, const void *data, size_t len) {
    struct why *why = &p->run->call.why;
    enum status st = frames_seal_add(p->sealer, data, len, s3_upload_buffer(p->store), why);
    p->bytes += (int64_t)len;
    return st == ST_OK ? s3_upload_flush(p->store, p->run->call.deadline_ms, why) : st;
}

/* POSIX ustar, every field that says nothing at one value, so that a header follows from name and size. */
static enum status begin_member(struct pack *p, const char *name, int64_t size) {
    uint8_t header[BLOCK_BYTES] = { 0 };
    char *text = (char *)header;
    unsigned sum = 0;
    if (p->count == MEMBERS_MAX)
        return fail_as(&p->run->call.why, ERR_REQ_BODY_TOO_LARGE, "evidence: more than %d members", MEMBERS_MAX);
    struct member *m = &p->members[p->count];
    (void)snprintf(m->name, sizeof m->name, "%s", name);
    m->size = size;
    memcpy(text, m->name, strlen(m->name));
    memcpy(text + 100, "0000444\0" "0000000\0" "0000000", 24);
    if (size >> 33) {
        text[124] = (char)0x80;
        for (int i = 0; i < 8; i++)
            header[128 + i] = (uint8_t)(size >> (56 - 8 * i));
    } else {
        (void)snprintf(text + 124, 12, "%011" PRIo64, (uint64_t)size);
    }
    memcpy(text + 136, "00000000000", 12);
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(text + 257, "ustar\0" "00", 8);
    memcpy(text + 329, "0000000\0" "0000000", 16);
    for (int i = 0; i < BLOCK_BYTES; i++)
        sum += header[i];
    (void)snprintf(text + 148, 8, "%06o", sum);
    header[155] = ' ';
    sha256_destroy(&p->digest);
    p->digest = sha256_new();
    p->member_bytes = 0;
    return put(p, header, sizeof header);
}

static enum status add(struct pack *p, const void *data, size_t len) {
    sha256_update(p->digest, data, len);
    p->member_bytes += (int64_t)len;
    return put(p, data, len);
}

static enum status end_member(struct pack *p) {
    static const uint8_t ZEROS[BLOCK_BYTES];
    struct member *m = &p->members[p->count];
    if (p->member_bytes != m->size)
        return fail(&p->run->call.why, ST_INTERNAL, "evidence: a member of %" PRId64 " bytes where %" PRId64 " were announced", p->member_bytes, m->size);
    sha256_peek(p->digest, m->sha256);
    p->count++;
    return put(p, ZEROS, (size_t)((BLOCK_BYTES - m->size % BLOCK_BYTES) % BLOCK_BYTES));
}

static enum status put_text(struct pack *p, const char *name, struct buffer *text) {
    enum status st = begin_member(p, name, (int64_t)text->len);
    if (st == ST_OK)
        st = add(p, text->data, text->len);
    if (st == ST_OK)
        st = end_member(p);
    buffer_clear(text);
    return st;
}

/* ---- what is in it ---- */

static enum status open_package(struct pack *p) {
    static const struct sql BEGIN = { "begin_packing",
        "SELECT k.version, k.wrapped, jobs.progress('gather', NULL, 0, NULL) FROM keys.job_document_key() k", 0 };
    static const struct sql SOURCES = { "evidence_sources",
        "SELECT document_id, content_type, bytes, subject_id, labels::text[], created_by, created_at FROM keys.evidence_sources()", 0 };
    struct job_run *run = p->run;
    struct why *why = &run->call.why;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        enum status st = job_run_tx(run, &tx);
        if (st == ST_OK)
            st = tenant_tx_run(&tx, &BEGIN, NULL, &rows, why);
        if (st == ST_OK)
            st = tenant_tx_run(&tx, &SOURCES, NULL, &p->sources, why);
        if (st == ST_OK)
            st = keystore_read_tenant(&tx, run->mem, &p->keys, why);
        if (st == ST_OK && db_count(rows) != 1)
            st = fail(why, ST_NOT_FOUND, "the package is gone");
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, why);
        if (st != ST_OK)
            return st;
    }
    size_t len = 0;
    const uint8_t *wrapped = db_bytea(rows, 0, 1, &len);
    CLEANUP(tenant_key_release) struct tenant_key *tenant_key = NULL;
    enum status st = job_run_step(run, STEP_KEYS, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = keystore_open_tenant(run->ingest->keyring, &p->keys, TENANT_KEY_DATA, (unsigned)db_i64(rows, 0, 0), run->call.deadline_ms, &tenant_key, why);
    if (st == ST_OK)
        st = keystore_open_document(run->ingest->shares, tenant_key, &run->claims.tenant_id, &run->job->document_id, wrapped, len,
                                    run->call.deadline_ms, &p->key, why);
    return st == ST_OK ? document_key_seal_original(p->key, &p->sealer, why) : st;
}

/* The record of the sources from `first` on, and then, under the same ticket, their keys. */
static enum status disclose(struct pack *p, int first, int count, PGresult **ret_wrapped) {
    static const struct sql OPEN = { "open_evidence", "SELECT document_id, version, wrapped FROM keys.open_evidence($1)", 1 };
    struct job_run *run = p->run;
    struct uuid ids[AUDIT_DOCUMENTS_MAX], event_id;
    for (int i = 0; i < count; i++)
        ids[i] = db_uuid(p->sources, first + i, SOURCE_ID);
    enum status st = job_run_step(run, STEP_AUDIT, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = audit_append(&run->call, &(struct audit_record){ .action = AUDIT_EVIDENCE_DISCLOSE, .document_ids = ids, .document_count = (size_t)count,
                          .resource_id = run->job->document_id }, &event_id);
    if (st == ST_OK)
        st = fault_status(FAULT_EVIDENCE_DISCLOSED, &run->call.why);
    if (st != ST_OK)
        return st;
    run->step = STEP_DATABASE;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, run->ingest->db, run->call.ticket, &run->call.request_id, run->scope, run->call.deadline_ms, &run->call.why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &OPEN, (struct db_param[]){ DB_UUID(&event_id) }, ret_wrapped, &run->call.why);
    if (st == ST_OK && db_count(*ret_wrapped) != count)
        st = fail(&run->call.why, ST_NOT_FOUND, "a source is gone");
    return st == ST_OK ? tenant_tx_commit(&tx, &run->call.why) : st;
}

struct original_pipe { struct pack *pack; struct frames_opener *opener; struct buffer plain; };

static enum status take_plain(struct original_pipe *o) {
    enum status st = add(o->pack, o->plain.data, o->plain.len);
    buffer_clear(&o->plain);
    return st;
}

static enum status take_sealed(void *ctx, const void *data, size_t len, struct why *why) {
    struct original_pipe *o = ctx;
    if (job_should_stop(o->pack->run->pool, o->pack->run->job))
        return fail(why, ST_UNAVAILABLE, "stopping");
    enum status st = frames_open_add(o->opener, data, len, &o->plain, why);
    if (st == ST_OK)
        st = take_plain(o);
    if (st != ST_OK && why != &o->pack->run->call.why && !*why->text)
        *why = o->pack->run->call.why;
    return st;
}

static enum status put_original(struct pack *p, int source, const PGresult *wrapped_keys, int row) {
    struct job_run *run = p->run;
    struct why *why = &run->call.why;
    struct uuid id = db_uuid(wrapped_keys, row, 0);
    char text[UUID_TEXT_BYTES];
    size_t len = 0;
    const uint8_t *wrapped = db_bytea(wrapped_keys, row, 2, &len);
    CLEANUP(tenant_key_release) struct tenant_key *tenant_key = NULL;
    CLEANUP(document_key_destroy) struct document_key *key = NULL;
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    enum status st = job_run_step(run, STEP_KEYS, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = keystore_open_tenant(run->ingest->keyring, &p->keys, TENANT_KEY_DATA, (unsigned)db_i64(wrapped_keys, row, 1),
                                  run->call.deadline_ms, &tenant_key, why);
    if (st == ST_OK)
        st = keystore_open_document(run->ingest->shares, tenant_key, &run->claims.tenant_id, &id, wrapped, len, run->call.deadline_ms, &key, why);
    if (st == ST_OK)
        st = document_key_open_original(key, &opener, why);
    if (st == ST_OK)
        st = job_run_step(run, STEP_ORIGINAL, ORIGINAL_BUDGET_MS);
    if (st == ST_OK)
        st = begin_member(p, arena_printf(mem, "documents/%s", uuid_format(&id, text)), db_i64(p->sources, source, SOURCE_BYTES));
    if (st != ST_OK)
        return st;
    struct original_pipe pipe = { .pack = p, .opener = opener };
    st = s3_get(run->ingest->s3, original_object_key(mem, &run->claims.tenant_id, &id), 0, 0, take_sealed, &pipe, run->call.deadline_ms, why);
    if (st == ST_OK)
        st = frames_open_end(opener, &pipe.plain, why);
    if (st == ST_OK)
        st = take_plain(&pipe);
    buffer_end(&pipe.plain);
    return st == ST_OK ? end_member(p) : st;
}

/* Once a second, and of the last. */
static enum status tell_progress(struct pack *p, int done) {
    static const struct sql PROGRESS = { "evidence_progress", "SELECT jobs.progress('originals', NULL, $1, $2)", 2 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    if (done < db_count(p->sources) && clock_mono_ms() - p->told_ms < TELL_MS)
        return ST_OK;
    p->told_ms = clock_mono_ms();
    enum status st = job_run_tx(p->run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PROGRESS, (struct db_param[]){ DB_INT(done), DB_INT(db_count(p->sources)) }, NULL, &p->run->call.why);
    return st == ST_OK ? tenant_tx_commit(&tx, &p->run->call.why) : st;
}

/* By as many as one event names. */
static enum status put_originals(struct pack *p) {
    int total = db_count(p->sources), first = 0;
    enum status st = ST_OK;
    while (st == ST_OK && first < total) {
        CLEANUP(pgrows_destroy) PGresult *wrapped = NULL;
        int count = total - first < AUDIT_DOCUMENTS_MAX ? total - first : AUDIT_DOCUMENTS_MAX;
        st = disclose(p, first, count, &wrapped);
        for (int i = 0; st == ST_OK && i < count; i++) {
            st = put_original(p, first + i, wrapped, i);
            if (st == ST_OK)
                st = tell_progress(p, first + i + 1);
        }
        first += count;
    }
    return st;
}

static void put_member_text(struct json_writer *w, const char *name, const char *text) {
    json_put_name(w, name);
    json_put_text(w, text);
}

static enum status end_line(struct pack *p, struct json_writer *w) {
    json_close_object(w);
    return json_finish(w) && buffer_add_str(&p->text, "\n") ? ST_OK : fail(&p->run->call.why, ST_INTERNAL, "evidence: a line does not print");
}

/* What the database says of the originals: no names. */
static enum status put_descriptions(struct pack *p) {
    struct json_writer w;
    char text[UUID_TEXT_BYTES];
    enum status st = ST_OK;
    for (int i = 0; st == ST_OK && i < db_count(p->sources); i++) {
        struct uuid id = db_uuid(p->sources, i, SOURCE_ID), by = db_uuid(p->sources, i, SOURCE_CREATED_BY);
        json_begin(&w, &p->text);
        json_open_object(&w);
        put_member_text(&w, "id", uuid_format(&id, text));
        put_member_text(&w, "content_type", db_text(p->sources, i, SOURCE_TYPE));
        json_put_name(&w, "bytes");
        json_put_i64(&w, db_i64(p->sources, i, SOURCE_BYTES));
        if (!db_is_null(p->sources, i, SOURCE_SUBJECT)) {
            struct uuid subject = db_uuid(p->sources, i, SOURCE_SUBJECT);
            put_member_text(&w, "subject_id", uuid_format(&subject, text));
        }
        put_member_text(&w, "created_by", uuid_format(&by, text));
        json_put_name(&w, "created_at_us");
        json_put_i64(&w, db_micros(p->sources, i, SOURCE_CREATED_AT));
        json_put_name(&w, "labels");
        json_open_array(&w);
        const char *label = NULL;
        size_t len = 0;
        for (int n = 0; db_text_item(p->sources, i, SOURCE_LABELS, n, &label, &len); n++)
            json_put_bytes(&w, label, len);
        json_close_array(&w);
        st = end_line(p, &w);
    }
    return st == ST_OK ? put_text(p, "documents.jsonl", &p->text) : st;
}

static void put_hashes(struct json_writer *w, const struct proof *proof) {
    char hex[2 * MERKLE_HASH_BYTES + 1];
    json_put_name(w, "hashes");
    json_open_array(w);
    for (size_t i = 0; i < proof->count; i++)
        json_put_text(w, hex_encode(proof->hashes[i].bytes, MERKLE_HASH_BYTES, hex));
    json_close_array(w);
}

static enum status add_event(struct pack *p, const struct archived *archived, const PGresult *rows, int row, const struct proof *proof) {
    struct json_writer w;
    size_t len;
    const char *event = archived_event(archived, rows, row, 0, 1, &len);
    if (!event || !buffer_add(&p->text, event, len) || !buffer_add_str(&p->text, "\n"))
        return fail(&p->run->call.why, ST_INTERNAL, "evidence: an event is nowhere, or too long");
    json_begin(&w, &p->text);
    json_open_object(&w);
    put_member_text(&w, "cordon", "inclusion");
    json_put_name(&w, "seq");
    json_put_i64(&w, db_i64(rows, row, 0));
    put_hashes(&w, proof);
    return end_line(p, &w);
}

static enum status put_receipts(struct pack *p) {
    char name[NAME_BYTES];
    if (p->receipts.len == 0)
        return ST_OK;
    (void)snprintf(name, sizeof name, "receipts/%06u.jsonl", ++p->receipt_pages);
    enum status st = job_run_step(p->run, STEP_ORIGINAL, STEP_BUDGET_MS);
    return st == ST_OK ? put_text(p, name, &p->receipts) : st;
}

/* A page of events with their proofs, as a member; and one of the receipts that they vouch for, once there are enough. */
static enum status put_page(struct pack *p, const char *event_ids) {
    static const struct sql EVENTS = { "evidence_events", "SELECT seq, event, receipt FROM audit.evidence_events($1::uuid[])", 1 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(PAGE_MEM_BYTES);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct why *why = &p->run->call.why;
    struct archived archived = { 0 };
    struct proof *proofs = arena_alloc(mem, PAGE_EVENTS * sizeof *proofs);
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        enum status st = job_run_tx(p->run, &tx);
        if (st == ST_OK)
            st = tenant_tx_run(&tx, &EVENTS, (struct db_param[]){ DB_TEXT(event_ids) }, &rows, why);
        struct proof_reader reader = audit_tree_reader(&tx, mem, p->head.size);
        for (int i = 0; st == ST_OK && i < db_count(rows); i++)
            st = proof_inclusion(&reader, (uint64_t)db_i64(rows, i, 0), &proofs[i], why);
        if (st == ST_OK)
            st = archived_find(&tx, mem, rows, 0, 1, &archived, why);
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, why);
        if (st != ST_OK)
            return st;
    }
    struct json_writer w;
    enum status st = archived_read(p->run->ingest->anchor, mem, &archived, p->run->call.deadline_ms, why);
    json_begin(&w, &p->text);
    json_open_object(&w);
    put_member_text(&w, "cordon", "checkpoint");
    put_member_text(&w, "note", p->head.note);
    if (st == ST_OK)
        st = end_line(p, &w);
    for (int i = 0; st == ST_OK && i < db_count(rows); i++)
        st = add_event(p, &archived, rows, i, &proofs[i]);
    if (st == ST_OK)
        st = job_run_step(p->run, STEP_ORIGINAL, STEP_BUDGET_MS);
    if (st == ST_OK)
        st = put_text(p, arena_printf(mem, "events/%06u.jsonl", ++p->pages), &p->text);
    for (int i = 0; st == ST_OK && i < db_count(rows); i++)
        if (!db_is_null(rows, i, 2) && (!buffer_add_str(&p->receipts, db_text(rows, i, 2)) || !buffer_add_str(&p->receipts, "\n")))
            st = fail(why, ST_INTERNAL, "evidence: receipts are too long");
    return st == ST_OK && p->receipts.len >= RECEIPTS_BYTES ? put_receipts(p) : st;
}

/* The package's events, page by page. */
static enum status put_events(struct pack *p) {
    static const struct sql PAGES = { "evidence_pages", "SELECT last, event_ids FROM audit.evidence_pages($1, $2)", 2 };
    int64_t after = -1;
    enum status st = ST_OK;
    for (bool is_last = false; st == ST_OK && !is_last;) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        st = job_run_ask(p->run, &PAGES, (struct db_param[]){ DB_INT(after), DB_INT(p->head.size) }, &rows);
        is_last = st != ST_OK || db_count(rows) < LIST_PAGES;
        for (int i = 0; st == ST_OK && i < db_count(rows); i++) {
            st = put_page(p, db_text(rows, i, 1));
            after = db_i64(rows, i, 0);
        }
    }
    if (st == ST_OK && p->pages == 0)
        st = put_page(p, "{}");
    return st == ST_OK ? put_receipts(p) : st;
}

/* ---- waiting for a head ---- */

/* Until look has found it. The signer signs at once what a package waits for (audit.is_head_awaited), so this is a second or two. */
static enum status await_head(struct pack *p, enum status (*look)(struct pack *p, const void *ctx, bool *ret_is_there), const void *ctx) {
    struct job_run *run = p->run;
    struct backoff pause = { .base_ms = HEAD_LOOK_MS, .cap_ms = HEAD_LOOK_MS, .attempts = UINT32_MAX, .deadline_ms = clock_mono_ms() + HEAD_WAIT_MS };
    bool is_there = false;
    enum status st = look(p, ctx, &is_there);
    while (st == ST_OK && !is_there) {
        if (job_should_stop(run->pool, run->job) || !backoff_wait(&pause, HEAD_LOOK_MS))
            return fail(&run->call.why, ST_UNAVAILABLE, "evidence: no head was signed in time");
        st = look(p, ctx, &is_there);
    }
    return st;
}

/* The newest head, when it covers the order: what the package holds of the log is all that was there when it was asked for. */
static enum status find_order(struct pack *p, const void *ctx, bool *ret_is_there) {
    static const struct sql ORDER = { "evidence_order", "SELECT audit.evidence_order()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct why *why = &p->run->call.why;
    (void)ctx;
    enum status st = job_run_tx(p->run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ORDER, NULL, &rows, why);
    if (st == ST_OK)
        st = audit_head_find(&tx, p->run->mem, 0, false, &p->head, why);
    if (st == ST_OK || st == ST_NOT_FOUND) {
        *ret_is_there = st == ST_OK && !db_is_null(rows, 0, 0) && db_i64(rows, 0, 0) < p->head.size;
        *why = (struct why){ 0 };
        st = tenant_tx_commit(&tx, why);
    }
    return st;
}

/* ---- the manifest ---- */

/* Canonical JSON. The salt keeps the log from telling whether the package is of texts that somebody guesses. */
static enum status print_manifest(struct pack *p, struct buffer *out) {
    struct json_writer w;
    char text[UUID_TEXT_BYTES], hex[SHA256_HEX_BYTES];
    CLEANUP(secret_destroy) struct secret *salt = aead_key_new();
    json_begin(&w, out);
    json_open_object(&w);
    put_member_text(&w, "evidence_id", uuid_format(&p->run->job->document_id, text));
    json_put_name(&w, "members");
    json_open_array(&w);
    for (size_t i = 0; i < p->count; i++) {
        json_open_object(&w);
        put_member_text(&w, "name", p->members[i].name);
        put_member_text(&w, "sha256", hex_encode(p->members[i].sha256, SHA256_BYTES, hex));
        json_put_name(&w, "size");
        json_put_i64(&w, p->members[i].size);
        json_close_object(&w);
    }
    json_close_array(&w);
    put_member_text(&w, "salt", sha256_hex(salt->bytes, salt->len, hex));
    put_member_text(&w, "tenant_id", uuid_format(&p->run->claims.tenant_id, text));
    json_put_name(&w, "v");
    json_put_i64(&w, 1);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(&p->run->call.why, ST_INTERNAL, "evidence: the manifest does not print");
}

static enum status seal(struct pack *p, const struct buffer *manifest) {
    static const struct sql SEAL = { "seal_evidence", "SELECT keys.seal_evidence($1), jobs.progress('seal', NULL, NULL, NULL)", 1 };
    uint8_t sum[SHA256_BYTES];
    sha256(manifest->data, manifest->len, sum);
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = job_run_tx(p->run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &SEAL, (struct db_param[]){ DB_BYTES(sum, sizeof sum) }, NULL, &p->run->call.why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &p->run->call.why);
    return st == ST_OK ? fault_status(FAULT_EVIDENCE_SEALED, &p->run->call.why) : st;
}

/* The record of the manifest into p->text, once its event is on the log and signed. */
static enum status prove(struct pack *p, const void *ctx, bool *ret_is_there) {
    static const struct sql EVENT = { "evidence_seal", "SELECT seq, event FROM audit.evidence_seal()", 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(PAGE_MEM_BYTES);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    const struct buffer *manifest = ctx;
    struct audit_head head;
    struct merkle_hash leaf;
    struct proof proof;
    struct json_writer w;
    struct why *why = &p->run->call.why;
    char hex[2 * MERKLE_HASH_BYTES + 1];
    enum status st = job_run_tx(p->run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &EVENT, NULL, &rows, why);
    if (st == ST_OK)
        st = audit_head_find(&tx, mem, 0, false, &head, why);
    if (st != ST_OK || db_count(rows) == 0 || db_i64(rows, 0, 0) >= head.size)
        return st == ST_OK ? tenant_tx_commit(&tx, why) : st;
    int64_t seq = db_i64(rows, 0, 0);
    struct proof_reader reader = audit_tree_reader(&tx, mem, head.size);
    st = proof_inclusion(&reader, (uint64_t)seq, &proof, why);
    if (st == ST_OK)
        st = audit_tree_read(&tx, 0, (uint64_t)seq, 1, &leaf, why);
    if (st != ST_OK)
        return st;
    size_t len;
    const char *event = (const char *)db_bytea(rows, 0, 1, &len);
    json_begin(&w, &p->text);
    json_open_object(&w);
    json_put_name(&w, "manifest");
    json_put_bytes(&w, manifest->data, manifest->len);
    json_put_name(&w, "event");
    json_put_bytes(&w, event, len);
    json_put_name(&w, "seq");
    json_put_i64(&w, seq);
    json_put_name(&w, "size");
    json_put_i64(&w, head.size);
    put_member_text(&w, "leaf_hash", hex_encode(leaf.bytes, MERKLE_HASH_BYTES, hex));
    put_hashes(&w, &proof);
    put_member_text(&w, "checkpoint", head.note);
    st = end_line(p, &w);
    *ret_is_there = st == ST_OK;
    return st == ST_OK ? tenant_tx_commit(&tx, why) : st;
}

static enum status put_manifest(struct pack *p) {
    CLEANUP(buffer_end) struct buffer manifest = { 0 };
    enum status st = print_manifest(p, &manifest);
    if (st == ST_OK)
        st = seal(p, &manifest);
    if (st == ST_OK)
        st = await_head(p, prove, &manifest);
    if (st == ST_OK)
        st = job_run_step(p->run, STEP_ORIGINAL, STEP_BUDGET_MS);
    return st == ST_OK ? put_text(p, "manifest.json", &p->text) : st;
}

static enum status finish(struct pack *p) {
    static const uint8_t END[2 * BLOCK_BYTES];
    static const struct sql FINISH = { "finish_evidence", "SELECT keys.finish_evidence($1)", 1 };
    struct job_run *run = p->run;
    struct why *why = &run->call.why;
    enum status st = put(p, END, sizeof END);
    if (st == ST_OK)
        st = frames_seal_end(p->sealer, s3_upload_buffer(p->store), why);
    if (st == ST_OK)
        st = job_run_step(run, STEP_ORIGINAL, ORIGINAL_BUDGET_MS);
    if (st == ST_OK)
        st = s3_upload_end(p->store, run->call.deadline_ms, why);
    if (st == ST_OK)
        st = fault_status(FAULT_EVIDENCE_STORED, why);
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = job_run_tx(run, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &FINISH, (struct db_param[]){ DB_INT(p->bytes) }, NULL, why);
    return st == ST_OK ? tenant_tx_commit(&tx, why) : st;
}

/* What an attempt that died has begun in the store. */
static enum status clear_store(struct pack *p, const char *object) {
    unsigned aborted = 0;
    enum status st = job_run_step(p->run, STEP_ORIGINAL, STEP_BUDGET_MS);
    return st == ST_OK ? s3_abort_uploads(p->run->ingest->s3, object, INT64_MAX, p->run->call.deadline_ms, &aborted, &p->run->call.why) : st;
}

static void pack_end(struct pack *p) {
    s3_upload_destroy(&p->store);
    frames_sealer_destroy(&p->sealer);
    document_key_destroy(&p->key);
    sha256_destroy(&p->digest);
    pgrows_destroy(&p->sources);
    buffer_end(&p->text);
    buffer_end(&p->receipts);
}

enum status pack_evidence(struct job_run *run) {
    CLEANUP(pack_end) struct pack p = { .run = run, .members = arena_alloc(run->mem, MEMBERS_MAX * sizeof *p.members) };
    enum status st = open_package(&p);
    if (st != ST_OK)
        return st;
    const char *object = original_object_key(run->mem, &run->claims.tenant_id, &run->job->document_id);
    p.store = s3_upload_new(run->ingest->s3, object, "application/octet-stream");
    st = clear_store(&p, object);
    if (st == ST_OK)
        st = await_head(&p, find_order, NULL);
    if (st == ST_OK)
        st = put_originals(&p);
    if (st == ST_OK)
        st = put_descriptions(&p);
    if (st == ST_OK)
        st = put_events(&p);
    if (st == ST_OK)
        st = put_manifest(&p);
    return st == ST_OK ? finish(&p) : st;
}
