/* The verifier's trees against the worked example of RFC 6962 (section 2.1.3), the roots of Certificate Transparency's
 * test data, and the RFC's recursion for every size up to 130; and what is no proof. */
#include <criterion/criterion.h>
#include <string.h>

#include "json.h"
#include "sample.h"

static struct sample_log *made;
static struct hasher *h;

static void set_up(void) {
    made = calloc(1, sizeof *made);
    h = hasher_new();
    sample_fill(made, 140);
}

static void tear_down(void) {
    hasher_free(h);
    free(made);
}

TestSuite(verify_tree, .init = set_up, .fini = tear_down);

static struct hash as_hash(const uint8_t bytes[32]) {
    struct hash out;
    memcpy(out.bytes, bytes, 32);
    return out;
}

static struct hash from_hex(const char *text) {
    struct hash out;
    cr_assert(hex_read((struct text){ text, strlen(text) }, out.bytes, 32));
    return out;
}

static struct hash root_of(unsigned size) {
    struct hash out;
    sample_root(made, size, out.bytes);
    return out;
}

Test(verify_tree, certificate_transparency_s_roots) {
    static const struct { const char *entry; size_t len; const char *root; } CT[] = {
        { "", 0, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" },
        { "\x00", 1, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125" },
        { "\x10", 1, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77" },
        { "\x20\x21", 2, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7" },
        { "\x30\x31", 2, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4" },
        { "\x40\x41\x42\x43", 4, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef" },
        { "\x50\x51\x52\x53\x54\x55\x56\x57", 8, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c" },
        { "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328" },
    };
    struct range r = { 0 };
    struct hash empty = from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), root = range_root(h, &r);
    cr_assert(hash_equal(&root, &empty));
    for (size_t i = 0; i < sizeof CT / sizeof *CT; i++) {
        struct hash leaf = hash_leaf(h, CT[i].entry, CT[i].len), want = from_hex(CT[i].root);
        range_push(h, &r, &leaf);
        root = range_root(h, &r);
        cr_expect(hash_equal(&root, &want), "%zu", i + 1);
    }
}

Test(verify_tree, the_rfc_s_seven_leaves_by_hand) {
    struct hash d[7], root = root_of(7), root3 = root_of(3), root4 = root_of(4), root6 = root_of(6);
    for (int n = 0; n < 7; n++)
        d[n] = as_hash(made->leaves[n]);
    struct hash g = hash_node(h, &d[0], &d[1]), hh = hash_node(h, &d[2], &d[3]), i = hash_node(h, &d[4], &d[5]), j = d[6];
    struct hash k = hash_node(h, &g, &hh), l = hash_node(h, &i, &j);
    cr_expect(tree_includes(h, 0, 7, &d[0], (struct hash[]){ d[1], hh, l }, 3, &root));
    cr_expect(tree_includes(h, 3, 7, &d[3], (struct hash[]){ d[2], g, l }, 3, &root));
    cr_expect(tree_includes(h, 4, 7, &d[4], (struct hash[]){ d[5], j, k }, 3, &root));
    cr_expect(tree_includes(h, 6, 7, &d[6], (struct hash[]){ i, k }, 2, &root));
    cr_expect(tree_is_prefix(h, 3, 7, &root3, &root, (struct hash[]){ d[2], d[3], g, l }, 4));
    cr_expect(tree_is_prefix(h, 4, 7, &root4, &root, (struct hash[]){ l }, 1));
    cr_expect(tree_is_prefix(h, 6, 7, &root6, &root, (struct hash[]){ i, j, k }, 3));
}

Test(verify_tree, every_proof_of_every_small_tree_and_none_with_a_change) {
    struct hash proof[PROOF_MAX];
    for (unsigned size = 1; size <= 130; size++) {
        struct hash root = root_of(size);
        for (unsigned m = 0; m < size; m++) {
            struct hash leaf = as_hash(made->leaves[m]), old = root_of(m + 1);
            size_t count = sample_path(made, m, size, (uint8_t (*)[32])proof);
            cr_assert(tree_includes(h, m, size, &leaf, proof, count, &root), "%u of %u", m, size);
            cr_expect(!tree_includes(h, m ^ 1, size, &leaf, proof, count, &root), "another place: %u of %u", m, size);
            cr_expect(!tree_includes(h, m, size, &leaf, proof, count + 1, &root));
            if (count > 0) {
                cr_expect(!tree_includes(h, m, size, &leaf, proof, count - 1, &root));
                proof[m % count].bytes[m % 32] ^= 1;
                cr_expect(!tree_includes(h, m, size, &leaf, proof, count, &root));
            }
            count = sample_proof(made, m + 1, size, (uint8_t (*)[32])proof);
            cr_assert(tree_is_prefix(h, m + 1, size, &old, &root, proof, count), "%u of %u", m + 1, size);
            if (count > 0) {
                cr_expect(!tree_is_prefix(h, m + 1, size, &old, &root, proof, count - 1));
                proof[m % count].bytes[m % 32] ^= 1;
                cr_expect(!tree_is_prefix(h, m + 1, size, &old, &root, proof, count));
                proof[m % count].bytes[m % 32] ^= 1;
                cr_expect(!tree_is_prefix(h, m + 1, size, &root, &root, proof, count));
            }
        }
    }
}

Test(verify_tree, nothing_is_proven_about_what_is_not_there) {
    struct hash leaf = as_hash(made->leaves[0]), root = root_of(1);
    cr_expect(tree_includes(h, 0, 1, &leaf, NULL, 0, &root));
    cr_expect(!tree_includes(h, 1, 1, &leaf, NULL, 0, &root));
    cr_expect(!tree_includes(h, 0, 0, &leaf, NULL, 0, &root));
    cr_expect(!tree_is_prefix(h, 0, 1, &root, &root, NULL, 0));
    cr_expect(!tree_is_prefix(h, 2, 1, &root, &root, NULL, 0));
    struct range r;
    cr_expect(!range_begin(&r, 3, &root, 1));
    cr_expect(!range_begin(&r, UINT64_MAX, &root, 64));
}
