/* evidence — orders packages of evidence, and ends them. A package is a document without an original yet: its row, key, job
 * and what it is made from commit together, behind an intent as an upload's, because the second share of its key is in the store
 * before. evidence_job.c fills it. */
#include <openssl/crypto.h>
#include <string.h>

#include "audit/client.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/wire.h"
#include "crypto/digest.h"
#include "db/tenant_tx.h"
#include "idempotency.h"
#include "ingest.h"
#include "ingest.pb-c.h"
#include "intent.h"

enum { DOCUMENTS_MAX = 10000, DAYS_DEFAULT = 90, TIDY_MS = 2000, PRIORITY = 100 };

static const char TYPE[] = "application/x-tar";

struct order {
    struct ingest *ingest;
    struct call *call;
    const Ingest__CreateEvidenceRequest *req;
    struct claims claims;
    struct uuid job_id, subject_id;
    bool has_subject;
    const char *documents;              /* as uuid[] */
    struct tenant_key *tenant_key, *search_key;
    struct document_key *key;
    struct blob wrapped_key;
    struct secret *share;
    struct intent intent;
    uint8_t key_digest[IDEMPOTENCY_DIGEST_BYTES];
    struct idempotent_answer answer;
    bool is_settled;
};

static enum status check_request(struct order *o) {
    const Ingest__CreateEvidenceRequest *req = o->req;
    struct why *why = &o->call->why;
    CLEANUP(buffer_end) struct buffer ids = { 0 };
    char text[UUID_TEXT_BYTES];
    struct uuid id;
    o->has_subject = req->subject_id.len > 0;
    bool has_span = req->from_at_us || req->to_at_us, is_good = buffer_add_str(&ids, "{");
    if ((req->n_document_ids > 0) + o->has_subject + has_span != 1 || req->n_document_ids > DOCUMENTS_MAX)
        return fail_as(why, ERR_REQ_FIELD, "document_ids, subject_id or a span: one of them");
    if (has_span && (req->from_at_us <= 0 || req->to_at_us <= req->from_at_us))
        return fail_as(why, ERR_REQ_FIELD, "from_at and to_at");
    if (o->has_subject && !uuid_from_bytes(req->subject_id.data, req->subject_id.len, &o->subject_id))
        return fail_as(why, ERR_REQ_FIELD, "subject_id");
    for (size_t i = 0; is_good && i < req->n_document_ids; i++)
        is_good = uuid_from_bytes(req->document_ids[i].data, req->document_ids[i].len, &id) &&
                  buffer_printf(&ids, "%s%s", i ? "," : "", uuid_format(&id, text));
    if (!is_good || !buffer_add_str(&ids, "}"))
        return fail_as(why, ERR_REQ_FIELD, "document_ids");
    o->documents = arena_strdup(o->call->mem, ids.data);
    return ST_OK;
}

static enum status begin_tx(struct order *o, struct tenant_tx *tx) {
    return tenant_tx_begin(tx, o->ingest->db, o->call->ticket, &o->call->request_id, SCOPE_EVIDENCE_MANAGE | SCOPE_DOCUMENTS_WRITE, o->call->deadline_ms,
                           &o->call->why);
}

static enum status open_keys(struct order *o) {
    struct call *call = o->call;
    struct tenant_keys keys = { 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = begin_tx(o, &tx);
    if (st == ST_OK)
        st = keystore_take_tenant(&tx, call->mem, &keys, &call->why);
    if (st != ST_OK)
        return st;
    o->claims = tx.claims;
    st = keystore_open_tenant(o->ingest->keyring, &keys, TENANT_KEY_DATA, 0, call->deadline_ms, &o->tenant_key, &call->why);
    if (st == ST_OK && *o->req->idempotency_key)
        st = keystore_open_tenant(o->ingest->keyring, &keys, TENANT_KEY_SEARCH, 0, call->deadline_ms, &o->search_key, &call->why);
    return st == ST_OK ? document_key_new(o->tenant_key, &o->intent.document_id, call->mem, &o->key, &o->wrapped_key, &o->share, &call->why) : st;
}

/* The intent first; a repeat leaves none. */
static enum status begin(struct order *o) {
    struct why *why = &o->call->why;
    const uint8_t *key = *o->req->idempotency_key ? o->key_digest : NULL;
    if (key)
        idempotency_key_digest(o->search_key, o->req->idempotency_key, o->key_digest);
    o->intent.lease_ms = o->ingest->settings->upload_lease_ms;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = begin_tx(o, &tx);
    if (st == ST_OK)
        st = intent_begin(&o->intent, &tx, TYPE, 0, key, why);
    if (st == ST_OK && key)
        st = idempotency_find(&tx, key, &o->answer, why);
    if (st == ST_OK && o->answer.is_known) {
        o->intent.fence = (struct uuid){ { 0 } };
        return ST_OK;
    }
    return st == ST_OK ? tenant_tx_commit(&tx, why) : st;
}

/* Whatever was asked, but for the key. */
static void request_digest(struct order *o, uint8_t out[IDEMPOTENCY_DIGEST_BYTES]) {
    Ingest__CreateEvidenceRequest plain = *o->req;
    uint8_t sum[SHA256_BYTES];
    plain.idempotency_key = (char *)"";
    size_t len = ingest__create_evidence_request__get_packed_size(&plain);
    uint8_t *packed = arena_alloc(o->call->mem, len + 1);
    ingest__create_evidence_request__pack(&plain, packed);
    sha256_joined("evidence", 8, packed, len, sum);
    tenant_key_blind(o->search_key, "idempotent-request", sum, sizeof sum, out);
}

static enum status replay(struct order *o) {
    uint8_t digest[IDEMPOTENCY_DIGEST_BYTES];
    request_digest(o, digest);
    if (CRYPTO_memcmp(digest, o->answer.request_digest, sizeof digest) != 0)
        return fail_as(&o->call->why, ERR_IDEM_REUSED, "another request");
    o->intent.document_id = o->answer.document_id;
    o->job_id = o->answer.job_id;
    return audit_append(o->call, &(struct audit_record){ .action = AUDIT_UPLOAD_REPLAY, .resource_id = o->job_id, .document_ids = &o->intent.document_id,
                        .document_count = 1 }, NULL);
}

static enum status add_package(struct order *o, struct tenant_tx *tx) {
    static const struct sql ADD = { "add_package",
        "INSERT INTO app.documents (tenant_id, id, subject_id, content_type, bytes, name_enc, key_version, created_by) "
        "VALUES ($1, $2, NULL, $3, 0, $4, $5, $6)", 6 };
    static const struct sql PUT_KEY = { "put_document_key", "SELECT keys.put_document_key($1, $2, $3)", 3 };
    struct call *call = o->call;
    char text[UUID_TEXT_BYTES];
    const char *name = arena_printf(call->mem, "evidence-%s.tar", uuid_format(&o->intent.document_id, text));
    struct blob sealed = { 0 };
    int64_t version = tenant_key_version(o->tenant_key);
    enum status st = document_key_seal_field(o->key, FIELD_FILE_NAME, &o->intent.document_id, name, strlen(name), call->mem, &sealed, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(tx, &ADD, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&o->intent.document_id), DB_TEXT(TYPE),
                           DB_BYTES(sealed.data, sealed.len), DB_INT(version), DB_UUID(&tx->claims.user_id) }, NULL, &call->why);
    return st == ST_OK ? tenant_tx_run(tx, &PUT_KEY, (struct db_param[]){ DB_UUID(&o->intent.document_id), DB_INT(version),
                                       DB_BYTES(o->wrapped_key.data, o->wrapped_key.len) }, NULL, &call->why) : st;
}

static enum status keep_answer(struct order *o, struct tenant_tx *tx) {
    o->answer.document_id = o->intent.document_id;
    o->answer.job_id = o->job_id;
    request_digest(o, o->answer.request_digest);
    return idempotency_keep(tx, o->key_digest, &o->answer, &o->call->why);
}

static enum status commit_order(struct order *o, uint32_t *ret_documents) {
    static const struct sql BEGIN = { "begin_evidence",
        "SELECT keys.begin_evidence($1, $2, $3::uuid[], $4, pg_catalog.to_timestamp($5::bigint / 1000000.0), pg_catalog.to_timestamp($6::bigint / 1000000.0), "
        "$7, $8, $9)", 9 };
    static const struct sql ENQUEUE = { "enqueue", "SELECT jobs.enqueue($1, $2, $3, $4, $5)", 5 };
    const Ingest__CreateEvidenceRequest *req = o->req;
    struct why *why = &o->call->why;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = begin_tx(o, &tx);
    if (st == ST_OK)
        st = add_package(o, &tx);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &BEGIN, (struct db_param[]){ DB_UUID(&o->intent.document_id), DB_UUID(&o->job_id), DB_TEXT(o->documents),
                           DB_UUID(o->has_subject ? &o->subject_id : NULL), req->to_at_us ? DB_INT(req->from_at_us) : DB_NULL,
                           req->to_at_us ? DB_INT(req->to_at_us) : DB_NULL, DB_TEXT(req->reason), DB_TEXT(req->reference),
                           DB_INT(req->days ? req->days : DAYS_DEFAULT) }, &rows, why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ENQUEUE, (struct db_param[]){ DB_UUID(&o->job_id), DB_TEXT("ingest"), DB_TEXT("evidence"), DB_UUID(&o->intent.document_id),
                           DB_INT(PRIORITY) }, NULL, why);
    if (st == ST_OK)
        st = intent_fulfil(&o->intent, &tx, why);
    if (st == ST_OK && *req->idempotency_key)
        st = keep_answer(o, &tx);
    if (st != ST_OK)
        return st;
    *ret_documents = (uint32_t)db_i64(rows, 0, 0);
    o->is_settled = true;               /* a lost answer to COMMIT leaves the share to the janitor, who looks for a document first */
    return tenant_tx_commit(&tx, why);
}

static void order_end(struct order *o) {
    struct why unused = { 0 };
    int64_t until_ms = clock_mono_ms() + TIDY_MS;
    if (!uuid_is_nil(&o->intent.fence) && !o->is_settled &&
        shares_delete(o->ingest->shares, &o->claims.tenant_id, &o->intent.document_id, until_ms, &unused) == ST_OK)
        (void)!intent_clear(o->ingest->jobs_db, &o->intent.tenant_id, &o->intent.document_id, &o->intent.fence, until_ms, &unused);
    document_key_destroy(&o->key);
    secret_destroy(&o->share);
    tenant_key_release(&o->tenant_key);
    tenant_key_release(&o->search_key);
}

enum status on_create_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    Ingest__CreateEvidenceReply *reply = (void *)out;
    CLEANUP(order_end) struct order o = { .ingest = self, .call = call, .req = (const void *)in, .job_id = uuid_v7(), .intent.document_id = uuid_v7() };
    enum status st = check_request(&o);
    if (st == ST_OK)
        st = open_keys(&o);
    if (st == ST_OK)
        st = begin(&o);
    if (st == ST_OK && o.answer.is_known)
        st = replay(&o);
    else if (st == ST_OK) {
        st = shares_put(o.ingest->shares, &o.claims.tenant_id, &o.intent.document_id, o.share, call->deadline_ms, &call->why);
        if (st == ST_OK)
            st = commit_order(&o, &reply->documents);
    }
    if (st != ST_OK)
        return st;
    reply->evidence_id = wire_id(call->mem, &o.intent.document_id);
    reply->job_id = wire_id(call->mem, &o.job_id);
    return ST_OK;
}

enum status on_delete_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql END = { "end_evidence", "SELECT keys.end_evidence($1, $2)", 2 };
    const Ingest__DeleteEvidenceRequest *req = (const void *)in;
    Ingest__DeleteEvidenceReply *reply = (void *)out;
    struct ingest *g = self;
    struct uuid id, erasure_id = uuid_v7();
    if (!uuid_from_bytes(req->evidence_id.data, req->evidence_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "evidence_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_EVIDENCE_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &END, (struct db_param[]){ DB_UUID(&id), DB_UUID(&erasure_id) }, NULL, &call->why);
    if (st == ST_OK)
        reply->erasure_id = wire_id(call->mem, &erasure_id);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}
