#include "intent.h"

#include "core/clock.h"

enum { RENEW_MS = 1000, RENEW_BUDGET_MS = 2000, KEY_BUSY_RETRY_MS = 2000 };

static enum status given_up(struct why *why) {
    return fail_as(why, ERR_DOC_UPLOAD_LOST, "the upload was given up: nothing was heard of it for too long");
}

/* Does the statement find a row? Its parameters begin with the tenant. */
static enum status is_there(struct tenant_tx *tx, const struct sql *q, const struct db_param params[], bool *ret_is_there, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, q, params, &rows, why);
    *ret_is_there = st == ST_OK && db_count(rows) > 0;
    return st;
}

/* A dead upload must not keep its key from the client who tries again: it is given up here as the janitor would. */
static enum status free_key(struct tenant_tx *tx, struct db_param key, struct why *why) {
    static const struct sql FREE = { "free_upload_key",
        "UPDATE app.uploads SET swept_at = pg_catalog.clock_timestamp() WHERE tenant_id = $1 AND user_id = $2 AND key_digest = $3 "
        "AND swept_at IS NULL AND heartbeat_at + lease_ms * interval '1 ms' < pg_catalog.clock_timestamp()", 3 };
    return tenant_tx_run(tx, &FREE, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&tx->claims.user_id), key }, NULL, why);
}

static enum status refuse_taken(struct tenant_tx *tx, struct db_param key, struct why *why) {
    static const struct sql FIND = { "find_upload_of_key",
        "SELECT 1 FROM app.uploads u WHERE u.tenant_id = $1 AND u.user_id = $2 AND u.key_digest = $3 AND u.swept_at IS NULL", 3 };
    bool is_busy = false;
    enum status st = is_there(tx, &FIND, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&tx->claims.user_id), key }, &is_busy, why);
    if (st != ST_OK)
        return st;
    st = fail_as(why, is_busy ? ERR_IDEM_BUSY : ERR_DOC_ID_TAKEN, "an upload is under way");
    why->retry_after_ms = is_busy ? KEY_BUSY_RETRY_MS : 0;
    return st;
}

enum status intent_begin(struct intent *in, struct tenant_tx *tx, const char *content_type, int64_t announced_bytes,
                         const uint8_t *key_digest, struct why *why) {
    static const struct sql ADD = { "add_upload",
        "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, bytes_announced, key_digest, lease_ms) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING", 8 };
    struct db_param key = key_digest ? DB_BYTES(key_digest, 32) : DB_NULL;
    struct uuid fence = uuid_v7();
    enum status st = key_digest ? free_key(tx, key, why) : ST_OK;
    CLEANUP(pgrows_destroy) PGresult *added = NULL;
    if (st == ST_OK)
        st = tenant_tx_run(tx, &ADD, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&in->document_id), DB_UUID(&fence),
                           DB_UUID(&tx->claims.user_id), DB_TEXT(content_type), announced_bytes > 0 ? DB_INT(announced_bytes) : DB_NULL, key,
                           DB_INT(in->lease_ms) }, &added, why);
    if (st == ST_OK && db_affected(added) == 0)
        return refuse_taken(tx, key, why);
    if (st != ST_OK)
        return st;
    in->tenant_id = tx->claims.tenant_id;
    in->fence = fence;
    in->renewed_ms = in->tried_ms = clock_mono_ms();
    return ST_OK;
}

enum status intent_check_id(const struct intent *in, struct tenant_tx *tx, struct why *why) {
    static const struct sql FIND = { "find_document_id", "SELECT 1 FROM app.documents d WHERE d.tenant_id = $1 AND d.id = $2 "
        "UNION ALL SELECT 1 FROM app.erasure_items i WHERE i.tenant_id = $1 AND i.id = $2", 2 };
    bool is_taken = false;
    enum status st = is_there(tx, &FIND, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&in->document_id) }, &is_taken, why);
    return st == ST_OK && is_taken ? fail_as(why, ERR_DOC_ID_TAKEN, "a document has the id") : st;
}

static enum status renew(struct intent *in, struct db_pool *db, struct call *call, int64_t received_bytes, struct why *why) {
    static const struct sql RENEW = { "renew_upload",
        "UPDATE app.uploads SET bytes_received = $4 WHERE tenant_id = $1 AND document_id = $2 AND fence = $3", 4 };
    int64_t until_ms = clock_mono_ms() + RENEW_BUDGET_MS;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE,
                                     until_ms < call->deadline_ms ? until_ms : call->deadline_ms, why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &RENEW, (struct db_param[]){ DB_UUID(&in->tenant_id), DB_UUID(&in->document_id), DB_UUID(&in->fence),
                           DB_INT(received_bytes) }, &rows, why);
    if (st == ST_OK && db_affected(rows) == 0)
        return given_up(why);
    return st == ST_OK ? tenant_tx_commit(&tx, why) : st;
}

enum status intent_renew(struct intent *in, struct db_pool *db, struct call *call, int64_t received_bytes) {
    int64_t now_ms = clock_mono_ms();
    if (now_ms - in->tried_ms < RENEW_MS)
        return ST_OK;
    in->tried_ms = now_ms;
    struct why why = { 0 };
    enum status st = renew(in, db, call, received_bytes, &why);
    if (st == ST_OK) {
        in->renewed_ms = now_ms;
        return ST_OK;
    }
    /* A ticket may have grown old while its part waited for the store; the commit has a fresh one. */
    bool is_borne = st == ST_TIMEOUT || st == ST_UNAUTHENTICATED || (st == ST_UNAVAILABLE && why.code == ERR_UNAVAILABLE);
    if (is_borne && clock_mono_ms() - in->renewed_ms < in->lease_ms / 2)
        return ST_OK;
    call->why = why;
    return st;
}

enum status intent_fulfil(struct intent *in, struct tenant_tx *tx, struct why *why) {
    static const struct sql DELETE = { "fulfil_upload", "DELETE FROM app.uploads WHERE tenant_id = $1 AND document_id = $2 AND fence = $3", 3 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &DELETE, (struct db_param[]){ DB_UUID(&in->tenant_id), DB_UUID(&in->document_id), DB_UUID(&in->fence) },
                                   &rows, why);
    return st == ST_OK && db_affected(rows) == 0 ? given_up(why) : st;
}

enum status intent_clear(struct db_pool *jobs_db, const struct uuid *tenant_id, const struct uuid *document_id, const struct uuid *fence,
                         int64_t deadline_ms, struct why *why) {
    static const struct sql GONE = { "upload_is_gone", "SELECT jobs.upload_is_gone($1, $2, $3)", 3 };
    return db_run(jobs_db, &GONE, (struct db_param[]){ DB_UUID(tenant_id), DB_UUID(document_id), DB_UUID(fence) }, deadline_ms, NULL, why);
}
