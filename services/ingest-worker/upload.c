/* upload — takes an original in: parts from the edge, sealed on the fly, on to the document store. At most
 * one store part is in memory. The document exists from the moment that its row, its key and its job
 * commit together, and not before: whatever breaks earlier leaves nothing that a reader could see, and an
 * intent by which the janitor finds what is to be removed. */
#include <openssl/crypto.h>
#include <string.h>

#include "audit/client.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "crypto/digest.h"
#include "db/tenant_tx.h"
#include "http/backoff.h"
#include "idempotency.h"
#include "ingest.h"
#include "ingest.pb-c.h"
#include "intent.h"
#include "json/reader.h"
#include "keystore/original.h"

enum {
    FILE_NAME_MAX_BYTES = 255,
    METADATA_MAX_BYTES = 8192,
    MRN_MAX_BYTES = 64,
    KEY_MAX_BYTES = 255,
    SETTLE_MS = 3000,               /* to find out what became of a commit */
    SETTLE_TRIES = 20,
    TIDY_MS = 2000,
};

/* One upload under way. */
struct upload {
    struct ingest *ingest;
    struct call *call;
    const Ingest__UploadRequest *req;
    struct claims claims;
    struct uuid job_id;
    struct tenant_key *tenant_key, *search_key;
    struct document_key *key;
    struct blob wrapped_key;
    struct secret *share;               /* of key; outside the database */
    struct frames_sealer *sealer;
    struct sha256 *digest;
    struct s3_upload *store;            /* holds at most one store part */
    int64_t bytes;
    int priority;                       /* of the job */
    struct intent intent;
    bool is_stored;                     /* the object is whole */
    bool is_settled;                    /* committed, or nobody knows: what is stored stays */
    uint8_t key_digest[IDEMPOTENCY_DIGEST_BYTES];   /* with an Idempotency-Key */
    struct idempotent_answer answer;                /* known: the upload is a repeat, and is only compared */
};

/* What a client may say, and where its job stands among those of its tenant. */
static const struct { const char *text; int value; } PRIORITIES[] = { { "", 100 }, { "interactive", 50 }, { "bulk", 200 } };

static bool has_control(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

static enum status check_metadata(const char *text, struct why *why) {
    if (!*text)
        return ST_OK;
    CLEANUP(json_destroy) json_t *object = NULL;
    enum status st = json_parse(text, strlen(text), METADATA_MAX_BYTES, &object, why);
    if (st != ST_OK || !json_is_object(object))
        return fail_as(why, ERR_REQ_FIELD, "metadata is no JSON object");
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
        if (!json_is_string(value))
            return fail_as(why, ERR_REQ_FIELD, "metadata has a member that is no text");
    return ST_OK;
}

static bool is_key(const char *text) {
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return false;
    return len <= KEY_MAX_BYTES;
}

static bool read_priority(const char *text, int *ret_priority) {
    for (size_t i = 0; i < sizeof PRIORITIES / sizeof *PRIORITIES; i++)
        if (strcmp(PRIORITIES[i].text, text) == 0) {
            *ret_priority = PRIORITIES[i].value;
            return true;
        }
    return false;
}

/* The id that the client chose, or one of ours. Documents sort by it, so it must be of version 7. */
static bool read_document_id(const ProtobufCBinaryData *chosen, struct uuid *ret_id) {
    *ret_id = uuid_v7();
    return chosen->len == 0 || (uuid_from_bytes(chosen->data, chosen->len, ret_id) && ret_id->bytes[6] >> 4 == 7 &&
                                ret_id->bytes[8] >> 6 == 2);
}

static enum status check_request(struct upload *u) {
    const Ingest__UploadRequest *req = u->req;
    struct why *why = &u->call->why;
    if (!extract_is_supported(req->content_type))
        return fail_as(why, ERR_DOC_TYPE, "content type");
    size_t name_len = strlen(req->file_name), mrn_len = strlen(req->mrn);
    if (name_len > FILE_NAME_MAX_BYTES || has_control(req->file_name) || !utf8_is_text(req->file_name, name_len, NULL))
        return fail_as(why, ERR_REQ_FIELD, "file_name");
    if (mrn_len > MRN_MAX_BYTES || has_control(req->mrn) || !utf8_is_text(req->mrn, mrn_len, NULL))
        return fail_as(why, ERR_REQ_FIELD, "mrn");
    if (req->sha256.len != 0 && req->sha256.len != SHA256_BYTES)
        return fail_as(why, ERR_REQ_FIELD, "sha256");
    if (!read_document_id(&req->document_id, &u->intent.document_id))
        return fail_as(why, ERR_REQ_FIELD, "document_id is no UUIDv7");
    if (!is_key(req->idempotency_key))
        return fail_as(why, ERR_REQ_FIELD, "idempotency_key");
    if (!read_priority(req->priority, &u->priority))
        return fail_as(why, ERR_REQ_FIELD, "priority");
    if (req->announced_bytes == 0)
        return fail_as(why, ERR_DOC_EMPTY, "announced as empty");
    if (req->announced_bytes > u->ingest->settings->upload_max_bytes)
        return fail_as(why, ERR_REQ_BODY_TOO_LARGE, "announced %lld bytes", (long long)req->announced_bytes);
    return check_metadata(req->metadata_json, why);
}

/* Is the ticket good for this, and what are the tenant's keys? Before a byte is read. */
static enum status authorise(struct upload *u) {
    struct call *call = u->call;
    struct tenant_keys keys = { 0 };
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, u->ingest->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = keystore_take_tenant(&tx, call->mem, &keys, &call->why);
    if (st != ST_OK)
        return st;
    u->claims = tx.claims;
    st = keystore_open_tenant(u->ingest->keyring, &keys, TENANT_KEY_DATA, 0, call->deadline_ms, &u->tenant_key, &call->why);
    if (st == ST_OK && (*u->req->mrn || *u->req->idempotency_key))
        st = keystore_open_tenant(u->ingest->keyring, &keys, TENANT_KEY_SEARCH, 0, call->deadline_ms, &u->search_key, &call->why);
    if (st == ST_OK)
        st = document_key_new(u->tenant_key, &u->intent.document_id, call->mem, &u->key, &u->wrapped_key, &u->share, &call->why);
    if (st == ST_OK)
        st = document_key_seal_original(u->key, &u->sealer, &call->why);
    u->store = s3_upload_new(u->ingest->s3, original_object_key(call->mem, &u->claims.tenant_id, &u->intent.document_id),
                             "application/octet-stream");
    return st;
}

/* The intent is on record before the store hears of the upload. A repeat leaves none. */
static enum status begin(struct upload *u) {
    struct call *call = u->call;
    const uint8_t *key = *u->req->idempotency_key ? u->key_digest : NULL;
    if (key)
        idempotency_key_digest(u->search_key, u->req->idempotency_key, u->key_digest);
    u->intent.lease_ms = u->ingest->settings->upload_lease_ms;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = tenant_tx_begin(&tx, u->ingest->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms,
                                     &call->why);
    if (st == ST_OK)
        st = intent_begin(&u->intent, &tx, u->req->content_type, u->req->announced_bytes, key, &call->why);
    /* Only now: adding the intent has waited for an upload with this key that was about to commit. */
    if (st == ST_OK && key)
        st = idempotency_find(&tx, key, &u->answer, &call->why);
    if (st == ST_OK && u->answer.is_known) {
        u->intent.fence = (struct uuid){ { 0 } };
        return ST_OK;
    }
    if (st == ST_OK)
        st = intent_check_id(&u->intent, &tx, &call->why);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}

static enum status store_part(struct upload *u, const void *data, size_t len) {
    struct why *why = &u->call->why;
    enum status st = intent_renew(&u->intent, u->ingest->db, u->call, u->bytes);
    if (st == ST_OK)
        st = frames_seal_add(u->sealer, data, len, s3_upload_buffer(u->store), why);
    return st == ST_OK ? s3_upload_flush(u->store, u->call->deadline_ms, why) : st;
}

static enum status take_part(struct upload *u, const void *data, size_t len) {
    struct why *why = &u->call->why;
    u->bytes += (int64_t)len;
    if (u->bytes > u->ingest->settings->upload_max_bytes)
        return fail_as(why, ERR_REQ_BODY_TOO_LARGE, "more than %lld bytes", (long long)u->ingest->settings->upload_max_bytes);
    if (u->req->announced_bytes >= 0 && u->bytes > u->req->announced_bytes)
        return fail_as(why, ERR_REQ_MALFORMED, "more bytes than announced");
    sha256_update(u->digest, data, len);
    return u->answer.is_known ? ST_OK : store_part(u, data, len);
}

static enum status receive(struct upload *u) {
    bool is_end = false;
    while (!is_end) {
        const void *data = NULL;
        size_t len = 0;
        enum status st = call_read(u->call, &data, &len, &is_end);
        if (st == ST_OK)
            st = take_part(u, data, len);
        if (st != ST_OK)
            return st;
    }
    struct why *why = &u->call->why;
    if (u->bytes == 0)
        return fail_as(why, ERR_DOC_EMPTY, "no bytes");
    if (u->req->announced_bytes >= 0 && u->bytes != u->req->announced_bytes)
        return fail_as(why, ERR_REQ_TRUNCATED, "fewer bytes than announced");
    uint8_t sha[SHA256_BYTES];
    sha256_peek(u->digest, sha);
    if (u->req->sha256.len && memcmp(u->req->sha256.data, sha, SHA256_BYTES) != 0)
        return fail_as(why, ERR_DOC_CHECKSUM, "SHA-256 differs");
    return ST_OK;
}

/* The rest of the original, and the store's word that it has all of it. */
static enum status store_end(struct upload *u) {
    struct call *call = u->call;
    enum status st = frames_seal_end(u->sealer, s3_upload_buffer(u->store), &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_UPLOAD_BEFORE_STORE, &call->why);
    if (st == ST_OK)
        st = intent_renew(&u->intent, u->ingest->db, call, u->bytes);
    if (st == ST_OK)
        st = s3_upload_end(u->store, call->deadline_ms, &call->why);
    u->is_stored = st == ST_OK;
    if (st == ST_OK)
        st = fault_status(FAULT_UPLOAD_BEFORE_SHARE, &call->why);
    if (st == ST_OK)
        st = shares_put(u->ingest->shares, &u->claims.tenant_id, &u->intent.document_id, u->share, call->deadline_ms, &call->why);
    return st == ST_OK ? fault_status(FAULT_UPLOAD_STORED, &call->why) : st;
}

/* ---- the commit ---- */

static bool is_outage(enum status st) {
    return st == ST_UNAVAILABLE || st == ST_TIMEOUT;
}

/* The patient's row: found by the blind index, or made. */
static enum status find_subject(struct upload *u, struct tenant_tx *tx, struct uuid *ret_id) {
    static const struct sql FIND = { "find_subject", "SELECT s.id FROM app.subjects s WHERE s.tenant_id = $1 AND s.mrn_blind = $2", 2 };
    static const struct sql ADD = { "add_subject",
        "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc, key_version) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", 5 };
    struct call *call = u->call;
    uint8_t blind[32];
    tenant_key_blind(u->search_key, "mrn", u->req->mrn, strlen(u->req->mrn), blind);
    struct uuid fresh = uuid_v7();
    struct blob mrn_enc = { 0 };
    enum status st = tenant_key_seal(u->tenant_key, FIELD_MRN, &fresh, u->req->mrn, strlen(u->req->mrn), call->mem, &mrn_enc, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(tx, &ADD, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_UUID(&fresh), DB_BYTES(blind, sizeof blind),
                           DB_BYTES(mrn_enc.data, mrn_enc.len), DB_INT(tenant_key_version(u->tenant_key)) }, NULL, &call->why);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    if (st == ST_OK)
        st = tenant_tx_run(tx, &FIND, (struct db_param[]){ DB_UUID(&tx->claims.tenant_id), DB_BYTES(blind, sizeof blind) }, &rows,
                           &call->why);
    if (st == ST_OK && db_count(rows) != 1)
        st = fail(&call->why, ST_CONFLICT, "the patient's row vanished");
    if (st == ST_OK)
        *ret_id = db_uuid(rows, 0, 0);
    return st;
}

/* Sealed fields of the row; NULL where there is nothing. */
static enum status seal_fields(struct upload *u, struct db_param *ret_name, struct db_param *ret_sha, struct db_param *ret_metadata) {
    struct call *call = u->call;
    uint8_t sha[SHA256_BYTES];
    sha256_peek(u->digest, sha);
    struct { enum field_kind kind; const void *data; size_t len; struct db_param *ret; } fields[] = {
        { FIELD_FILE_NAME, u->req->file_name, strlen(u->req->file_name), ret_name },
        { FIELD_SHA256, sha, sizeof sha, ret_sha },
        { FIELD_METADATA, u->req->metadata_json, strlen(u->req->metadata_json), ret_metadata },
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        struct blob sealed = { 0 };
        *fields[i].ret = DB_NULL;
        if (fields[i].len == 0)
            continue;
        enum status st = document_key_seal_field(u->key, fields[i].kind, &u->intent.document_id, fields[i].data, fields[i].len, call->mem,
                                                 &sealed, &call->why);
        if (st != ST_OK)
            return st;
        *fields[i].ret = DB_BYTES(sealed.data, sealed.len);
    }
    return ST_OK;
}

/* What a repeat is compared with and answered. */
static enum status keep_answer(struct upload *u, struct tenant_tx *tx) {
    uint8_t sha[SHA256_BYTES];
    sha256_peek(u->digest, sha);
    u->answer.document_id = u->intent.document_id;
    u->answer.job_id = u->job_id;
    idempotency_request_digest(u->search_key, u->req, sha, u->answer.request_digest);
    return idempotency_keep(tx, u->key_digest, &u->answer, &u->call->why);
}

/* One try. *ret_in_doubt is set when the answer to COMMIT is lost; a try after that finds what the first has left. */
static enum status try_commit(struct upload *u, bool *ret_in_doubt) {
    static const struct sql ADD = { "add_document",
        "INSERT INTO app.documents (tenant_id, id, subject_id, content_type, bytes, name_enc, sha256_enc, metadata_enc, key_version, "
        "created_by, labels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, pg_catalog.string_to_array($11, ',')) ON CONFLICT DO NOTHING", 11 };
    static const struct sql PUT_KEY = { "put_document_key", "SELECT keys.put_document_key($1, $2, $3)", 3 };
    static const struct sql ENQUEUE = { "enqueue", "SELECT jobs.enqueue($1, $2, $3, $4, $5)", 5 };
    struct call *call = u->call;
    struct db_param name, sha, metadata;
    const char *labels = "";
    enum status st = seal_fields(u, &name, &sha, &metadata);
    if (st == ST_OK)
        st = labels_of_metadata(call, u->req->metadata_json, &labels);
    if (st != ST_OK)
        return st;
    /* The edge sent a fresh ticket with the last part: access that ended during the upload ends it too. */
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    st = tenant_tx_begin(&tx, u->ingest->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms, &call->why);
    if (st == ST_OK && !uuid_equal(&tx.claims.tenant_id, &u->claims.tenant_id))
        st = fail(&call->why, ST_FORBIDDEN, "the upload changed its tenant");
    if (st == ST_OK && !uuid_equal(&tx.claims.user_id, &u->claims.user_id))
        st = fail(&call->why, ST_FORBIDDEN, "the upload changed its user");
    struct uuid subject_id = { { 0 } };
    if (st == ST_OK && *u->req->mrn)
        st = find_subject(u, &tx, &subject_id);
    unsigned version = tenant_key_version(u->tenant_key);
    CLEANUP(pgrows_destroy) PGresult *added = NULL;
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ADD, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&u->intent.document_id),
                           *u->req->mrn ? DB_UUID(&subject_id) : DB_NULL, DB_TEXT(u->req->content_type), DB_INT(u->bytes), name, sha,
                           metadata, DB_INT(version), DB_UUID(&tx.claims.user_id), DB_TEXT(labels) }, &added, &call->why);
    if (st == ST_OK && db_affected(added) == 0)     /* the index made us wait for the first try, and it is there */
        return *ret_in_doubt ? ST_OK : fail(&call->why, ST_CONFLICT, "the document's id is taken");
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &PUT_KEY, (struct db_param[]){ DB_UUID(&u->intent.document_id), DB_INT(version),
                           DB_BYTES(u->wrapped_key.data, u->wrapped_key.len) }, NULL, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ENQUEUE, (struct db_param[]){ DB_UUID(&u->job_id), DB_TEXT("ingest"), DB_TEXT("ingest"),
                           DB_UUID(&u->intent.document_id), DB_INT(u->priority) }, NULL, &call->why);
    if (st == ST_OK)
        st = intent_fulfil(&u->intent, &tx, &call->why);
    if (st == ST_OK && *u->req->idempotency_key)
        st = keep_answer(u, &tx);
    if (st != ST_OK)
        return st;
    fault_point(FAULT_UPLOAD_BEFORE_COMMIT);
    st = tenant_tx_commit(&tx, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_UPLOAD_COMMITTED, &call->why);
    *ret_in_doubt = *ret_in_doubt || is_outage(st);
    return st;
}

/* Everything that the document is made of commits together, once: where the answer is lost, the same again tells. */
static enum status commit_document(struct upload *u) {
    struct call *call = u->call;
    int64_t settle_ms = clock_mono_ms() + SETTLE_MS;
    struct backoff pause = { .base_ms = 50, .cap_ms = 500, .attempts = SETTLE_TRIES,
                             .deadline_ms = settle_ms < call->deadline_ms ? settle_ms : call->deadline_ms };
    bool is_in_doubt = false;
    enum status st = try_commit(u, &is_in_doubt);
    while (is_in_doubt && is_outage(st) && backoff_wait(&pause, 0))
        st = try_commit(u, &is_in_doubt);
    u->is_settled = st == ST_OK || is_in_doubt;
    if (st != ST_OK && is_in_doubt)
        return fail(&call->why, ST_UNAVAILABLE, "whether the document is there is not known");
    return st;
}

/* The answer of the first time, for the same request only. That it was given again is on record before. */
static enum status replay(struct upload *u) {
    struct call *call = u->call;
    uint8_t sha[SHA256_BYTES], digest[IDEMPOTENCY_DIGEST_BYTES];
    sha256_peek(u->digest, sha);
    idempotency_request_digest(u->search_key, u->req, sha, digest);
    if (CRYPTO_memcmp(digest, u->answer.request_digest, sizeof digest) != 0)
        return fail_as(&call->why, ERR_IDEM_REUSED, "another request");
    u->intent.document_id = u->answer.document_id;
    u->job_id = u->answer.job_id;
    return audit_append(call, &(struct audit_record){ .action = AUDIT_UPLOAD_REPLAY, .resource_id = u->job_id,
                        .document_ids = &u->intent.document_id, .document_count = 1 }, NULL);
}

/* After a failure: what is in the store goes, and then the intent. Where either is in doubt, the intent stays, and
 * the janitor comes when its lease is over. */
static void tidy(struct upload *u) {
    struct why unused = { 0 };
    unsigned count = 0;
    int64_t until_ms = clock_mono_ms() + TIDY_MS;
    if (uuid_is_nil(&u->intent.fence) || u->is_settled)
        return;
    enum status st = s3_upload_abort(u->store, until_ms, &unused);
    if (st == ST_OK && u->is_stored)
        st = s3_delete_versions(u->ingest->s3, original_object_key(u->call->mem, &u->claims.tenant_id, &u->intent.document_id), until_ms,
                                &count, &unused);
    if (st == ST_OK && u->is_stored)
        st = shares_delete(u->ingest->shares, &u->claims.tenant_id, &u->intent.document_id, until_ms, &unused);
    if (st == ST_OK)
        (void)!intent_clear(u->ingest->jobs_db, &u->intent.tenant_id, &u->intent.document_id, &u->intent.fence, until_ms, &unused);
}

static void upload_end(struct upload *u) {
    tidy(u);
    s3_upload_destroy(&u->store);
    frames_sealer_destroy(&u->sealer);
    sha256_destroy(&u->digest);
    document_key_destroy(&u->key);
    secret_destroy(&u->share);
    tenant_key_release(&u->tenant_key);
    tenant_key_release(&u->search_key);
}

static enum status take_in(struct upload *u) {
    enum status st = store_end(u);
    return st == ST_OK ? commit_document(u) : st;
}

enum status on_upload(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    Ingest__UploadReply *reply = (void *)out;
    CLEANUP(upload_end) struct upload u = { .ingest = self, .call = call, .req = (const void *)in, .job_id = uuid_v7(), .digest = sha256_new() };
    enum status st = check_request(&u);
    if (st == ST_OK)
        st = authorise(&u);
    if (st == ST_OK)
        st = begin(&u);
    if (st == ST_OK)
        st = receive(&u);
    if (st == ST_OK)
        st = u.answer.is_known ? replay(&u) : take_in(&u);
    if (st != ST_OK)
        return st;
    reply->document_id = wire_id(call->mem, &u.intent.document_id);
    reply->job_id = wire_id(call->mem, &u.job_id);
    reply->status = (char *)"processing";
    return ST_OK;
}
