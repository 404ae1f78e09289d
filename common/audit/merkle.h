/* merkle — the tree over a log's entries, hashed as RFC 6962 section 2.1 says, kept as a compact range:
 * the roots of the perfect subtrees that the binary digits of the size name, biggest first. Appending
 * costs about one hash beside the leaf's own; the whole state is at most 64 hashes. Pure values in
 * place, no lifetime; one thread at a time. */
#ifndef CORDON_AUDIT_MERKLE_H
#define CORDON_AUDIT_MERKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MERKLE_HASH_BYTES = 32, MERKLE_NODES_MAX = 62, MERKLE_TILE_HEIGHT = 8, MERKLE_TILE_HASHES = 256, MERKLE_LEVELS_MAX = 7 };
#define MERKLE_SIZE_MAX (((uint64_t)1 << MERKLE_NODES_MAX) - 1)     /* leaves; fits the database's bigint */

struct merkle_hash { uint8_t bytes[MERKLE_HASH_BYTES]; };

struct merkle_range {
    uint64_t size;                                  /* leaves */
    struct merkle_hash nodes[MERKLE_NODES_MAX];     /* as many as size has digits 1 */
};

/* SHA-256(0x00 || entry), and SHA-256(0x01 || left || right). */
struct merkle_hash merkle_leaf(const void *entry, size_t len);
struct merkle_hash merkle_node(const struct merkle_hash *left, const struct merkle_hash *right);
bool merkle_equal(const struct merkle_hash *a, const struct merkle_hash *b);

unsigned merkle_node_count(uint64_t size);                          /* nodes of a range over size leaves */
void merkle_append(struct merkle_range *range, const struct merkle_hash *leaf);
/* The roots of the perfect subtrees that lead from the range's size to `size`, left to right, each the largest that fits
 * (proof_rest). False when they are not so many. */
bool merkle_append_rest(struct merkle_range *range, uint64_t size, const struct merkle_hash roots[], size_t count);

/* The root of a perfect subtree of 256^level leaves, the index-th of its kind from the left. */
struct merkle_filled { unsigned level; uint64_t index; struct merkle_hash hash; };
/* The same, and which such subtrees the leaf filled: audit.tree_nodes keeps them. Returns how many. */
size_t merkle_append_filling(struct merkle_range *range, const struct merkle_hash *leaf,
                             struct merkle_filled ret_filled[MERKLE_LEVELS_MAX]);
struct merkle_hash merkle_root(const struct merkle_range *range);   /* of no leaves: SHA-256 of nothing */

/* A range from its size and nodes side by side. False when the length does not fit the size. */
bool merkle_from_bytes(uint64_t size, const void *nodes, size_t len, struct merkle_range *ret_range);

#endif
