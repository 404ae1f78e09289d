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

/* ---- which events ---- */

/* A log of n events, one a second from 2023-11-14 22:13:20 on, but that each third was recorded some seconds before its neighbours; those whose number 7 divides name the document. */
static void fill_log(unsigned n, const struct uuid *document) {
    char text[UUID_TEXT_BYTES];
    pg_ask(pg_admin(),
        "ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL; INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, document_ids, content_digest, event, leaf_hash) "
        "SELECT authz.uuid_v7(), '" PG_TENANT_A "', s, now(), to_timestamp(1700000000 + s - CASE WHEN s %% 3 = 0 THEN 4 ELSE 0 END), 'disclosure', 'document.read', 'success', "
        "CASE WHEN s %% 7 = 0 THEN ARRAY['%s'::uuid] ELSE '{}' END, sha256(''), e, sha256('\\x00'::bytea || e) "
        "FROM (SELECT s, convert_to(format('{\"seq\":%%s}', s), 'UTF8') e FROM generate_series(0, %u - 1) s) x;"
        "ALTER TABLE audit.audit_logs ENABLE TRIGGER ALL; INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id) "
        "SELECT l.tenant_id, d, l.seq, l.event_id FROM audit.audit_logs l, unnest(l.document_ids) d", uuid_format(document, text), n);
}

/* A connection that has entered as the package's job. */
static PGconn *as_packer(void) {
    char ticket[2048];
    PGconn *jobs = pg_connect("cordon_jobs"), *ingest = pg_connect("cordon_ingest");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET run_after = now() + interval '1 h' WHERE kind = 'ingest'");
    snprintf(ticket, sizeof ticket, "%s", pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'test', 1, 30000)"));
    PQfinish(jobs);
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s')", ticket);
    return ingest;
}

#define PAGES_SQL "SELECT string_agg(cardinality(event_ids::uuid[]) || ':' || last, ' ' ORDER BY last) FROM audit.evidence_pages(%d, %d)"

Test(ingest_evidence, a_package_s_events_are_listed_in_pages_and_no_others_are_given) {
    struct uuid document = add_document(), id;
    fill_log(4000, &document);
    cr_assert_eq(order(admin(), &document, "", &id, NULL), ST_OK);
    PGconn *packer = as_packer();
    cr_expect_str_eq(pg_ask(packer, PAGES_SQL, -1, 4000), "256:1785 256:3577 60:3997");
    cr_expect_str_eq(pg_ask(packer, PAGES_SQL, 3577, 3991), "59:3990", "behind one place and before another");
    cr_expect_str_eq(pg_ask(packer, "SELECT count(*) || ' ' || min(e.seq) || ' ' || max(e.seq) FROM (SELECT event_ids FROM audit.evidence_pages(-1, 4000) LIMIT 1) p, audit.evidence_events(p.event_ids::uuid[]) e"),
                     "256 0 1785");
    char others[16384];
    snprintf(others, sizeof others, "%s", pg_ask(pg_admin(), "SELECT array_agg(event_id ORDER BY seq)::text FROM audit.audit_logs WHERE seq BETWEEN 0 AND 200"));
    cr_expect_str_eq(pg_ask(packer, "SELECT string_agg(seq::text, ' ' ORDER BY seq) FROM audit.evidence_events('%s')", others),
                     "0 7 14 21 28 35 42 49 56 63 70 77 84 91 98 105 112 119 126 133 140 147 154 161 168 175 182 189 196", "whatever is asked for");
    PQfinish(packer);
}

Test(ingest_evidence, a_span_of_the_log_is_found_by_halving_and_to_the_event) {
    Ingest__CreateEvidenceRequest req = INGEST__CREATE_EVIDENCE_REQUEST__INIT;
    struct uuid document = add_document(), id;
    fill_log(4000, &document);
    req.from_at_us = INT64_C(1700001000) * 1000000;
    req.to_at_us = INT64_C(1700001500) * 1000000;
    req.reason = (char *)"audit";
    cr_assert_eq(ask("ingest.CreateEvidence", &req.base, &ingest__create_evidence_reply__descriptor, admin(), &id, NULL), ST_OK);
    PGconn *packer = as_packer();
    char want[32];
    snprintf(want, sizeof want, "%s", pg_ask(pg_admin(), "SELECT count(*) || ' ' || min(seq) || ' ' || max(seq) FROM audit.audit_logs WHERE recorded_at >= to_timestamp(1700001000) AND recorded_at < to_timestamp(1700001500)"));
    cr_expect_str_eq(pg_ask(packer, "SELECT count(*) || ' ' || min(e.seq) || ' ' || max(e.seq) FROM audit.evidence_pages(-1, 4000) p, audit.evidence_events(p.event_ids::uuid[]) e"), want);
    cr_expect_str_eq(pg_ask(packer, "SELECT count(*) FROM audit.evidence_pages(-1, 900)"), "0", "what is not signed yet");
    PQfinish(packer);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(audit.place_of('" PG_TENANT_A "', n, to_timestamp(1700000000 + t))::text, ' ') FROM (VALUES (4000, -9), (4000, 4001), (0, 5), (1, 5), (1, -9)) v (n, t)"),
                     "0 4000 0 1 0");
}

/* Copies of the document, of the same patient. */
static void add_documents(unsigned n, const struct uuid *like) {
    char text[UUID_TEXT_BYTES];
    pg_ask(pg_admin(), "ALTER TABLE app.documents DISABLE TRIGGER USER; INSERT INTO app.documents (tenant_id, id, subject_id, content_type, bytes, key_version, created_by) "
           "SELECT d.tenant_id, gen_random_uuid(), d.subject_id, 'text/plain', 1, 1, d.created_by FROM app.documents d, generate_series(1, %u) WHERE d.id = '%s';"
           "ALTER TABLE app.documents ENABLE TRIGGER USER", n, uuid_format(like, text));
}

Test(ingest_evidence, a_package_takes_ten_thousand_documents_and_more_are_refused_and_leave_nothing) {
    struct uuid document = add_document(), subject, id;
    Ingest__CreateEvidenceRequest req = INGEST__CREATE_EVIDENCE_REQUEST__INIT;
    add_documents(9999, &document);
    const char *patient = pg_ask(pg_admin(), "SELECT id FROM app.subjects");
    cr_assert(uuid_parse(patient, strlen(patient), &subject));
    req.subject_id = (ProtobufCBinaryData){ UUID_BYTES, subject.bytes };
    req.reason = (char *)"patient_request";
    cr_expect_eq(ask("ingest.CreateEvidence", &req.base, &ingest__create_evidence_reply__descriptor, admin(), &id, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), PACKAGES_SQL), "1 10000 0");
    add_documents(1, &document);
    cr_expect_eq(ask("ingest.CreateEvidence", &req.base, &ingest__create_evidence_reply__descriptor, admin(), &id, NULL), ST_INVALID);
    cr_expect_str_eq(pg_ask(pg_admin(), PACKAGES_SQL), "1 10000 0");
}
