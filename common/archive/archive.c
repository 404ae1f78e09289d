#include "archive/archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/str.h"

enum { GAP_BYTES = 65536, RUN_BYTES = 4 << 20 };        /* lines so near to each other come with one request */

const char *archive_key(char out[ARCHIVE_KEY_BYTES], const struct uuid *tenant_id, const char *month, int64_t first) {
    char tenant[UUID_TEXT_BYTES];
    (void)snprintf(out, ARCHIVE_KEY_BYTES, "tenants/%s/log/%s/%016" PRId64 ".jsonl", uuid_format(tenant_id, tenant), month, first);
    return out;
}

static enum status add(struct arena *mem, const PGresult *places, struct archived *archived, struct why *why) {
    enum { SEQ, MONTH, FIRST, OFFSET, BYTES, LEAF };
    size_t count = archived->count + (size_t)db_count(places);
    struct archived_event *items = arena_alloc(mem, (count + 1) * sizeof *items);
    if (archived->count)
        memcpy(items, archived->items, archived->count * sizeof *items);
    archived->items = items;
    for (int i = 0; i < db_count(places); i++) {
        size_t len;
        const uint8_t *leaf = db_bytea(places, i, LEAF, &len);
        struct archived_event *e = &items[archived->count++];
        *e = (struct archived_event){ .seq = db_i64(places, i, SEQ), .first = db_i64(places, i, FIRST), .offset = db_i64(places, i, OFFSET),
                                      .bytes = db_i64(places, i, BYTES) };
        (void)snprintf(e->month, sizeof e->month, "%s", db_text(places, i, MONTH));
        if (len != sizeof e->leaf.bytes || e->bytes <= 0 || e->bytes > RUN_BYTES)
            return fail(why, ST_INTERNAL, "archive: the place of event %" PRId64, e->seq);
        memcpy(e->leaf.bytes, leaf, len);
    }
    return ST_OK;
}

enum status archived_find(struct tenant_tx *tx, struct arena *mem, const PGresult *rows, int seq_column, int event_column,
                          struct archived *archived, struct why *why) {
    static const struct sql PLACES = { "archived_events",
        "SELECT seq, month, first, place, bytes, leaf_hash FROM audit.archived_events($1::bigint[])", 1 };
    CLEANUP(buffer_end) struct buffer seqs = { 0 };
    CLEANUP(pgrows_destroy) PGresult *places = NULL;
    archived->tenant_id = tx->claims.tenant_id;
    for (int i = 0; i < db_count(rows); i++)
        if (db_is_null(rows, i, event_column) && !db_is_null(rows, i, seq_column))
            buffer_printf(&seqs, "%c%" PRId64, seqs.len ? ',' : '{', db_i64(rows, i, seq_column));
    if (seqs.len == 0)
        return ST_OK;
    buffer_add_str(&seqs, "}");
    enum status st = tenant_tx_run(tx, &PLACES, (struct db_param[]){ DB_TEXT(seqs.data) }, &places, why);
    return st == ST_OK ? add(mem, places, archived, why) : st;
}

enum status archived_find_ending(struct tenant_tx *tx, struct arena *mem, const struct uuid *tenant_id, struct archived *archived,
                                 struct why *why) {
    static const struct sql PLACE = { "ending_archived",
        "SELECT seq, month, first, place, bytes, leaf_hash FROM audit.ending_archived($1)", 1 };
    CLEANUP(pgrows_destroy) PGresult *places = NULL;
    archived->tenant_id = *tenant_id;
    enum status st = tenant_tx_run(tx, &PLACE, (struct db_param[]){ DB_UUID(tenant_id) }, &places, why);
    return st == ST_OK ? add(mem, places, archived, why) : st;
}

static int by_place(const void *a_p, const void *b_p) {
    const struct archived_event *a = a_p, *b = b_p;
    int order = strcmp(a->month, b->month);
    if (order == 0)
        order = (a->first > b->first) - (a->first < b->first);
    return order ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

static enum status collect(void *ctx, const void *data, size_t len, struct why *why) {
    return buffer_add(ctx, data, len) ? ST_OK : fail(why, ST_INTERNAL, "archive: more than was asked for");
}

/* items[0..count): lines of one object, in its order. */
static enum status read_run(struct s3 *s3, struct arena *mem, const struct uuid *tenant_id, struct archived_event *items, size_t count,
                            int64_t deadline_ms, struct why *why) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    char key[ARCHIVE_KEY_BYTES];
    int64_t from = items[0].offset, bytes = items[count - 1].offset + items[count - 1].bytes - from;
    buffer_init(&got, (size_t)bytes);
    enum status st = s3_get(s3, archive_key(key, tenant_id, items[0].month, items[0].first), from, bytes, collect, &got, deadline_ms, why);
    if (st != ST_OK || (int64_t)got.len != bytes) {
        char text[sizeof why->text];
        (void)snprintf(text, sizeof text, "%s", st == ST_OK ? "it is shorter" : why->text);
        return fail_as(why, ERR_AUDIT_ARCHIVE, "%s: %.200s", key, text);
    }
    for (size_t i = 0; i < count; i++) {
        items[i].text = arena_strndup(mem, got.data + (items[i].offset - from), (size_t)items[i].bytes);
        struct merkle_hash leaf = merkle_leaf(items[i].text, (size_t)items[i].bytes);
        if (!merkle_equal(&leaf, &items[i].leaf))
            return fail_as(why, ERR_AUDIT_ARCHIVE, "%s: event %" PRId64 " is not what was hashed", key, items[i].seq);
    }
    return ST_OK;
}

enum status archived_read(struct s3 *s3, struct arena *mem, struct archived *archived, int64_t deadline_ms, struct why *why) {
    struct archived_event *items = archived->items;
    if (archived->count == 0)
        return ST_OK;
    if (!s3)
        return fail_as(why, ERR_AUDIT_ARCHIVE, "CORDON_ANCHOR_BUCKET is not set here");
    qsort(items, archived->count, sizeof *items, by_place);
    for (size_t at = 0, end; at < archived->count; at = end) {
        for (end = at + 1; end < archived->count; end++) {
            const struct archived_event *first = &items[at], *last = &items[end - 1], *next = &items[end];
            if (next->first != first->first || !str_equal(next->month, first->month) || next->offset - last->offset - last->bytes > GAP_BYTES ||
                next->offset + next->bytes - first->offset > RUN_BYTES)
                break;
        }
        enum status st = read_run(s3, mem, &archived->tenant_id, items + at, end - at, deadline_ms, why);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

const char *archived_event(const struct archived *archived, const PGresult *rows, int row, int seq_column, int event_column, size_t *ret_len) {
    if (!db_is_null(rows, row, event_column))
        return (const char *)db_bytea(rows, row, event_column, ret_len);
    *ret_len = 0;
    for (size_t i = 0; !db_is_null(rows, row, seq_column) && i < archived->count; i++)
        if (archived->items[i].seq == db_i64(rows, row, seq_column) && archived->items[i].text) {
            *ret_len = (size_t)archived->items[i].bytes;
            return archived->items[i].text;
        }
    return NULL;
}
