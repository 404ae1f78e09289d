#include "checkpoint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "audit/event.h"
#include "batch.h"
#include "core/clock.h"
#include "core/text_codec.h"
#include "db/plain_tx.h"
#include "json/writer.h"

enum { SIGNING_MS = 10000, OBJECT_MAX_BYTES = 64 << 20, ROOT_HEX_BYTES = 2 * NOTE_ROOT_BYTES + 1 };

enum status checkpoint_state(struct db_pool *pool, struct anchor_state *ret_state, struct why *why) {
    static const struct sql STATE = { "anchor_state", "SELECT last, anchored, recovered FROM audit.anchor_state()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &STATE, NULL, clock_mono_ms() + SIGNING_MS, &rows, why);
    if (st == ST_OK)
        *ret_state = (struct anchor_state){ db_i64(rows, 0, 0), db_i64(rows, 0, 1), db_i64(rows, 0, 2) };
    return st;
}

int64_t checkpoint_next(const struct anchor_state *state) {
    return (state->last > state->recovered ? state->last : state->recovered) + 1;
}

/* ---- signing ---- */

struct due { struct uuid tenant_id; int64_t size, event_seq; uint8_t root[NOTE_ROOT_BYTES]; };
struct due_list { struct due *items; size_t count; };       /* heads that have grown since they were signed */

static void due_end(struct due_list *d) {
    free(d->items);
    *d = (struct due_list){ 0 };
}

static enum status lost_head(const PGresult *rows, struct why *why) {
    char tenant[UUID_TEXT_BYTES];
    if (db_is_null(rows, 0, 0))
        return ST_OK;
    struct uuid id = db_uuid(rows, 0, 0);
    return fail(why, ST_CONFLICT, "the log of tenant %s is not the one that was signed", uuid_format(&id, tenant));
}

static const struct sql LOST = { "lost_head", "SELECT audit.lost_head()", 0 };
static const struct sql DUE = { "due_heads", "SELECT tenant_id, size, root, behind, signed_age_ms FROM audit.due_heads()", 0 };

static bool is_time(const PGresult *rows, const struct checkpoint_pace *pace) {
    int64_t behind = 0;
    for (int i = 0; i < db_count(rows); i++) {
        behind += db_i64(rows, i, 3);
        if (db_i64(rows, i, 4) >= pace->wait_ms)
            return true;
    }
    return behind > 0 && behind >= pace->events;
}

enum status checkpoint_intact(struct db_pool *pool, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &LOST, NULL, clock_mono_ms() + SIGNING_MS, &rows, why);
    return st == ST_OK ? lost_head(rows, why) : st;
}

enum status checkpoint_is_due(struct db_pool *pool, const struct checkpoint_pace *pace, bool *ret_is_due, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &DUE, NULL, clock_mono_ms() + SIGNING_MS, &rows, why);
    if (st == ST_OK)
        *ret_is_due = is_time(rows, pace);
    return st;
}

/* Takes the signers' lock, and the heads that are due, once it is time. None: it is not, or another signs. */
static enum status look(struct plain_tx *tx, const struct checkpoint_pace *pace, struct due_list *d, struct why *why) {
    static const struct sql BEGIN = { "begin_signing", "SELECT audit.begin_signing()", 0 };
    CLEANUP(pgrows_destroy) PGresult *locked = NULL, *lost = NULL, *rows = NULL;
    enum status st = plain_tx_run(tx, &BEGIN, NULL, &locked, why);
    if (st != ST_OK || !db_bool(locked, 0, 0))
        return st;
    st = plain_tx_run(tx, &LOST, NULL, &lost, why);
    if (st == ST_OK)
        st = lost_head(lost, why);
    if (st == ST_OK)
        st = plain_tx_run(tx, &DUE, NULL, &rows, why);
    if (st != ST_OK || !is_time(rows, pace))
        return st;
    d->items = xalloc(((size_t)db_count(rows) + 1) * sizeof *d->items);
    for (int i = 0; i < db_count(rows); i++) {
        struct due *due = &d->items[d->count++];
        size_t len;
        const uint8_t *root = db_bytea(rows, i, 2, &len);
        *due = (struct due){ .tenant_id = db_uuid(rows, i, 0), .size = db_i64(rows, i, 1) };
        if (len != sizeof due->root)
            return fail(why, ST_INTERNAL, "audit: a root of %zu bytes", len);
        memcpy(due->root, root, len);
    }
    return ST_OK;
}

/* The event that says so, for the platform's log. */
static enum status event_of(const struct due *due, struct audit_event **ret_event, struct why *why) {
    char root[ROOT_HEX_BYTES], detail[128];
    (void)snprintf(detail, sizeof detail, "{\"root\":\"%s\",\"size\":%" PRId64 "}", hex_encode(due->root, sizeof due->root, root), due->size);
    struct audit_record record = { .event_id = uuid_v7(), .action = AUDIT_CHECKPOINT, .outcome = AUDIT_SUCCESS,
                                   .resource_id = due->tenant_id, .detail_json = detail };
    struct audit_origin origin = { .reported_by = "audit-writer" };
    return audit_event_new(&record, &origin, ret_event, why);
}

/* Put one event per head on the platform's log; keeps their places. */
static enum status append_events(struct plain_tx *tx, struct due due[], size_t count, struct why *why) {
    struct audit_event *events[BATCH_EVENTS_MAX] = { 0 };
    struct audit_stamp stamps[BATCH_EVENTS_MAX];
    memset(stamps, 0, sizeof stamps);       /* the tenant is nil: the platform's log */
    enum status st = ST_OK;
    size_t made = 0;
    for (; made < count && st == ST_OK; made++)
        st = event_of(&due[made], &events[made], why);
    struct batch_call call = { .events = events, .count = count, .stamps = stamps };
    if (st == ST_OK)
        st = batch_append(tx, (struct batch_call *[]){ &call }, 1, why);
    for (size_t i = 0; i < count && st == ST_OK; i++)
        due[i].event_seq = stamps[i].seq;
    for (size_t i = 0; i < made; i++)
        audit_event_destroy(&events[i]);
    return st;
}

static enum status put_notes(struct plain_tx *tx, const struct note_key *key, const struct due due[], size_t count, int64_t number,
                             struct why *why) {
    static const struct sql PUT = { "put_checkpoints",
        "SELECT audit.put_checkpoints($1::uuid[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7)", 7 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(array_end) struct array tenants, sizes, roots, notes, verifiers, seqs;
    array_init(&tenants, ARRAY_UUID);
    array_init(&sizes, ARRAY_BIGINT);
    array_init(&roots, ARRAY_BYTEA);
    array_init(&notes, ARRAY_TEXT);
    array_init(&verifiers, ARRAY_TEXT);
    array_init(&seqs, ARRAY_BIGINT);
    for (size_t i = 0; i < count; i++) {
        char tenant[UUID_TEXT_BYTES];
        bool is_platform = uuid_is_nil(&due[i].tenant_id);
        const char *origin = note_origin(key, is_platform ? "" : uuid_format(&due[i].tenant_id, tenant), mem);
        array_add(&tenants, due[i].tenant_id.bytes, UUID_BYTES);
        array_add_i64(&sizes, due[i].size);
        array_add(&roots, due[i].root, sizeof due[i].root);
        array_add_text(&notes, note_sign(key, origin, (uint64_t)due[i].size, due[i].root, mem));
        array_add_text(&verifiers, note_verifier(key, origin, mem));
        if (is_platform)
            array_add(&seqs, NULL, 0);
        else
            array_add_i64(&seqs, due[i].event_seq);
    }
    const struct db_param params[] = { array_param(&tenants), array_param(&sizes), array_param(&roots), array_param(&notes),
                                       array_param(&verifiers), array_param(&seqs), DB_INT(number) };
    return plain_tx_run(tx, &PUT, params, NULL, why);
}

static enum status next_number(struct plain_tx *tx, int64_t *ret_number, struct why *why) {
    static const struct sql NEXT = { "anchor_next", "SELECT greatest(last, recovered) + 1 FROM audit.anchor_state()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = plain_tx_run(tx, &NEXT, NULL, &rows, why);
    if (st == ST_OK)
        *ret_number = db_i64(rows, 0, 0);
    return st;
}

/* The tenants' heads, with the events that name them, in one transaction. *ret_is_time: the platform's is next. */
static enum status sign_tenants(struct db_pool *pool, const struct note_key *key, const struct checkpoint_pace *pace, size_t *ret_signed,
                                bool *ret_is_time, struct why *why) {
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    CLEANUP(due_end) struct due_list d = { 0 };
    int64_t number = 0;
    enum status st = plain_tx_begin(&tx, pool, clock_mono_ms() + SIGNING_MS, why);
    if (st == ST_OK)
        st = look(&tx, pace, &d, why);
    if (st != ST_OK || d.count == 0)
        return st;
    bool has_platform = uuid_is_nil(&d.items->tenant_id);       /* its turn comes when the others are committed */
    struct due *first = d.items + has_platform;
    size_t count = d.count - has_platform;
    if (count > BATCH_EVENTS_MAX)
        count = BATCH_EVENTS_MAX;
    *ret_is_time = true;
    if (count == 0)
        return ST_OK;
    st = next_number(&tx, &number, why);
    if (st == ST_OK)
        st = append_events(&tx, first, count, why);
    if (st == ST_OK)
        st = put_notes(&tx, key, first, count, number, why);
    if (st == ST_OK)
        st = plain_tx_commit(&tx, why);
    if (st == ST_OK)
        *ret_signed = count;
    return st;
}

static enum status sign_platform(struct db_pool *pool, const struct note_key *key, size_t *ret_signed, struct why *why) {
    static const struct checkpoint_pace NOW = { 0, 0 };
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    CLEANUP(due_end) struct due_list d = { 0 };
    int64_t number = 0;
    enum status st = plain_tx_begin(&tx, pool, clock_mono_ms() + SIGNING_MS, why);
    if (st == ST_OK)
        st = look(&tx, &NOW, &d, why);
    if (st != ST_OK || d.count == 0 || !uuid_is_nil(&d.items->tenant_id))
        return st;
    st = next_number(&tx, &number, why);
    if (st == ST_OK)
        st = put_notes(&tx, key, d.items, 1, number, why);
    if (st == ST_OK)
        st = plain_tx_commit(&tx, why);
    if (st == ST_OK)
        *ret_signed += 1;
    return st;
}

enum status checkpoint_sign(struct db_pool *pool, const struct note_key *key, const struct checkpoint_pace *pace,
                            size_t *ret_signed, struct why *why) {
    bool is_platform_next = false;
    *ret_signed = 0;
    enum status st = sign_tenants(pool, key, pace, ret_signed, &is_platform_next, why);
    return st == ST_OK && is_platform_next ? sign_platform(pool, key, ret_signed, why) : st;
}

/* ---- for the bucket ---- */

enum status checkpoint_object(struct db_pool *pool, int64_t number, struct buffer *out, struct why *why) {
    static const struct sql NOTES = { "anchor_notes", "SELECT tenant_id, note FROM audit.anchor_notes($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &NOTES, (struct db_param[]){ DB_INT(number) }, clock_mono_ms() + SIGNING_MS, &rows, why);
    if (st != ST_OK)
        return st;
    struct uuid first = { 0 };
    if (db_count(rows) > 0)
        first = db_uuid(rows, 0, 0);
    if (db_count(rows) == 0 || !uuid_is_nil(&first))
        return fail(why, ST_NOT_FOUND, "audit: there is no checkpoint %" PRId64, number);
    for (int i = 0; i < db_count(rows); i++) {
        struct json_writer w;
        json_begin(&w, out);
        json_open_object(&w);
        json_put_name(&w, "cordon");
        json_put_text(&w, "checkpoint");
        json_put_name(&w, "note");
        json_put_text(&w, db_text(rows, i, 1));
        json_close_object(&w);
        if (!json_finish(&w) || !buffer_add_str(out, "\n") || out->len > OBJECT_MAX_BYTES)
            return fail(why, ST_INTERNAL, "audit: checkpoint %" PRId64 " does not fit into an object", number);
    }
    return ST_OK;
}

enum status checkpoint_anchored(struct db_pool *pool, int64_t number, struct why *why) {
    static const struct sql PUT = { "put_anchor", "SELECT audit.put_anchor($1)", 1 };
    return db_run(pool, &PUT, (struct db_param[]){ DB_INT(number) }, clock_mono_ms() + SIGNING_MS, NULL, why);
}
