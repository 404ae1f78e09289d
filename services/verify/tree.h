/* tree — Merkle trees as RFC 6962 defines them (RFC 9162 section 2.1), from the verifier's side: a compact range that
 * leaves and whole subtrees are put behind, and the checks of proofs. Written from the RFCs; shares no code with the
 * program that makes the trees. Values in place; a hasher belongs to one thread. */
#ifndef VERIFY_TREE_H
#define VERIFY_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_BYTES = 32, RANGE_NODES_MAX = 64, PROOF_MAX = 128 };

struct hash { uint8_t bytes[HASH_BYTES]; };
struct hasher;

struct hasher *hasher_new(void);                    /* never NULL */
void hasher_free(struct hasher *h);
struct hash hash_leaf(struct hasher *h, const void *data, size_t len);                              /* SHA-256(0x00 || data) */
struct hash hash_node(struct hasher *h, const struct hash *left, const struct hash *right);         /* SHA-256(0x01 || left || right) */
bool hash_equal(const struct hash *a, const struct hash *b);

/* Roots of the perfect subtrees that the binary digits of size name, biggest first. */
struct range { uint64_t size; unsigned count; struct hash nodes[RANGE_NODES_MAX]; };

void range_push(struct hasher *h, struct range *r, const struct hash *leaf);
/* Put the next subtrees behind, each the largest that alignment and `size` allow, until the range has size leaves.
 * False: there are too few or too many hashes for that. */
bool range_push_rest(struct hasher *h, struct range *r, uint64_t size, const struct hash hashes[], size_t count);
/* A range over size leaves from its nodes. False: their number is not that of size's digits 1. */
bool range_begin(struct range *r, uint64_t size, const struct hash nodes[], size_t count);
struct hash range_root(struct hasher *h, const struct range *r);

/* Does the proof lead from the leaf at index to the root of a tree of size leaves? (RFC 9162, 2.1.3.2) */
bool tree_includes(struct hasher *h, uint64_t index, uint64_t size, const struct hash *leaf, const struct hash proof[], size_t count,
                   const struct hash *root);
/* Are the first `from` leaves of the tree of `to` leaves the tree whose root is from_root? (RFC 9162, 2.1.4.2) */
bool tree_is_prefix(struct hasher *h, uint64_t from, uint64_t to, const struct hash *from_root, const struct hash *to_root,
                    const struct hash proof[], size_t count);

#endif
