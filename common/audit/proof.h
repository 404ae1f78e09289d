/* proof — inclusion and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2) and tiles (c2sp.org/tlog-tiles) of a
 * stored tree. Hashes are read in ranges: level 0 are the leaves, level n the roots of 256^n leaves each. A proof
 * reads at most a few tiles of 256 hashes per level, whatever the size. A reader and its cache belong to one call. */
#ifndef CORDON_AUDIT_PROOF_H
#define CORDON_AUDIT_PROOF_H

#include "audit/merkle.h"
#include "core/arena.h"
#include "core/status.h"

enum { PROOF_HASHES_MAX = 2 * MERKLE_NODES_MAX, PROOF_TILES_KEPT = 12 };

struct proof_reader {
    /* Hashes first to first + count - 1 of a level, all of which the tree has; count is at most 256. */
    enum status (*read)(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why);
    void *ctx;
    uint64_t size;              /* of the tree that is proven about */
    struct proof_tile { struct merkle_hash hashes[MERKLE_TILE_HASHES]; size_t count; uint64_t index; unsigned level; } *kept;
    size_t kept_count;          /* kept: PROOF_TILES_KEPT places, of the caller's memory */
};

struct proof { struct merkle_hash hashes[PROOF_HASHES_MAX]; size_t count; };

/* Zero-filled places for kept tiles come from mem. */
struct proof_reader proof_reader_init(struct arena *mem, uint64_t size,
    enum status (*read)(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why), void *ctx);

/* All: what read returns; ST_INVALID for an index or size that the tree has not. */
enum status proof_root(struct proof_reader *r, uint64_t size, struct merkle_hash *ret_root, struct why *why) MUST_USE;
enum status proof_inclusion(struct proof_reader *r, uint64_t index, struct proof *ret_proof, struct why *why) MUST_USE;
/* From the tree's first `from` leaves, 1 to r->size, to all of it. */
enum status proof_consistency(struct proof_reader *r, uint64_t from, struct proof *ret_proof, struct why *why) MUST_USE;
/* Roots of the perfect subtrees that lead from leaf `from` to r->size, left to right, each the largest that fits: with
 * from 0 the compact range. Behind a range over `from` leaves they make the whole tree's. */
enum status proof_rest(struct proof_reader *r, uint64_t from, struct proof *ret_proof, struct why *why) MUST_USE;

#endif
