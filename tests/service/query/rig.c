#include "rig.h"

#include <math.h>

#include "audit.pb-c.h"
#include "audit/record.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "core/wire.h"
#include "crypto/commitment.h"
#include "embedding.pb-c.h"
#include "json/reader.h"
#include "keystore/original.h"
#include "log.h"
#include "support/loopback.h"
#include "unit/bus_fixture.h"

enum { KEY_BYTES = 32, DIMENSIONS = 1024, SEARCH_KEY_BYTE = 's' };

struct rig rig;

struct stored {
    char id[UUID_TEXT_BYTES], tenant[UUID_TEXT_BYTES], *object;
    struct document_key *key;
    struct buffer sealed;           /* the original in the document store */
};

static struct node writer, model, node, edge;
static struct loopback *cloud;
static struct credentials *credentials;
static struct keyring *sealer;      /* what ingest-worker would use */
static PGconn *log_conn;            /* audit-writer's own */
static struct stored documents[RIG_DOCUMENTS_MAX];
static size_t document_count, share_count;
static struct { char *target; struct buffer body; } shares[RIG_SHARES_MAX];

struct uuid rig_uuid(const char *text) {
    struct uuid id;
    cr_assert(uuid_parse(text, strlen(text), &id), "%s", text);
    return id;
}

ProtobufCBinaryData rig_id(const char *text) {
    struct uuid id = rig_uuid(text);
    return (ProtobufCBinaryData){ UUID_BYTES, arena_memdup(rig.mem, id.bytes, UUID_BYTES) };
}

const char *rig_id_text(ProtobufCBinaryData bytes) {
    struct uuid id;
    char text[UUID_TEXT_BYTES];
    return uuid_from_bytes(bytes.data, bytes.len, &id) ? arena_strdup(rig.mem, uuid_format(&id, text)) : "";
}

/* ---- audit-writer ---- */

static bool run(const char *sql, int n, const char *const values[]) {
    PGresult *result = PQexecParams(log_conn, sql, n, NULL, values, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK;
}

static const char *id_text(struct arena *mem, const ProtobufCBinaryData *bytes) {
    char text[UUID_TEXT_BYTES];
    struct uuid id;
    return uuid_from_bytes(bytes->data, bytes->len, &id) ? arena_strdup(mem, uuid_format(&id, text)) : "";
}

static void delete_document(const char *id) {
    const char *const values[] = { id };
    (void)run("UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = $1", 1, values);
    (void)run("DELETE FROM app.chunks WHERE document_id = $1", 1, values);
}

/* As audit-writer does, but for the tree. */
static bool commit_event(struct call *call, const Audit__Event *e) {
    CLEANUP(buffer_end) struct buffer ids = { 0 };
    buffer_add_str(&ids, "{");
    for (size_t i = 0; i < e->n_document_ids; i++)
        buffer_printf(&ids, "%s%s", i ? "," : "", id_text(call->mem, &e->document_ids[i]));
    buffer_add_str(&ids, "}");
    const char *event = arena_printf(call->mem, "{\"action\":\"%s\",\"v\":1}", e->action);
    const char *const values[] = { id_text(call->mem, &e->event_id), e->action, id_text(call->mem, &e->resource_id), ids.data,
                                   call->ticket, event };
    return run("INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id,"
               " resource_id, document_ids, ticket_digest, content_digest, event, leaf_hash)"
               " SELECT $1::uuid, o.tenant_id, (SELECT count(*) FROM audit.audit_logs l WHERE l.tenant_id = o.tenant_id),"
               " clock_timestamp(), clock_timestamp(), 'disclosure', $2, 'success', c.user_id, nullif($3, '')::uuid, $4::uuid[],"
               " sha256(convert_to($5, 'UTF8')), sha256(''), convert_to($6, 'UTF8'), sha256('\\x00'::bytea || convert_to($6, 'UTF8'))"
               " FROM authz.check($5) c, coalesce(c.tenant_id, '00000000-0000-0000-0000-000000000000') o (tenant_id)", 6, values);
}

#define INDEX_EVENTS "INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id) SELECT DISTINCT l.tenant_id, d, l.seq, l.event_id " \
                     "FROM audit.audit_logs l CROSS JOIN LATERAL unnest(l.document_ids) d ON CONFLICT DO NOTHING"

void rig_index_events(void) {
    pg_ask(pg_admin(), INDEX_EVENTS);
}

static void keep_event(const Audit__Event *e) {
    if (rig.event_count == RIG_EVENTS_MAX)
        return;
    struct rig_event *kept = &rig.events[rig.event_count++];
    *kept = (struct rig_event){ .document_count = e->n_document_ids, .chunk_count = e->n_chunk_ids };
    (void)uuid_from_bytes(e->event_id.data, e->event_id.len, &kept->id);
    (void)uuid_from_bytes(e->resource_id.data, e->resource_id.len, &kept->resource_id);
    (void)snprintf(kept->action, sizeof kept->action, "%s", e->action);
    (void)snprintf(kept->detail, sizeof kept->detail, "%s", e->detail_json);
}

static enum status on_append(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    const Audit__AppendRequest *req = audit__append_request__unpack(arena_wire(call->mem), body.len, body.data);
    if (!req || req->without_tenant)
        return fail(&call->why, ST_INVALID, "append");
    for (size_t i = 0; i < req->n_events; i++)
        if (rig.audit_away_for && (str_equal(rig.audit_away_for, "*") || str_equal(rig.audit_away_for, req->events[i]->action)))
            return fail(&call->why, ST_UNAVAILABLE, "away");
    for (size_t i = 0; i < req->n_events; i++) {
        CLEANUP(json_destroy) json_t *detail = NULL;
        enum status st = audit_detail_parse(req->events[i]->detail_json, &detail, &call->why);
        if (st != ST_OK)
            return st;
    }
    bool is_written = run("BEGIN", 0, NULL);
    for (size_t i = 0; is_written && i < req->n_events; i++)
        is_written = commit_event(call, req->events[i]);
    is_written = is_written && run(INDEX_EVENTS, 0, NULL);
    if (!run(is_written ? "COMMIT" : "ROLLBACK", 0, NULL) || !is_written)
        return fail(&call->why, ST_UNAUTHENTICATED, "the ticket is not good");
    for (size_t i = 0; i < req->n_events; i++) {
        keep_event(req->events[i]);
        for (size_t k = 0; rig.deletes && k < req->events[i]->n_document_ids; k++)
            if (str_equal(id_text(call->mem, &req->events[i]->document_ids[k]), rig.deletes))
                delete_document(rig.deletes);
    }
    Audit__AppendReply *reply = arena_alloc(call->mem, sizeof *reply);
    audit__append_reply__init(reply);
    reply->n_seqs = req->n_events;
    reply->seqs = arena_alloc(call->mem, req->n_events * sizeof *reply->seqs);
    *ret_reply = &reply->base;
    return ST_OK;
}

size_t rig_count(const char *action) {
    size_t n = 0;
    for (size_t i = 0; i < rig.event_count; i++)
        n += str_equal(rig.events[i].action, action);
    return n;
}

const struct rig_event *rig_last(const char *action) {
    size_t i = rig.event_count;
    while (i > 0 && !str_equal(rig.events[i - 1].action, action))
        i--;
    cr_assert_gt(i, 0, "no %s on the record", action);
    return &rig.events[i - 1];
}

/* ---- embedding-worker ---- */

static enum status on_embed(struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    const Embedding__EmbedRequest *req = embedding__embed_request__unpack(arena_wire(call->mem), body.len, body.data);
    rig.embed_count++;
    if (rig.embed_failure != ERR_NONE)
        return fail_as(&call->why, rig.embed_failure, "scripted");
    Embedding__EmbedReply *reply = arena_alloc(call->mem, sizeof *reply);
    Embedding__Vector *vector = arena_alloc(call->mem, sizeof *vector);
    embedding__embed_reply__init(reply);
    embedding__vector__init(vector);
    vector->n_values = DIMENSIONS;
    vector->values = arena_alloc(call->mem, vector->n_values * sizeof *vector->values);
    vector->values[0] = 1;
    reply->model = arena_strdup(call->mem, req && *req->model ? req->model : RIG_MODEL);
    reply->n_vectors = 1;
    reply->vectors = arena_alloc(call->mem, sizeof *reply->vectors);
    reply->vectors[0] = vector;
    *ret_reply = &reply->base;
    return ST_OK;
}

/* Head and pieces, as embedding-worker sends them. */
static enum status stream_answer(struct call *call, Embedding__GenerateReply *reply) {
    Embedding__GenerateHead head = EMBEDDING__GENERATE_HEAD__INIT;
    uint8_t packed[512];
    head.model = reply->model;
    head.prompt_commitment = reply->prompt_commitment;
    enum status st = call_write(call, packed, embedding__generate_head__pack(&head, packed));
    for (const char *p = reply->text; st == ST_OK && *p; p += strnlen(p, 3))
        st = call_write(call, p, strnlen(p, 3));
    reply->text = (char *)"";
    return st;
}

static enum status on_generate(struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    const Embedding__GenerateRequest *req = embedding__generate_request__unpack(arena_wire(call->mem), body.len, body.data);
    if (!req || req->n_sources > RIG_SOURCES_MAX)
        return fail(&call->why, ST_INVALID, "generate");
    rig.generate_count++;
    if (rig.deletes_while_answering)
        delete_document(rig.deletes_while_answering);
    rig.source_count = req->n_sources;
    for (size_t i = 0; i < req->n_sources; i++)
        (void)snprintf(rig.sources[i], sizeof rig.sources[i], "%u %s: %s", req->sources[i]->number, req->sources[i]->title, req->sources[i]->text);
    if (rig.generate_failure != ERR_NONE)
        return fail_as(&call->why, rig.generate_failure, "scripted");
    Embedding__GenerateReply *reply = arena_alloc(call->mem, sizeof *reply);
    embedding__generate_reply__init(reply);
    reply->found = rig.answer != NULL;
    reply->text = arena_strdup(call->mem, rig.answer ? rig.answer : "");
    reply->model = arena_strdup(call->mem, "claude-test");
    reply->input_tokens = 11;
    reply->output_tokens = 7;
    uint8_t commitment[COMMITMENT_BYTES];
    commitment_make("prompt", req->prompt_salt.data, "the prompt", 10, commitment);
    reply->prompt_commitment = wire_bytes(call->mem, commitment, sizeof commitment);
    rig.turn_count = req->n_history;
    for (size_t i = 0; i < req->n_history && i < RIG_SOURCES_MAX; i++)
        (void)snprintf(rig.turns[i], sizeof rig.turns[i], "%s > %s", req->history[i]->question, req->history[i]->answer);
    *ret_reply = &reply->base;
    enum status st = stream_answer(call, reply);
    while (st == ST_OK && rig.model_hangs && call_wait(call, clock_mono_ms() + 1000))
        continue;
    rig.model_was_left = rig.model_hangs;
    return st == ST_OK && rig.breaks_off != ERR_NONE ? fail_as(&call->why, rig.breaks_off, "scripted") : st;
}

static enum status on_model(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    return str_equal(call->method, "embedding.Generate") ? on_generate(call, body, ret_reply) : on_embed(call, body, ret_reply);
}

/* ---- KMS and the document store ---- */

/* What KMS wrapped is the key itself here. */
static bool answer_kms(const struct loopback_request *request, int fd) {
    if (rig.is_kms_disabled)
        return loopback_answer(fd, 400, "", "{\"__type\":\"DisabledException\"}");
    struct why why = { 0 };
    json_t *asked = NULL;
    char body[256];
    if (json_parse(request->body.data, request->body.len, 8192, &asked, &why) != ST_OK)
        return loopback_answer(fd, 400, "", "{\"__type\":\"ValidationException\"}");
    (void)snprintf(body, sizeof body, "{\"Plaintext\":\"%s\",\"KeyId\":\"k\"}", json_string_value(json_object_get(asked, "CiphertextBlob")));
    json_destroy(&asked);
    return loopback_answer(fd, 200, "", body);
}

/* What is asked for of these bytes. */
static bool answer_range(const struct loopback_request *request, int fd, const char *data, size_t data_len) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    long long from = 0, last = (long long)data_len - 1;
    char field[64];
    const char *range = loopback_header(request, "range", field, sizeof field);
    bool is_range = range && sscanf(range, "bytes=%lld-%lld", &from, &last) == 2;
    size_t len = (size_t)(last - from + 1);
    (void)buffer_printf(&out, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n", is_range ? "206 Partial Content" : "200 OK", len);
    size_t head_len = out.len;
    (void)buffer_add(&out, data + from, rig.is_object_cut ? len / 2 : len);
    atomic_fetch_add(&rig.store_bytes, (long long)len);
    if (rig.damaged_at >= from && rig.damaged_at <= last)
        out.data[head_len + (size_t)(rig.damaged_at - from)] ^= 1;
    loopback_write(fd, out.data, out.len);
    return !rig.is_object_cut;
}

static bool answer_store(const struct loopback_request *request, int fd) {
    static const char FOLDER[] = "/docs/", ANCHORS[] = "/anchors/";
    if (rig.is_store_down)
        return loopback_answer(fd, 403, "", "<Error><Code>AccessDenied</Code></Error>");
    for (size_t i = 0; i < document_count; i++)
        if (str_equal(request->target + strlen(FOLDER), documents[i].object) && documents[i].sealed.len)
            return answer_range(request, fd, documents[i].sealed.data, documents[i].sealed.len);
    if (rig.archived && str_starts_with(request->target, ANCHORS) && str_equal(request->target + strlen(ANCHORS), rig.archived_key))
        return answer_range(request, fd, rig.archived, strlen(rig.archived));
    return loopback_answer(fd, 404, "", "<Error><Code>NoSuchKey</Code></Error>");
}

/* The shares' bucket: what was put under a name, once. */
static bool answer_shares(const struct loopback_request *request, int fd) {
    size_t i = 0;
    while (i < share_count && !str_equal(shares[i].target, request->target))
        i++;
    if (str_equal(request->method, "PUT")) {
        if (i < share_count)
            return loopback_answer(fd, 412, "", "<Error><Code>PreconditionFailed</Code></Error>");
        cr_assert_lt(share_count, RIG_SHARES_MAX);
        shares[i].target = xstrdup(request->target);
        (void)buffer_add(&shares[i].body, request->body.data, request->body.len);
        share_count++;
        return loopback_answer(fd, 200, "ETag: \"e\"\r\n", "");
    }
    if (i == share_count)
        return loopback_answer(fd, 404, "", "<Error><Code>NoSuchKey</Code></Error>");
    char head[64];
    (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", shares[i].body.len);
    loopback_write(fd, head, strlen(head));
    loopback_write(fd, shares[i].body.data, shares[i].body.len);
    return true;
}

static bool answer_cloud(void *ctx, const struct loopback_request *request, int fd) {
    (void)ctx;
    if (str_starts_with(request->target, "/shares/"))
        return answer_shares(request, fd);
    return str_equal(request->method, "POST") ? answer_kms(request, fd) : answer_store(request, fd);
}

/* ---- documents ---- */

static void make_tenant_key(const char *tenant, uint8_t out[KEY_BYTES]) {
    memset(out, tenant[0], KEY_BYTES);
}

static enum status unwrap(void *ctx, const struct tenant_key_blob *blob, const struct uuid *tenant, int64_t deadline_ms,
                          struct secret **ret_key, struct why *why) {
    (void)ctx;
    (void)tenant;
    (void)deadline_ms;
    (void)why;
    *ret_key = secret_new(blob->wrapped.data, blob->wrapped.len);
    return ST_OK;
}

static const char *hex(struct blob b) {
    return hex_encode(b.data, b.len, arena_alloc(rig.mem, 2 * b.len + 1));
}

static void add_tenant(const char *tenant, const char *slug) {
    uint8_t key[KEY_BYTES];
    make_tenant_key(tenant, key);
    pg_ask(pg_admin(), "INSERT INTO keys.tenant_keys (tenant_id, kind, version, kms_key_id, blob) VALUES ('%s', 'data', 1, 'k', '\\x%s')",
           tenant, hex((struct blob){ key, sizeof key }));
    memset(key, SEARCH_KEY_BYTE, sizeof key);
    pg_ask(pg_admin(), "INSERT INTO keys.tenant_keys (tenant_id, kind, version, kms_key_id, blob) VALUES ('%s', 'search', 1, 'k', '\\x%s')",
           tenant, hex((struct blob){ key, sizeof key }));
    pg_ticket(slug, "clinician", "owner");          /* makes the user */
}


static void seal_original(struct stored *d, const void *original, size_t len) {
    struct why why = { 0 };
    CLEANUP(frames_sealer_destroy) struct frames_sealer *frames = NULL;
    cr_assert_eq(document_key_seal_original(d->key, &frames, &why), ST_OK);
    cr_assert_eq(frames_seal_add(frames, original, len, &d->sealed, &why), ST_OK);
    cr_assert_eq(frames_seal_end(frames, &d->sealed, &why), ST_OK);
}

void rig_document(const char *tenant, const char *id, const char *status, const char *name, const void *original, size_t len) {
    cr_assert_lt(document_count, RIG_DOCUMENTS_MAX);
    struct stored *d = &documents[document_count++];
    struct uuid document = rig_uuid(id), owner = rig_uuid(tenant);
    struct why why = { 0 };
    uint8_t key[KEY_BYTES];
    make_tenant_key(tenant, key);
    struct tenant_key_blob row = { TENANT_KEY_DATA, 1, "k", { .data = key, .len = sizeof key } };
    CLEANUP(tenant_key_release) struct tenant_key *tenant_key = NULL;
    struct blob wrapped, name_enc;
    (void)snprintf(d->id, sizeof d->id, "%s", id);
    (void)snprintf(d->tenant, sizeof d->tenant, "%s", tenant);
    d->object = xstrdup(original_object_key(rig.mem, &owner, &document));
    cr_assert_eq(keyring_tenant(sealer, &owner, &row, 1, TENANT_KEY_DATA, 0, clock_mono_ms() + 1000, &tenant_key, &why), ST_OK);
    cr_assert_eq(document_key_new(tenant_key, &document, rig.mem, &d->key, &wrapped, NULL, &why), ST_OK);
    cr_assert_eq(document_key_seal_field(d->key, FIELD_FILE_NAME, &document, name, strlen(name), rig.mem, &name_enc, &why), ST_OK);
    if (original)
        seal_original(d, original, len);
    pg_ask(pg_admin(),
        "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by, status, reason_code, name_enc, pages) "
        "SELECT tenant_id, '%s', 'text/plain', %zu, 1, id, '%s', %s, '\\x%s', 3 FROM auth.users WHERE tenant_id = '%s' AND subject = 'owner';"
        "INSERT INTO keys.document_keys (tenant_id, document_id, version, wrapped) VALUES ('%s', '%s', 1, '\\x%s')",
        id, len, status, strcmp(status, "failed") == 0 ? "'DOC_003'" : "NULL", hex(name_enc), tenant, tenant, id, hex(wrapped));
}

void rig_subject(const char *tenant, const char *id, const char *mrn, const char *document_id) {
    struct uuid owner = rig_uuid(tenant);
    struct why why = { 0 };
    uint8_t key[KEY_BYTES], blind[32];
    memset(key, SEARCH_KEY_BYTE, sizeof key);
    struct tenant_key_blob row = { TENANT_KEY_SEARCH, 1, "k", { .data = key, .len = sizeof key } };
    CLEANUP(tenant_key_release) struct tenant_key *search_key = NULL;
    cr_assert_eq(keyring_tenant(sealer, &owner, &row, 1, TENANT_KEY_SEARCH, 0, clock_mono_ms() + 1000, &search_key, &why), ST_OK);
    tenant_key_blind(search_key, "mrn", mrn, strlen(mrn), blind);
    pg_ask(pg_admin(), "INSERT INTO app.subjects (tenant_id, id, mrn_blind, mrn_enc) VALUES ('%s', '%s', '\\x%s', '\\x00');"
                       "UPDATE app.documents SET subject_id = '%s' WHERE tenant_id = '%s' AND id = '%s'",
           tenant, id, hex((struct blob){ blind, sizeof blind }), id, tenant, document_id);
}

void rig_chunk(const char *document_id, const char *id, const char *text, double distance) {
    struct stored *d = documents;
    while (d < documents + document_count && !str_equal(d->id, document_id))
        d++;
    cr_assert_lt(d, documents + document_count);
    struct uuid chunk = rig_uuid(id);
    struct why why = { 0 };
    struct blob sealed;
    cr_assert_eq(document_key_seal_field(d->key, FIELD_CHUNK_TEXT, &chunk, text, strlen(text), rig.mem, &sealed, &why), ST_OK);
    pg_ask(pg_admin(),
        "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, page_from, page_to, start_offset, end_offset, token_count, text_enc) "
        "SELECT '%s', '%s', '%s', count(*), 2, 2, 5, 5 + %zu, 3, '\\x%s' FROM app.chunks WHERE document_id = '%s';"
        "INSERT INTO app.text_vectors (tenant_id, text_blind, model, embedding) "
        "SELECT k.tenant_id, k.text_blind, '" RIG_MODEL "', ('[1,%f' || repeat(',0', 1022) || ']')::ext.halfvec FROM app.chunks k WHERE k.id = '%s';"
        "INSERT INTO app.vector_sets (tenant_id, model) VALUES ('%s', '" RIG_MODEL "') ON CONFLICT DO NOTHING",
        d->tenant, d->id, id, strlen(text), hex(sealed), d->id, distance, id, d->tenant);
}

static const char *seal(const struct document_key *key, enum field_kind kind, const struct uuid *row, const char *text) {
    struct why why = { 0 };
    struct blob sealed;
    cr_assert_eq(document_key_seal_field(key, kind, row, text, strlen(text), rig.mem, &sealed, &why), ST_OK);
    return hex(sealed);
}

void rig_answer(const char *tenant, const char *subject, const char *id, const char *document_id, const char *chunk_id) {
    struct uuid owner = rig_uuid(tenant), answer = rig_uuid(id);
    struct why why = { 0 };
    uint8_t bytes[KEY_BYTES];
    make_tenant_key(tenant, bytes);
    struct tenant_key_blob row = { TENANT_KEY_DATA, 1, "k", { .data = bytes, .len = sizeof bytes } };
    CLEANUP(tenant_key_release) struct tenant_key *tenant_key = NULL;
    CLEANUP(document_key_destroy) struct document_key *key = NULL;
    struct blob wrapped;
    cr_assert_eq(keyring_tenant(sealer, &owner, &row, 1, TENANT_KEY_DATA, 0, clock_mono_ms() + 1000, &tenant_key, &why), ST_OK);
    cr_assert_eq(document_key_new(tenant_key, &answer, rig.mem, &key, &wrapped, NULL, &why), ST_OK);
    const char *question = seal(key, FIELD_QUESTION, &answer, "What?"), *text = seal(key, FIELD_ANSWER, &answer, "It says so. [1]");
    pg_ask(pg_admin(), "BEGIN; ALTER TABLE app.answers DISABLE TRIGGER audit;"
        "WITH u AS (SELECT u.id FROM auth.users u WHERE u.tenant_id = '%s' AND u.subject = '%s' AND NOT EXISTS (SELECT FROM app.answers WHERE id = '%s')),"
        "c AS (INSERT INTO app.conversations (tenant_id, id, user_id) SELECT '%s', '%s', u.id FROM u RETURNING *),"
        "k AS (INSERT INTO keys.conversation_keys (tenant_id, conversation_id, version, wrapped) SELECT c.tenant_id, c.id, 1, '\\x%s' FROM c),"
        "r AS (INSERT INTO app.receipts (tenant_id, answer_id, user_id, body) SELECT c.tenant_id, c.id, c.user_id, "
        "jsonb_build_object('answer_id', c.id, 'tenant_id', c.tenant_id, 'user_id', c.user_id)::text FROM c ON CONFLICT DO NOTHING)"
        "INSERT INTO app.answers (tenant_id, id, user_id, conversation_id, document_ids, question_enc, answer_enc, citations, model, event_id) "
        "SELECT c.tenant_id, c.id, c.user_id, c.id, '{%s}', '\\x%s', '\\x%s', jsonb_build_array(jsonb_build_object('number', 1, 'chunk_id', '%s', "
        "'document_id', '%s', 'page_from', 2, 'page_to', 2, 'start_offset', 5, 'end_offset', 10)), 'm', c.id FROM c;"
        "COMMIT; ALTER TABLE app.answers ENABLE ALWAYS TRIGGER audit",
        tenant, subject, id, tenant, id, hex(wrapped), document_id, question, text, chunk_id, document_id);
}

/* ---- calls ---- */

static enum status on_call(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    call->received_ms = call->deadline_ms;      /* else the record has less than a second, however slow the machine is */
    return service_dispatch(&QUERY, &rig.query, call, call->method, body, ret_reply);
}

enum status rig_call(const char *method, const char *ticket, const ProtobufCMessage *req, ProtobufCMessage **ret_reply) {
    const struct route *r = QUERY.routes;
    while (r->method && !str_equal(r->method, method))
        r++;
    cr_assert_not_null(r->method, "%s", method);
    struct asker a;
    asker_start(&a, &edge, PATIENCE_MS);
    arena_destroy(&a.call.mem);
    a.call.mem = rig.mem;
    a.call.ticket = ticket;
    *ret_reply = NULL;
    enum status st = bus_ask(&a.call, method, req, r->reply, ret_reply);
    rig.why = a.call.why;
    bus_client_destroy(&a.client);
    return st;
}

enum status rig_content(const char *ticket, const char *document_id, size_t max_parts, Query__ContentHead **ret_head, struct buffer *out) {
    Query__GetContentRequest req = QUERY__GET_CONTENT_REQUEST__INIT;
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    ProtobufCMessage *reply = NULL;
    struct asker a;
    *ret_head = NULL;
    req.document_id = rig_id(document_id);
    req.wanted = rig.wanted;
    asker_start(&a, &edge, PATIENCE_MS);
    a.call.ticket = ticket;
    enum status st = bus_stream_open(&a.call, "query.GetContent", &req.base, &stream);
    for (size_t n = 0; st == ST_OK && (!max_parts || n < max_parts); n++) {
        const void *data = NULL;
        size_t len = 0;
        st = bus_stream_read(stream, &data, &len);
        if (st != ST_OK || !data)
            break;
        if (n == 0)
            *ret_head = query__content_head__unpack(arena_wire(rig.mem), len, data);
        else
            (void)buffer_add(out, data, len);
    }
    if (st == ST_OK && !max_parts)
        st = bus_stream_finish(stream, &query__get_content_reply__descriptor, &reply);
    if (st == ST_OK && reply)
        cr_expect_eq(((Query__GetContentReply *)reply)->sent_bytes, (int64_t)out->len);
    rig.why = a.call.why;
    bus_stream_destroy(&stream);
    asker_end(&a);
    return st;
}

static void gather(void *ctx, const void *data, size_t len) {
    (void)buffer_add(ctx, data, len);
}

enum status rig_stream(const char *method, const char *ticket, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *want, struct buffer *out) {
    return rig_listen(method, ticket, req, want, 0, gather, out);
}

enum status rig_listen(const char *method, const char *ticket, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *want,
                       size_t max_parts, void (*hear)(void *ctx, const void *data, size_t len), void *ctx) {
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    ProtobufCMessage *reply = NULL;
    struct asker a;
    asker_start(&a, &edge, PATIENCE_MS);
    a.call.ticket = ticket;
    enum status st = bus_stream_open(&a.call, method, req, &stream);
    const void *data = "";
    size_t parts = 0;
    for (size_t len = 0; st == ST_OK && data && (!max_parts || parts < max_parts);) {
        st = bus_stream_read(stream, &data, &len);
        if (st == ST_OK && data) {
            hear(ctx, data, len);
            parts++;
        }
    }
    if (st == ST_OK && !data)
        st = bus_stream_finish(stream, want, &reply);
    rig.why = a.call.why;
    bus_stream_destroy(&stream);
    asker_end(&a);
    return st;
}

void rig_wait(const atomic_bool *flag) {
    WAIT_FOR(*flag);
}

double rig_in_flight(void) {
    return metric(&node, "cordon_in_flight ");
}

/* ---- life ---- */

static void start(struct node *n, enum peer self, enum peer callers, test_handler handle) {
    callee_init(n, self, 0, 1, handle, NULL);
    n->opt.callers = callers;
    node_start(n);
}

static void open_pool(const char *role, struct db_pool **ret_pool) {
    struct why why = { 0 };
    struct db_options options = { .url = pg_url(role), .process = "query-test" };
    cr_assert_eq(db_pool_new(&options, ret_pool, &why), ST_OK, "%s", why.text);
}

static void open_cloud(void) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("very-secret", 11);
    cloud = loopback_start(answer_cloud, NULL);
    credentials = credentials_new("AKIDTEST", key, NULL, 0);
    rig.query.aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    rig.query.s3 = s3_new(rig.query.aws, loopback_url(cloud), "docs");
    rig.query.anchor = s3_new(rig.query.aws, loopback_url(cloud), "anchors");
    rig.query.shares = shares_new(rig.query.aws, loopback_url(cloud), "shares", 0);
    rig.query.kms = kms_new(rig.query.aws, loopback_url(cloud));
    struct key_unwrapper unwrapper = kms_unwrapper(rig.query.kms);
    rig.query.keyring = keyring_new(&unwrapper, 0, 16);
    cr_assert_eq(witnesses_read(LOG_WITNESS, &rig.query.witnesses, &rig.query.witness_count, &rig.why), ST_OK);
    sealer = keyring_new(&(struct key_unwrapper){ .decrypt = unwrap }, 60000, 16);
}

void rig_open(void) {
    rig = (struct rig){ .mem = arena_new(256 << 20), .damaged_at = -1 };
    document_count = 0;
    pg_open();
    log_conn = pg_connect(NULL);
    open_pool("cordon_query", &rig.query.db);
    open_pool("cordon_audit_reader", &rig.query.audit_db);
    open_cloud();
    add_tenant(PG_TENANT_A, PG_SLUG_A);
    add_tenant(PG_TENANT_B, PG_SLUG_B);
    make_keys();
    start(&writer, PEER_AUDIT_WRITER, PEER_QUERY, on_append);
    start(&model, PEER_EMBEDDING_WORKER, PEER_QUERY, on_model);
    callee_init(&node, PEER_QUERY, 0, 2, on_call, NULL);
    node.opt.endpoints[peer_index(PEER_AUDIT_WRITER)] = writer.listen;
    node.opt.endpoints[peer_index(PEER_EMBEDDING_WORKER)] = model.listen;
    node_start(&node);
    caller_start(&edge, PEER_QUERY, node.listen);
    WAIT_FOR(bus_peer_is_up(edge.bus, PEER_QUERY) && bus_peer_is_up(node.bus, PEER_AUDIT_WRITER) && bus_peer_is_up(node.bus, PEER_EMBEDDING_WORKER));
}

void rig_close(void) {
    node_stop(&edge);
    node_stop(&node);
    node_stop(&model);
    node_stop(&writer);
    keyring_destroy(&rig.query.keyring);
    free(rig.query.witnesses);
    rig.query.witnesses = NULL;
    shares_destroy(&rig.query.shares);
    keyring_destroy(&sealer);
    s3_destroy(&rig.query.s3);
    s3_destroy(&rig.query.anchor);
    kms_destroy(&rig.query.kms);
    aws_destroy(&rig.query.aws);
    credentials_release(&credentials);
    loopback_stop(&cloud);
    db_pool_destroy(&rig.query.db);
    db_pool_destroy(&rig.query.audit_db);
    for (size_t i = 0; i < document_count; i++) {
        document_key_destroy(&documents[i].key);
        buffer_end(&documents[i].sealed);
        free(documents[i].object);
    }
    for (; share_count > 0; share_count--) {
        free(shares[share_count - 1].target);
        buffer_end(&shares[share_count - 1].body);
    }
    PQfinish(log_conn);
    arena_destroy(&rig.mem);
    pg_close();
}
