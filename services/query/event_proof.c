#include "event_proof.h"

#include "archive/archive.h"
#include "core/wire.h"
#include "ledger/ledger.h"

/* As far as the database knows; where the event is, when it is archived. ended: whose log it is, when not the caller's own. */
static enum status prove(struct query *q, struct call *call, uint64_t scope, const struct sql *find, const struct uuid *id,
                         const struct uuid *ended, struct event_proof *reply, struct archived *archived) {
    *reply = (struct event_proof){ .state = "pending", .event = (char *)"", .checkpoint = (char *)"" };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct audit_head head;
    struct merkle_hash leaf;
    struct proof proof;
    enum status st = tenant_tx_begin(&tx, q->audit_db, call->ticket, &call->request_id, scope, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, find, (struct db_param[]){ DB_UUID(id) }, &rows, &call->why);
    if (st != ST_OK || db_count(rows) == 0)
        return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
    size_t len;
    const uint8_t *event = db_bytea(rows, 0, 1, &len);
    reply->state = "recorded";
    reply->seq = db_i64(rows, 0, 0);
    reply->event = arena_strndup(call->mem, event ? (const char *)event : "", len);
    struct ending_log log = { .tx = &tx };
    if (ended)
        log.tenant = *ended;
    if (!ended)
        st = archived_find(&tx, call->mem, rows, 0, 1, archived, &call->why);
    else if (db_is_null(rows, 0, 1))
        st = archived_find_ending(&tx, call->mem, ended, archived, &call->why);
    if (st != ST_OK)
        return st;
    st = ended ? audit_ending_head_find(&log, call->mem, &head, &call->why) : audit_head_find(&tx, call->mem, 0, false, &head, &call->why);
    if (st == ST_NOT_FOUND || (st == ST_OK && reply->seq >= head.size))
        return tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK)
        return st;
    struct proof_reader reader = ended ? proof_reader_init(call->mem, (uint64_t)head.size, audit_ending_read, &log)
                                       : audit_tree_reader(&tx, call->mem, head.size);
    st = proof_inclusion(&reader, (uint64_t)reply->seq, &proof, &call->why);
    if (st == ST_OK)
        st = reader.read(reader.ctx, 0, (uint64_t)reply->seq, 1, &leaf, &call->why);
    if (st != ST_OK)
        return st;
    reply->state = "signed";
    reply->size = head.size;
    reply->checkpoint = (char *)head.note;
    reply->leaf_hash = wire_bytes(call->mem, leaf.bytes, sizeof leaf.bytes);
    reply->root = wire_bytes(call->mem, head.root.bytes, sizeof head.root.bytes);
    reply->hashes = arena_alloc(call->mem, (proof.count + 1) * sizeof *reply->hashes);
    for (reply->n_hashes = 0; reply->n_hashes < proof.count; reply->n_hashes++)
        reply->hashes[reply->n_hashes] = wire_bytes(call->mem, proof.hashes[reply->n_hashes].bytes, MERKLE_HASH_BYTES);
    return tenant_tx_commit(&tx, &call->why);
}

/* What is known of the event by now: it is on the log in a moment, and signed within a minute; its bytes may be in the bucket. */
static enum status prove_whole(struct query *q, struct call *call, uint64_t scope, const struct sql *find, const struct uuid *id,
                               const struct uuid *ended, struct event_proof *ret_proof) {
    struct archived archived = { 0 };
    enum status st = prove(q, call, scope, find, id, ended, ret_proof, &archived);
    if (st == ST_OK)
        st = archived_read(q->anchor, call->mem, &archived, call->deadline_ms, &call->why);
    if (st == ST_OK && archived.count == 1)
        ret_proof->event = (char *)archived.items[0].text;
    return st;
}

enum status event_prove(struct query *q, struct call *call, uint64_t scope, const struct sql *find, const struct uuid *id,
                        struct event_proof *ret_proof) {
    return prove_whole(q, call, scope, find, id, NULL, ret_proof);
}

enum status event_prove_ending(struct query *q, struct call *call, const struct uuid *tenant_id, struct event_proof *ret_proof) {
    static const struct sql EVENT = { "ending_event", "SELECT seq, event FROM audit.ending_event($1)", 1 };
    return prove_whole(q, call, SCOPE_TENANTS_MANAGE, &EVENT, tenant_id, tenant_id, ret_proof);
}
