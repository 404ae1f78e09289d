#include "idempotency.h"

#include <string.h>

#include "crypto/digest.h"

void idempotency_key_digest(const struct tenant_key *search_key, const char *key, uint8_t out[IDEMPOTENCY_DIGEST_BYTES]) {
    tenant_key_blind(search_key, "idempotency-key", key, strlen(key), out);
}

/* Length first: no two lists of fields give the same bytes. */
static void add(struct sha256 *digest, const void *data, size_t len) {
    uint64_t size = len;
    sha256_update(digest, &size, sizeof size);
    sha256_update(digest, len ? data : "", len);
}

void idempotency_request_digest(const struct tenant_key *search_key, const Ingest__UploadRequest *req, const uint8_t body_sha256[32],
                                uint8_t out[IDEMPOTENCY_DIGEST_BYTES]) {
    const char *const texts[] = { req->content_type, req->file_name, req->metadata_json, req->mrn, req->priority };
    uint8_t sum[SHA256_BYTES];
    struct sha256 *digest = sha256_new();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add(digest, texts[i], strlen(texts[i]));
    add(digest, req->document_id.data, req->document_id.len);
    add(digest, body_sha256, SHA256_BYTES);
    sha256_peek(digest, sum);
    sha256_destroy(&digest);
    tenant_key_blind(search_key, "idempotent-request", sum, sizeof sum, out);
}

enum status idempotency_find(struct tenant_tx *tx, const uint8_t key_digest[IDEMPOTENCY_DIGEST_BYTES],
                             struct idempotent_answer *ret_answer, struct why *why) {
    static const struct sql FIND = { "find_idempotency_key",
        "SELECT k.request_digest, k.document_id, k.job_id FROM app.idempotency_keys k "
        "WHERE k.tenant_id = $1 AND k.user_id = $2 AND k.key_digest = $3 AND k.expires_at > pg_catalog.clock_timestamp()", 3 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &FIND, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&tx->claims.user_id),
                                   DB_BYTES(key_digest, IDEMPOTENCY_DIGEST_BYTES) }, &rows, why);
    if (st != ST_OK)
        return st;
    struct idempotent_answer answer = { .is_known = db_count(rows) == 1 };
    size_t len = 0;
    const uint8_t *digest = answer.is_known ? db_bytea(rows, 0, 0, &len) : NULL;
    if (len == sizeof answer.request_digest) {
        memcpy(answer.request_digest, digest, len);
        answer.document_id = db_uuid(rows, 0, 1);
        answer.job_id = db_uuid(rows, 0, 2);
    }
    *ret_answer = answer;
    return ST_OK;
}

enum status idempotency_keep(struct tenant_tx *tx, const uint8_t key_digest[IDEMPOTENCY_DIGEST_BYTES],
                             const struct idempotent_answer *answer, struct why *why) {
    static const struct sql FORGET = { "forget_idempotency_key",
        "DELETE FROM app.idempotency_keys WHERE tenant_id = $1 AND user_id = $2 AND key_digest = $3 AND expires_at <= pg_catalog.clock_timestamp()", 3 };
    static const struct sql KEEP = { "keep_idempotency_key",
        "INSERT INTO app.idempotency_keys (tenant_id, user_id, key_digest, request_digest, document_id, job_id) VALUES ($1, $2, $3, $4, $5, $6)", 6 };
    struct db_param params[] = { DB_UUID(&tx->claims.tenant_id), DB_UUID(&tx->claims.user_id), DB_BYTES(key_digest, IDEMPOTENCY_DIGEST_BYTES),
                                 DB_BYTES(answer->request_digest, IDEMPOTENCY_DIGEST_BYTES), DB_UUID(&answer->document_id), DB_UUID(&answer->job_id) };
    enum status st = tenant_tx_run(tx, &FORGET, params, NULL, why);
    if (st == ST_OK)
        st = tenant_tx_run(tx, &KEEP, params, NULL, why);
    return st == ST_CONFLICT ? fail_as(why, ERR_IDEM_BUSY, "another upload with this key was faster") : st;
}
