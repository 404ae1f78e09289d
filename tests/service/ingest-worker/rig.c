#include "rig.h"

#include "audit.pb-c.h"
#include "core/wire.h"
#include "db/halfvec.h"
#include "db/sql.h"
#include "embedding.pb-c.h"

struct rig rig;

/* ---- the players ---- */

/* As audit-writer does, but for the tree: for keys that are handed out for what is on the record. */
static void record_disclosure(struct call *call, const Audit__Event *e) {
    struct uuid *ids = arena_alloc(call->mem, (e->n_document_ids + 1) * sizeof *ids), event_id = { { 0 } };
    char event[UUID_TEXT_BYTES];
    PGconn *conn = PQconnectdb(pg_url(NULL));
    (void)uuid_from_bytes(e->event_id.data, e->event_id.len, &event_id);
    for (size_t i = 0; i < e->n_document_ids; i++)
        (void)uuid_from_bytes(e->document_ids[i].data, e->document_ids[i].len, &ids[i]);
    const char *const values[] = { uuid_format(&event_id, event), e->action, uuid_array(call->mem, ids, e->n_document_ids), call->ticket };
    PGresult *done = PQexecParams(conn, "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id,"
        " document_ids, ticket_digest, content_digest, event, leaf_hash)"
        " SELECT $1::uuid, c.tenant_id, (SELECT count(*) FROM audit.audit_logs l WHERE l.tenant_id = c.tenant_id), clock_timestamp(), clock_timestamp(),"
        " 'disclosure', $2, 'success', c.user_id, $3::uuid[], sha256(convert_to($4, 'UTF8')), sha256(''), '{}', sha256('\\x007b7d') FROM authz.check($4) c",
        4, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(done) != PGRES_COMMAND_OK)
        fprintf(stderr, "the record: %s", PQerrorMessage(conn));
    PQclear(done);
    PQfinish(conn);
}

static enum status on_append(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    const Audit__AppendRequest *req = audit__append_request__unpack(arena_wire(call->mem), body.len, body.data);
    if (!req)
        return fail(&call->why, ST_INVALID, "does not decode");
    if (rig.audit_status)
        return fail(&call->why, (enum status)rig.audit_status, "away");
    Audit__AppendReply *reply = arena_alloc(call->mem, sizeof *reply);
    audit__append_reply__init(reply);
    reply->n_seqs = req->n_events;
    reply->seqs = arena_alloc(call->mem, req->n_events * sizeof *reply->seqs);
    rig.audited++;
    for (size_t i = 0; i < req->n_events; i++) {
        if (rig.records_disclosures)
            record_disclosure(call, req->events[i]);
        if (str_equal(req->events[i]->action, "model.use")) {
            (void)snprintf(rig.model_recorded, sizeof rig.model_recorded, "%s", req->events[i]->detail_json);
            rig.models_recorded++;
        }
    }
    *ret_reply = &reply->base;
    return ST_OK;
}

static uint64_t hash(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

static Embedding__Vector *vector_of(struct arena *mem, const char *text) {
    Embedding__Vector *vector = arena_alloc(mem, sizeof *vector);
    embedding__vector__init(vector);
    vector->n_values = 1024;
    vector->values = arena_alloc(mem, vector->n_values * sizeof *vector->values);
    vector->values[hash(text) % 1024] = 1;
    return vector;
}

static enum status on_embed(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    if (str_equal(call->method, "embedding.Models")) {
        Embedding__ModelsReply *models = arena_alloc(call->mem, sizeof *models);
        embedding__models_reply__init(models);
        models->embed_model = (char *)rig.model_name;
        models->dimensions = VECTOR_DIMENSIONS;
        *ret_reply = &models->base;
        return ST_OK;
    }
    const Embedding__EmbedRequest *req = embedding__embed_request__unpack(arena_wire(call->mem), body.len, body.data);
    if (!req)
        return fail(&call->why, ST_INVALID, "does not decode");
    unsigned number = ++rig.embedded_calls;
    if (rig.audited == 0)
        rig.was_audited_first = false;
    if (rig.on_embed)
        rig.on_embed(number);
    if (rig.budget_ms) {
        enum status st = fail_as(&call->why, ERR_MODEL_BUDGET, "used up");
        call->why.retry_after_ms = rig.budget_ms;
        return st;
    }
    if (rig.model_status && number >= rig.fails_at_call)
        return fail(&call->why, (enum status)rig.model_status, "away");
    Embedding__EmbedReply *reply = arena_alloc(call->mem, sizeof *reply);
    embedding__embed_reply__init(reply);
    reply->model = arena_strdup(call->mem, *req->model ? req->model : rig.model_name);
    reply->n_vectors = req->n_texts;
    reply->vectors = arena_alloc(call->mem, req->n_texts * sizeof *reply->vectors);
    pthread_mutex_lock(&rig.lock);
    for (size_t i = 0; i < req->n_texts; i++) {
        reply->vectors[i] = vector_of(call->mem, req->texts[i]);
        if (rig.text_count < TEXTS_MAX)
            rig.texts[rig.text_count++] = hash(req->texts[i]);
    }
    pthread_mutex_unlock(&rig.lock);
    *ret_reply = &reply->base;
    return ST_OK;
}

static enum status on_call(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    return service_dispatch(&INGEST_WORKER, rig.ingest, call, call->method, body, ret_reply);
}

/* ---- life ---- */

static void start(struct node *n, enum peer self, enum peer caller, test_handler handle) {
    callee_init(n, self, 0, 2, handle, NULL);
    n->opt.callers = caller;
    n->opt.endpoints[peer_index(PEER_AUDIT_WRITER)] = self == PEER_INGEST_WORKER ? rig.writer.listen : NULL;
    n->opt.endpoints[peer_index(PEER_EMBEDDING_WORKER)] = self == PEER_INGEST_WORKER ? rig.model.listen : NULL;
    node_start(n);
}

static struct secret *secret_of(const char *text) {
    return secret_new(text, strlen(text));
}

static struct live_secret *live_secret_of(const char *text) {
    return live_secret_new(text, strlen(text));
}

static void fill_settings(struct ingest_settings *s) {
    *s = (struct ingest_settings){
        .database_url = live_secret_of(pg_url("cordon_ingest")), .jobs_database_url = live_secret_of(pg_url("cordon_jobs")),
        .db_connections_count = 4, .bucket = "docs", .share_bucket = "shares", .upload_max_bytes = RIG_UPLOAD_MAX_BYTES, .upload_lease_ms = RIG_UPLOAD_LEASE_MS,
        .sandbox_path = CORDON_BINARY_DIR "/services/ingest-worker/cordon-sandbox", .pdftotext_path = "/usr/bin/pdftotext",
        .extract_memory_bytes = 1 << 30, .extract_time_ms = 10000, .text_max_bytes = 8 << 20, .job_threads_count = 2,
        .lease_ms = RIG_LEASE_MS, .poll_ms = RIG_POLL_MS, .key_rotation_days = 365, .s3_endpoint = loopback_url(rig.cloud.server),
        .kms_endpoint = loopback_url(rig.cloud.server),
        .aws = { .region = "us-east-1", .identity = "ingest-worker", .access_key_id = "AKIDTEST", .secret_access_key = secret_of("s"), .session_token = secret_of("t"), .proxy = "",
                 .sts_endpoint = loopback_url(rig.cloud.server) } };
}

void rig_open(void) {
    rig = (struct rig){ .was_audited_first = true };
    pthread_mutex_init(&rig.lock, NULL);
    pg_open();
    pg_ask(pg_admin(), "INSERT INTO keys.tenant_keys (tenant_id, kind, version, kms_key_id, blob) SELECT t.id, k, 1, 'key', 'blob' "
                       "FROM auth.tenants t, unnest(ARRAY['data', 'search']) k WHERE t.slug IN ('" PG_SLUG_A "', '" PG_SLUG_B "')");
    fake_cloud_start(&rig.cloud);
    fill_settings(&rig.settings);
    make_keys();
    start(&rig.writer, PEER_AUDIT_WRITER, PEER_INGEST_WORKER, on_append);
    rig.model_name = "m";
    start(&rig.model, PEER_EMBEDDING_WORKER, PEER_INGEST_WORKER, on_embed);
    rig.runtime = (struct runtime){ .process = "ingest-worker", .metrics = metrics_new() };
    struct why why = { 0 };
    cr_assert_eq(INGEST_WORKER.open((void **)&rig.ingest, &rig.settings, &rig.runtime, &why), ST_OK, "%s", why.text);
    start(&rig.worker, PEER_INGEST_WORKER, PEER_EDGE, on_call);
    rig.runtime.bus = rig.worker.bus;
    caller_start(&rig.edge, PEER_INGEST_WORKER, rig.worker.listen);
}

void rig_close(void) {
    rig_stop_jobs();
    INGEST_WORKER.close((void **)&rig.ingest);
    cr_expect_not(rig.runtime.has_left_behind);
    node_stop(&rig.edge);
    node_stop(&rig.worker);
    node_stop(&rig.model);
    node_stop(&rig.writer);
    fake_cloud_stop(&rig.cloud);
    metrics_destroy(&rig.runtime.metrics);
    live_secret_destroy(&rig.settings.database_url);
    live_secret_destroy(&rig.settings.jobs_database_url);
    secret_destroy(&rig.settings.aws.secret_access_key);
    secret_destroy(&rig.settings.aws.session_token);
    pthread_mutex_destroy(&rig.lock);
    pg_close();
}

void rig_start_jobs(void) {
    struct why why = { 0 };
    cr_assert_eq(INGEST_WORKER.start(rig.ingest, &rig.runtime, &why), ST_OK, "%s", why.text);
}

void rig_stop_jobs(void) {
    if (rig.ingest->jobs)
        INGEST_WORKER.drain(rig.ingest, clock_mono_ms() + 4000);
    (void)!schedule_destroy(&rig.ingest->schedule, clock_mono_ms() + 4000);
}

/* ---- doing ---- */

enum status rig_upload_as(const char *ticket, const struct rig_upload *u, const void *data, size_t len, struct uuid *ret_document,
                          struct why *ret_why) {
    static const struct rig_upload PLAIN = { .announced_bytes = -1 };
    u = u ? u : &PLAIN;
    struct asker a;
    asker_start(&a, &rig.edge, PATIENCE_MS);
    a.call.ticket = ticket;
    Ingest__UploadRequest req = INGEST__UPLOAD_REQUEST__INIT;
    req.content_type = (char *)(u->type ? u->type : "text/plain");
    req.file_name = (char *)(u->name ? u->name : "");
    req.metadata_json = (char *)(u->metadata ? u->metadata : "");
    req.mrn = (char *)(u->mrn ? u->mrn : "");
    req.announced_bytes = u->announced_bytes;
    req.idempotency_key = (char *)(u->key ? u->key : "");
    req.priority = (char *)(u->priority ? u->priority : "");
    req.document_id = (ProtobufCBinaryData){ u->id ? u->id_len : 0, (uint8_t *)u->id };
    req.sha256 = (ProtobufCBinaryData){ u->sha256_len, (uint8_t *)u->sha256 };
    struct bus_stream *s = NULL;
    ProtobufCMessage *reply = NULL;
    enum status st = bus_stream_open(&a.call, "ingest.Upload", &req.base, &s);
    for (size_t at = 0; st == ST_OK && !bus_stream_is_answered(s); at += BUS_PART_MAX_BYTES) {
        size_t n = len - at < BUS_PART_MAX_BYTES ? len - at : BUS_PART_MAX_BYTES;
        bool is_end = at + n == len;
        st = bus_stream_write(s, (const char *)data + at, n, is_end, is_end ? u->end_ticket : NULL);
        if (is_end)
            break;
    }
    if (st == ST_OK)
        st = bus_stream_finish(s, &ingest__upload_reply__descriptor, &reply);
    if (st == ST_OK && ret_document)
        cr_assert(uuid_from_bytes(((Ingest__UploadReply *)reply)->document_id.data, UUID_BYTES, ret_document));
    if (ret_why)
        *ret_why = a.call.why;
    bus_stream_destroy(&s);
    asker_end(&a);
    return st;
}

enum status rig_upload(const struct rig_upload *u, const void *data, size_t len, struct uuid *ret_document, struct why *ret_why) {
    return rig_upload_as(pg_ticket(PG_SLUG_A, "clinician", "ann"), u, data, len, ret_document, ret_why);
}

void rig_add_document(unsigned sentences) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    for (unsigned i = 0; i < sentences; i++)
        (void)buffer_printf(&text, "Sentence %u: the potassium was measured again in the morning, and the number of this sentence is %u, which no other has.%s",
                            i, i, i % 5 == 4 ? "\n\n" : " ");
    struct why why = { 0 };
    cr_assert_eq(rig_upload(NULL, text.data, text.len, NULL, &why), ST_OK, "%s", why.text);
}

void rig_wait_for(const char *want, const char *sql) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    const char *got = "";
    while (!str_equal(got = pg_ask(pg_admin(), "%s", sql), want) && clock_mono_ms() < until_ms)
        usleep(10000);
    cr_assert_str_eq(got, want, "%s: waited in vain", sql);
}

unsigned rig_most_embedded(void) {
    unsigned most = 0;
    pthread_mutex_lock(&rig.lock);
    for (unsigned i = 0; i < rig.text_count; i++) {
        unsigned n = 0;
        for (unsigned j = 0; j < rig.text_count; j++)
            n += rig.texts[i] == rig.texts[j];
        most = n > most ? n : most;
    }
    pthread_mutex_unlock(&rig.lock);
    return most;
}

void rig_database(bool is_away) {
    pg_ask(pg_admin(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT %s', current_database()); END $$", is_away ? "0" : "-1");
    pg_ask(pg_admin(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'cordon_%%' "
                       "AND pid <> pg_backend_pid()");
}

enum status rig_ask(const char *method, const char *ticket, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *reply, struct why *ret_why) {
    struct asker a;
    asker_start(&a, &rig.edge, PATIENCE_MS);
    a.call.ticket = ticket;
    ProtobufCMessage *got = NULL;
    enum status st = bus_ask(&a.call, method, req, reply, &got);
    if (ret_why)
        *ret_why = a.call.why;
    asker_end(&a);
    return st;
}
