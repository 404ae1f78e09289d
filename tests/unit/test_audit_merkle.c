/* The tree against RFC 6962: hand-worked small trees, the roots that Certificate Transparency's own test
 * data gives for its eight entries, and the RFC's recursive definition for every size up to 130. */
#include <criterion/criterion.h>
#include <string.h>

#include "audit/merkle.h"
#include "core/text_codec.h"
#include "crypto/digest.h"

static struct merkle_hash hash_from_hex(const char *text) {
    struct merkle_hash out;
    cr_assert(hex_decode(text, strlen(text), out.bytes));
    return out;
}

/* RFC 6962 2.1, word for word: split at the largest power of two smaller than n. */
static struct merkle_hash defined_root(const struct merkle_hash *leaves, size_t n) {
    if (n == 1)
        return leaves[0];
    size_t k = 1;
    while (k * 2 < n)
        k *= 2;
    struct merkle_hash left = defined_root(leaves, k), right = defined_root(leaves + k, n - k);
    return merkle_node(&left, &right);
}

static const struct { const char *entry; size_t len; } CT_ENTRIES[8] = {
    { "", 0 }, { "\x00", 1 }, { "\x10", 1 }, { "\x20\x21", 2 }, { "\x30\x31", 2 }, { "\x40\x41\x42\x43", 4 },
    { "\x50\x51\x52\x53\x54\x55\x56\x57", 8 }, { "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16 },
};
static const char *const CT_ROOTS[8] = {
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

Test(merkle, an_empty_tree_is_the_hash_of_nothing) {
    struct merkle_range range = { 0 };
    struct merkle_hash root = merkle_root(&range);
    struct merkle_hash want = hash_from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    cr_assert(merkle_equal(&root, &want));
}

Test(merkle, leaves_and_nodes_carry_their_prefix) {
    uint8_t leaf_input[] = { 0x00, 'a' }, node_input[65] = { 0x01 };
    struct merkle_hash leaf = merkle_leaf("a", 1), want;
    sha256(leaf_input, sizeof leaf_input, want.bytes);
    cr_assert(merkle_equal(&leaf, &want));
    memcpy(node_input + 1, leaf.bytes, 32);
    memcpy(node_input + 33, leaf.bytes, 32);
    sha256(node_input, sizeof node_input, want.bytes);
    struct merkle_hash node = merkle_node(&leaf, &leaf);
    cr_assert(merkle_equal(&node, &want));
}

Test(merkle, seven_leaves_as_drawn_in_the_rfc) {
    /* RFC 6962 2.1.3: hash = (k = ((a b) (c d)), l = ((e f) j)) with single-letter entries */
    struct merkle_hash leaf[7];
    struct merkle_range range = { 0 };
    for (int i = 0; i < 7; i++) {
        char entry = (char)('0' + i);
        leaf[i] = merkle_leaf(&entry, 1);
        merkle_append(&range, &leaf[i]);
    }
    struct merkle_hash g = merkle_node(&leaf[0], &leaf[1]), h = merkle_node(&leaf[2], &leaf[3]), i = merkle_node(&leaf[4], &leaf[5]);
    struct merkle_hash k = merkle_node(&g, &h), l = merkle_node(&i, &leaf[6]);
    struct merkle_hash want = merkle_node(&k, &l), root = merkle_root(&range);
    cr_assert(merkle_equal(&root, &want));
    cr_assert_eq(merkle_node_count(range.size), 3, "7 = 4 + 2 + 1");
    cr_assert(merkle_equal(&range.nodes[0], &k) && merkle_equal(&range.nodes[1], &i) && merkle_equal(&range.nodes[2], &leaf[6]));
}

Test(merkle, roots_of_certificate_transparencys_entries) {
    struct merkle_range range = { 0 };
    for (int i = 0; i < 8; i++) {
        struct merkle_hash leaf = merkle_leaf(CT_ENTRIES[i].entry, CT_ENTRIES[i].len), want = hash_from_hex(CT_ROOTS[i]);
        merkle_append(&range, &leaf);
        struct merkle_hash root = merkle_root(&range);
        cr_assert(merkle_equal(&root, &want), "root of %d entries", i + 1);
    }
}

Test(merkle, every_size_agrees_with_the_recursive_definition_and_survives_storage) {
    struct merkle_hash leaves[130];
    struct merkle_range range = { 0 };
    for (size_t i = 0; i < 130; i++) {
        leaves[i] = merkle_leaf(&i, sizeof i);
        merkle_append(&range, &leaves[i]);
        struct merkle_hash root = merkle_root(&range), want = defined_root(leaves, i + 1);
        cr_assert(merkle_equal(&root, &want), "size %zu", i + 1);

        struct merkle_range stored;     /* what the head row keeps is enough to go on */
        cr_assert(merkle_from_bytes(range.size, range.nodes, merkle_node_count(range.size) * MERKLE_HASH_BYTES, &stored));
        range = stored;
    }
}

Test(merkle, bytes_that_do_not_fit_the_size_are_refused) {
    uint8_t bytes[96] = { 0 };
    struct merkle_range range;
    cr_assert_not(merkle_from_bytes(3, bytes, 96, &range), "3 has two subtrees");
    cr_assert_not(merkle_from_bytes(3, bytes, 63, &range));
    cr_assert_not(merkle_from_bytes(0, bytes, 32, &range));
    cr_assert_not(merkle_from_bytes(UINT64_MAX, bytes, 96, &range));
    cr_assert(merkle_from_bytes(3, bytes, 64, &range));
    cr_assert(merkle_from_bytes(0, NULL, 0, &range));
}
