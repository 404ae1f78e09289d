#include "tree.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct hasher { EVP_MD *sha256; EVP_MD_CTX *ctx; };

struct hasher *hasher_new(void) {
    struct hasher *h = calloc(1, sizeof *h);
    if (h) {
        h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);     /* once: fetching is what a small hash costs most */
        h->ctx = EVP_MD_CTX_new();
    }
    if (!h || !h->sha256 || !h->ctx)
        abort();
    return h;
}

void hasher_free(struct hasher *h) {
    EVP_MD_CTX_free(h->ctx);
    EVP_MD_free(h->sha256);
    free(h);
}

static struct hash digest(struct hasher *h, const void *first, size_t first_len, const void *second, size_t second_len) {
    struct hash out;
    if (EVP_DigestInit_ex2(h->ctx, h->sha256, NULL) != 1 || EVP_DigestUpdate(h->ctx, first, first_len) != 1 ||
        EVP_DigestUpdate(h->ctx, second, second_len) != 1 || EVP_DigestFinal_ex(h->ctx, out.bytes, NULL) != 1)
        abort();
    return out;
}

struct hash hash_leaf(struct hasher *h, const void *data, size_t len) {
    static const uint8_t PREFIX = 0x00;
    return digest(h, &PREFIX, 1, data, len);
}

struct hash hash_node(struct hasher *h, const struct hash *left, const struct hash *right) {
    uint8_t first[1 + HASH_BYTES] = { 0x01 };
    memcpy(first + 1, left->bytes, HASH_BYTES);
    return digest(h, first, sizeof first, right->bytes, HASH_BYTES);
}

bool hash_equal(const struct hash *a, const struct hash *b) {
    return memcmp(a->bytes, b->bytes, HASH_BYTES) == 0;
}

/* A subtree of `leaves` leaves, a power of two that divides the size, goes behind; equal neighbours join. */
static void push_subtree(struct hasher *h, struct range *r, uint64_t leaves, const struct hash *root) {
    struct hash node = *root;
    for (uint64_t bit = leaves; r->size & bit; bit <<= 1)
        node = hash_node(h, &r->nodes[--r->count], &node);
    r->nodes[r->count++] = node;
    r->size += leaves;
}

void range_push(struct hasher *h, struct range *r, const struct hash *leaf) {
    push_subtree(h, r, 1, leaf);
}

bool range_push_rest(struct hasher *h, struct range *r, uint64_t size, const struct hash hashes[], size_t count) {
    size_t used = 0;
    while (r->size < size) {
        uint64_t leaves = r->size ? r->size & -r->size : (uint64_t)1 << 62;
        while (leaves > size - r->size)
            leaves /= 2;
        if (used == count)
            return false;
        push_subtree(h, r, leaves, &hashes[used++]);
    }
    return used == count && r->size == size;
}

bool range_begin(struct range *r, uint64_t size, const struct hash nodes[], size_t count) {
    if (size >> 62 || (unsigned)__builtin_popcountll(size) != count)
        return false;
    *r = (struct range){ .size = size, .count = (unsigned)count };
    if (count > 0)
        memcpy(r->nodes, nodes, count * sizeof *nodes);
    return true;
}

struct hash range_root(struct hasher *h, const struct range *r) {
    if (r->count == 0)
        return digest(h, "", 0, "", 0);
    struct hash root = r->nodes[r->count - 1];
    for (unsigned i = r->count - 1; i > 0; i--)
        root = hash_node(h, &r->nodes[i - 1], &root);
    return root;
}

bool tree_includes(struct hasher *h, uint64_t index, uint64_t size, const struct hash *leaf, const struct hash proof[], size_t count,
                   const struct hash *root) {
    if (index >= size)
        return false;
    uint64_t fn = index, sn = size - 1;
    struct hash r = *leaf;
    for (size_t i = 0; i < count; i++) {
        if (sn == 0)
            return false;
        if ((fn & 1) || fn == sn) {
            r = hash_node(h, &proof[i], &r);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            r = hash_node(h, &r, &proof[i]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    return sn == 0 && hash_equal(&r, root);
}

bool tree_is_prefix(struct hasher *h, uint64_t from, uint64_t to, const struct hash *from_root, const struct hash *to_root,
                    const struct hash proof[], size_t count) {
    if (from == 0 || from > to)
        return false;
    if (from == to)
        return count == 0 && hash_equal(from_root, to_root);
    size_t at = 0;
    struct hash fr, sr;
    if ((from & (from - 1)) == 0) {         /* the old tree is a perfect one: its root begins the path */
        fr = *from_root;
    } else {
        if (count == 0)
            return false;
        fr = proof[at++];
    }
    sr = fr;
    uint64_t fn = from - 1, sn = to - 1;
    while (fn & 1) {
        fn >>= 1;
        sn >>= 1;
    }
    for (; at < count; at++) {
        if (sn == 0)
            return false;
        if ((fn & 1) || fn == sn) {
            fr = hash_node(h, &proof[at], &fr);
            sr = hash_node(h, &proof[at], &sr);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            sr = hash_node(h, &sr, &proof[at]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    return sn == 0 && hash_equal(&fr, from_root) && hash_equal(&sr, to_root);
}
