/* Erasures, holds and rotations: asked for as edge does, done by the process's own job threads. */
#include "core/clock.h"
#include "rig.h"

TestSuite(ingest_erasure, .init = rig_open, .fini = rig_close, .timeout = 90);

static const char *admin(void) {
    return pg_ticket(PG_SLUG_A, "admin", "root");
}

static enum status ask(const char *method, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *reply_is, const char *ticket, enum error_code *ret_code) {
    struct asker a;
    asker_start(&a, &rig.edge, PATIENCE_MS);
    a.call.ticket = ticket;
    ProtobufCMessage *reply = NULL;
    enum status st = bus_ask(&a.call, method, req, reply_is, &reply);
    if (ret_code)
        *ret_code = a.call.why.code;
    asker_end(&a);
    return st;
}

static enum status erase_as(const char *ticket, const struct uuid *document, const struct uuid *subject, enum error_code *ret_code) {
    Ingest__CreateErasureRequest req = INGEST__CREATE_ERASURE_REQUEST__INIT;
    ProtobufCBinaryData ids[1];
    if (document) {
        ids[0] = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)document->bytes };
        req.document_ids = ids;
        req.n_document_ids = 1;
    }
    if (subject)
        req.subject_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)subject->bytes };
    req.reason = (char *)"patient_request";
    return ask("ingest.CreateErasure", &req.base, &ingest__create_erasure_reply__descriptor, ticket, ret_code);
}

static enum status hold(const struct uuid *document, const struct uuid *subject) {
    Ingest__PlaceHoldRequest req = INGEST__PLACE_HOLD_REQUEST__INIT;
    if (document)
        req.document_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)document->bytes };
    if (subject)
        req.subject_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)subject->bytes };
    req.reason = (char *)"litigation";
    return ask("ingest.PlaceHold", &req.base, &ingest__place_hold_reply__descriptor, admin(), NULL);
}

static enum status delete_document(const struct uuid *id, enum error_code *ret_code) {
    Ingest__DeleteDocumentRequest req = INGEST__DELETE_DOCUMENT_REQUEST__INIT;
    req.document_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)id->bytes };
    return ask("ingest.DeleteDocument", &req.base, &ingest__delete_document_reply__descriptor, admin(), ret_code);
}

static enum status release_all(void) {
    const char *text = pg_ask(pg_admin(), "SELECT id FROM app.holds WHERE released_at IS NULL");
    struct uuid id;
    cr_assert(uuid_parse(text, strlen(text), &id));
    Ingest__ReleaseHoldRequest req = INGEST__RELEASE_HOLD_REQUEST__INIT;
    req.hold_id = (ProtobufCBinaryData){ UUID_BYTES, id.bytes };
    return ask("ingest.ReleaseHold", &req.base, &ingest__release_hold_reply__descriptor, admin(), NULL);
}

static struct uuid add_ready(const char *mrn) {
    struct uuid id;
    struct rig_upload u = { .type = "text/plain", .name = "note.txt", .mrn = mrn, .announced_bytes = 11 };
    cr_assert_eq(rig_upload(&u, "a few words", 11, &id, NULL), ST_OK);
    return id;
}

#define DONE_SQL "SELECT (done_at IS NOT NULL) FROM app.erasures"
#define STEPS_SQL "SELECT string_agg(detail ->> 'state', ' ' ORDER BY id) FROM audit.audit_outbox WHERE action = 'erasure.step'"

Test(ingest_erasure, destroys_share_object_rows_and_says_so_step_by_step) {
    struct uuid id = add_ready("MRN-1");
    rig_start_jobs();
    rig_wait_for("ready", DOCUMENT_SQL);
    cr_assert_eq(fake_cloud_count(&rig.cloud), 1);
    cr_assert_eq(fake_cloud_shares(&rig.cloud), 1);
    cr_assert_eq(erase_as(admin(), &id, NULL, NULL), ST_OK);
    rig_wait_for("t", DONE_SQL);
    cr_expect_eq(fake_cloud_count(&rig.cloud), 0);
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 0);
    cr_expect_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.documents) || ' ' || (SELECT count(*) FROM keys.document_keys)"), "0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(kind || ' ' || state, ',') FROM jobs.jobs"), "erase succeeded");
    cr_expect_str_eq(pg_ask(pg_admin(), STEPS_SQL), "intended share_destroyed objects_destroyed destroyed");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'certificate' = encode(sha256(convert_to(e.certificate, 'UTF8')), 'hex') "
                                        "FROM audit.audit_outbox, app.erasures e WHERE action = 'erasure.complete'"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT certificate::jsonb #>> '{destroyed,0,object_versions}' FROM app.erasures"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.subjects"), "1", "the patient was not to be erased");
    cr_expect_eq(erase_as(admin(), &id, NULL, NULL), ST_NOT_FOUND, "once");
    struct rig_upload again = { .type = "text/plain", .announced_bytes = 3, .id = id.bytes, .id_len = UUID_BYTES };
    struct why why = { 0 };
    cr_expect_eq(rig_upload(&again, "abc", 3, NULL, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_DOC_ID_TAKEN, "an erased id is not used again");
}

Test(ingest_erasure, of_a_patient_takes_every_document_and_the_patients_row) {
    (void)add_ready("MRN-1");
    (void)add_ready("MRN-1");
    struct uuid other = add_ready("MRN-2");
    rig_start_jobs();
    rig_wait_for("ready ready ready", "SELECT string_agg(status, ' ') FROM app.documents");
    const char *text = pg_ask(pg_admin(), "SELECT subject_id FROM app.documents GROUP BY 1 HAVING count(*) = 2");
    struct uuid subject;
    cr_assert(uuid_parse(text, strlen(text), &subject));
    cr_assert_eq(erase_as(admin(), NULL, &subject, NULL), ST_OK);
    rig_wait_for("t", DONE_SQL);
    char id[UUID_TEXT_BYTES];
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(id::text, ' ') FROM app.documents"), uuid_format(&other, id));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.subjects"), "1");
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox WHERE action = 'subject.erase'"), "1");
}

Test(ingest_erasure, a_hold_is_of_a_document_a_patient_or_the_log) {
    Ingest__PlaceHoldRequest req = INGEST__PLACE_HOLD_REQUEST__INIT;
    req.reason = (char *)"litigation";
    req.log = true;
    cr_assert_eq(ask("ingest.PlaceHold", &req.base, &ingest__place_hold_reply__descriptor, admin(), NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT is_log || ' ' || num_nulls(document_id, subject_id) FROM app.holds"), "true 2");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'log' FROM audit.audit_outbox WHERE action = 'hold.place'"), "true");
    struct uuid id = uuid_v7();
    req.document_id = (ProtobufCBinaryData){ UUID_BYTES, id.bytes };
    cr_expect_eq(ask("ingest.PlaceHold", &req.base, &ingest__place_hold_reply__descriptor, admin(), NULL), ST_INVALID, "one of the three");
}

Test(ingest_erasure, a_hold_refuses_deletion_and_erasure_until_it_is_released) {
    struct uuid id = add_ready("MRN-1"), subject;
    const char *text = pg_ask(pg_admin(), "SELECT id FROM app.subjects");
    cr_assert(uuid_parse(text, strlen(text), &subject));
    for (int i = 0; i < 2; i++) {
        enum error_code code = ERR_NONE;
        cr_assert_eq(i ? hold(NULL, &subject) : hold(&id, NULL), ST_OK);
        cr_expect_eq(delete_document(&id, &code), ST_CONFLICT, "%d", i);
        cr_expect_eq(code, ERR_DOC_HELD);
        cr_expect_eq(erase_as(admin(), &id, NULL, &code), ST_CONFLICT, "%d", i);
        cr_expect_eq(code, ERR_DOC_HELD);
        cr_expect_eq(erase_as(admin(), NULL, &subject, &code), ST_CONFLICT, "%d", i);
        cr_expect_eq(code, ERR_DOC_HELD);
        cr_expect_str_eq(pg_try(pg_admin(), "DELETE FROM app.documents"), "CH001", "not even by hand");
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.erasures"), "0");
        cr_expect_eq(release_all(), ST_OK);
    }
    cr_expect_eq(delete_document(&id, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(action, ' ' ORDER BY id) FROM audit.audit_outbox WHERE action LIKE 'hold.%%'"),
                     "hold.place hold.release hold.place hold.release");
    cr_expect_eq(erase_as(admin(), &id, NULL, NULL), ST_OK, "what is deleted can be erased");
}

Test(ingest_erasure, is_for_those_with_the_scope_and_of_their_own_tenant) {
    struct uuid id = add_ready(NULL);
    cr_expect_eq(erase_as(pg_ticket(PG_SLUG_A, "clinician", "ann"), &id, NULL, NULL), ST_FORBIDDEN);
    cr_expect_eq(erase_as(pg_ticket(PG_SLUG_B, "admin", "eve"), &id, NULL, NULL), ST_NOT_FOUND);
    cr_expect_eq(erase_as(admin(), NULL, NULL, NULL), ST_INVALID);
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", admin());
    cr_expect_str_eq(pg_try(ingest, "SELECT keys.erasure_next()"), "42501", "a person is no job");
    pg_ask(ingest, "ROLLBACK; BEGIN; SELECT authz.enter('%s')", admin());
    cr_expect_str_eq(pg_try(ingest, "SELECT keys.rewrap_next(1)"), "42501");
    PQfinish(ingest);
}

Test(ingest_erasure, an_outage_of_the_store_is_waited_for) {
    struct uuid id = add_ready(NULL);
    rig_start_jobs();
    rig_wait_for("ready", DOCUMENT_SQL);
    rig.cloud.get_status = 403;         /* the list of versions */
    cr_assert_eq(erase_as(admin(), &id, NULL, NULL), ST_OK);
    rig_wait_for("t", "SELECT outages > 0 FROM jobs.jobs WHERE kind = 'erase'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT state FROM app.erasure_items"), "share_destroyed");
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 0, "the first step was not waiting");
    rig.cloud.get_status = 0;
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() WHERE state = 'queued'");
    rig_wait_for("t", DONE_SQL);
}

/* What holds ciphertext under a key of a document is reached by its erasure: it goes with the document's row or a
 * conversation's. A new table that is not shall say here how else it is reached. */
Test(ingest_erasure, reaches_every_table_that_holds_ciphertext) {
    cr_expect_str_eq(pg_ask(pg_admin(),
        "WITH RECURSIVE reached (oid) AS ("
        "    VALUES ('app.documents'::regclass::oid), ('app.conversations'::regclass::oid), ('app.subjects'::regclass::oid)"
        "    UNION SELECT f.conrelid FROM pg_constraint f JOIN reached r ON f.confrelid = r.oid WHERE f.contype = 'f' AND f.confdeltype = 'c')"
        "SELECT coalesce(string_agg(DISTINCT n.nspname || '.' || c.relname, ' '), '') FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        "    JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.atttypid IN ('bytea'::regtype, 'bytea[]'::regtype)"
        "    AND (a.attname LIKE '%%\\_enc' OR a.attname LIKE 'wrapped%%') AND n.nspname IN ('app', 'keys', 'jobs') AND c.oid NOT IN (SELECT oid FROM reached)"), "");
}

/* ---- a disabled key ---- */

Test(ingest_erasure, a_disabled_key_is_noticed_when_its_time_in_the_cache_is_over) {
    enum { KEEP_MS = 1500 };
    keyring_destroy(&rig.ingest->keyring);
    struct key_unwrapper unwrapper = kms_unwrapper(rig.ingest->kms);
    rig.ingest->keyring = keyring_new(&unwrapper, KEEP_MS, 16);
    (void)add_ready(NULL);
    rig.cloud.kms_error = "DisabledException";
    rig.cloud.kms_status = 400;
    int64_t began_ms = clock_mono_ms(), after_ms = 0;
    struct why why = { 0 };
    enum status st = ST_OK;
    while (st == ST_OK && clock_mono_ms() - began_ms < PATIENCE_MS) {
        after_ms = clock_mono_ms() - began_ms;
        st = rig_upload(NULL, "abc", 3, NULL, &why);
        cr_expect(st != ST_OK || after_ms <= KEEP_MS, "one that began after %lld ms had the key", (long long)after_ms);
        fake_cloud_lose(&rig.cloud, "");        /* it has few places */
    }
    cr_expect_eq(st, ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_KMS_DISABLED);
    cr_log_info("a disabled key was noticed by an upload that began after %lld ms of a cache of %d", (long long)after_ms, KEEP_MS);
}

/* ---- rotation ---- */

static void rotate(void) {
    PGconn *auth = pg_connect("cordon_auth");
    pg_ask(auth, "BEGIN; SELECT authz.enter('%s'); SELECT keys.rotate_tenant_key('01a20000-0000-7000-8000-000000000001', 'key', 'blob-2'); COMMIT", admin());
    PQfinish(auth);
}

#define ROTATED_SQL "SELECT (state = 'succeeded') FROM jobs.jobs WHERE kind = 'rewrap'"

Test(ingest_erasure, a_rotation_wraps_everything_anew_and_forgets_the_old_key) {
    (void)add_ready("MRN-1");
    (void)add_ready(NULL);
    rig_start_jobs();
    rig_wait_for("ready ready", "SELECT string_agg(status, ' ') FROM app.documents");
    const char *before = pg_ask(pg_admin(), "SELECT string_agg(wrapped::text, ' ' ORDER BY document_id) FROM keys.document_keys");
    rotate();
    rig_wait_for("t", ROTATED_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(version::text, ' ') FROM keys.document_keys"), "2 2");
    cr_expect_str_neq(pg_ask(pg_admin(), "SELECT string_agg(wrapped::text, ' ' ORDER BY document_id) FROM keys.document_keys"), before);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT key_version FROM app.subjects"), "2");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(kind || version, ' ' ORDER BY kind) FROM keys.tenant_keys WHERE tenant_id = '" PG_TENANT_A "'"), "data2 search1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT chunks_done || '/' || chunks_total FROM jobs.jobs WHERE kind = 'rewrap'"), "2/2");
    (void)add_ready(NULL);      /* under the new one */
    rig_wait_for("ready ready ready", "SELECT string_agg(status, ' ') FROM app.documents");
}
