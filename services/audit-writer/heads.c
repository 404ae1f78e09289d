#include "heads.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "obs/log.h"

static int compare_tenants(const void *a, const void *b) {
    return memcmp(a, b, UUID_BYTES);
}

static int compare_head(const void *tenant_id, const void *head) {
    return compare_tenants(tenant_id, &((const struct head *)head)->tenant_id);
}

struct head *heads_find(struct heads *h, const struct uuid *tenant_id) {
    return h->count ? bsearch(tenant_id, h->items, h->count, sizeof *h->items, compare_head) : NULL;
}

static void free_tenants(struct uuid **tenants_p) {
    free(*tenants_p);
}

void heads_end(struct heads *h) {
    free(h->items);
    array_end(&h->tenants);
    for (int i = 0; i < HEAD_COLUMNS; i++)
        array_end(&h->of[i]);
    *h = (struct heads){ 0 };
}

void heads_collect(struct heads *h, struct batch_call *calls[], size_t count) {
    static const enum array_type TYPES[HEAD_COLUMNS] = {
        [H_TENANT] = ARRAY_UUID, [H_OLD_SIZE] = ARRAY_BIGINT, [H_OLD_ROOT] = ARRAY_BYTEA, [H_NEW_SIZE] = ARRAY_BIGINT, [H_RANGE] = ARRAY_BYTEA,
        [H_ROOT] = ARRAY_BYTEA, [H_NODE_TENANT] = ARRAY_UUID, [H_NODE_LEVEL] = ARRAY_BIGINT, [H_NODE_INDEX] = ARRAY_BIGINT, [H_NODE_HASH] = ARRAY_BYTEA,
    };
    size_t events = 0;
    for (size_t i = 0; i < count; i++)
        events += calls[i]->count;
    CLEANUP(free_tenants) struct uuid *tenants = xalloc((events + 1) * sizeof *tenants);
    array_init(&h->tenants, ARRAY_UUID);
    for (int i = 0; i < HEAD_COLUMNS; i++)
        array_init(&h->of[i], TYPES[i]);
    events = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; calls[i]->status == ST_OK && k < calls[i]->count; k++)
            tenants[events++] = calls[i]->stamps[k].tenant_id;
    qsort(tenants, events, sizeof *tenants, compare_tenants);
    for (size_t i = 0; i < events; i++)
        if (h->count == 0 || !uuid_equal(&tenants[h->count - 1], &tenants[i]))
            tenants[h->count++] = tenants[i];
    h->items = xalloc((h->count + 1) * sizeof *h->items);
    for (size_t i = 0; i < h->count; i++) {
        h->items[i].tenant_id = tenants[i];
        array_add(&h->tenants, tenants[i].bytes, UUID_BYTES);
    }
}

void head_set(struct head *head, const struct merkle_range *range) {
    head->range = *range;
    head->old_size = range->size;
    head->old_root = merkle_root(range);
}

/* A head whose range does not give its root was not written by us. */
static enum status read_head(struct head *head, const PGresult *rows, int row, struct why *why) {
    size_t range_len, root_len;
    const uint8_t *range = db_bytea(rows, row, 2, &range_len);
    const uint8_t *root = db_bytea(rows, row, 3, &root_len);
    struct uuid tenant_id = db_uuid(rows, row, 0);
    char tenant[UUID_TEXT_BYTES];
    uint64_t size = (uint64_t)db_i64(rows, row, 1);
    struct merkle_range stored;
    if (uuid_equal(&head->tenant_id, &tenant_id) && merkle_from_bytes(size, range, range_len, &stored)) {
        head_set(head, &stored);
        if (root_len == sizeof head->old_root.bytes && memcmp(root, head->old_root.bytes, root_len) == 0)
            return ST_OK;
    }
    log_event(LOG_ERROR, "audit_head_damaged", LOG_TEXT("tenant_id", uuid_format(&head->tenant_id, tenant)),
              LOG_NUMBER("size", size));
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
    h->recorded_at_us = db_micros(rows, db_count(rows) - 1, 4);
    return ST_OK;
}

void heads_append(struct heads *h, struct head *head, const struct merkle_hash *leaf) {
    struct merkle_filled filled[MERKLE_LEVELS_MAX];
    size_t count = merkle_append_filling(&head->range, leaf, filled);
    for (size_t i = 0; i < count; i++) {
        array_add(&h->of[H_NODE_TENANT], head->tenant_id.bytes, UUID_BYTES);
        array_add_i64(&h->of[H_NODE_LEVEL], filled[i].level);
        array_add_i64(&h->of[H_NODE_INDEX], (int64_t)filled[i].index);
        array_add(&h->of[H_NODE_HASH], filled[i].hash.bytes, MERKLE_HASH_BYTES);
    }
}

void heads_params(struct heads *h, struct db_param ret_params[HEAD_COLUMNS]) {
    for (size_t i = 0; i < h->count; i++) {
        const struct head *head = &h->items[i];
        if (head->range.size == head->old_size)
            continue;
        struct merkle_hash root = merkle_root(&head->range);
        array_add(&h->of[H_TENANT], head->tenant_id.bytes, UUID_BYTES);
        array_add_i64(&h->of[H_OLD_SIZE], (int64_t)head->old_size);
        array_add(&h->of[H_OLD_ROOT], head->old_root.bytes, MERKLE_HASH_BYTES);
        array_add_i64(&h->of[H_NEW_SIZE], (int64_t)head->range.size);
        array_add(&h->of[H_RANGE], head->range.nodes, merkle_node_count(head->range.size) * MERKLE_HASH_BYTES);
        array_add(&h->of[H_ROOT], root.bytes, MERKLE_HASH_BYTES);
    }
    for (int i = 0; i < HEAD_COLUMNS; i++)
        ret_params[i] = array_param(&h->of[i]);
}
