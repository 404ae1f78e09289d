#include "audit_export.h"

#include <inttypes.h>
#include <string.h>

#include "audit/client.h"
#include "audit/event.h"
#include "audit_forms.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "json/writer.h"
#include "query.h"
#include "query.pb-c.h"

enum { HASH_HEX_BYTES = 2 * MERKLE_HASH_BYTES + 1 };

/* ---- lines ---- */

static void begin_line(struct json_writer *w, struct audit_export *x, const char *word) {
    buffer_clear(&x->line);
    json_begin(w, &x->line);
    json_open_object(w);
    json_put_name(w, "cordon");
    json_put_text(w, word);
}

static void put_number(struct json_writer *w, const char *name, int64_t value) {
    json_put_name(w, name);
    json_put_i64(w, value);
}

static void put_hashes(struct json_writer *w, const struct merkle_hash hashes[], size_t count) {
    char hex[HASH_HEX_BYTES];
    json_put_name(w, "hashes");
    json_open_array(w);
    for (size_t i = 0; i < count; i++)
        json_put_text(w, hex_encode(hashes[i].bytes, MERKLE_HASH_BYTES, hex));
    json_close_array(w);
}

static void put_between(struct audit_export *x) {
    (void)buffer_add_str(&x->out, x->has_begun ? x->form->between : x->form->head);
    x->has_begun = true;
}

static enum status end_line(struct json_writer *w, struct audit_export *x) {
    json_close_object(w);
    if (!json_finish(w) || !buffer_add_str(&x->line, "\n"))
        return fail(&x->call->why, ST_INTERNAL, "export: a line does not print");
    put_between(x);
    return x->form->put_line(&x->out, x->line.data, x->line.len, &x->call->why);
}

static enum status put_event(struct audit_export *x, const struct audit_export_portion *p, int row) {
    CLEANUP(json_destroy) json_t *event = NULL;
    struct audit_entry entry = { .occurred_at_us = db_micros(p->rows, row, 3) };
    entry.bytes = archived_event(&p->archived, p->rows, row, 0, 1, &entry.len);
    if (!entry.bytes)
        return fail_as(&x->call->why, ERR_AUDIT_ARCHIVE, "event %" PRId64 " is nowhere", db_i64(p->rows, row, 0));
    if (x->form->wants_parsed && json_parse(entry.bytes, entry.len, AUDIT_EVENT_MAX_BYTES, &event, &x->call->why) != ST_OK)
        return fail(&x->call->why, ST_INTERNAL, "an event of the log does not parse");
    entry.event = event;
    put_between(x);
    return x->form->put_event(&x->out, &entry, &x->call->why);
}

static enum status flush(struct audit_export *x) {
    enum status st = ST_OK;
    for (size_t at = 0; st == ST_OK && at < x->out.len; at += BUS_PART_MAX_BYTES) {
        size_t left = x->out.len - at;
        st = call_write(x->call, x->out.data + at, left < BUS_PART_MAX_BYTES ? left : BUS_PART_MAX_BYTES);
    }
    buffer_clear(&x->out);
    return st;
}

/* ---- what is asked for ---- */

/* The first place whose event was recorded at or behind a time; recorded times never go back along a log. */
static enum status place_of(struct tenant_tx *tx, int64_t size, int64_t unix_us, int64_t *ret_seq, struct why *why) {
    static const struct sql WHEN = { "event_recorded_at",
        "SELECT l.recorded_at FROM audit.audit_logs l WHERE l.tenant_id = $1 AND l.seq = $2::bigint", 2 };
    int64_t low = 0, high = size;
    while (low < high) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        int64_t middle = low + (high - low) / 2;
        enum status st = tenant_tx_run(tx, &WHEN, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_INT(middle) }, &rows, why);
        if (st != ST_OK)
            return st;
        if (db_count(rows) != 1)
            return fail(why, ST_INTERNAL, "the log has no event %" PRId64, middle);
        if (db_micros(rows, 0, 0) < unix_us)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_seq = low;
    return ST_OK;
}

static enum status choose(struct audit_export *x, struct tenant_tx *tx, const Query__ExportAuditRequest *req) {
    struct why *why = &x->call->why;
    enum status st = ST_OK;
    x->first = req->from_seq;
    x->last = req->to_seq ? req->to_seq : x->head.size;
    if (req->from_us)
        st = place_of(tx, x->head.size, req->from_us, &x->first, why);
    if (st == ST_OK && req->to_us)
        st = place_of(tx, x->head.size, req->to_us, &x->last, why);
    if (st != ST_OK)
        return st;
    if (x->last > x->head.size || x->first > x->head.size || req->since > x->head.size)
        return fail_as(why, ERR_AUDIT_UNSIGNED, "the newest checkpoint is of %" PRId64 " events", x->head.size);
    if (x->last < x->first)
        x->last = x->first;
    return ST_OK;
}

/* ---- the parts ---- */

static enum status put_header(struct audit_export *x, const struct uuid *tenant_id) {
    struct json_writer w;
    char tenant[UUID_TEXT_BYTES];
    const char *newline = strchr(x->head.note, '\n');
    begin_line(&w, x, "export");
    put_number(&w, "version", 1);
    json_put_name(&w, "origin");
    json_put_text(&w, arena_strndup(x->call->mem, x->head.note, newline ? (size_t)(newline - x->head.note) : 0));
    json_put_name(&w, "tenant_id");
    json_put_text(&w, uuid_format(tenant_id, tenant));
    put_number(&w, "first", x->first);
    put_number(&w, "events", x->last - x->first);
    put_number(&w, "size", x->head.size);
    json_put_name(&w, "verifier");
    json_put_text(&w, x->head.verifier);
    enum status st = end_line(&w, x);
    if (st != ST_OK)
        return st;
    begin_line(&w, x, "checkpoint");
    json_put_name(&w, "note");
    json_put_text(&w, x->head.note);
    return end_line(&w, x);
}

/* The tree before the first event and behind the last, and the proof that was asked for. */
static enum status put_surroundings(struct audit_export *x, struct tenant_tx *tx, int64_t since) {
    struct json_writer w;
    struct proof proof;
    struct why *why = &x->call->why;
    struct proof_reader whole = audit_tree_reader(tx, x->call->mem, x->head.size);
    enum status st = ST_OK;
    if (x->first > 0) {
        struct proof_reader before = audit_tree_reader(tx, x->call->mem, x->first);
        st = proof_rest(&before, 0, &proof, why);
        if (st != ST_OK)
            return st;
        begin_line(&w, x, "range");
        put_number(&w, "size", x->first);
        put_hashes(&w, proof.hashes, proof.count);
        st = end_line(&w, x);
    }
    if (st == ST_OK && x->last < x->head.size) {
        st = proof_rest(&whole, (uint64_t)x->last, &proof, why);
        if (st != ST_OK)
            return st;
        begin_line(&w, x, "rest");
        put_number(&w, "from", x->last);
        put_hashes(&w, proof.hashes, proof.count);
        st = end_line(&w, x);
    }
    if (st == ST_OK && since > 0) {
        st = proof_consistency(&whole, (uint64_t)since, &proof, why);
        if (st != ST_OK)
            return st;
        begin_line(&w, x, "consistency");
        put_number(&w, "from", since);
        put_number(&w, "to", x->head.size);
        put_hashes(&w, proof.hashes, proof.count);
        st = end_line(&w, x);
    }
    return st;
}

/* What is there, also when that is too little, or one too many: whoever checks the export learns from which event on. */
static enum status read_events(struct audit_export *x, struct tenant_tx *tx, int64_t from, int64_t to, PGresult **ret_rows) {
    static const struct sql READ = { "export_events",
        "SELECT l.seq, l.event, l.leaf_hash, l.occurred_at FROM audit.audit_logs l WHERE l.tenant_id = $1 AND l.seq >= $2::bigint AND l.seq < $3::bigint "
        "ORDER BY l.seq LIMIT $4", 4 };
    return tenant_tx_run(tx, &READ, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_INT(from), DB_INT(to), DB_INT(to - from + 1) }, ret_rows,
                         &x->call->why);
}

void audit_export_portion_end(struct audit_export_portion *p) {
    pgrows_destroy(&p->rows);
    arena_destroy(&p->mem);
}

enum status audit_export_read(struct audit_export *x, struct tenant_tx *tx, int64_t from, int64_t to, struct audit_export_portion *p) {
    *p = (struct audit_export_portion){ .from = from, .mem = arena_new(0) };
    enum status st = read_events(x, tx, from, to, &p->rows);
    return st == ST_OK ? archived_find(tx, p->mem, p->rows, 0, 1, &p->archived, &x->call->why) : st;
}

enum status audit_export_put(struct audit_export *x, struct s3 *anchor, struct audit_export_portion *p) {
    struct merkle_hash leaves[MERKLE_TILE_HASHES + 1];
    struct json_writer w;
    enum status st = archived_read(anchor, p->mem, &p->archived, x->call->deadline_ms, &x->call->why);
    for (int i = 0; st == ST_OK && i < db_count(p->rows); i++) {
        size_t leaf_len;
        const uint8_t *leaf = db_bytea(p->rows, i, 2, &leaf_len);
        if (leaf_len != MERKLE_HASH_BYTES)
            return fail(&x->call->why, ST_INTERNAL, "a leaf of %zu bytes", leaf_len);
        memcpy(leaves[i].bytes, leaf, leaf_len);
        st = put_event(x, p, i);
        if (st == ST_OK && x->out.len >= BUS_PART_MAX_BYTES)
            st = flush(x);
    }
    if (st != ST_OK)
        return st;
    begin_line(&w, x, "hashes");
    put_number(&w, "first", p->from);
    put_hashes(&w, leaves, (size_t)db_count(p->rows));
    return end_line(&w, x);
}

static enum status record(struct audit_export *x) {
    char detail[160];
    (void)snprintf(detail, sizeof detail, "{\"checkpoint\":%" PRId64 ",\"first\":%" PRId64 ",\"format\":\"%s\",\"last\":%" PRId64 "}",
                   x->head.size, x->first, x->form->name, x->last);
    return audit_append(x->call, &(struct audit_record){ .action = AUDIT_AUDIT_EXPORT, .detail_json = detail }, NULL);
}

enum status audit_export_begin(struct audit_export *x, struct tenant_tx *tx, const Query__ExportAuditRequest *req) {
    struct call *call = x->call;
    enum status st = audit_head_find(tx, call->mem, 0, false, &x->head, &call->why);
    if (st == ST_NOT_FOUND)
        return fail_as(&call->why, ERR_AUDIT_UNSIGNED, "nothing was signed yet");
    if (st == ST_OK)
        st = choose(x, tx, req);
    if (st == ST_OK)
        st = put_header(x, &tx->claims.tenant_id);
    return st == ST_OK ? put_surroundings(x, tx, req->since) : st;
}

enum status audit_export_end(struct audit_export *x) {
    struct json_writer w;
    begin_line(&w, x, "end");
    put_number(&w, "events", x->last - x->first);
    enum status st = end_line(&w, x);
    (void)buffer_add_str(&x->out, x->form->tail);
    return st;
}

/* ---- the stream ---- */

static enum status enter(struct tenant_tx *tx, const struct query *q, struct call *call) {
    return tenant_tx_begin(tx, q->audit_db, call->ticket, &call->request_id, SCOPE_AUDIT_READ, call->deadline_ms, &call->why);
}

static enum status prepare(struct audit_export *x, const struct query *q, const Query__ExportAuditRequest *req) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = enter(&tx, q, x->call);
    if (st == ST_OK)
        st = audit_export_begin(x, &tx, req);
    return st == ST_OK ? tenant_tx_commit(&tx, &x->call->why) : st;
}

/* No transaction waits for whoever reads the export, nor for the bucket. */
static enum status portion(struct audit_export *x, const struct query *q, int64_t from, int64_t to) {
    CLEANUP(audit_export_portion_end) struct audit_export_portion p = { 0 };
    {
        CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
        enum status st = enter(&tx, q, x->call);
        if (st == ST_OK)
            st = audit_export_read(x, &tx, from, to, &p);
        if (st == ST_OK)
            st = tenant_tx_commit(&tx, &x->call->why);
        if (st != ST_OK)
            return st;
    }
    enum status st = audit_export_put(x, q->anchor, &p);
    return st == ST_OK ? flush(x) : st;
}

static enum status stream(struct audit_export *x, const struct query *q) {
    struct call *call = x->call;
    enum status st = ST_OK;
    for (int64_t at = x->first; st == ST_OK && at < x->last; at += MERKLE_TILE_HASHES) {
        call_take_tickets(call);
        st = call_is_cancelled(call) ? fail(&call->why, ST_UNAVAILABLE, "export: nobody reads it any more") : ST_OK;
        if (st == ST_OK)
            st = portion(x, q, at, at + MERKLE_TILE_HASHES < x->last ? at + MERKLE_TILE_HASHES : x->last);
    }
    if (st == ST_OK)
        st = audit_export_end(x);
    return st == ST_OK ? flush(x) : st;
}

enum status on_export_audit(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__ExportAuditRequest *req = (const void *)in;
    Query__ExportAuditReply *reply = (void *)out;
    const struct query *q = self;
    struct audit_export x = { .call = call, .form = audit_form_find(req->format) };
    if (!x.form || req->from_seq < 0 || req->to_seq < 0 || req->from_us < 0 || req->to_us < 0 || req->since < 0 ||
        ((req->from_us || req->to_us) && (req->from_seq || req->to_seq)))
        return fail_as(&call->why, ERR_REQ_FIELD, "format; seqs or times, not both");
    enum status st = prepare(&x, q, req);
    if (st == ST_OK)
        st = record(&x);
    if (st == ST_OK)
        st = stream(&x, q);
    buffer_end(&x.out);
    buffer_end(&x.line);
    reply->events = x.last - x.first;
    return st;
}
