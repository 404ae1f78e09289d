#include "ledger/ledger.h"

#include <string.h>

static enum status find_head(struct tenant_tx *tx, struct arena *mem, const struct sql *find, const struct db_param params[],
                             struct audit_head *ret_head, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    size_t len;
    enum status st = tenant_tx_run(tx, find, params, &rows, why);
    if (st != ST_OK)
        return st;
    if (db_count(rows) == 0)
        return fail(why, ST_NOT_FOUND, "no such checkpoint");
    const uint8_t *root = db_bytea(rows, 0, 1, &len);
    if (len != MERKLE_HASH_BYTES)
        return fail(why, ST_INTERNAL, "a root of %zu bytes", len);
    *ret_head = (struct audit_head){ .size = db_i64(rows, 0, 0), .signed_at_us = db_micros(rows, 0, 4),
                                     .note = arena_strdup(mem, db_text(rows, 0, 2)), .verifier = arena_strdup(mem, db_text(rows, 0, 3)) };
    memcpy(ret_head->root.bytes, root, len);
    return ST_OK;
}

enum status audit_head_find(struct tenant_tx *tx, struct arena *mem, int64_t size, bool is_platform, struct audit_head *ret_head,
                            struct why *why) {
    static const struct sql FIND = { "find_checkpoint", "SELECT size, root, note, verifier, signed_at FROM audit.find_checkpoint($1, $2)", 2 };
    return find_head(tx, mem, &FIND, (struct db_param[]){ size ? DB_INT(size) : DB_NULL, DB_BOOL(is_platform) }, ret_head, why);
}

enum status audit_ending_head_find(const struct ending_log *log, struct arena *mem, struct audit_head *ret_head, struct why *why) {
    static const struct sql FIND = { "ending_checkpoint", "SELECT size, root, note, verifier, signed_at FROM audit.ending_checkpoint($1)", 1 };
    return find_head(log->tx, mem, &FIND, (struct db_param[]){ DB_UUID(&log->tenant) }, ret_head, why);
}

static enum status take(const PGresult *rows, struct merkle_hash ret_hashes[], struct why *why) {
    for (int i = 0; i < db_count(rows); i++) {
        size_t len;
        const uint8_t *hash = db_bytea(rows, i, 0, &len);
        if (len != MERKLE_HASH_BYTES)
            return fail(why, ST_INTERNAL, "a hash of %zu bytes", len);
        memcpy(ret_hashes[i].bytes, hash, len);
    }
    return ST_OK;
}

/* A log that is older than tree_nodes has no nodes of its first subtrees: they follow from their leaves. */
static enum status compute(struct tenant_tx *tx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) {
    struct merkle_hash below[MERKLE_TILE_HASHES];
    for (size_t i = 0; i < count; i++) {
        struct merkle_range range = { 0 };
        enum status st = audit_tree_read(tx, level - 1, (first + i) * MERKLE_TILE_HASHES, MERKLE_TILE_HASHES, below, why);
        if (st != ST_OK)
            return st;
        for (size_t k = 0; k < MERKLE_TILE_HASHES; k++)
            merkle_append(&range, &below[k]);
        ret_hashes[i] = merkle_root(&range);
    }
    return ST_OK;
}

enum status audit_tree_read(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) {
    static const struct sql HASHES = { "tree_hashes", "SELECT hash FROM audit.tree_hashes($1, $2, $3)", 3 };
    struct tenant_tx *tx = ctx;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &HASHES, (struct db_param[]){ DB_INT(level), DB_INT((int64_t)first), DB_INT((int64_t)count) }, &rows, why);
    if (st != ST_OK)
        return st;
    if ((size_t)db_count(rows) == count)
        return take(rows, ret_hashes, why);
    return level == 0 ? fail(why, ST_INTERNAL, "the log has %d leaves where %zu should be", db_count(rows), count)
                      : compute(tx, level, first, count, ret_hashes, why);
}

struct proof_reader audit_tree_reader(struct tenant_tx *tx, struct arena *mem, int64_t size) {
    return proof_reader_init(mem, (uint64_t)size, audit_tree_read, tx);
}

/* Logs whose tenants can end are all younger than tree_nodes: nothing needs to be computed. */
enum status audit_ending_read(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) {
    static const struct sql HASHES = { "ending_hashes", "SELECT hash FROM audit.ending_hashes($1, $2, $3, $4)", 4 };
    const struct ending_log *log = ctx;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_UUID(&log->tenant), DB_INT(level), DB_INT((int64_t)first), DB_INT((int64_t)count) };
    enum status st = tenant_tx_run(log->tx, &HASHES, params, &rows, why);
    if (st == ST_OK && (size_t)db_count(rows) != count)
        st = fail(why, ST_INTERNAL, "the log has %d hashes where %zu should be", db_count(rows), count);
    return st == ST_OK ? take(rows, ret_hashes, why) : st;
}
