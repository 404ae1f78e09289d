/* What holds for every route: walks over the table, so that a new row must take part. */
#include <criterion/criterion.h>

#include "core/str.h"
#include "log.h"
#include "rig.h"

#define DOC_A    "01920000-0000-7000-8000-000000000001"
#define CHUNK_A  "01920000-0000-7000-8000-00000000c001"
#define JOB_A    "01920000-0000-7000-8000-0000000000f1"
#define DOC_B    "01920000-0000-7000-8000-0000000000b1"
#define CHUNK_B  "01920000-0000-7000-8000-00000000c0b1"
#define JOB_B    "01920000-0000-7000-8000-0000000000fb"
#define ANSWER_A "01920000-0000-7000-8000-0000000000a1"
#define ANSWER_B "01920000-0000-7000-8000-0000000000a2"
#define PATIENT_A "01920000-0000-7000-8000-0000000000d1"
#define PATIENT_B "01920000-0000-7000-8000-0000000000d2"
#define ERASURE_A "01920000-0000-7000-8000-0000000000e1"
#define ERASURE_B "01920000-0000-7000-8000-0000000000e2"
#define PACK_A   "01920000-0000-7000-8000-0000000000f8"
#define PACK_B   "01920000-0000-7000-8000-0000000000f9"
#define ABSENT   "01920000-0000-7000-8000-0000000000ee"

static void add_job(const char *id, const char *document_id) {
    pg_ask(pg_admin(), "INSERT INTO jobs.jobs (tenant_id, id, queue, kind, document_id, user_id) "
                       "SELECT tenant_id, '%s', 'ingest', 'ingest', id, created_by FROM app.documents WHERE id = '%s'", id, document_id);
}

/* One that is done, and a hold. */
static void add_erasure(const char *id, const char *document_id) {
    pg_ask(pg_admin(), "INSERT INTO app.erasures (tenant_id, id, reason_code, reference, requested_by, done_at, certificate) "
                       "SELECT tenant_id, '%s', 'court_order', 'case-1', created_by, now(), '{}' FROM app.documents WHERE id = '%s'", id, document_id);
    pg_ask(pg_admin(), "INSERT INTO app.holds (tenant_id, id, document_id, reason_code, reference, placed_by) "
                       "SELECT tenant_id, gen_random_uuid(), id, 'litigation', 'case-2', created_by FROM app.documents WHERE id = '%s'", document_id);
}

/* A package that is ready, made from a document. */
static void add_package(const char *tenant, const char *id, const char *document_id) {
    rig_document(tenant, id, "ready", "evidence.tar", "packed", 6);
    pg_ask(pg_admin(), "UPDATE app.documents SET content_type = 'application/x-tar' WHERE id = '%s'", id);
    pg_ask(pg_admin(), "INSERT INTO app.evidence (tenant_id, id, job_id, reason_code, reference, documents, created_by, expires_at) "
                       "SELECT tenant_id, id, gen_random_uuid(), 'audit', '', 1, created_by, now() + interval '1 day' FROM app.documents WHERE id = '%s'", id);
    pg_ask(pg_admin(), "INSERT INTO app.evidence_sources (tenant_id, evidence_id, document_id) SELECT tenant_id, '%s', id FROM app.documents WHERE id = '%s'",
           id, document_id);
}

static void set_up(void) {
    rig_open();
    rig_document(PG_TENANT_A, DOC_A, "ready", "ours.txt", "ours", 4);
    rig_chunk(DOC_A, CHUNK_A, "Ours.", 0.1);
    add_job(JOB_A, DOC_A);
    rig_subject(PG_TENANT_A, PATIENT_A, PATIENT_A, DOC_A);
    rig_document(PG_TENANT_B, DOC_B, "ready", "theirs.txt", "theirs", 6);
    rig_chunk(DOC_B, CHUNK_B, "Theirs.", 0);
    add_job(JOB_B, DOC_B);
    rig_subject(PG_TENANT_B, PATIENT_B, PATIENT_B, DOC_B);
    add_erasure(ERASURE_A, DOC_A);
    add_erasure(ERASURE_B, DOC_B);
    add_package(PG_TENANT_A, PACK_A, DOC_A);
    add_package(PG_TENANT_B, PACK_B, DOC_B);
    rig.answer = "It says so. [1]";
}

TestSuite(query_walk, .init = set_up, .fini = rig_close, .timeout = 60);

/* What a call with one id gave. shown: how many things; 0 after a failure. */
struct outcome { enum status st; enum error_code code; size_t shown; };

static struct outcome after(enum status st, size_t shown) {
    return (struct outcome){ st, rig.why.code, st == ST_OK ? shown : 0 };
}

static struct outcome list_documents(const char *ticket, const char *id) {
    (void)id;
    Query__ListDocumentsRequest req = QUERY__LIST_DOCUMENTS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    enum status st = rig_call("query.ListDocuments", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListDocumentsReply *)reply)->n_documents : 0);
}

static struct outcome get_document(const char *ticket, const char *id) {
    Query__GetDocumentRequest req = QUERY__GET_DOCUMENT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.document_id = rig_id(id);
    return after(rig_call("query.GetDocument", ticket, &req.base, &reply), 1);
}

static struct outcome get_content(const char *ticket, const char *id) {
    CLEANUP(buffer_end) struct buffer got = { 0 };
    Query__ContentHead *head = NULL;
    enum status st = rig_content(ticket, id, 0, &head, &got);
    cr_expect(st == ST_OK || (!head && !got.len), "a failure after something was shown");
    return after(st, got.len);
}

static struct outcome get_job(const char *ticket, const char *id) {
    Query__GetJobRequest req = QUERY__GET_JOB_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.job_id = rig_id(id);
    return after(rig_call("query.GetJob", ticket, &req.base, &reply), 1);
}

static struct outcome list_jobs(const char *ticket, const char *id) {
    Query__ListJobsRequest req = QUERY__LIST_JOBS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.document_id = rig_id(id);
    enum status st = rig_call("query.ListJobs", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListJobsReply *)reply)->n_jobs : 0);
}

static struct outcome search(const char *ticket, const char *id) {
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    Query__Filter filter = QUERY__FILTER__INIT;
    ProtobufCBinaryData ids[] = { rig_id(id) };
    ProtobufCMessage *reply = NULL;
    filter.n_document_ids = 1;
    filter.document_ids = ids;
    req.question = (char *)"What?";
    req.filter = &filter;
    enum status st = rig_call("query.Search", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__SearchReply *)reply)->n_hits : 0);
}

static struct outcome query(const char *ticket, const char *id) {
    Query__QueryRequest req = QUERY__QUERY_REQUEST__INIT;
    Query__Filter filter = QUERY__FILTER__INIT;
    ProtobufCBinaryData ids[] = { rig_id(id) };
    ProtobufCMessage *reply = NULL;
    filter.n_document_ids = 1;
    filter.document_ids = ids;
    req.question = (char *)"What?";
    req.filter = &filter;
    enum status st = rig_call("query.Query", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__QueryReply *)reply)->n_citations : 0);
}

/* One answer of ann's and one of bea's, as often as they are wanted. */
static void make_answers(void) {
    rig_answer(PG_TENANT_A, "ann", ANSWER_A, DOC_A, CHUNK_A);
    rig_answer(PG_TENANT_B, "bea", ANSWER_B, DOC_B, CHUNK_B);
}

static struct outcome get_answer(const char *ticket, const char *id) {
    Query__GetAnswerRequest req = QUERY__GET_ANSWER_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    make_answers();
    req.answer_id = rig_id(id);
    enum status st = rig_call("query.GetAnswer", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__GetAnswerReply *)reply)->answer->n_citations : 0);
}

static struct outcome get_conversation(const char *ticket, const char *id) {
    Query__GetConversationRequest req = QUERY__GET_CONVERSATION_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    make_answers();
    req.conversation_id = rig_id(id);
    enum status st = rig_call("query.GetConversation", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__GetConversationReply *)reply)->n_answers : 0);
}

static struct outcome list_conversations(const char *ticket, const char *id) {
    Query__ListConversationsRequest req = QUERY__LIST_CONVERSATIONS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    make_answers();
    enum status st = rig_call("query.ListConversations", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListConversationsReply *)reply)->n_conversations : 0);
}

static struct outcome delete_conversation(const char *ticket, const char *id) {
    Query__DeleteConversationRequest req = QUERY__DELETE_CONVERSATION_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    make_answers();
    req.conversation_id = rig_id(id);
    return after(rig_call("query.DeleteConversation", ticket, &req.base, &reply), 1);
}

/* Of an answer about the document, to ann or bea. */
static ProtobufCBinaryData add_receipts(const char *id) {
    pg_ask(pg_admin(), "INSERT INTO app.receipts (tenant_id, answer_id, user_id, body) SELECT u.tenant_id, a.id, u.id, jsonb_build_object('answer_id', a.id, "
                       "'tenant_id', u.tenant_id, 'user_id', u.id, 'chunk_ids', '[]'::jsonb, 'document_ids', '[]'::jsonb, 'about', d.id)::text FROM auth.users u "
                       "JOIN app.documents d ON d.tenant_id = u.tenant_id, LATERAL (SELECT md5(u.id::text || d.id::text)::uuid AS id) a "
                       "WHERE u.subject IN ('ann', 'bea') ON CONFLICT DO NOTHING");
    return rig_id(pg_ask(pg_admin(), "SELECT coalesce((SELECT r.answer_id FROM app.receipts r WHERE r.body::jsonb ->> 'about' = '%s' "
                                              "LIMIT 1), '%s')", id, id));
}

static struct outcome get_receipt(const char *ticket, const char *id) {
    Query__GetReceiptRequest req = QUERY__GET_RECEIPT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.answer_id = add_receipts(id);
    return after(rig_call("query.GetReceipt", ticket, &req.base, &reply), 1);
}

static struct outcome get_audit_receipt(const char *ticket, const char *id) {
    Query__GetAuditReceiptRequest req = QUERY__GET_AUDIT_RECEIPT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.answer_id = add_receipts(id);
    enum status st = rig_call("query.GetAuditReceipt", ticket, &req.base, &reply);
    cr_expect(!reply || !*((Query__GetReceiptReply *)reply)->question, "an auditor sees no text");
    return after(st, 1);
}

static struct outcome add_cosignatures(const char *ticket, const char *id) {
    Query__AddCosignaturesRequest req = QUERY__ADD_COSIGNATURES_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    const char *note = pg_ask(pg_admin(), "SELECT note FROM audit.checkpoints WHERE tenant_id = '" PG_TENANT_A "' ORDER BY size DESC LIMIT 1");
    req.lines = (char *)log_cosign(note);
    req.size = strtoll(pg_ask(pg_admin(), "SELECT coalesce(max(size), 1) FROM audit.checkpoints WHERE tenant_id = '" PG_TENANT_A "'"), NULL, 10);
    enum status st = rig_call("query.AddCosignatures", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__AddCosignaturesReply *)reply)->accepted : 0);
}

static struct outcome list_audit_events(const char *ticket, const char *id) {
    Query__ListAuditEventsRequest req = QUERY__LIST_AUDIT_EVENTS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.document_id = rig_id(id);
    enum status st = rig_call("query.ListAuditEvents", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListAuditEventsReply *)reply)->n_events : 0);
}

static struct outcome find_subject(const char *ticket, const char *id) {
    Query__FindSubjectRequest req = QUERY__FIND_SUBJECT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.mrn = (char *)id;           /* in this file a patient's number is its id */
    enum status st = rig_call("query.FindSubject", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__FindSubjectReply *)reply)->subject_id.len : 0);
}

static struct outcome list_disclosures(const char *ticket, const char *id) {
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.document_id = rig_id(id);
    enum status st = rig_call("query.ListDisclosures", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListDisclosuresReply *)reply)->n_disclosures : 0);
}

/* What comes behind the line of names. */
static struct outcome export_disclosures(const char *ticket, const char *id) {
    Query__ListDisclosuresRequest req = QUERY__LIST_DISCLOSURES_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    req.document_id = rig_id(id);
    enum status st = rig_stream("query.ExportDisclosures", ticket, &req.base, &query__export_disclosures_reply__descriptor, &out);
    const char *end = out.data ? strstr(out.data, "\r\n") : NULL;
    return after(st, end ? strlen(end + 2) : 0);
}

static struct outcome get_checkpoint(const char *ticket, const char *id) {
    Query__GetAuditCheckpointRequest req = QUERY__GET_AUDIT_CHECKPOINT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    enum status st = rig_call("query.GetAuditCheckpoint", ticket, &req.base, &reply);
    return after(st, reply ? 1 : 0);
}

static struct outcome get_proof(const char *ticket, const char *id) {
    Query__GetAuditProofRequest req = QUERY__GET_AUDIT_PROOF_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    enum status st = rig_call("query.GetAuditProof", ticket, &req.base, &reply);
    return after(st, reply ? 1 : 0);
}

static struct outcome get_consistency(const char *ticket, const char *id) {
    Query__GetAuditConsistencyRequest req = QUERY__GET_AUDIT_CONSISTENCY_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    req.from = 1;
    enum status st = rig_call("query.GetAuditConsistency", ticket, &req.base, &reply);
    return after(st, reply ? 1 : 0);
}

static struct outcome get_tile(const char *ticket, const char *id) {
    Query__GetAuditTileRequest req = QUERY__GET_AUDIT_TILE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    req.tile = (char *)"000.p/1";
    enum status st = rig_call("query.GetAuditTile", ticket, &req.base, &reply);
    return after(st, reply ? 1 : 0);
}

static struct outcome export_log(const char *ticket, const char *id) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    (void)id;
    enum status st = rig_stream("query.ExportAudit", ticket, &req.base, &query__export_audit_reply__descriptor, &out);
    return after(st, out.len);
}

static struct outcome list_erasures(const char *ticket, const char *id) {
    Query__ListErasuresRequest req = QUERY__LIST_ERASURES_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    enum status st = rig_call("query.ListErasures", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListErasuresReply *)reply)->n_erasures : 0);
}

static struct outcome get_erasure(const char *ticket, const char *id) {
    Query__GetErasureRequest req = QUERY__GET_ERASURE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.erasure_id = rig_id(id);
    return after(rig_call("query.GetErasure", ticket, &req.base, &reply), 1);
}

static struct outcome get_certificate(const char *ticket, const char *id) {
    Query__GetErasureCertificateRequest req = QUERY__GET_ERASURE_CERTIFICATE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.erasure_id = rig_id(id);
    return after(rig_call("query.GetErasureCertificate", ticket, &req.base, &reply), 1);
}

static struct outcome get_offboarding(const char *ticket, const char *id) {
    Query__GetOffboardingRequest req = QUERY__GET_OFFBOARDING_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.tenant_id = rig_id(id);
    return after(rig_call("query.GetOffboarding", ticket, &req.base, &reply), 1);
}

static struct outcome get_vectors(const char *ticket, const char *id) {
    Query__GetVectorsRequest req = QUERY__GET_VECTORS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    enum status st = rig_call("query.GetVectors", ticket, &req.base, &reply);
    return after(st, reply && *((Query__GetVectorsReply *)reply)->model);
}

static struct outcome list_holds(const char *ticket, const char *id) {
    Query__ListHoldsRequest req = QUERY__LIST_HOLDS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    enum status st = rig_call("query.ListHolds", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListHoldsReply *)reply)->n_holds : 0);
}

static struct outcome list_evidence(const char *ticket, const char *id) {
    Query__ListEvidenceRequest req = QUERY__LIST_EVIDENCE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    (void)id;
    enum status st = rig_call("query.ListEvidence", ticket, &req.base, &reply);
    return after(st, reply ? ((Query__ListEvidenceReply *)reply)->n_evidence : 0);
}

static struct outcome get_evidence(const char *ticket, const char *id) {
    Query__GetEvidenceRequest req = QUERY__GET_EVIDENCE_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.evidence_id = rig_id(id);
    return after(rig_call("query.GetEvidence", ticket, &req.base, &reply), 1);
}

static struct outcome get_evidence_content(const char *ticket, const char *id) {
    Query__GetEvidenceContentRequest req = QUERY__GET_EVIDENCE_CONTENT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    req.evidence_id = rig_id(id);
    enum status st = rig_stream("query.GetEvidenceContent", ticket, &req.base, &query__get_evidence_content_reply__descriptor, &out);
    return after(st, out.len);
}

static const struct sample {
    const char *method, *role, *other_role;     /* other_role: does not suffice */
    const char *own, *foreign;                  /* ids; foreign NULL: the request names none */
    struct outcome (*ask)(const char *ticket, const char *id);
    const char *action;                         /* that puts it on the record; NULL: shows hashes only */
} SAMPLES[] = {
    { "query.ListDocuments",   "clinician", "auditor",   DOC_A, NULL,  list_documents,    "document.list" },
    { "query.GetDocument",     "clinician", "auditor",   DOC_A, DOC_B, get_document,      "document.read" },
    { "query.GetContent",      "clinician", "auditor",   DOC_A, DOC_B, get_content,       "document.content.read" },
    { "query.GetJob",          "clinician", "auditor",   JOB_A, JOB_B, get_job,           "job.read" },
    { "query.ListJobs",        "clinician", "auditor",   DOC_A, DOC_B, list_jobs,         "job.list" },
    { "query.Search",          "clinician", "auditor",   DOC_A, DOC_B, search,            "search.disclose" },
    { "query.Query",           "clinician", "auditor",   DOC_A, DOC_B, query,             "answer.disclose" },
    { "query.GetAnswer",       "clinician", "auditor",   ANSWER_A, ANSWER_B, get_answer,    "answer.read" },
    { "query.GetConversation", "clinician", "auditor",   ANSWER_A, ANSWER_B, get_conversation, "conversation.read" },
    { "query.ListConversations", "clinician", "auditor", ANSWER_A, NULL, list_conversations, NULL },
    { "query.DeleteConversation", "clinician", "auditor", ANSWER_A, ANSWER_B, delete_conversation, NULL },
    { "query.GetReceipt",      "clinician", "auditor",   DOC_A, DOC_B, get_receipt,       "answer.receipt.read" },
    { "query.GetAuditReceipt", "auditor",   "clinician", DOC_A, DOC_B, get_audit_receipt, "answer.receipt.read" },
    { "query.ListErasures",    "admin",     "clinician", ERASURE_A, NULL, list_erasures,    "erasure.read" },
    { "query.GetErasure",      "admin",     "clinician", ERASURE_A, ERASURE_B, get_erasure, "erasure.read" },
    { "query.GetErasureCertificate", "admin", "clinician", ERASURE_A, ERASURE_B, get_certificate, "erasure.read" },
    { "query.GetOffboarding",  "platform_admin", "admin", PG_TENANT_A, NULL, get_offboarding, "tenant.read" },
    { "query.ListEvidence",    "admin",     "clinician", PACK_A, NULL, list_evidence,     "evidence.read" },
    { "query.GetEvidence",     "admin",     "clinician", PACK_A, PACK_B, get_evidence,    "evidence.read" },
    { "query.GetEvidenceContent", "admin",  "clinician", PACK_A, PACK_B, get_evidence_content, "evidence.download" },
    { "query.GetVectors",      "admin",     "clinician", DOC_A, NULL,  get_vectors,       NULL },
    { "query.ListHolds",       "admin",     "clinician", DOC_A, NULL,  list_holds,        "hold.list" },
    { "query.ListAuditEvents", "auditor",   "clinician", DOC_A, DOC_B, list_audit_events, "audit.read" },
    { "query.FindSubject",     "clinician", "auditor",   PATIENT_A, PATIENT_B, find_subject, "subject.find" },
    { "query.ListDisclosures", "auditor",   "clinician", DOC_A, DOC_B, list_disclosures,  "audit.disclosures" },
    { "query.ExportDisclosures", "auditor", "clinician", DOC_A, DOC_B, export_disclosures, "audit.disclosures" },
    { "query.GetAuditCheckpoint",  "auditor", "clinician", DOC_A, NULL, get_checkpoint,  NULL },
    { "query.AddCosignatures",     "auditor", "clinician", DOC_A, NULL, add_cosignatures, NULL },
    { "query.GetAuditProof",       "auditor", "clinician", DOC_A, NULL, get_proof,       NULL },
    { "query.GetAuditConsistency", "auditor", "clinician", DOC_A, NULL, get_consistency, NULL },
    { "query.GetAuditTile",        "auditor", "clinician", DOC_A, NULL, get_tile,        NULL },
    { "query.ExportAudit",         "auditor", "clinician", DOC_A, NULL, export_log,      "audit.export" },
};
enum { SAMPLE_COUNT = sizeof SAMPLES / sizeof *SAMPLES };

/* People of the platform have no tenant. */
static const char *ticket_of(const struct sample *s, const char *subject) {
    return pg_ticket(str_equal(s->role, "platform_admin") ? NULL : PG_SLUG_A, s->role, subject);
}

/* So that an event about each tenant's document, and the end of one, are there to be shown. */
static void fill_the_log(void) {
    pg_ask(pg_admin(), "INSERT INTO auth.offboardings (tenant_id, id) VALUES ('" PG_TENANT_A "', gen_random_uuid())");
    cr_assert_eq(get_document(pg_ticket(PG_SLUG_A, "clinician", "ann"), DOC_A).st, ST_OK, "%s", rig.why.text);
    cr_assert_eq(get_document(pg_ticket(PG_SLUG_B, "clinician", "bea"), DOC_B).st, ST_OK, "%s", rig.why.text);
    log_sign(PG_TENANT_A);
}

Test(query_walk, every_route_has_a_sample) {
    for (const struct route *r = QUERY.routes; r->method; r++) {
        size_t found = 0;
        for (size_t i = 0; i < SAMPLE_COUNT; i++)
            found += str_equal(SAMPLES[i].method, r->method);
        cr_expect_eq(found, 1, "%s", r->method);
    }
}

Test(query_walk, every_route_shows_what_is_the_tenants_own_and_records_it) {
    fill_the_log();
    for (const struct sample *s = SAMPLES; s < SAMPLES + SAMPLE_COUNT; s++) {
        size_t before = s->action ? rig_count(s->action) : 0;
        struct outcome got = s->ask(ticket_of(s, "ann"), s->own);
        cr_expect_eq(got.st, ST_OK, "%s: %s", s->method, rig.why.text);
        cr_expect_gt(got.shown, 0, "%s", s->method);
        cr_expect(!s->action || rig_count(s->action) == before + 1, "%s", s->method);
    }
}

Test(query_walk, another_tenants_id_is_like_one_that_does_not_exist) {
    fill_the_log();
    for (const struct sample *s = SAMPLES; s < SAMPLES + SAMPLE_COUNT; s++) {
        if (!s->foreign)
            continue;
        const char *ticket = pg_ticket(PG_SLUG_A, s->role, "ann");
        struct outcome foreign = s->ask(ticket, s->foreign), absent = s->ask(ticket, ABSENT);
        cr_expect_eq(foreign.st, absent.st, "%s: %s", s->method, rig.why.text);
        cr_expect_eq(foreign.code, absent.code, "%s", s->method);
        cr_expect_eq(foreign.shown, 0, "%s", s->method);
        cr_expect_eq(absent.shown, 0, "%s", s->method);
        cr_expect_gt(s->ask(pg_ticket(PG_SLUG_B, s->role, "bea"), s->foreign).shown, 0, "%s: it is there for its owner", s->method);
    }
}

Test(query_walk, lists_hold_nothing_of_another_tenant) {
    cr_expect_eq(list_documents(pg_ticket(PG_SLUG_A, "clinician", "ann"), "").shown, 1);
}

Test(query_walk, without_the_audit_log_nothing_is_shown) {
    fill_the_log();
    for (const struct sample *s = SAMPLES; s < SAMPLES + SAMPLE_COUNT; s++) {
        rig.audit_away_for = s->action;
        if (!s->action)
            continue;
        struct outcome got = s->ask(ticket_of(s, "ann"), s->own);
        cr_expect_eq(got.st, ST_UNAVAILABLE, "%s", s->method);
        cr_expect_eq(got.code, ERR_AUDIT_UNAVAILABLE, "%s: %s", s->method, rig.why.text);
        cr_expect_eq(got.shown, 0, "%s", s->method);
    }
    cr_expect_eq(rig.generate_count, 0, "no text went to the model");
    cr_expect_eq(rig_count("model.disclose"), 0);
}

Test(query_walk, a_role_without_the_scope_is_refused) {
    for (const struct sample *s = SAMPLES; s < SAMPLES + SAMPLE_COUNT; s++) {
        struct outcome got = s->ask(pg_ticket(PG_SLUG_A, s->other_role, "ann"), s->own);
        cr_expect_eq(got.code, ERR_FORBIDDEN, "%s: %s", s->method, rig.why.text);
    }
    cr_expect_eq(rig_count("search.disclose") + rig_count("answer.disclose") + rig_count("document.list"), 0);
}

Test(query_walk, a_ticket_of_an_ended_session_or_none_is_refused) {
    for (const struct sample *s = SAMPLES; s < SAMPLES + SAMPLE_COUNT; s++) {
        const char *ticket = ticket_of(s, s->method);     /* a person, so a session, each */
        pg_ask(pg_admin(), "UPDATE auth.sessions SET revoked_at = now(), revoked_reason = 'test' WHERE revoked_at IS NULL");
        cr_expect_eq(s->ask(ticket, s->own).st, ST_UNAUTHENTICATED, "%s: %s", s->method, rig.why.text);
        cr_expect_eq(s->ask("", s->own).st, ST_UNAUTHENTICATED, "%s: %s", s->method, rig.why.text);
    }
    cr_expect_eq(rig.event_count, 0);
    cr_expect_eq(rig.embed_count, 0);
}
