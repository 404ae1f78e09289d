/* audit_proofs — what proves that the tenant's log is what was signed: checkpoint, proofs, tiles. Hashes and signatures
 * only, so reading them is no disclosure. */
#include <string.h>

#include "ledger/ledger.h"
#include "core/str.h"
#include "core/wire.h"
#include "query.h"
#include "query.pb-c.h"

static ProtobufCBinaryData wire_hash(struct arena *mem, const struct merkle_hash *hash) {
    return wire_bytes(mem, hash->bytes, sizeof hash->bytes);
}

static ProtobufCBinaryData *wire_proof(struct arena *mem, const struct proof *proof) {
    ProtobufCBinaryData *out = arena_alloc(mem, (proof->count + 1) * sizeof *out);
    for (size_t i = 0; i < proof->count; i++)
        out[i] = wire_hash(mem, &proof->hashes[i]);
    return out;
}

/* Enter as the tenant's auditor and find the newest checkpoint. AUDIT_003: nothing was signed yet. */
static enum status begin(struct query *q, struct call *call, struct tenant_tx *tx, struct audit_head *ret_head) {
    enum status st = tenant_tx_begin(tx, q->audit_db, call->ticket, &call->request_id, SCOPE_AUDIT_READ, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = audit_head_find(tx, call->mem, 0, false, ret_head, &call->why);
    return st == ST_NOT_FOUND ? fail_as(&call->why, ERR_AUDIT_UNSIGNED, "nothing was signed yet") : st;
}

enum status on_get_audit_checkpoint(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    Query__GetAuditCheckpointReply *reply = (void *)out;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct audit_head head, platform;
    (void)in;
    enum status st = begin(self, call, &tx, &head);
    if (st != ST_OK)
        return st;
    reply->size = head.size;
    reply->root = wire_hash(call->mem, &head.root);
    reply->checkpoint = (char *)head.note;
    reply->verifier = (char *)head.verifier;
    reply->signed_at_us = head.signed_at_us;
    st = audit_head_find(&tx, call->mem, 0, true, &platform, &call->why);
    if (st == ST_OK)
        reply->platform_checkpoint = (char *)platform.note;
    return st == ST_OK || st == ST_NOT_FOUND ? tenant_tx_commit(&tx, &call->why) : st;
}

enum status on_get_audit_proof(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetAuditProofRequest *req = (const void *)in;
    Query__GetAuditProofReply *reply = (void *)out;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct audit_head head;
    struct merkle_hash leaf;
    struct proof proof;
    if (req->seq < 0)
        return fail_as(&call->why, ERR_REQ_FIELD, "seq");
    enum status st = begin(self, call, &tx, &head);
    if (st == ST_OK && req->seq >= head.size)
        st = fail_as(&call->why, ERR_AUDIT_UNSIGNED, "the newest checkpoint is of %lld events", (long long)head.size);
    if (st != ST_OK)
        return st;
    struct proof_reader reader = audit_tree_reader(&tx, call->mem, head.size);
    st = proof_inclusion(&reader, (uint64_t)req->seq, &proof, &call->why);
    if (st == ST_OK)
        st = audit_tree_read(&tx, 0, (uint64_t)req->seq, 1, &leaf, &call->why);
    if (st != ST_OK)
        return st;
    reply->seq = req->seq;
    reply->size = head.size;
    reply->leaf_hash = wire_hash(call->mem, &leaf);
    reply->hashes = wire_proof(call->mem, &proof);
    reply->n_hashes = proof.count;
    reply->root = wire_hash(call->mem, &head.root);
    reply->checkpoint = (char *)head.note;
    return tenant_tx_commit(&tx, &call->why);
}

enum status on_get_audit_consistency(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetAuditConsistencyRequest *req = (const void *)in;
    Query__GetAuditConsistencyReply *reply = (void *)out;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct audit_head newest, head;
    struct merkle_hash from_root, to_root;
    struct proof proof;
    if (req->from < 1 || req->to < 0 || (req->to && req->to < req->from))
        return fail_as(&call->why, ERR_REQ_FIELD, "from, to");
    enum status st = begin(self, call, &tx, &newest);
    int64_t to = req->to;
    if (st == ST_OK && !to)
        to = newest.size;
    if (st == ST_OK && (req->from > to || to > newest.size))
        st = fail_as(&call->why, ERR_AUDIT_UNSIGNED, "the newest checkpoint is of %lld events", (long long)newest.size);
    if (st != ST_OK)
        return st;
    struct proof_reader reader = audit_tree_reader(&tx, call->mem, to);
    st = proof_consistency(&reader, (uint64_t)req->from, &proof, &call->why);
    if (st == ST_OK)
        st = proof_root(&reader, (uint64_t)req->from, &from_root, &call->why);
    if (st == ST_OK)
        st = proof_root(&reader, (uint64_t)to, &to_root, &call->why);
    if (st != ST_OK)
        return st;
    st = audit_head_find(&tx, call->mem, to, false, &head, &call->why);
    if (st == ST_OK)
        reply->checkpoint = (char *)head.note;
    else if (st != ST_NOT_FOUND)
        return st;
    reply->from = req->from;
    reply->to = to;
    reply->from_root = wire_hash(call->mem, &from_root);
    reply->to_root = wire_hash(call->mem, &to_root);
    reply->hashes = wire_proof(call->mem, &proof);
    reply->n_hashes = proof.count;
    return tenant_tx_commit(&tx, &call->why);
}

/* "x001/x234/067.p/17": tile 1234067, its first 17 hashes. *ret_width 0: all 256. */
static bool read_tile_name(const char *text, uint64_t *ret_index, uint64_t *ret_width) {
    uint64_t index = 0;
    bool is_last = false;
    *ret_width = 0;
    for (int groups = 0; !is_last; groups++) {
        is_last = *text != 'x';
        text += !is_last;
        if (groups == 5)
            return false;
        for (int i = 0; i < 3; i++, text++) {
            if (*text < '0' || *text > '9')
                return false;
            index = index * 10 + (uint64_t)(*text - '0');
        }
        if (!is_last && *text++ != '/')
            return false;
    }
    *ret_index = index;
    int64_t width;
    if (!*text)
        return true;
    if (strncmp(text, ".p/", 3) != 0 || text[3] == '0' || !str_to_i64(text + 3, 1, MERKLE_TILE_HASHES - 1, &width))
        return false;
    *ret_width = (uint64_t)width;
    return true;
}

enum status on_get_audit_tile(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetAuditTileRequest *req = (const void *)in;
    Query__GetAuditTileReply *reply = (void *)out;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct merkle_hash hashes[MERKLE_TILE_HASHES];
    struct audit_head head;
    uint64_t index, width;
    if (req->level >= MERKLE_LEVELS_MAX || !read_tile_name(req->tile, &index, &width))
        return fail_as(&call->why, ERR_REQ_FIELD, "level, tile");
    enum status st = begin(self, call, &tx, &head);
    if (st != ST_OK)
        return st;
    uint64_t first = index * MERKLE_TILE_HASHES, count = width ? width : MERKLE_TILE_HASHES;
    if (first + count > (uint64_t)head.size >> (MERKLE_TILE_HEIGHT * req->level))
        return fail(&call->why, ST_NOT_FOUND, "the signed tree has no such tile");
    st = audit_tree_read(&tx, req->level, first, (size_t)count, hashes, &call->why);
    if (st != ST_OK)
        return st;
    reply->data = wire_bytes(call->mem, (const uint8_t *)hashes, (size_t)count * sizeof *hashes);
    return tenant_tx_commit(&tx, &call->why);
}
