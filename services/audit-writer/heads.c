#include "heads.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "obs/log.h"

static int compare_tenants(const void *a, const void *b) {
    return memcmp(((const struct head *)a)->tenant_id.bytes, ((const struct head *)b)->tenant_id.bytes, UUID_BYTES);
}

struct head *heads_find(struct heads *h, const struct uuid *tenant_id) {
    struct head key = { .tenant_id = *tenant_id };
    return h->count ? bsearch(&key, h->items, h->count, sizeof *h->items, compare_tenants) : NULL;
}

void heads_end(struct heads *h) {
    free(h->items);
    array_end(&h->tenants);
    array_end(&h->filled_tenants);
    array_end(&h->filled_levels);
    array_end(&h->filled_indexes);
    array_end(&h->filled_hashes);
    *h = (struct heads){ 0 };
}

void heads_collect(struct heads *h, struct batch_call *calls[], size_t count) {
    size_t events = 0;
    for (size_t i = 0; i < count; i++)
        events += calls[i]->count;
    h->items = xalloc((events + 1) * sizeof *h->items);
    array_init(&h->tenants, ARRAY_UUID);
    array_init(&h->filled_tenants, ARRAY_UUID);
    array_init(&h->filled_levels, ARRAY_BIGINT);
    array_init(&h->filled_indexes, ARRAY_BIGINT);
    array_init(&h->filled_hashes, ARRAY_BYTEA);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; calls[i]->status == ST_OK && k < calls[i]->count; k++)
            h->items[h->count++].tenant_id = calls[i]->stamps[k].tenant_id;
    qsort(h->items, h->count, sizeof *h->items, compare_tenants);
    size_t kept = 0;
    for (size_t i = 0; i < h->count; i++)
        if (kept == 0 || !uuid_equal(&h->items[kept - 1].tenant_id, &h->items[i].tenant_id))
            h->items[kept++].tenant_id = h->items[i].tenant_id;
    h->count = kept;
    for (size_t i = 0; i < kept; i++)
        array_add(&h->tenants, h->items[i].tenant_id.bytes, UUID_BYTES);
}

/* A head whose range does not give its root was not written by us. */
static enum status read_head(struct head *head, const PGresult *rows, int row, struct why *why) {
    size_t range_len, root_len;
    const uint8_t *range = db_bytea(rows, row, 2, &range_len);
    const uint8_t *root = db_bytea(rows, row, 3, &root_len);
    struct uuid tenant_id = db_uuid(rows, row, 0);
    char tenant[UUID_TEXT_BYTES];
    head->old_size = (uint64_t)db_i64(rows, row, 1);
    if (uuid_equal(&head->tenant_id, &tenant_id) && merkle_from_bytes(head->old_size, range, range_len, &head->range)) {
        struct merkle_hash computed = merkle_root(&head->range);
        if (root_len == sizeof computed.bytes && memcmp(root, computed.bytes, root_len) == 0)
            return ST_OK;
    }
    log_event(LOG_ERROR, "audit_head_damaged", LOG_TEXT("tenant_id", uuid_format(&head->tenant_id, tenant)),
              LOG_NUMBER("size", head->old_size));
    return fail(why, ST_INTERNAL, "audit: the head of tenant %s contradicts itself", tenant);
}

const struct sql HEADS_LOCK = { "lock_heads", "SELECT tenant_id, size, range, root, locked_at FROM audit.lock_heads($1::uuid[])", 1 };

enum status heads_read(struct heads *h, const PGresult *rows, struct why *why) {
    if ((size_t)db_count(rows) != h->count)
        return fail(why, ST_INTERNAL, "audit: %d heads locked of %zu", db_count(rows), h->count);
    for (int i = 0; i < db_count(rows); i++) {
        enum status st = read_head(&h->items[i], rows, i, why);
        if (st != ST_OK)
            return st;
    }
    h->locked_at_us = db_micros(rows, db_count(rows) - 1, 4);
    return ST_OK;
}

void heads_append(struct heads *h, struct head *head, const struct merkle_hash *leaf) {
    struct merkle_filled filled[MERKLE_LEVELS_MAX];
    size_t count = merkle_append_filling(&head->range, leaf, filled);
    for (size_t i = 0; i < count; i++) {
        array_add(&h->filled_tenants, head->tenant_id.bytes, UUID_BYTES);
        array_add_i64(&h->filled_levels, filled[i].level);
        array_add_i64(&h->filled_indexes, (int64_t)filled[i].index);
        array_add(&h->filled_hashes, filled[i].hash.bytes, MERKLE_HASH_BYTES);
    }
}

enum { M_TENANTS, M_OLD_SIZES, M_NEW_SIZES, M_RANGES, M_ROOTS };

void heads_moves_init(struct heads_moves *m) {
    static const enum array_type TYPES[HEADS_MOVES] = { ARRAY_UUID, ARRAY_BIGINT, ARRAY_BIGINT, ARRAY_BYTEA, ARRAY_BYTEA };
    for (int i = 0; i < HEADS_MOVES; i++)
        array_init(&m->of[i], TYPES[i]);
}

void heads_moves_end(struct heads_moves *m) {
    for (int i = 0; i < HEADS_MOVES; i++)
        array_end(&m->of[i]);
}

size_t heads_steps(struct heads *h, struct heads_moves *m, struct db_param event_ids, struct db_step ret_steps[HEADS_STEPS_MAX]) {
    static const struct sql ADVANCE = { "advance_heads",
        "SELECT audit.advance_heads($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::uuid[])", 6 };
    static const struct sql PUT = { "put_nodes", "SELECT audit.put_nodes($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[])", 4 };
    for (size_t i = 0; i < h->count; i++) {
        const struct head *head = &h->items[i];
        if (head->range.size == head->old_size)
            continue;
        struct merkle_hash root = merkle_root(&head->range);
        array_add(&m->of[M_TENANTS], head->tenant_id.bytes, UUID_BYTES);
        array_add_i64(&m->of[M_OLD_SIZES], (int64_t)head->old_size);
        array_add_i64(&m->of[M_NEW_SIZES], (int64_t)head->range.size);
        array_add(&m->of[M_RANGES], head->range.nodes, merkle_node_count(head->range.size) * MERKLE_HASH_BYTES);
        array_add(&m->of[M_ROOTS], root.bytes, sizeof root.bytes);
    }
    for (int i = 0; i < HEADS_MOVES; i++)
        m->advance[i] = array_param(&m->of[i]);
    m->advance[HEADS_MOVES] = event_ids;
    ret_steps[0] = (struct db_step){ &ADVANCE, m->advance };
    if (h->filled_tenants.count == 0)
        return 1;
    m->put[0] = array_param(&h->filled_tenants);
    m->put[1] = array_param(&h->filled_levels);
    m->put[2] = array_param(&h->filled_indexes);
    m->put[3] = array_param(&h->filled_hashes);
    ret_steps[1] = (struct db_step){ &PUT, m->put };
    return HEADS_STEPS_MAX;
}
