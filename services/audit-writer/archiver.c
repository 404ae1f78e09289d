#include "archiver.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "audit/event.h"
#include "audit/proof.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "core/worker.h"
#include "crypto/digest.h"
#include "db/plain_tx.h"
#include "obs/log.h"

enum { TURN_EVERY_MS = 100, LOOK_EVERY_MS = 3600 * 1000, RETRY_EVERY_MS = 5000, ASK_MS = 15000, DETACH_MS = 15 * 60 * 1000, BUCKET_MS = 60000,
       PAGE_EVENTS = 256, HOLDS_A_TURN = 64 };

static const int64_t DAY_US = INT64_C(86400) * 1000000;

struct archiver {
    struct db_pool *pool;
    struct anchor anchor;
    struct archive_terms terms;
    struct worker worker;
    struct gauge *waiting, *held;
    struct counter *events, *failures;
};

struct archiver *archiver_new(struct db_pool *pool, const struct anchor *anchor, const struct archive_terms *terms, struct metrics *metrics) {
    struct archiver *a = xalloc(sizeof *a);
    a->pool = pool;
    a->anchor = *anchor;
    a->terms = *terms;
    a->waiting = metrics_gauge(metrics, "cordon_audit_archive_waiting_months",
                               "Months of the log that are to be archived and are not. Alarm when it stays.", "");
    a->held = metrics_gauge(metrics, "cordon_audit_archive_held_months", "Months that a legal hold keeps in the database beyond their time.", "");
    a->events = metrics_counter(metrics, "cordon_audit_archived_events_total", "Events put into the anchor bucket and read back.", "");
    a->failures = metrics_counter(metrics, "cordon_audit_archive_failures_total", "Steps of archiving that failed and are repeated. Alarm when it grows.", "");
    return a;
}

/* ---- the next object, as the database has it ---- */

struct line { int64_t seq, offset, bytes; struct merkle_hash leaf; };
struct part {
    struct uuid tenant_id;
    struct buffer text;
    struct line *lines;
    size_t count;
};

static void part_end(struct part *p) {
    buffer_end(&p->text);
    free(p->lines);
    *p = (struct part){ 0 };
}

/* False: the row belongs into another object. */
static bool add_row(struct part *p, const PGresult *rows, int row) {
    struct uuid tenant_id = db_uuid(rows, row, 0);
    size_t len;
    const uint8_t *event = db_bytea(rows, row, 2, &len);
    if (p->count > 0 && (!uuid_equal(&p->tenant_id, &tenant_id) || p->count == ARCHIVE_OBJECT_EVENTS || p->text.len + len + 1 > ARCHIVE_OBJECT_BYTES))
        return false;
    p->tenant_id = tenant_id;
    p->lines[p->count++] = (struct line){ db_i64(rows, row, 1), (int64_t)p->text.len, (int64_t)len, merkle_leaf(event, len) };
    buffer_add(&p->text, event, len);
    buffer_add_str(&p->text, "\n");
    return true;
}

/* Events of the month behind this one of this tenant; none are left when p->count is 0. */
static enum status collect_part(struct archiver *a, const char *month, struct uuid tenant_id, int64_t after, struct part *p, struct why *why) {
    static const struct sql ROWS = { "archive_rows", "SELECT tenant_id, seq, event, leaf_hash FROM audit.archive_rows(($1 || '-01')::date, $2, $3, $4)", 4 };
    p->lines = xalloc(ARCHIVE_OBJECT_EVENTS * sizeof *p->lines);
    for (bool is_full = false; !is_full;) {
        CLEANUP(pgrows_destroy) PGresult *rows = NULL;
        const struct db_param params[] = { DB_TEXT(month), DB_UUID(&tenant_id), DB_INT(after), DB_INT(PAGE_EVENTS) };
        enum status st = db_run(a->pool, &ROWS, params, clock_mono_ms() + ASK_MS, &rows, why);
        if (st != ST_OK)
            return st;
        is_full = db_count(rows) < PAGE_EVENTS;
        for (int i = 0; i < db_count(rows); i++) {
            size_t len;
            const uint8_t *leaf = db_bytea(rows, i, 3, &len);
            if (!add_row(p, rows, i)) {
                is_full = true;
                break;
            }
            const struct line *line = &p->lines[p->count - 1];
            if (len != sizeof line->leaf.bytes || memcmp(line->leaf.bytes, leaf, len) != 0)
                return fail(why, ST_INTERNAL, "event %" PRId64 " of %s is not what was hashed", line->seq, month);
            tenant_id = p->tenant_id;
            after = line->seq;
        }
    }
    return ST_OK;
}

/* ---- into the bucket, and back ---- */

static enum status collect_object(void *ctx, const void *data, size_t len, struct why *why) {
    return buffer_add(ctx, data, len) ? ST_OK : fail(why, ST_CONFLICT, "the object is longer than it was made");
}

static enum status read_object(const struct anchor *anchor, const char *key, size_t bytes, struct buffer *out, struct why *why) {
    buffer_init(out, bytes);
    enum status st = s3_get(anchor->s3, key, 0, 0, collect_object, out, clock_mono_ms() + BUCKET_MS, why);
    return st == ST_OK && out->len != bytes ? fail(why, ST_CONFLICT, "%s has %zu bytes instead of %zu", key, out->len, bytes) : st;
}

/* Unix time at which a month begins, so many after `month` ("2026-01"). */
static int64_t month_us(const char *month, int64_t months) {
    int64_t year = strtoll(month, NULL, 10), index = strtoll(month + 5, NULL, 10) - 1 + months;
    struct tm begins = { .tm_year = (int)(year + index / 12 - 1900), .tm_mon = (int)(index % 12), .tm_mday = 1 };
    return (int64_t)timegm(&begins) * 1000000;
}

/* What is there under its name already was put there by an attempt that ended here: reading back decides. */
static enum status store(struct archiver *a, const struct part *p, const char *until, const char *key, struct why *why) {
    const struct sigv4_pair headers[] = { { "if-none-match", "*" }, { "x-amz-object-lock-mode", "COMPLIANCE" },
                                          { "x-amz-object-lock-retain-until-date", until }, { NULL, NULL } };
    enum status st = fault_status(FAULT_ARCHIVE_BEFORE_STORE, why);
    if (st == ST_OK)
        st = s3_put(a->anchor.s3, key, "application/jsonl", headers, p->text.data, p->text.len, clock_mono_ms() + BUCKET_MS, why);
    return st == ST_CONFLICT ? ST_OK : st;
}

/* The leaves of what came back take the place of ours. */
static enum status read_back(struct archiver *a, struct part *p, const char *key, struct why *why) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    enum status st = read_object(&a->anchor, key, p->text.len, &got, why);
    for (size_t i = 0; st == ST_OK && i < p->count; i++) {
        struct line *line = &p->lines[i];
        struct merkle_hash leaf = merkle_leaf(got.data + line->offset, (size_t)line->bytes);
        if (!merkle_equal(&leaf, &line->leaf) || got.data[line->offset + line->bytes] != '\n')
            st = fail(why, ST_CONFLICT, "%s: event %" PRId64 " did not come back as it was put", key, line->seq);
        line->leaf = leaf;
    }
    return st;
}

/* ---- up to a signed head ---- */

struct tree { struct db_pool *pool; struct uuid tenant_id; };

static enum status read_hashes(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) {
    static const struct sql HASHES = { "hashes_of", "SELECT hash FROM audit.hashes_of($1, $2, $3, $4)", 4 };
    struct tree *tree = ctx;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_UUID(&tree->tenant_id), DB_INT(level), DB_INT((int64_t)first), DB_INT((int64_t)count) };
    enum status st = db_run(tree->pool, &HASHES, params, clock_mono_ms() + ASK_MS, &rows, why);
    if (st == ST_OK && (size_t)db_count(rows) != count)
        st = fail(why, ST_INTERNAL, "the log has %d hashes of level %u where %zu should be", db_count(rows), level, count);
    for (int i = 0; st == ST_OK && i < db_count(rows); i++) {
        size_t len;
        const uint8_t *hash = db_bytea(rows, i, 0, &len);
        if (len != MERKLE_HASH_BYTES)
            return fail(why, ST_INTERNAL, "a hash of %zu bytes", len);
        memcpy(ret_hashes[i].bytes, hash, len);
    }
    return st;
}

/* The object's leaves onto the range; between them those of events of other months, as the log has them. */
static enum status append_leaves(struct tree *tree, const struct part *p, struct merkle_range *range, struct why *why) {
    struct merkle_hash between[MERKLE_TILE_HASHES];
    for (size_t i = 0; i < p->count; i++) {
        while (range->size < (uint64_t)p->lines[i].seq) {
            uint64_t gap = (uint64_t)p->lines[i].seq - range->size;
            size_t count = gap < MERKLE_TILE_HASHES ? (size_t)gap : MERKLE_TILE_HASHES;
            enum status st = read_hashes(tree, 0, range->size, count, between, why);
            if (st != ST_OK)
                return st;
            for (size_t k = 0; k < count; k++)
                merkle_append(range, &between[k]);
        }
        merkle_append(range, &p->lines[i].leaf);
    }
    return ST_OK;
}

/* What was read back, within the tree, has the root that is signed outside the database. */
static enum status leads_to(struct archiver *a, const struct part *p, const struct signed_head *head, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct tree tree = { a->pool, p->tenant_id };
    struct merkle_range range = { 0 };
    struct proof proof;
    uint64_t first = (uint64_t)p->lines[0].seq;
    struct proof_reader before = proof_reader_init(mem, first, read_hashes, &tree), whole = proof_reader_init(mem, head->size, read_hashes, &tree);
    enum status st = first > 0 ? proof_rest(&before, 0, &proof, why) : ST_OK;
    bool fits = st == ST_OK && (first == 0 || merkle_append_rest(&range, first, proof.hashes, proof.count));
    if (fits)
        st = append_leaves(&tree, p, &range, why);
    if (st == ST_OK && fits && range.size < head->size) {
        st = proof_rest(&whole, range.size, &proof, why);
        fits = st == ST_OK && merkle_append_rest(&range, head->size, proof.hashes, proof.count);
    }
    if (st != ST_OK)
        return st;
    struct merkle_hash root = merkle_root(&range);
    return fits && merkle_equal(&root, &head->root) ? ST_OK
         : fail(why, ST_CONFLICT, "events from %" PRIu64 " on do not lead to the head of %" PRIu64 " events that was signed", first, head->size);
}

static enum status find_head(struct archiver *a, const struct part *p, struct signed_head *ret_head, int64_t *ret_number, struct why *why) {
    static const struct sql HEAD = { "anchored_head", "SELECT number, size FROM audit.anchored_head($1, $2)", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_UUID(&p->tenant_id), DB_INT(p->lines[p->count - 1].seq) };
    enum status st = db_run(a->pool, &HEAD, params, clock_mono_ms() + ASK_MS, &rows, why);
    if (st != ST_OK)
        return st;
    if (db_count(rows) == 0)
        return fail(why, ST_UNAVAILABLE, "no signed head in the bucket covers event %" PRId64 " yet", p->lines[p->count - 1].seq);
    struct signed_head *heads = NULL;
    size_t count = 0;
    *ret_number = db_i64(rows, 0, 0);
    st = anchor_heads(&a->anchor, *ret_number, &heads, &count, why);
    if (st == ST_OK)
        st = fail(why, ST_CONFLICT, "checkpoint %" PRId64 " of the bucket has no head of %" PRId64 " events", *ret_number, db_i64(rows, 0, 1));
    for (size_t i = 0; i < count; i++)
        if (uuid_equal(&heads[i].tenant_id, &p->tenant_id) && heads[i].size == (uint64_t)db_i64(rows, 0, 1)) {
            *ret_head = heads[i];
            *why = (struct why){ 0 };
            st = ST_OK;
        }
    free(heads);
    return st;
}

/* ---- on the record ---- */

static enum status put_on_record(struct archiver *a, const struct part *p, const char *month, int64_t number, const char *until, struct why *why) {
    static const struct sql PUT = { "archive_put", "SELECT audit.archive_put($1, ($2 || '-01')::date, $3, $4, $5, $6, $7, $8, $9, $10::timestamptz)", 10 };
    struct array seqs, offsets, lengths;
    uint8_t digest[SHA256_BYTES];
    array_init(&seqs, ARRAY_BIGINT);
    array_init(&offsets, ARRAY_BIGINT);
    array_init(&lengths, ARRAY_BIGINT);
    for (size_t i = 0; i < p->count; i++) {
        array_add_i64(&seqs, p->lines[i].seq);
        array_add_i64(&offsets, p->lines[i].offset);
        array_add_i64(&lengths, p->lines[i].bytes);
    }
    sha256(p->text.data, p->text.len, digest);
    const struct db_param params[] = { DB_UUID(&p->tenant_id), DB_TEXT(month), DB_INT(a->terms.live_months), array_param(&seqs), array_param(&offsets),
                                       array_param(&lengths), DB_INT((int64_t)p->text.len), DB_BYTES(digest, sizeof digest), DB_INT(number), DB_TEXT(until) };
    enum status st = db_run(a->pool, &PUT, params, clock_mono_ms() + ASK_MS, NULL, why);
    array_end(&seqs);
    array_end(&offsets);
    array_end(&lengths);
    if (st == ST_OK)
        counter_add(a->events, p->count);
    return st == ST_OK ? fault_status(FAULT_ARCHIVE_RECORDED, why) : st;
}

static enum status archive_part(struct archiver *a, struct part *p, const char *month, struct why *why) {
    char key[ARCHIVE_KEY_BYTES], until[CLOCK_TEXT_BYTES];
    struct signed_head head;
    int64_t number = 0;
    /* a day more: six years have 2191 days or 2192, and the database wants 2192 */
    clock_format(month_us(month, 1 + 12 * a->terms.retention_years) + DAY_US, until);
    archive_key(key, &p->tenant_id, month, p->lines[0].seq);
    enum status st = find_head(a, p, &head, &number, why);
    if (st == ST_OK)
        st = store(a, p, until, key, why);
    if (st == ST_OK)
        st = fault_status(FAULT_ARCHIVE_STORED, why);
    if (st == ST_OK)
        st = read_back(a, p, key, why);
    if (st == ST_OK)
        st = leads_to(a, p, &head, why);
    return st == ST_OK ? put_on_record(a, p, month, number, until, why) : st;
}

/* ---- a month ---- */

static enum status detach(struct archiver *a, const char *month, struct why *why) {
    static const struct sql DETACH = { "archive_detach", "SELECT audit.archive_detach(($1 || '-01')::date, $2)", 2 };
    enum status st = fault_status(FAULT_ARCHIVE_BEFORE_DETACH, why);
    if (st == ST_OK)
        st = db_run(a->pool, &DETACH, (struct db_param[]){ DB_TEXT(month), DB_INT(a->terms.live_months) }, clock_mono_ms() + DETACH_MS, NULL, why);
    if (st != ST_OK)
        return st;
    log_event(LOG_INFO, "audit_archived", LOG_TEXT("month", month));
    return fault_status(FAULT_ARCHIVE_DETACHED, why);
}

static enum status archive_month(struct archiver *a, const char *month, struct why *why) {
    static const struct sql BEGIN = { "archive_begin", "SELECT tenant_id, last FROM audit.archive_begin(($1 || '-01')::date, $2)", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(part_end) struct part p = { 0 };
    enum status st = db_run(a->pool, &BEGIN, (struct db_param[]){ DB_TEXT(month), DB_INT(a->terms.live_months) }, clock_mono_ms() + ASK_MS, &rows, why);
    if (st != ST_OK)
        return st;
    bool has_begun = db_count(rows) > 0;
    st = collect_part(a, month, has_begun ? db_uuid(rows, 0, 0) : (struct uuid){ 0 }, has_begun ? db_i64(rows, 0, 1) : -1, &p, why);
    if (st != ST_OK)
        return st;
    return p.count > 0 ? archive_part(a, &p, month, why) : detach(a, month, why);
}

enum status archive_check_clock(int64_t database_us, int64_t own_us, struct why *why) {
    int64_t ahead_us = database_us - own_us;
    return ahead_us > -DAY_US && ahead_us < DAY_US ? ST_OK
         : fail(why, ST_UNAVAILABLE, "the database's clock is %" PRId64 " s ahead of this machine's: no month is closed by it", ahead_us / 1000000);
}

/* The oldest month that may be archived; "" when none is. */
static enum status next_month(struct archiver *a, char ret_month[ARCHIVE_MONTH_BYTES], struct why *why) {
    static const struct sql DUE = { "archive_due",
        "SELECT pg_catalog.to_char(month, 'YYYY-MM'), is_held, pg_catalog.clock_timestamp() FROM audit.archive_due($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    int held = 0;
    const struct db_param live = DB_INT(a->terms.live_months);
    enum status st = db_run(a->pool, &DUE, &live, clock_mono_ms() + ASK_MS, &rows, why);
    if (st == ST_OK && db_count(rows) > 0)
        st = archive_check_clock(db_micros(rows, 0, 2), clock_unix_us(), why);
    if (st != ST_OK)
        return st;
    *ret_month = '\0';
    for (int i = 0; i < db_count(rows); i++) {
        held += db_bool(rows, i, 1);
        if (!*ret_month && !db_bool(rows, i, 1))
            (void)snprintf(ret_month, ARCHIVE_MONTH_BYTES, "%s", db_text(rows, i, 0));
    }
    gauge_set(a->waiting, db_count(rows) - held);
    gauge_set(a->held, held);
    return ST_OK;
}

/* ---- objects ---- */

enum status archive_objects(struct db_pool *pool, const struct archive_object *at, bool is_changed, struct archive_object out[], size_t count,
                            size_t *ret_count, struct why *why) {
    static const struct sql OBJECTS = { "archive_objects",
        "SELECT tenant_id, pg_catalog.to_char(month, 'YYYY-MM'), first, last, bytes, is_to_be_held, is_detached "
        "FROM audit.archive_objects(($1 || '-01')::date, $2, $3, $4, $5)", 5 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_TEXT(*at->month ? at->month : "1970-01"), db_bytes_param(at->tenant_id.bytes, UUID_BYTES),
                                       DB_INT(at->first), DB_BOOL(is_changed), DB_INT((int64_t)count) };
    enum status st = db_run(pool, &OBJECTS, params, clock_mono_ms() + ASK_MS, &rows, why);
    if (st != ST_OK)
        return st;
    *ret_count = (size_t)db_count(rows);
    for (int i = 0; i < db_count(rows); i++) {
        out[i] = (struct archive_object){ .tenant_id = db_uuid(rows, i, 0), .first = db_i64(rows, i, 2), .last = db_i64(rows, i, 3),
                                          .bytes = db_i64(rows, i, 4), .is_to_be_held = db_bool(rows, i, 5), .is_detached = db_bool(rows, i, 6) };
        (void)snprintf(out[i].month, sizeof out[i].month, "%s", db_text(rows, i, 1));
    }
    return ST_OK;
}

static enum status compare_rows(struct db_pool *pool, const struct archive_object *o, const struct buffer *object, int64_t *ret_differs, struct why *why) {
    static const struct sql DIFFERS = { "archive_differs", "SELECT audit.archive_differs(($1 || '-01')::date, $2, $3, $4, $5)", 5 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_TEXT(o->month), DB_UUID(&o->tenant_id), DB_INT(o->first), DB_INT(o->last), DB_BYTES(object->data, object->len) };
    enum status st = db_run(pool, &DIFFERS, params, clock_mono_ms() + ASK_MS, &rows, why);
    if (st == ST_OK)
        *ret_differs = db_is_null(rows, 0, 0) ? -1 : db_i64(rows, 0, 0);
    return st;
}

enum status archive_verify(const struct anchor *anchor, struct db_pool *pool, const struct archive_object *o, int64_t *ret_differs, struct why *why) {
    static const struct sql LEAVES = { "archive_leaves", "SELECT seq, leaf_hash, place, bytes FROM audit.archive_leaves(($1 || '-01')::date, $2, $3, $4)", 4 };
    CLEANUP(buffer_end) struct buffer got = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    char key[ARCHIVE_KEY_BYTES];
    const struct db_param params[] = { DB_TEXT(o->month), db_bytes_param(o->tenant_id.bytes, UUID_BYTES), DB_INT(o->first), DB_INT(o->last) };
    enum status st = db_run(pool, &LEAVES, params, clock_mono_ms() + ASK_MS, &rows, why);
    if (st == ST_OK)
        st = read_object(anchor, archive_key(key, &o->tenant_id, o->month, o->first), (size_t)o->bytes, &got, why);
    if (st == ST_NOT_FOUND)
        return fail(why, ST_CONFLICT, "%s is not in the bucket", key);
    int64_t end = 0;
    for (int i = 0; st == ST_OK && i < db_count(rows); i++) {
        size_t len;
        const uint8_t *leaf = db_bytea(rows, i, 1, &len);
        int64_t offset = db_i64(rows, i, 2), bytes = db_i64(rows, i, 3);
        if (offset != end || bytes <= 0 || offset + bytes >= (int64_t)got.len)
            return fail(why, ST_CONFLICT, "%s: event %" PRId64 " is out of its place", key, db_i64(rows, i, 0));
        struct merkle_hash found = merkle_leaf(got.data + offset, (size_t)bytes);
        if (len != sizeof found.bytes || memcmp(found.bytes, leaf, len) != 0)
            return fail(why, ST_CONFLICT, "%s: event %" PRId64 " is not what was hashed", key, db_i64(rows, i, 0));
        end = offset + bytes + 1;
    }
    if (st == ST_OK && end != (int64_t)got.len)
        return fail(why, ST_CONFLICT, "%s holds what the log does not know", key);
    return st == ST_OK ? compare_rows(pool, o, &got, ret_differs, why) : st;
}

/* A hold is on the record before S3 hears of it, and so is that it did. */
static enum status tell_holds(struct archiver *a, size_t *ret_told, struct why *why) {
    static const struct sql HELD = { "archive_held", "SELECT audit.archive_held(($1 || '-01')::date, $2, $3, $4)", 4 };
    struct archive_object list[HOLDS_A_TURN], none = { .first = -1 };
    size_t count = 0;
    enum status st = archive_objects(a->pool, &none, true, list, HOLDS_A_TURN, &count, why);
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        const struct archive_object *o = &list[i];
        char key[ARCHIVE_KEY_BYTES];
        st = s3_put_legal_hold(a->anchor.s3, archive_key(key, &o->tenant_id, o->month, o->first), o->is_to_be_held, clock_mono_ms() + BUCKET_MS, why);
        const struct db_param params[] = { DB_TEXT(o->month), db_bytes_param(o->tenant_id.bytes, UUID_BYTES), DB_INT(o->first), DB_BOOL(o->is_to_be_held) };
        if (st == ST_OK)
            st = db_run(a->pool, &HELD, params, clock_mono_ms() + ASK_MS, NULL, why);
    }
    *ret_told = count;
    return st;
}

/* ---- the thread ---- */

enum status archiver_turn(struct archiver *a, bool *ret_is_done, struct why *why) {
    size_t told = 0;
    char month[ARCHIVE_MONTH_BYTES] = "";
    *ret_is_done = false;
    enum status st = tell_holds(a, &told, why);
    if (st != ST_OK || told > 0)
        return st;
    st = a->terms.live_months > 0 ? next_month(a, month, why) : ST_OK;
    *ret_is_done = st == ST_OK && !*month;
    return st == ST_OK && *month ? archive_month(a, month, why) : st;
}

static void *run(void *arg) {
    struct archiver *a = arg;
    int wait_ms = TURN_EVERY_MS;
    while (worker_rests(&a->worker, wait_ms)) {
        struct why why = { 0 };
        bool is_done = false;
        enum status st = archiver_turn(a, &is_done, &why);
        wait_ms = st != ST_OK ? RETRY_EVERY_MS : is_done ? LOOK_EVERY_MS : TURN_EVERY_MS;
        if (st != ST_OK) {
            counter_add(a->failures, 1);
            log_event(st == ST_CONFLICT || st == ST_INTERNAL ? LOG_ERROR : LOG_WARN, "audit_archive_waits", LOG_TEXT("status", status_name(st)),
                      LOG_TEXT("why", why.text));
        }
    }
    return NULL;
}

void archiver_start(struct archiver *a) {
    worker_start(&a->worker, run, a);
}

void archiver_stop(struct archiver *a) {
    worker_stop(&a->worker);
}

void archiver_destroy(struct archiver **archiver_p) {
    struct archiver *a = *archiver_p;
    if (!a)
        return;
    archiver_stop(a);
    free(a);
    *archiver_p = NULL;
}
