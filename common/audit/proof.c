#include "audit/proof.h"

struct proof_reader proof_reader_init(struct arena *mem, uint64_t size,
    enum status (*read)(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why), void *ctx) {
    return (struct proof_reader){ .read = read, .ctx = ctx, .size = size,
                                  .kept = arena_alloc(mem, PROOF_TILES_KEPT * sizeof(struct proof_tile)) };
}

/* The tile that hash `index` of `level` is in, with as many hashes as the tree has full ones. */
static enum status tile(struct proof_reader *r, unsigned level, uint64_t index, const struct proof_tile **ret_tile, struct why *why) {
    uint64_t tile_index = index / MERKLE_TILE_HASHES, first = tile_index * MERKLE_TILE_HASHES;
    for (size_t i = 0; i < PROOF_TILES_KEPT; i++)
        if (r->kept[i].count > 0 && r->kept[i].level == level && r->kept[i].index == tile_index) {
            *ret_tile = &r->kept[i];
            return ST_OK;
        }
    struct proof_tile *t = &r->kept[r->kept_count++ % PROOF_TILES_KEPT];
    uint64_t full = (r->size >> (MERKLE_TILE_HEIGHT * level)) - first;
    t->count = 0;
    enum status st = r->read(r->ctx, level, first, full < MERKLE_TILE_HASHES ? (size_t)full : MERKLE_TILE_HASHES, t->hashes, why);
    if (st != ST_OK)
        return st;
    t->count = full < MERKLE_TILE_HASHES ? (size_t)full : MERKLE_TILE_HASHES;
    t->level = level;
    t->index = tile_index;
    *ret_tile = t;
    return ST_OK;
}

/* Root of the index-th perfect subtree of 2^height leaves, which the tree has whole. */
static enum status subtree(struct proof_reader *r, unsigned height, uint64_t index, struct merkle_hash *ret_hash, struct why *why) {
    unsigned level = height / MERKLE_TILE_HEIGHT;
    size_t count = (size_t)1 << height % MERKLE_TILE_HEIGHT;
    const struct proof_tile *t = NULL;
    enum status st = tile(r, level, index * count, &t, why);
    if (st != ST_OK)
        return st;
    struct merkle_hash nodes[MERKLE_TILE_HASHES];
    size_t first = (size_t)(index * count % MERKLE_TILE_HASHES);
    for (size_t i = 0; i < count; i++)
        nodes[i] = t->hashes[first + i];
    for (; count > 1; count /= 2)
        for (size_t i = 0; i < count / 2; i++)
            nodes[i] = merkle_node(&nodes[2 * i], &nodes[2 * i + 1]);
    *ret_hash = nodes[0];
    return ST_OK;
}

static unsigned height_of(uint64_t power) {
    return (unsigned)__builtin_ctzll(power);
}

/* RFC 6962's k: the largest power of two below n. */
static uint64_t split(uint64_t n) {
    return (uint64_t)1 << (63 - __builtin_clzll(n - 1));
}

/* Root over leaves low to high - 1, where low is a multiple of the power of two that covers them. */
static enum status span(struct proof_reader *r, uint64_t low, uint64_t high, struct merkle_hash *ret_hash, struct why *why) {
    struct merkle_hash parts[MERKLE_NODES_MAX];
    size_t count = 0;
    for (uint64_t k; low < high; low += k) {
        k = (uint64_t)1 << (63 - __builtin_clzll(high - low));
        enum status st = subtree(r, height_of(k), low / k, &parts[count++], why);
        if (st != ST_OK)
            return st;
    }
    struct merkle_hash root = parts[count - 1];
    for (size_t i = count - 1; i > 0; i--)
        root = merkle_node(&parts[i - 1], &root);
    *ret_hash = root;
    return ST_OK;
}

enum status proof_root(struct proof_reader *r, uint64_t size, struct merkle_hash *ret_root, struct why *why) {
    if (size > r->size)
        return fail(why, ST_INVALID, "proof: the tree is smaller");
    if (size == 0) {
        *ret_root = merkle_root(&(struct merkle_range){ 0 });
        return ST_OK;
    }
    return span(r, 0, size, ret_root, why);
}

/* Collected from the root downwards; proofs are given from the leaf upwards. */
static void reverse(struct proof *p) {
    for (size_t i = 0; i < p->count / 2; i++) {
        struct merkle_hash kept = p->hashes[i];
        p->hashes[i] = p->hashes[p->count - 1 - i];
        p->hashes[p->count - 1 - i] = kept;
    }
}

enum status proof_inclusion(struct proof_reader *r, uint64_t index, struct proof *ret_proof, struct why *why) {
    if (index >= r->size)
        return fail(why, ST_INVALID, "proof: the tree has no such leaf");
    ret_proof->count = 0;
    for (uint64_t low = 0, high = r->size; high - low > 1;) {
        uint64_t k = low + split(high - low);
        bool is_left = index < k;
        enum status st = span(r, is_left ? k : low, is_left ? high : k, &ret_proof->hashes[ret_proof->count++], why);
        if (st != ST_OK)
            return st;
        *(is_left ? &high : &low) = k;
    }
    reverse(ret_proof);
    return ST_OK;
}

enum status proof_consistency(struct proof_reader *r, uint64_t from, struct proof *ret_proof, struct why *why) {
    if (from == 0 || from > r->size)
        return fail(why, ST_INVALID, "proof: the tree has no such beginning");
    uint64_t low = 0, high = r->size;
    enum status st = ST_OK;
    ret_proof->count = 0;
    while (st == ST_OK && high != from) {       /* SUBPROOF: until the old tree ends where this part does */
        uint64_t k = low + split(high - low);
        bool is_left = from <= k;
        st = span(r, is_left ? k : low, is_left ? high : k, &ret_proof->hashes[ret_proof->count++], why);
        *(is_left ? &high : &low) = k;
    }
    if (st == ST_OK && low > 0)                 /* with low 0 it is the old root, which the verifier has */
        st = span(r, low, high, &ret_proof->hashes[ret_proof->count++], why);
    reverse(ret_proof);
    return st;
}

enum status proof_rest(struct proof_reader *r, uint64_t from, struct proof *ret_proof, struct why *why) {
    if (from > r->size)
        return fail(why, ST_INVALID, "proof: the tree has no such beginning");
    ret_proof->count = 0;
    while (from < r->size) {
        uint64_t fits = (uint64_t)1 << (63 - __builtin_clzll(r->size - from)), aligned = from & -from;
        uint64_t k = from > 0 && aligned < fits ? aligned : fits;
        enum status st = subtree(r, height_of(k), from / k, &ret_proof->hashes[ret_proof->count++], why);
        if (st != ST_OK)
            return st;
        from += k;
    }
    return ST_OK;
}
