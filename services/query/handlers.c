/* query/handlers — the table of what this process answers, and its life. The handlers are in documents.c,
 * answers.c and audit_events.c. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "db/boot_check.h"
#include "query.h"
#include "secrets/secrets.h"
#include "query.pb-c.h"

enum { BOOT_BUDGET_MS = 20000, READY_BUDGET_MS = 2000, TENANT_KEYS_MAX = 1024 };

static const struct route ROUTES[] = {
    /* method                  who may call  scope                 request                                        reply                                        handler */
    { "query.ListDocuments",   PEER_EDGE,    SCOPE_DOCUMENTS_READ, &query__list_documents_request__descriptor,    &query__list_documents_reply__descriptor,    on_list_documents },
    { "query.GetDocument",     PEER_EDGE,    SCOPE_DOCUMENTS_READ, &query__get_document_request__descriptor,      &query__get_document_reply__descriptor,      on_get_document },
    { "query.GetContent",      PEER_EDGE,    SCOPE_DOCUMENTS_READ, &query__get_content_request__descriptor,       &query__get_content_reply__descriptor,       on_get_content },
    { "query.FindSubject",     PEER_EDGE,    SCOPE_DOCUMENTS_READ, &query__find_subject_request__descriptor,      &query__find_subject_reply__descriptor,      on_find_subject },
    { "query.GetJob",          PEER_EDGE,    SCOPE_DOCUMENTS_READ, &query__get_job_request__descriptor,           &query__get_job_reply__descriptor,           on_get_job },
    { "query.ListJobs",        PEER_EDGE,    SCOPE_DOCUMENTS_READ, &query__list_jobs_request__descriptor,         &query__list_jobs_reply__descriptor,         on_list_jobs },
    { "query.Search",          PEER_EDGE,    SCOPE_QUERY,          &query__search_request__descriptor,            &query__search_reply__descriptor,            on_search },
    { "query.Query",           PEER_EDGE,    SCOPE_QUERY,          &query__query_request__descriptor,             &query__query_reply__descriptor,             on_query },
    { "query.GetAnswer",       PEER_EDGE,    SCOPE_QUERY,          &query__get_answer_request__descriptor,        &query__get_answer_reply__descriptor,        on_get_answer },
    { "query.ListConversations", PEER_EDGE,  SCOPE_QUERY,          &query__list_conversations_request__descriptor, &query__list_conversations_reply__descriptor, on_list_conversations },
    { "query.GetConversation", PEER_EDGE,    SCOPE_QUERY,          &query__get_conversation_request__descriptor,  &query__get_conversation_reply__descriptor,  on_get_conversation },
    { "query.DeleteConversation", PEER_EDGE, SCOPE_QUERY,          &query__delete_conversation_request__descriptor, &query__delete_conversation_reply__descriptor, on_delete_conversation },
    { "query.GetReceipt",      PEER_EDGE,    SCOPE_QUERY,          &query__get_receipt_request__descriptor,       &query__get_receipt_reply__descriptor,       on_get_receipt },
    { "query.ListErasures",    PEER_EDGE,    SCOPE_ERASURES_MANAGE, &query__list_erasures_request__descriptor,    &query__list_erasures_reply__descriptor,     on_list_erasures },
    { "query.GetErasure",      PEER_EDGE,    SCOPE_ERASURES_MANAGE, &query__get_erasure_request__descriptor,      &query__get_erasure_reply__descriptor,       on_get_erasure },
    { "query.GetErasureCertificate", PEER_EDGE, SCOPE_ERASURES_MANAGE, &query__get_erasure_certificate_request__descriptor, &query__get_erasure_certificate_reply__descriptor, on_get_erasure_certificate },
    { "query.GetOffboarding",  PEER_EDGE,    SCOPE_TENANTS_MANAGE, &query__get_offboarding_request__descriptor,   &query__get_offboarding_reply__descriptor,   on_get_offboarding },
    { "query.ListEvidence",    PEER_EDGE,    SCOPE_EVIDENCE_MANAGE, &query__list_evidence_request__descriptor,    &query__list_evidence_reply__descriptor,     on_list_evidence },
    { "query.GetEvidence",     PEER_EDGE,    SCOPE_EVIDENCE_MANAGE, &query__get_evidence_request__descriptor,     &query__get_evidence_reply__descriptor,      on_get_evidence },
    { "query.GetEvidenceContent", PEER_EDGE, SCOPE_EVIDENCE_MANAGE, &query__get_evidence_content_request__descriptor, &query__get_evidence_content_reply__descriptor, on_get_evidence_content },
    { "query.GetVectors",      PEER_EDGE,    SCOPE_VECTORS_MANAGE, &query__get_vectors_request__descriptor,      &query__get_vectors_reply__descriptor,       on_get_vectors },
    { "query.ListHolds",       PEER_EDGE,    SCOPE_HOLDS_MANAGE,   &query__list_holds_request__descriptor,       &query__list_holds_reply__descriptor,        on_list_holds },
    { "query.GetAuditReceipt", PEER_EDGE,    SCOPE_AUDIT_READ,     &query__get_audit_receipt_request__descriptor, &query__get_receipt_reply__descriptor,       on_get_audit_receipt },
    { "query.ListAuditEvents", PEER_EDGE,    SCOPE_AUDIT_READ,     &query__list_audit_events_request__descriptor, &query__list_audit_events_reply__descriptor, on_list_audit_events },
    { "query.ListDisclosures", PEER_EDGE,    SCOPE_AUDIT_READ,     &query__list_disclosures_request__descriptor, &query__list_disclosures_reply__descriptor,  on_list_disclosures },
    { "query.ExportDisclosures", PEER_EDGE,  SCOPE_AUDIT_READ,     &query__list_disclosures_request__descriptor, &query__export_disclosures_reply__descriptor, on_export_disclosures },
    { "query.GetAuditCheckpoint", PEER_EDGE, SCOPE_AUDIT_READ, &query__get_audit_checkpoint_request__descriptor, &query__get_audit_checkpoint_reply__descriptor, on_get_audit_checkpoint },
    { "query.AddCosignatures", PEER_EDGE, SCOPE_AUDIT_WITNESS, &query__add_cosignatures_request__descriptor, &query__add_cosignatures_reply__descriptor, on_add_cosignatures },
    { "query.GetAuditProof", PEER_EDGE, SCOPE_AUDIT_READ, &query__get_audit_proof_request__descriptor, &query__get_audit_proof_reply__descriptor, on_get_audit_proof },
    { "query.GetAuditConsistency", PEER_EDGE, SCOPE_AUDIT_READ, &query__get_audit_consistency_request__descriptor, &query__get_audit_consistency_reply__descriptor, on_get_audit_consistency },
    { "query.GetAuditTile", PEER_EDGE, SCOPE_AUDIT_READ, &query__get_audit_tile_request__descriptor, &query__get_audit_tile_reply__descriptor, on_get_audit_tile },
    { "query.ExportAudit", PEER_EDGE, SCOPE_AUDIT_READ, &query__export_audit_request__descriptor, &query__export_audit_reply__descriptor, on_export_audit },
    { 0 }
};

#define OFF(member) offsetof(struct query_settings, member)

static const struct setting SETTINGS[] = {
    /* name                        type        default   min max      unit  offset                     help */
    { "DATABASE_URL",              SET_LIVE_SECRET, NULL,     1,  2048,    "",   OFF(database_url),         "PostgreSQL as role cordon_query; sslmode=verify-full in production." },
    { "DATABASE_PASSWORD", SET_LIVE_SECRET, "", 1, 512, "", OFF(database_password), "Its role's password, when it is not in DATABASE_URL; it wins over one that is." },
    { "CORDON_AUDIT_DATABASE_URL", SET_LIVE_SECRET, NULL,     1,  2048,    "",   OFF(audit_database_url),   "The same database as role cordon_audit_reader." },
    { "CORDON_AUDIT_DATABASE_PASSWORD", SET_LIVE_SECRET, "", 1, 512, "", OFF(audit_database_password), "Its role's password, when it is not in CORDON_AUDIT_DATABASE_URL; it wins over one that is." },
    { "CORDON_DB_CONNECTIONS",     SET_INT,    "4",      1,  64,      "",   OFF(db_connections_count), "Connections as cordon_query; about two for each core of the database." },
    AWS_SETTINGS(struct query_settings, aws, "query"),
    AWS_SECRETS_SETTINGS(struct query_settings, aws),
    AWS_ENDPOINT_SETTING(struct query_settings, s3_endpoint, "S3"),
    AWS_ENDPOINT_SETTING(struct query_settings, kms_endpoint, "KMS"),
    { "CORDON_DOCUMENT_BUCKET",    SET_TEXT,   NULL,     3,  63,      "",   OFF(bucket),               "Bucket of the sealed originals." },
    { "CORDON_SHARE_BUCKET",       SET_TEXT,   NULL,     3,  63,      "",   OFF(share_bucket),         "Bucket, without versions, of the second shares of document keys." },
    { "CORDON_ANCHOR_BUCKET",      SET_TEXT,   "",       0,  63,      "",   OFF(anchor_bucket), "Bucket that archived months of the audit log are read from; empty: they cannot be shown." },
    { "CORDON_WITNESS_KEYS",       SET_TEXT,   "",       0,  16384,   "",   OFF(witness_keys),         "Verifier keys of witnesses (type 4), with commas between them, whose cosignatures are taken; empty: nobody's." },
    { "CORDON_KEY_CACHE_MS",       SET_INT,    "300000", 0,  3600000, "ms", OFF(key_cache_ms),         "How long a tenant key is kept after KMS gave it." },
    { "CORDON_SHARE_CACHE_MS",     SET_INT,    "60000" , 0,  3600000, "ms", OFF(share_cache_ms),       "How long the second share of a document key is kept after S3 gave it." },
    { "CORDON_SEARCH_EFFORT",      SET_INT,    "400",    10, 1000,    "",   OFF(search_effort_count),  "Candidates that a search by an index compares (hnsw.ef_search): more finds more, and takes longer." },
    { 0 }
};

static enum status check_database(void *self, struct why *why) {
    const struct query *q = self;
    return db_boot_check(q->db, "cordon_query", q->runtime->is_production, clock_mono_ms() + READY_BUDGET_MS, why);
}

static enum status check_audit_database(void *self, struct why *why) {
    const struct query *q = self;
    return db_boot_check(q->audit_db, "cordon_audit_reader", q->runtime->is_production, clock_mono_ms() + READY_BUDGET_MS, why);
}

static enum status check_identity(void *self, struct why *why) {
    const struct query *q = self;
    return sts_assert(q->aws, q->settings->aws.sts_endpoint, q->settings->aws.identity, clock_mono_ms() + READY_BUDGET_MS, why);
}

static const struct ready_check READY[] = {
    { "database", check_database },
    { "audit_database", check_audit_database },
    { "aws_identity", check_identity },
    { 0 }
};

static void query_close(void **self_p) {
    struct query *q = *self_p;
    if (!q)
        return;
    keyring_destroy(&q->keyring);
    shares_destroy(&q->shares);
    s3_destroy(&q->s3);
    s3_destroy(&q->anchor);
    kms_destroy(&q->kms);
    free(q->witnesses);
    aws_destroy(&q->aws);
    db_pool_destroy(&q->db);
    db_pool_destroy(&q->audit_db);
    free(q);
    *self_p = NULL;
}

static enum status open_databases(struct query *q, struct why *why) {
    const struct query_settings *s = q->settings;
    (void)snprintf(q->search_effort, sizeof q->search_effort, "hnsw.ef_search=%d", (int)s->search_effort_count);
    q->search_settings[0] = q->search_effort;
    q->search_settings[1] = "hnsw.iterative_scan=relaxed_order";       /* go on when filters and labels take candidates away */
    struct db_options reads = { .live_url = s->database_url, .password = s->database_password, .process = "query", .connections = (int)s->db_connections_count,
                                .is_production = q->runtime->is_production, .metrics = q->runtime->metrics, .settings = q->search_settings };
    struct db_options audit = { .live_url = s->audit_database_url, .password = s->audit_database_password, .process = "query audit", .connections = 2,
                                .is_production = q->runtime->is_production, .metrics = q->runtime->metrics };
    int64_t deadline_ms = clock_mono_ms() + BOOT_BUDGET_MS;
    enum status st = db_pool_new(&reads, &q->db, why);
    if (st == ST_OK)
        st = db_pool_new(&audit, &q->audit_db, why);
    if (st == ST_OK)
        st = db_boot_check(q->db, "cordon_query", q->runtime->is_production, deadline_ms, why);
    if (st == ST_OK)
        st = db_boot_check(q->audit_db, "cordon_audit_reader", q->runtime->is_production, deadline_ms, why);
    const struct runtime *rt = q->runtime;
    return st == ST_OK ? db_record_start(q->db, "query", &rt->instance_id, rt->version, rt->settings_sha256, rt->settings_changed, deadline_ms, why) : st;
}

static enum status query_open(void **self_p, const void *settings, struct runtime *rt, struct why *why) {
    struct query *q = *self_p = xalloc(sizeof *q);
    q->settings = settings;
    q->runtime = rt;
    const struct query_settings *s = q->settings;
    enum status st = open_databases(q, why);
    if (st == ST_OK)
        st = witnesses_read(s->witness_keys, &q->witnesses, &q->witness_count, why);
    if (st == ST_OK)
        st = secrets_open_aws(&s->aws, rt, &q->aws, why);
    if (st != ST_OK)
        return st;
    q->s3 = s3_new(q->aws, s->s3_endpoint, s->bucket);
    q->kms = kms_new(q->aws, s->kms_endpoint);
    struct key_unwrapper unwrapper = kms_unwrapper(q->kms);
    q->keyring = keyring_new(&unwrapper, s->key_cache_ms, TENANT_KEYS_MAX);
    q->anchor = s->anchor_bucket && *s->anchor_bucket ? s3_new(q->aws, s->s3_endpoint, s->anchor_bucket) : NULL;
    q->shares = shares_new(q->aws, s->s3_endpoint, s->share_bucket, s->share_cache_ms);
    return ST_OK;
}

static enum status query_record_end(void *self, const struct runtime *rt, int64_t deadline_ms, struct why *why) {
    struct query *q = self;
    return db_record_end(q->db, "query", &rt->instance_id, deadline_ms, why);
}

const struct service QUERY = {
    .name = "query", .peer = PEER_QUERY, .about = "Answers questions over one tenant's documents, and every other read.",
    .calls = PEER_EMBEDDING_WORKER | PEER_AUDIT_WRITER, .settings = SETTINGS, .settings_size = sizeof(struct query_settings),
    .secrets = &SECRETS_MANAGER, .aws_offset = offsetof(struct query_settings, aws),
    .routes = ROUTES, .ready = READY, .open = query_open, .record_end = query_record_end, .close = query_close,
};
