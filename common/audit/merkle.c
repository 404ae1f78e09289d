#include "audit/merkle.h"

#include <assert.h>
#include <string.h>

#include "core/cleanup.h"
#include "crypto/digest.h"

/* RFC 6962 2.1: a leaf and a node can never be taken for each other. */
static const uint8_t LEAF_PREFIX = 0x00, NODE_PREFIX = 0x01;

struct merkle_hash merkle_leaf(const void *entry, size_t len) {
    struct merkle_hash out;
    sha256_joined(&LEAF_PREFIX, 1, entry, len, out.bytes);
    return out;
}

struct merkle_hash merkle_node(const struct merkle_hash *left, const struct merkle_hash *right) {
    uint8_t joined[1 + 2 * MERKLE_HASH_BYTES] = { NODE_PREFIX };
    struct merkle_hash out;
    memcpy(joined + 1, left->bytes, MERKLE_HASH_BYTES);
    memcpy(joined + 1 + MERKLE_HASH_BYTES, right->bytes, MERKLE_HASH_BYTES);
    sha256(joined, sizeof joined, out.bytes);
    return out;
}

bool merkle_equal(const struct merkle_hash *a, const struct merkle_hash *b) {
    return memcmp(a->bytes, b->bytes, MERKLE_HASH_BYTES) == 0;
}

unsigned merkle_node_count(uint64_t size) {
    unsigned count = 0;
    for (; size; size &= size - 1)
        count++;
    return count;
}

/* Adding one to the size carries through its trailing ones: each carry joins two subtrees of one size. */
size_t merkle_append_filling(struct merkle_range *range, const struct merkle_hash *leaf,
                             struct merkle_filled ret_filled[MERKLE_LEVELS_MAX]) {
    assert(range->size < MERKLE_SIZE_MAX);
    unsigned count = merkle_node_count(range->size), height = 0;
    size_t filled = 0;
    struct merkle_hash node = *leaf;
    for (uint64_t carry = range->size; carry & 1; carry >>= 1) {
        node = merkle_node(&range->nodes[--count], &node);
        height++;
        if (height % MERKLE_TILE_HEIGHT == 0)
            ret_filled[filled++] = (struct merkle_filled){ height / MERKLE_TILE_HEIGHT, range->size >> height, node };
    }
    range->nodes[count] = node;
    range->size++;
    return filled;
}

void merkle_append(struct merkle_range *range, const struct merkle_hash *leaf) {
    struct merkle_filled ignored[MERKLE_LEVELS_MAX];
    (void)merkle_append_filling(range, leaf, ignored);
}

/* A subtree of 2^height leaves; the range's size is a multiple of it. */
static void append_subtree(struct merkle_range *range, unsigned height, const struct merkle_hash *root) {
    unsigned count = merkle_node_count(range->size);
    struct merkle_hash node = *root;
    for (uint64_t carry = range->size >> height; carry & 1; carry >>= 1)
        node = merkle_node(&range->nodes[--count], &node);
    range->nodes[count] = node;
    range->size += UINT64_C(1) << height;
}

bool merkle_append_rest(struct merkle_range *range, uint64_t size, const struct merkle_hash roots[], size_t count) {
    for (size_t i = 0; i < count; i++) {
        unsigned height = 0;
        if (range->size >= size)
            return false;
        while (height < MERKLE_NODES_MAX && !(range->size >> height & 1) && (UINT64_C(2) << height) <= size - range->size)
            height++;
        append_subtree(range, height, &roots[i]);
    }
    return range->size == size;
}

struct merkle_hash merkle_root(const struct merkle_range *range) {
    unsigned count = merkle_node_count(range->size);
    struct merkle_hash root;
    if (count == 0) {
        sha256("", 0, root.bytes);
        return root;
    }
    root = range->nodes[--count];
    while (count > 0)
        root = merkle_node(&range->nodes[--count], &root);
    return root;
}

bool merkle_from_bytes(uint64_t size, const void *nodes, size_t len, struct merkle_range *ret_range) {
    if (size > MERKLE_SIZE_MAX || len != (size_t)merkle_node_count(size) * MERKLE_HASH_BYTES)
        return false;
    *ret_range = (struct merkle_range){ .size = size };
    if (len > 0)
        memcpy(ret_range->nodes, nodes, len);
    return true;
}
