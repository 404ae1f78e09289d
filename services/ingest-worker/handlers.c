/* ingest-worker/handlers — the table of what this process answers, and its life. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "db/boot_check.h"
#include "db/plain_tx.h"
#include "db/tenant_tx.h"
#include "ingest.h"
#include "secrets/secrets.h"
#include "ingest.pb-c.h"

enum { BOOT_BUDGET_MS = 20000, READY_BUDGET_MS = 2000, TENANT_KEYS_MAX = 1024, DRAIN_MARGIN_MS = 200, HAND_BACK_MS = 1000, JOIN_MS = 500,
       SCHEDULE_POLL_MS = 2000, SCHEDULE_RUN_MS = 120000 };
static const char QUEUE[] = "ingest";

enum status on_delete_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql DELETE = { "delete_document",
        "UPDATE app.documents SET status = 'deleted', reason_code = NULL, deleted_at = pg_catalog.now() "
        "WHERE tenant_id = $1 AND id = $2 AND status <> 'deleted'", 2 };
    static const struct sql DELETE_CHUNKS = { "delete_chunks", "DELETE FROM app.chunks WHERE tenant_id = $1 AND document_id = $2", 2 };
    const Ingest__DeleteDocumentRequest *req = (const void *)in;
    struct ingest *g = self;
    (void)out;
    struct uuid id;
    if (!uuid_from_bytes(req->document_id.data, req->document_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "document_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, g->db, call->ticket, &call->request_id, SCOPE_DOCUMENTS_WRITE, call->deadline_ms,
                                     &call->why);
    struct db_param params[] = { DB_UUID(&tx.claims.tenant_id), DB_UUID(&id) };
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &DELETE, params, &rows, &call->why);
    if (st == ST_OK && db_affected(rows) == 0)
        st = fail(&call->why, ST_NOT_FOUND, "document");
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &DELETE_CHUNKS, params, NULL, &call->why);
    if (st == ST_OK)
        st = fault_status(FAULT_DELETE_BEFORE_COMMIT, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    return st == ST_OK ? fault_status(FAULT_DELETE_COMMITTED, &call->why) : st;
}

static const struct route ROUTES[] = {
    /* method                  who may call  scope                  request                                     reply                                     handler */
    { "ingest.Upload",         PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__upload_request__descriptor,          &ingest__upload_reply__descriptor,          on_upload },
    { "ingest.UpdateDocument", PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__update_document_request__descriptor, &ingest__update_document_reply__descriptor, on_update_document },
    { "ingest.DeleteDocument", PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__delete_document_request__descriptor, &ingest__delete_document_reply__descriptor, on_delete_document },
    { "ingest.CancelJob",      PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__cancel_job_request__descriptor,      &ingest__cancel_job_reply__descriptor,      on_cancel_job },
    { "ingest.RetryJob",       PEER_EDGE,    SCOPE_DOCUMENTS_WRITE, &ingest__retry_job_request__descriptor,       &ingest__retry_job_reply__descriptor,       on_retry_job },
    { "ingest.CreateErasure",  PEER_EDGE,    SCOPE_ERASURES_MANAGE, &ingest__create_erasure_request__descriptor,  &ingest__create_erasure_reply__descriptor,  on_create_erasure },
    { "ingest.CreateEvidence", PEER_EDGE,    SCOPE_EVIDENCE_MANAGE, &ingest__create_evidence_request__descriptor, &ingest__create_evidence_reply__descriptor, on_create_evidence },
    { "ingest.DeleteEvidence", PEER_EDGE,    SCOPE_EVIDENCE_MANAGE, &ingest__delete_evidence_request__descriptor, &ingest__delete_evidence_reply__descriptor, on_delete_evidence },
    { "ingest.CreateReembedding", PEER_EDGE, SCOPE_VECTORS_MANAGE, &ingest__create_reembedding_request__descriptor, &ingest__create_reembedding_reply__descriptor, on_create_reembedding },
    { "ingest.PlaceHold",      PEER_EDGE,    SCOPE_HOLDS_MANAGE,   &ingest__place_hold_request__descriptor,      &ingest__place_hold_reply__descriptor,      on_place_hold },
    { "ingest.ReleaseHold",    PEER_EDGE,    SCOPE_HOLDS_MANAGE,   &ingest__release_hold_request__descriptor,    &ingest__release_hold_reply__descriptor,    on_release_hold },
    { 0 }
};

/* ---- settings ---- */

#define OFF(member) offsetof(struct ingest_settings, member)

static const struct setting SETTINGS[] = {
    /* name                        type        default             min  max       unit     offset                     help */
    { "DATABASE_URL",              SET_LIVE_SECRET, NULL,               1,   2048,     "",      OFF(database_url),         "PostgreSQL as role cordon_ingest; sslmode=verify-full in production." },
    { "DATABASE_PASSWORD", SET_LIVE_SECRET, "", 1, 512, "", OFF(database_password), "Its role's password, when it is not in DATABASE_URL; it wins over one that is." },
    { "CORDON_JOBS_DATABASE_URL",  SET_LIVE_SECRET, NULL,               1,   2048,     "",      OFF(jobs_database_url),    "The same database as role cordon_jobs." },
    { "CORDON_JOBS_DATABASE_PASSWORD", SET_LIVE_SECRET, "", 1, 512, "", OFF(jobs_database_password), "Its role's password, when it is not in CORDON_JOBS_DATABASE_URL; it wins over one that is." },
    { "CORDON_DB_CONNECTIONS",     SET_INT,    "4",                1,   64,       "",      OFF(db_connections_count), "Connections for documents and chunks." },
    AWS_SETTINGS(struct ingest_settings, aws, "ingest-worker"),
    AWS_SECRETS_SETTINGS(struct ingest_settings, aws),
    AWS_ENDPOINT_SETTING(struct ingest_settings, s3_endpoint, "S3"),
    AWS_ENDPOINT_SETTING(struct ingest_settings, kms_endpoint, "KMS"),
    { "CORDON_DOCUMENT_BUCKET",    SET_TEXT,   NULL,               3,   63,       "",      OFF(bucket),               "Bucket of the sealed originals." },
    { "CORDON_SHARE_BUCKET",       SET_TEXT,   NULL,               3,   63,       "",      OFF(share_bucket),         "Bucket, without versions, of the second shares of document keys." },
    { "CORDON_ANCHOR_BUCKET",      SET_TEXT,   "",                 0,   63,       "",      OFF(anchor_bucket), "Bucket that archived months of the audit log are read from; empty: they cannot be shown." },
    { "CORDON_MAX_UPLOAD_BYTES",   SET_INT,    "104857600",        1,   1LL << 38, "bytes", OFF(upload_max_bytes),    "Longest original that is accepted." },
    { "CORDON_UPLOAD_PARTS",       SET_INT,    "16",               0,   1024,     "",      OFF(upload_parts_count),   "Parts of 6 MiB of long originals, of all uploads together, that are on their way to the document store while the next are taken in; 0: one after the other." },
    { "CORDON_UPLOAD_LEASE_MS",    SET_INT,    "60000",            1000, 300000,   "ms",    OFF(upload_lease_ms),      "How long an upload may show no life before the janitor removes it." },
    { "CORDON_SANDBOX_PATH",       SET_TEXT,   "/usr/local/bin/cordon-sandbox", 1, 1024, "", OFF(sandbox_path),        "The program that confines text extraction." },
    { "CORDON_PDFTOTEXT_PATH",     SET_TEXT,   "/usr/bin/pdftotext", 1, 1024,     "",      OFF(pdftotext_path),       "poppler's pdftotext." },
    { "CORDON_SANDBOX_WITHOUT_LANDLOCK", SET_BOOL, "false",        0,   0,        "",      OFF(is_without_landlock),  "Extract even where the kernel has no Landlock; seccomp and limits remain." },
    { "CORDON_EXTRACT_MEMORY_BYTES", SET_INT,  "1073741824",       1 << 26, 1LL << 36, "bytes", OFF(extract_memory_bytes), "Memory of one extraction." },
    { "CORDON_EXTRACT_TIME_MS",    SET_INT,    "30000",            100, 600000,   "ms",    OFF(extract_time_ms),      "Time of one extraction." },
    { "CORDON_TEXT_MAX_BYTES",     SET_INT,    "33554432",         1024, 1 << 30, "bytes", OFF(text_max_bytes),       "Longest extracted text." },
    { "CORDON_JOB_THREADS",        SET_INT,    "4",                1,   JOB_THREADS_MAX, "", OFF(job_threads_count),   "Documents ingested at once." },
    { "CORDON_LEASE_MS",           SET_INT,    "5000",             500, 120000,   "ms",    OFF(lease_ms),             "How long a claimed job is ours without a renewal." },
    { "CORDON_POLL_MS",            SET_INT,    "1000",             10,  60000,    "ms",    OFF(poll_ms),              "How often to look for jobs when nobody calls." },
    { "CORDON_KEY_CACHE_MS",       SET_INT,    "300000",           0,   3600000,  "ms",    OFF(key_cache_ms),         "How long a tenant key is kept after KMS gave it." },
    { "CORDON_SHARE_CACHE_MS",     SET_INT,    "60000" ,           0,   3600000,  "ms",    OFF(share_cache_ms),       "How long the second share of a document key is kept after S3 gave it." },
    { "CORDON_PARTITION_CHUNKS",   SET_INT,    "4000",             1,   10000000, "",      OFF(partition_chunks_count), "So many vectors a tenant may have before they move into a partition of its own, with an index. Chunks of equal text have one vector." },
    { "CORDON_BACKUP_DAYS",        SET_INT,    "35",               1,   3650,     "days",  OFF(backup_days),          "How long backups of the database are kept: erasure certificates name the day on which the last one ends." },
    { "CORDON_KEY_ROTATION_DAYS",  SET_INT,    "365",              1,   3650,     "days",  OFF(key_rotation_days),    "Age at which a tenant's data key is due for rotation, as metrics and alerts have it; rotating is asked for by the tenant." },
    { 0 }
};

/* ---- readiness ---- */

static enum status check_database(void *self, struct why *why) {
    const struct ingest *g = self;
    return db_boot_check(g->db, "cordon_ingest", g->runtime->is_production, clock_mono_ms() + READY_BUDGET_MS, why);
}

static enum status check_jobs_database(void *self, struct why *why) {
    const struct ingest *g = self;
    return db_boot_check(g->jobs_db, "cordon_jobs", g->runtime->is_production, clock_mono_ms() + READY_BUDGET_MS, why);
}

static enum status check_identity(void *self, struct why *why) {
    const struct ingest *g = self;
    return sts_assert(g->aws, g->settings->aws.sts_endpoint, g->settings->aws.identity, clock_mono_ms() + READY_BUDGET_MS, why);
}

static const struct ready_check READY[] = {
    { "database", check_database },
    { "jobs_database", check_jobs_database },
    { "aws_identity", check_identity },
    { 0 }
};

static void collect(void *self, struct metrics *m) {
    struct ingest *g = self;
    job_metrics_collect(&g->gauges, g->jobs_db, QUEUE, g->settings->key_rotation_days, m);
}

/* ---- life ---- */

static void ingest_close(void **self_p) {
    struct ingest *g = *self_p;
    if (!g)
        return;
    if (!schedule_destroy(&g->schedule, clock_mono_ms() + JOIN_MS) || !job_pool_destroy(&g->jobs, clock_mono_ms() + JOIN_MS)) {
        g->runtime->has_left_behind = true;
        return;
    }
    db_listener_destroy(&g->listener);
    keyring_destroy(&g->keyring);
    shares_destroy(&g->shares);
    s3_destroy(&g->s3);
    s3_destroy(&g->anchor);
    kms_destroy(&g->kms);
    aws_destroy(&g->aws);
    db_pool_destroy(&g->db);
    db_pool_destroy(&g->jobs_db);
    free(g);
    *self_p = NULL;
}

static enum status open_databases(struct ingest *g, struct why *why) {
    const struct ingest_settings *s = g->settings;
    struct db_options tenant = { .live_url = s->database_url, .password = s->database_password, .process = "ingest-worker", .metrics = g->runtime->metrics,
                                 .connections = (int)s->db_connections_count, .is_production = g->runtime->is_production };
    struct db_options jobs = { .live_url = s->jobs_database_url, .password = s->jobs_database_password, .process = "ingest-worker jobs",
                               .metrics = g->runtime->metrics, .connections = 2, .is_production = g->runtime->is_production };
    int64_t deadline_ms = clock_mono_ms() + BOOT_BUDGET_MS;
    enum status st = db_pool_new(&tenant, &g->db, why);
    if (st == ST_OK)
        st = db_pool_new(&jobs, &g->jobs_db, why);
    if (st == ST_OK)
        st = db_listener_new(&jobs, "jobs_ingest", &g->listener, why);
    if (st == ST_OK)
        st = db_boot_check(g->db, "cordon_ingest", g->runtime->is_production, deadline_ms, why);
    if (st == ST_OK)
        st = db_boot_check(g->jobs_db, "cordon_jobs", g->runtime->is_production, deadline_ms, why);
    const struct runtime *rt = g->runtime;
    return st == ST_OK ? db_record_start(g->db, "ingest-worker", &rt->instance_id, rt->version,
                             rt->settings_sha256, rt->settings_changed, deadline_ms, why) : st;
}

static enum status ingest_open(void **self_p, const void *settings, struct runtime *rt, struct why *why) {
    struct ingest *g = *self_p = xalloc(sizeof *g);
    g->settings = settings;
    g->runtime = rt;
    const struct ingest_settings *s = g->settings;
    enum status st = open_databases(g, why);
    if (st == ST_OK)
        st = secrets_open_aws(&s->aws, rt, &g->aws, why);
    if (st != ST_OK)
        return st;
    g->extract = (struct extract_options){ .sandbox_path = s->sandbox_path, .pdftotext_path = s->pdftotext_path,
        .is_landlock_required = !s->is_without_landlock, .memory_max_bytes = s->extract_memory_bytes,
        .time_max_ms = s->extract_time_ms, .text_max_bytes = (size_t)s->text_max_bytes };
    g->s3 = s3_new(g->aws, s->s3_endpoint, s->bucket);
    s3_send_aside(g->s3, (int)s->upload_parts_count);
    g->kms = kms_new(g->aws, s->kms_endpoint);
    struct key_unwrapper unwrapper = kms_unwrapper(g->kms);
    g->keyring = keyring_new(&unwrapper, s->key_cache_ms, TENANT_KEYS_MAX);
    g->anchor = s->anchor_bucket && *s->anchor_bucket ? s3_new(g->aws, s->s3_endpoint, s->anchor_bucket) : NULL;
    g->shares = shares_new(g->aws, s->s3_endpoint, s->share_bucket, s->share_cache_ms);
    return ST_OK;
}

static enum status ingest_start(void *self, struct runtime *rt, struct why *why) {
    struct ingest *g = self;
    const struct ingest_settings *s = g->settings;
    g->schedule = schedule_start(&(struct schedule_options){ .rows = HOUSEKEEPING, .db = g->jobs_db, .metrics = rt->metrics, .poll_ms = SCHEDULE_POLL_MS,
                                                             .run_ms = SCHEDULE_RUN_MS, .self = g });
    ingest_job_metrics(rt->metrics);
    return job_pool_start(&(struct job_pool_options){ .queue = QUEUE, .threads_count = (int)s->job_threads_count, .lease_ms = s->lease_ms,
                          .poll_ms = s->poll_ms, .db = g->jobs_db, .listener = g->listener, .runtime = rt, .run = ingest_job_run,
                          .hand_back = ingest_job_hand_back, .self = g }, &g->jobs, why);
}

static void ingest_drain(void *self, int64_t deadline_ms) {
    struct ingest *g = self;
    int64_t give_up_ms = deadline_ms - DRAIN_MARGIN_MS;
    (void)!schedule_destroy(&g->schedule, clock_mono_ms());     /* told to stop; close() waits for it */
    job_pool_drain(g->jobs, give_up_ms - HAND_BACK_MS, give_up_ms);
    (void)!job_pool_destroy(&g->jobs, give_up_ms);      /* close() asks again, and says when a thread stays */
}

static void ingest_needs(const void *settings, struct needs *needs) {
    const struct ingest_settings *s = settings;
    needs_program(needs, s->sandbox_path);
    needs_program(needs, s->pdftotext_path);
}

static enum status ingest_record_end(void *self, const struct runtime *rt, int64_t deadline_ms, struct why *why) {
    struct ingest *g = self;
    return db_record_end(g->db, "ingest-worker", &rt->instance_id, deadline_ms, why);
}

const struct service INGEST_WORKER = {
    .name = "ingest-worker", .peer = PEER_INGEST_WORKER, .about = "Takes uploads in and turns documents into searchable chunks.",
    .calls = PEER_EMBEDDING_WORKER | PEER_AUDIT_WRITER, .settings = SETTINGS, .settings_size = sizeof(struct ingest_settings),
    .secrets = &SECRETS_MANAGER, .aws_offset = offsetof(struct ingest_settings, aws),
    .needs = ingest_needs, .routes = ROUTES, .ready = READY, .open = ingest_open, .start = ingest_start, .drain = ingest_drain,
    .record_end = ingest_record_end, .close = ingest_close,
    .collect = collect,
};
