/* Orders of packages of evidence: what is committed together, who may order, how they end. What a package holds is shown end
 * to end (tests/e2e/test_packages.py): it takes a log that is written and signed. */
#include "rig.h"

TestSuite(ingest_evidence, .init = rig_open, .fini = rig_close, .timeout = 90);

static const char *admin(void) {
    return pg_ticket(PG_SLUG_A, "admin", "root");
}

static enum status ask(const char *method, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *reply_is, const char *ticket, struct uuid *ret_id,
                       enum error_code *ret_code) {
    struct asker a;
    asker_start(&a, &rig.edge, PATIENCE_MS);
    a.call.ticket = ticket;
    ProtobufCMessage *reply = NULL;
    enum status st = bus_ask(&a.call, method, req, reply_is, &reply);
    if (ret_code)
        *ret_code = a.call.why.code;
    if (st == ST_OK && ret_id) {
        const Ingest__CreateEvidenceReply *made = (const void *)reply;
        cr_assert(uuid_from_bytes(made->evidence_id.data, made->evidence_id.len, ret_id));
    }
    asker_end(&a);
    return st;
}

static enum status order(const char *ticket, const struct uuid *document, const char *key, struct uuid *ret_id, enum error_code *ret_code) {
    Ingest__CreateEvidenceRequest req = INGEST__CREATE_EVIDENCE_REQUEST__INIT;
    ProtobufCBinaryData ids[1] = { { UUID_BYTES, (uint8_t *)document->bytes } };
    req.document_ids = ids;
    req.n_document_ids = 1;
    req.reason = (char *)"litigation";
    req.idempotency_key = (char *)key;
    return ask("ingest.CreateEvidence", &req.base, &ingest__create_evidence_reply__descriptor, ticket, ret_id, ret_code);
}

static enum status end(const struct uuid *id) {
    Ingest__DeleteEvidenceRequest req = INGEST__DELETE_EVIDENCE_REQUEST__INIT;
    req.evidence_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)id->bytes };
    return ask("ingest.DeleteEvidence", &req.base, &ingest__delete_evidence_reply__descriptor, admin(), NULL, NULL);
}

static struct uuid add_document(void) {
    struct uuid id;
    struct rig_upload u = { .type = "text/plain", .name = "note.txt", .mrn = "MRN-1", .announced_bytes = 11 };
    cr_assert_eq(rig_upload(&u, "a few words", 11, &id, NULL), ST_OK);
    return id;
}

#define PACKAGES_SQL "SELECT (SELECT count(*) FROM app.evidence) || ' ' || (SELECT count(*) FROM app.evidence_sources) || ' ' || (SELECT count(*) FROM app.uploads)"

Test(ingest_evidence, an_order_commits_package_key_sources_and_job_together_and_once) {
    struct uuid document = add_document(), first, again;
    enum error_code code = ERR_NONE;
    cr_assert_eq(order(admin(), &document, "key-1", &first, NULL), ST_OK);
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 2);
    cr_assert_eq(order(admin(), &document, "key-1", &again, NULL), ST_OK);
    cr_expect(uuid_equal(&first, &again), "the same request is the same package");
    cr_expect_str_eq(pg_ask(pg_admin(), PACKAGES_SQL), "1 1 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM jobs.jobs WHERE kind = 'evidence' AND state = 'queued'"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(action, ' ') FROM audit.audit_outbox WHERE action LIKE 'evidence.%%'"), "evidence.create");
    struct uuid other = add_document();
    cr_expect_eq(order(admin(), &other, "key-1", NULL, &code), ST_CONFLICT);
    cr_expect_eq(code, ERR_IDEM_REUSED);
}

Test(ingest_evidence, what_the_asker_may_not_see_is_not_there_and_leaves_nothing) {
    struct uuid document = add_document(), unknown = uuid_v7();
    cr_expect_eq(order(pg_ticket(PG_SLUG_A, "clinician", "ann"), &document, "", NULL, NULL), ST_FORBIDDEN);
    cr_expect_eq(order(pg_ticket(PG_SLUG_B, "admin", "eve"), &document, "", NULL, NULL), ST_NOT_FOUND);
    cr_expect_eq(order(admin(), &unknown, "", NULL, NULL), ST_NOT_FOUND);
    pg_ask(pg_admin(), "UPDATE app.documents SET labels = '{part2}'");
    cr_expect_eq(order(admin(), &document, "", NULL, NULL), ST_NOT_FOUND, "a label hides it");
    cr_expect_str_eq(pg_ask(pg_admin(), PACKAGES_SQL), "0 0 0");
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 1);
}

Test(ingest_evidence, a_person_gets_no_key_of_a_source_and_a_job_none_without_the_record) {
    struct uuid document = add_document(), id;
    cr_assert_eq(order(admin(), &document, "", &id, NULL), ST_OK);
    PGconn *ingest = pg_connect("cordon_ingest");
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", admin());
    cr_expect_str_eq(pg_try(ingest, "SELECT keys.open_evidence(gen_random_uuid())"), "42501");
    pg_ask(ingest, "ROLLBACK");
    PGconn *jobs = pg_connect("cordon_jobs");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() + interval '1 h' WHERE kind = 'ingest'");
    char ticket[2048];
    snprintf(ticket, sizeof ticket, "%s", pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'test', 1, 30000)"));
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", ticket);
    cr_expect_str_eq(pg_try(ingest, "SELECT keys.open_evidence(gen_random_uuid())"), "42501", "no event, no key");
    pg_ask(ingest, "ROLLBACK");
    PQfinish(jobs);
    PQfinish(ingest);
}

Test(ingest_evidence, it_ends_with_a_source_hides_with_it_and_is_erased_when_its_time_is_over) {
    struct uuid document = add_document(), id, second;
    cr_assert_eq(order(admin(), &document, "", &id, NULL), ST_OK);
    pg_ask(pg_admin(), "UPDATE app.documents SET labels = '{part2}' WHERE content_type = 'text/plain'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT labels FROM app.documents WHERE content_type = 'application/x-tar'"), "{part2}");
    pg_ask(pg_admin(), "UPDATE app.documents SET labels = '{}'");
    cr_assert_eq(order(admin(), &document, "", &second, NULL), ST_OK);
    pg_ask(pg_admin(), "UPDATE app.evidence SET expires_at = now() - interval '1 s' WHERE id <> (SELECT min(id::text)::uuid FROM app.evidence)");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.expire_evidence(10)"), "1");
    cr_expect_eq(end(&second), ST_NOT_FOUND, "it is being erased");
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE content_type = 'text/plain'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.documents WHERE status = 'deleted'"), "3");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.expire_evidence(10)"), "1", "what lost a source is erased as well");
    rig_start_jobs();
    rig_wait_for("0", "SELECT count(*) FROM app.evidence");
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 1);
}

Test(ingest_evidence, a_hold_keeps_it_and_its_sources) {
    struct uuid document = add_document(), id;
    cr_assert_eq(order(admin(), &document, "", &id, NULL), ST_OK);
    pg_ask(pg_admin(), "INSERT INTO app.holds (tenant_id, id, document_id, reason_code, reference, placed_by) "
                       "SELECT tenant_id, gen_random_uuid(), id, 'litigation', '', created_by FROM app.evidence");
    cr_expect_eq(end(&id), ST_CONFLICT);
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE content_type = 'text/plain'"), "CH001");
    pg_ask(pg_admin(), "UPDATE app.evidence SET expires_at = now() - interval '1 s'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.expire_evidence(10)"), "0");
}
