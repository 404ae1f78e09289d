/* ledger — the tenant's log as a tree: its newest checkpoint, and its hashes for proofs (audit/proof.h), inside a
 * transaction of somebody who may have proofs: they are hashes and signatures, and show nothing of the events. */
#ifndef CORDON_LEDGER_LEDGER_H
#define CORDON_LEDGER_LEDGER_H

#include "audit/proof.h"
#include "db/tenant_tx.h"

struct audit_head {
    int64_t size, signed_at_us;
    struct merkle_hash root;
    const char *note, *verifier;        /* in mem; the note with its cosignatures */
};

/* The checkpoint of exactly this size; 0: the newest. Of the platform's log when is_platform. ST_NOT_FOUND. */
enum status audit_head_find(struct tenant_tx *tx, struct arena *mem, int64_t size, bool is_platform, struct audit_head *ret_head,
                            struct why *why) MUST_USE;

/* Reads the tree of tx's tenant, whose first size leaves are there. tx is borrowed as long as the reader is used. */
struct proof_reader audit_tree_reader(struct tenant_tx *tx, struct arena *mem, int64_t size);

/* Hashes of a level, as proof_reader.read. ctx: the tenant_tx. ST_INTERNAL: the log has a hole. */
enum status audit_tree_read(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) MUST_USE;

/* The log of a tenant that has ended, for people of the platform (scope tenants:manage), whose ticket has none: the newest
 * checkpoint, and hashes as proof_reader.read; ctx: the ending_log. Failures as above. */
struct ending_log { struct tenant_tx *tx; struct uuid tenant; };
enum status audit_ending_head_find(const struct ending_log *log, struct arena *mem, struct audit_head *ret_head, struct why *why) MUST_USE;
enum status audit_ending_read(void *ctx, unsigned level, uint64_t first, size_t count, struct merkle_hash ret_hashes[], struct why *why) MUST_USE;

#endif
