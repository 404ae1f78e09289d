/* Proofs against RFC 6962's worked example (section 2.1.3), against its recursive definition for every size up to 130,
 * and over a tree of 100,000 leaves of which only a few tiles may be read. */
#include <criterion/criterion.h>
#include <string.h>

#include "audit/proof.h"
#include "crypto/digest.h"

/* ---- a tree in memory, level by level ---- */

static struct tree { struct merkle_hash *levels[3]; size_t counts[3]; struct merkle_range range; unsigned reads; } tree;

static struct merkle_hash leaf_of(uint64_t i) {
    return merkle_leaf(&i, sizeof i);
}

static void grow(uint64_t size) {
    tree = (struct tree){ 0 };
    for (int level = 0; level < 3; level++)
        tree.levels[level] = xalloc((size_t)((size >> 8 * level) + 1) * sizeof(struct merkle_hash));
    for (uint64_t i = 0; i < size; i++) {
        struct merkle_filled filled[MERKLE_LEVELS_MAX];
        struct merkle_hash leaf = leaf_of(i);
        tree.levels[0][tree.counts[0]++] = leaf;
        size_t count = merkle_append_filling(&tree.range, &leaf, filled);
        for (size_t k = 0; k < count; k++) {
            cr_assert_eq(filled[k].index, tree.counts[filled[k].level]);
            tree.levels[filled[k].level][tree.counts[filled[k].level]++] = filled[k].hash;
        }
    }
}

static void fell(void) {
    for (int level = 0; level < 3; level++)
        free(tree.levels[level]);
}

static enum status read_tree(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) {
    struct tree *t = ctx;
    (void)why;
    t->reads++;
    cr_assert(level < 3 && count > 0 && count <= 256 && first + count <= t->counts[level], "level %u, %zu of %zu", level, (size_t)first + count, t->counts[level]);
    memcpy(ret_hashes, t->levels[level] + first, count * sizeof *ret_hashes);
    return ST_OK;
}

/* ---- RFC 6962, word for word ---- */

static uint64_t k_of(uint64_t n) {
    uint64_t k = 1;
    while (k * 2 < n)
        k *= 2;
    return k;
}

static struct merkle_hash mth(const struct merkle_hash *d, uint64_t n) {
    if (n == 1)
        return d[0];
    struct merkle_hash left = mth(d, k_of(n)), right = mth(d + k_of(n), n - k_of(n));
    return merkle_node(&left, &right);
}

static void path(uint64_t m, const struct merkle_hash *d, uint64_t n, struct proof *out) {
    if (n == 1)
        return;
    uint64_t k = k_of(n);
    if (m < k) {
        path(m, d, k, out);
        out->hashes[out->count++] = mth(d + k, n - k);
    } else {
        path(m - k, d + k, n - k, out);
        out->hashes[out->count++] = mth(d, k);
    }
}

static void subproof(uint64_t m, const struct merkle_hash *d, uint64_t n, bool b, struct proof *out) {
    if (m == n) {
        if (!b)
            out->hashes[out->count++] = mth(d, n);
        return;
    }
    uint64_t k = k_of(n);
    if (m <= k) {
        subproof(m, d, k, b, out);
        out->hashes[out->count++] = mth(d + k, n - k);
    } else {
        subproof(m - k, d + k, n - k, false, out);
        out->hashes[out->count++] = mth(d, k);
    }
}

static void expect_same(const struct proof *got, const struct proof *want, const char *what, uint64_t a, uint64_t b) {
    cr_assert_eq(got->count, want->count, "%s %zu %zu: %zu hashes instead of %zu", what, (size_t)a, (size_t)b, got->count, want->count);
    cr_assert(memcmp(got->hashes, want->hashes, got->count * sizeof *got->hashes) == 0, "%s %zu %zu", what, (size_t)a, (size_t)b);
}

static struct proof_reader reader_of(struct arena *mem, uint64_t size) {
    return proof_reader_init(mem, size, read_tree, &tree);
}

Test(proof, the_rfc_s_example_of_seven_leaves) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    grow(7);
    const struct merkle_hash *d = tree.levels[0];
    struct merkle_hash a = d[0], b = d[1], c = d[2], dd = d[3], e = d[4], f = d[5], j = d[6];
    struct merkle_hash g = merkle_node(&a, &b), h = merkle_node(&c, &dd), i = merkle_node(&e, &f), k = merkle_node(&g, &h), l = merkle_node(&i, &j);
    struct proof_reader r = reader_of(mem, 7);
    const struct { uint64_t index; struct proof want; } inclusions[] = {
        { 0, { { b, h, l }, 3 } }, { 3, { { c, g, l }, 3 } }, { 4, { { f, j, k }, 3 } }, { 6, { { i, k }, 2 } } };
    for (size_t n = 0; n < 4; n++) {
        struct proof got;
        cr_assert_eq(proof_inclusion(&r, inclusions[n].index, &got, &why), ST_OK);
        expect_same(&got, &inclusions[n].want, "PATH", inclusions[n].index, 7);
    }
    const struct { uint64_t from; struct proof want; } consistencies[] = {
        { 3, { { c, dd, g, l }, 4 } }, { 4, { { l }, 1 } }, { 6, { { i, j, k }, 3 } }, { 7, { { { { 0 } } }, 0 } } };
    for (size_t n = 0; n < 4; n++) {
        struct proof got;
        cr_assert_eq(proof_consistency(&r, consistencies[n].from, &got, &why), ST_OK);
        expect_same(&got, &consistencies[n].want, "PROOF", consistencies[n].from, 7);
    }
    struct merkle_hash root, want = merkle_node(&k, &l);
    cr_assert_eq(proof_root(&r, 7, &root, &why), ST_OK);
    cr_assert(merkle_equal(&root, &want));
    fell();
}

Test(proof, every_small_tree_as_the_rfc_defines_it) {
    struct why why = { 0 };
    grow(130);
    for (uint64_t size = 1; size <= 130; size++) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
        struct proof_reader r = reader_of(mem, size);
        for (uint64_t m = 0; m < size; m++) {
            struct proof got, want = { .count = 0 };
            path(m, tree.levels[0], size, &want);
            cr_assert_eq(proof_inclusion(&r, m, &got, &why), ST_OK);
            expect_same(&got, &want, "PATH", m, size);
            want.count = 0;
            subproof(m + 1, tree.levels[0], size, true, &want);
            cr_assert_eq(proof_consistency(&r, m + 1, &got, &why), ST_OK);
            expect_same(&got, &want, "PROOF", m + 1, size);
        }
    }
    fell();
}

Test(proof, a_large_tree_is_proven_from_a_few_tiles) {
    enum { SIZE = 100003 };
    struct why why = { 0 };
    grow(SIZE);
    for (uint64_t m = 0; m < SIZE; m += 12345) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
        struct proof_reader r = reader_of(mem, SIZE);
        struct proof got, want = { .count = 0 };
        path(m, tree.levels[0], SIZE, &want);
        tree.reads = 0;
        cr_assert_eq(proof_inclusion(&r, m, &got, &why), ST_OK);
        cr_assert_leq(tree.reads, 6);
        expect_same(&got, &want, "PATH", m, SIZE);
        want.count = 0;
        subproof(m + 1, tree.levels[0], SIZE, true, &want);
        tree.reads = 0;
        cr_assert_eq(proof_consistency(&r, m + 1, &got, &why), ST_OK);
        cr_assert_leq(tree.reads, 6);
        expect_same(&got, &want, "PROOF", m + 1, SIZE);
    }
    fell();
}

Test(proof, a_beginning_and_the_rest_make_the_whole) {
    struct why why = { 0 };
    grow(600);
    for (uint64_t from = 0; from <= 600; from += from < 20 || from > 580 ? 1 : 7) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
        struct proof_reader r = reader_of(mem, 600), before = reader_of(mem, from);
        struct proof rest, range;
        cr_assert_eq(proof_rest(&r, from, &rest, &why), ST_OK);
        cr_assert_eq(proof_rest(&before, 0, &range, &why), ST_OK);
        struct merkle_range grown = { .size = from }, whole = { 0 };
        cr_assert(merkle_append_rest(&whole, from, range.hashes, range.count) && merkle_append_rest(&whole, 600, rest.hashes, rest.count));
        cr_assert_not(merkle_append_rest(&whole, 600, rest.hashes, 1), "nothing is missing");
        memcpy(grown.nodes, range.hashes, range.count * sizeof *range.hashes);
        cr_assert_eq(range.count, merkle_node_count(from));
        for (size_t i = 0; i < rest.count; i++) {           /* each is as large as alignment and size allow */
            uint64_t fits = 1, aligned = grown.size ? grown.size & -grown.size : 1024;
            while (fits * 2 <= 600 - grown.size)
                fits *= 2;
            uint64_t k = aligned < fits ? aligned : fits;
            unsigned count = merkle_node_count(grown.size);
            struct merkle_hash node = rest.hashes[i];
            uint64_t at = k;
            for (; grown.size & at; at *= 2)
                node = merkle_node(&grown.nodes[--count], &node);
            grown.nodes[count] = node;
            grown.size += k;
        }
        cr_assert_eq(grown.size, 600);
        struct merkle_hash root = merkle_root(&grown), want = merkle_root(&tree.range);
        cr_assert(merkle_equal(&root, &want), "from %zu", (size_t)from);
        root = merkle_root(&whole);
        cr_assert(merkle_equal(&root, &want), "from %zu, by merkle_append_rest", (size_t)from);
    }
    fell();
}

Test(proof, what_the_tree_has_not_is_refused) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    struct proof got;
    struct merkle_hash root;
    grow(5);
    struct proof_reader r = reader_of(mem, 5);
    cr_expect_eq(proof_inclusion(&r, 5, &got, &why), ST_INVALID);
    cr_expect_eq(proof_consistency(&r, 0, &got, &why), ST_INVALID);
    cr_expect_eq(proof_consistency(&r, 6, &got, &why), ST_INVALID);
    cr_expect_eq(proof_rest(&r, 6, &got, &why), ST_INVALID);
    cr_expect_eq(proof_root(&r, 6, &root, &why), ST_INVALID);
    fell();
}
