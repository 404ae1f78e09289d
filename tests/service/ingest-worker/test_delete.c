/* ingest.DeleteDocument, and what every route does with those who may not. */
#include "rig.h"

TestSuite(ingest_delete, .init = rig_open, .fini = rig_close, .timeout = 60);

static enum status delete_bytes(const char *ticket, const void *id, size_t len, struct why *ret_why) {
    Ingest__DeleteDocumentRequest req = INGEST__DELETE_DOCUMENT_REQUEST__INIT;
    req.document_id = (ProtobufCBinaryData){ len, (uint8_t *)id };
    return rig_ask("ingest.DeleteDocument", ticket, &req.base, &ingest__delete_document_reply__descriptor, ret_why);
}

static enum status delete_as(const char *ticket, const struct uuid *id, struct why *ret_why) {
    return delete_bytes(ticket, id->bytes, UUID_BYTES, ret_why);
}

Test(ingest_delete, takes_everything_that_was_made_of_the_document) {
    struct uuid id;
    cr_assert_eq(rig_upload(NULL, "abc", 3, &id, NULL), ST_OK);
    rig_start_jobs();
    rig_wait_for("ready", DOCUMENT_SQL);
    cr_assert_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "1 1");
    const char *ann = pg_ticket(PG_SLUG_A, "clinician", "ann");
    cr_expect_eq(delete_as(ann, &id, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "deleted");
    cr_expect_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox WHERE action = 'document.delete'"), "1");
    cr_expect_eq(delete_as(ann, &id, NULL), ST_NOT_FOUND, "once");
}

Test(ingest_delete, an_id_of_the_wrong_length_is_invalid) {
    const char *ann = pg_ticket(PG_SLUG_A, "clinician", "ann");
    for (size_t len = 0; len < 40; len += len == 15 ? 2 : 1) {
        struct why why = { 0 };
        cr_expect_eq(delete_bytes(ann, "0123456789012345678901234567890123456789", len, &why), ST_INVALID, "%zu", len);
        cr_expect_eq(why.code, ERR_REQ_FIELD);
    }
}

Test(ingest_delete, one_whose_job_has_it_in_hand_stays_deleted) {
    struct uuid id;
    cr_assert_eq(rig_upload(NULL, "abc", 3, &id, NULL), ST_OK);
    rig.model_status = ST_UNAVAILABLE;
    rig_start_jobs();
    WAIT_FOR(rig.embedded_calls > 0);
    cr_expect_eq(delete_as(pg_ticket(PG_SLUG_A, "clinician", "ann"), &id, NULL), ST_OK);
    rig.model_status = ST_OK;
    rig_wait_for("dead 1 document_deleted", JOB_STATE_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "deleted");
    cr_expect_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "0 0");
}

/* ---- the walk: every route, asked by those who may not ---- */

static enum status try_upload(const char *ticket, const struct uuid *id, struct why *ret_why) {
    (void)id;       /* names nothing that exists */
    return rig_upload_as(ticket, NULL, "abc", 3, NULL, ret_why);
}

/* Of the document's job, or of that id when there is none. */
static enum status move_as(const char *method, const char *ticket, const struct uuid *document_id, struct why *ret_why) {
    char text[UUID_TEXT_BYTES];
    struct uuid id = *document_id;
    const char *job = pg_ask(pg_admin(), "SELECT id FROM jobs.jobs WHERE document_id = '%s'", uuid_format(document_id, text));
    (void)uuid_parse(job, strlen(job), &id);
    Ingest__CancelJobRequest req = INGEST__CANCEL_JOB_REQUEST__INIT;
    Ingest__RetryJobRequest retry = INGEST__RETRY_JOB_REQUEST__INIT;
    req.job_id = retry.job_id = (ProtobufCBinaryData){ UUID_BYTES, id.bytes };
    bool is_cancel = str_equal(method, "ingest.CancelJob");
    return rig_ask(method, ticket, is_cancel ? &req.base : &retry.base,
               is_cancel ? &ingest__cancel_job_reply__descriptor : &ingest__retry_job_reply__descriptor, ret_why);
}

static enum status cancel_as(const char *ticket, const struct uuid *id, struct why *ret_why) { return move_as("ingest.CancelJob", ticket, id, ret_why); }
static enum status retry_as(const char *ticket, const struct uuid *id, struct why *ret_why) { return move_as("ingest.RetryJob", ticket, id, ret_why); }

static enum status relabel_as(const char *ticket, const struct uuid *id, char *label, struct why *ret_why) {
    Ingest__UpdateDocumentRequest req = INGEST__UPDATE_DOCUMENT_REQUEST__INIT;
    req.document_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)(uintptr_t)id->bytes };
    req.labels = &label;
    req.n_labels = label ? 1 : 0;
    return rig_ask("ingest.UpdateDocument", ticket, &req.base, &ingest__update_document_reply__descriptor, ret_why);
}

static enum status unlabel_as(const char *ticket, const struct uuid *id, struct why *ret_why) { return relabel_as(ticket, id, NULL, ret_why); }

static enum status erase_as(const char *ticket, const struct uuid *id, struct why *ret_why) {
    Ingest__CreateErasureRequest req = INGEST__CREATE_ERASURE_REQUEST__INIT;
    ProtobufCBinaryData document = { UUID_BYTES, (uint8_t *)(uintptr_t)id->bytes };
    req.document_ids = &document;
    req.n_document_ids = 1;
    req.reason = (char *)"court_order";
    return rig_ask("ingest.CreateErasure", ticket, &req.base, &ingest__create_erasure_reply__descriptor, ret_why);
}

static enum status hold_as(const char *ticket, const struct uuid *id, struct why *ret_why) {
    Ingest__PlaceHoldRequest req = INGEST__PLACE_HOLD_REQUEST__INIT;
    req.document_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)(uintptr_t)id->bytes };
    req.reason = (char *)"litigation";
    return rig_ask("ingest.PlaceHold", ticket, &req.base, &ingest__place_hold_reply__descriptor, ret_why);
}

/* The hold on the document, which is placed first; that id when there is no such document. */
static enum status release_as(const char *ticket, const struct uuid *document_id, struct why *ret_why) {
    char text[UUID_TEXT_BYTES];
    struct uuid id = *document_id;
    pg_ask(pg_admin(), "INSERT INTO app.holds (tenant_id, id, document_id, reason_code, reference, placed_by) SELECT d.tenant_id, d.id, d.id, 'audit', '', d.created_by "
                       "FROM app.documents d WHERE d.id = '%s' ON CONFLICT DO NOTHING", uuid_format(document_id, text));
    Ingest__ReleaseHoldRequest req = INGEST__RELEASE_HOLD_REQUEST__INIT;
    req.hold_id = (ProtobufCBinaryData){ UUID_BYTES, id.bytes };
    return rig_ask("ingest.ReleaseHold", ticket, &req.base, &ingest__release_hold_reply__descriptor, ret_why);
}

static enum status pack_as(const char *ticket, const struct uuid *id, struct why *ret_why) {
    Ingest__CreateEvidenceRequest req = INGEST__CREATE_EVIDENCE_REQUEST__INIT;
    ProtobufCBinaryData document = { UUID_BYTES, (uint8_t *)(uintptr_t)id->bytes };
    req.document_ids = &document;
    req.n_document_ids = 1;
    req.reason = (char *)"audit";
    return rig_ask("ingest.CreateEvidence", ticket, &req.base, &ingest__create_evidence_reply__descriptor, ret_why);
}

static enum status unpack_as(const char *ticket, const struct uuid *id, struct why *ret_why) {
    Ingest__DeleteEvidenceRequest req = INGEST__DELETE_EVIDENCE_REQUEST__INIT;
    req.evidence_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)(uintptr_t)id->bytes };
    return rig_ask("ingest.DeleteEvidence", ticket, &req.base, &ingest__delete_evidence_reply__descriptor, ret_why);
}

static enum status reembed_as(const char *ticket, const struct uuid *id, struct why *ret_why) {
    Ingest__CreateReembeddingRequest req = INGEST__CREATE_REEMBEDDING_REQUEST__INIT;
    (void)id;
    return rig_ask("ingest.CreateReembedding", ticket, &req.base, &ingest__create_reembedding_reply__descriptor, ret_why);
}

static const struct { const char *method; enum status (*ask)(const char *ticket, const struct uuid *id, struct why *ret_why); bool has_id; } ASKS[] = {
    { "ingest.Upload", try_upload, false },
    { "ingest.DeleteDocument", delete_as, true },
    { "ingest.UpdateDocument", unlabel_as, true },
    { "ingest.CancelJob", cancel_as, true },
    { "ingest.RetryJob", retry_as, true },
    { "ingest.CreateErasure", erase_as, true },
    { "ingest.CreateEvidence", pack_as, true },
    { "ingest.DeleteEvidence", unpack_as, true },
    { "ingest.CreateReembedding", reembed_as, false },
    { "ingest.PlaceHold", hold_as, true },
    { "ingest.ReleaseHold", release_as, true },
};

Test(ingest_labels, are_changed_by_those_who_may_see_them, .init = rig_open, .fini = rig_close, .timeout = 60) {
    struct uuid id;
    struct why why = { 0 };
    cr_assert_eq(rig_upload(NULL, "abc", 3, &id, NULL), ST_OK);
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'ready'");
    const char *nobody = pg_ticket(PG_SLUG_A, "clinician", "nosy");
    cr_expect_eq(relabel_as(nobody, &id, (char *)"part2", &why), ST_FORBIDDEN, "he would lose sight of it");
    cr_expect_eq(relabel_as(nobody, &id, (char *)"Part 2", &why), ST_INVALID);
    cr_expect_eq(relabel_as(nobody, &id, (char *)"nonsense", &why), ST_INVALID);
    (void)pg_ticket(PG_SLUG_A, "clinician", "deb");
    pg_ask(pg_admin(), "INSERT INTO auth.label_grants (tenant_id, id, label, user_id, basis) SELECT tenant_id, gen_random_uuid(), 'part2', id, 'need_to_know' FROM auth.users WHERE subject = 'deb'");
    cr_expect_eq(relabel_as(pg_ticket(PG_SLUG_A, "clinician", "deb"), &id, (char *)"part2", &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT labels FROM app.documents"), "{part2}");
    cr_expect_eq(unlabel_as(nobody, &id, &why), ST_NOT_FOUND);
    cr_expect_eq(delete_as(nobody, &id, &why), ST_NOT_FOUND);
    cr_expect_eq(unlabel_as(pg_ticket(PG_SLUG_A, "clinician", "deb"), &id, &why), ST_OK, "%s", why.text);
}

Test(ingest_routes_walk, refuses_strangers_and_hides_other_tenants, .init = rig_open, .fini = rig_close, .timeout = 60) {
    struct uuid theirs, absent = uuid_v7();
    cr_assert_eq(rig_upload(NULL, "abc", 3, &theirs, NULL), ST_OK);
    for (const struct route *r = INGEST_WORKER.routes; r->method; r++) {
        size_t i = 0;
        while (i < sizeof ASKS / sizeof *ASKS && !str_equal(ASKS[i].method, r->method))
            i++;
        cr_assert_lt(i, sizeof ASKS / sizeof *ASKS, "%s: the walk does not know it", r->method);
        struct why why = { 0 }, other = { 0 };
        cr_expect_eq(ASKS[i].ask("", &theirs, &why), ST_UNAUTHENTICATED, "%s", r->method);
        cr_expect_eq(ASKS[i].ask("1.1.00.00", &theirs, &why), ST_UNAUTHENTICATED, "%s", r->method);
        cr_expect_eq(ASKS[i].ask(pg_ticket(PG_SLUG_A, "reviewer", "rev"), &theirs, &why), ST_FORBIDDEN, "%s", r->method);
        cr_expect_eq(ASKS[i].ask(pg_ticket(PG_SLUG_A, "auditor", "aud"), &theirs, &why), ST_FORBIDDEN, "%s", r->method);
        cr_expect_eq(ASKS[i].ask(pg_ticket(NULL, "platform_admin", "root"), &theirs, &why), ST_FORBIDDEN, "%s", r->method);
        if (!ASKS[i].has_id)
            continue;
        const char *stranger = pg_ticket(PG_SLUG_B, "clinician,admin", "eve");
        cr_expect_eq(ASKS[i].ask(stranger, &theirs, &why), ST_NOT_FOUND, "%s", r->method);
        cr_expect_eq(ASKS[i].ask(stranger, &absent, &other), ST_NOT_FOUND, "%s", r->method);
        cr_expect_eq(why.code, other.code, "%s", r->method);
    }
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
    cr_expect_str_eq(pg_ask(pg_admin(), DOCUMENT_SQL), "processing");
}
