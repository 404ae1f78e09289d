/* ingest.Upload: what comes in becomes a document, its key and its job together, or nothing. */
#include "crypto/digest.h"
#include "json/writer.h"
#include "pg_proxy.h"
#include "rig.h"

#define CANARY "canary-7f3a of the patient"

TestSuite(ingest_upload, .init = rig_open, .fini = rig_close, .timeout = 120);

static void expect_nothing(const char *name) {
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "0 0 0", "%s", name);
    cr_expect_eq(fake_cloud_count(&rig.cloud), 0, "%s: an object is left", name);
    cr_expect_eq(fake_cloud_uploads(&rig.cloud), 0, "%s: a multipart upload is left", name);
}

Test(ingest_upload, document_key_and_job_commit_together) {
    uint8_t sha[SHA256_BYTES];
    sha256(CANARY, strlen(CANARY), sha);
    struct rig_upload u = { .name = "Grüße.txt", .metadata = "{\"ward\":\"7\"}", .mrn = "MRN-1", .announced_bytes = (int64_t)strlen(CANARY),
                            .sha256 = sha, .sha256_len = sizeof sha };
    struct uuid id;
    struct why why = { 0 };
    cr_assert_eq(rig_upload(&u, CANARY, strlen(CANARY), &id, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT d.status || ' ' || j.state || ' ' || d.bytes || ' ' || (d.id = j.document_id AND d.id = k.document_id) || ' ' || "
                                        "(d.created_by = j.user_id) FROM app.documents d, jobs.jobs j, keys.document_keys k"), "processing queued 26 true true");
    char text[UUID_TEXT_BYTES];
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT id FROM app.documents"), uuid_format(&id, text));
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox WHERE action IN ('document.create', 'job.enqueue')"), "2");
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
    cr_expect_not(fake_cloud_shows(&rig.cloud, "canary"), "the original is sealed");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.documents d, app.subjects s WHERE d.subject_id = s.id AND "
                            "(d::text || s::text) NOT LIKE '%%' || encode('ward', 'hex') || '%%' AND (d::text || s::text) NOT LIKE '%%' || encode('MRN-1', 'hex') || '%%' "
                            "AND (d::text || s::text) NOT LIKE '%%' || encode('.txt', 'hex') || '%%'"), "1", "names and numbers are sealed");
}

Test(ingest_upload, a_patient_is_one_row_per_tenant) {
    struct rig_upload u = { .mrn = "MRN-1", .announced_bytes = -1 };
    for (int i = 0; i < 2; i++)
        cr_assert_eq(rig_upload(&u, "x", 1, NULL, NULL), ST_OK);
    cr_assert_eq(rig_upload_as(pg_ticket(PG_SLUG_B, "clinician", "ann"), &u, "x", 1, NULL, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || count(DISTINCT mrn_blind) || ' ' || count(DISTINCT tenant_id) FROM app.subjects"), "2 2 2");
}

Test(ingest_upload, a_large_one_goes_in_parts) {
    static char data[7 << 20];
    memset(data, 'a', sizeof data);
    cr_assert_eq(rig_upload(NULL, data, sizeof data, NULL, NULL), ST_OK);
    cr_expect_eq(rig.cloud.completed, 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT bytes FROM app.documents"), "7340032");
}

Test(ingest_upload, one_that_is_cut_leaves_nothing) {
    static char data[BUS_PART_MAX_BYTES];
    const size_t parts[] = { 0, 1, 30 };            /* before a byte, before an S3 part, after one */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct asker a;
        asker_start(&a, &rig.edge, PATIENCE_MS);
        a.call.ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
        Ingest__UploadRequest req = INGEST__UPLOAD_REQUEST__INIT;
        req.content_type = (char *)"text/plain";
        req.announced_bytes = -1;
        struct bus_stream *s = NULL;
        cr_assert_eq(bus_stream_open(&a.call, "ingest.Upload", &req.base, &s), ST_OK);
        for (size_t p = 0; p < parts[i]; p++)
            cr_assert_eq(bus_stream_write(s, data, sizeof data, false, NULL), ST_OK);
        bus_stream_destroy(&s);
        asker_end(&a);
        WAIT_FOR(metric(&rig.worker, "cordon_in_flight ") <= 0);
        expect_nothing("cut");
    }
    WAIT_FOR(rig.cloud.aborted == 1);
    rig_wait_for("0", "SELECT count(*) FROM app.uploads");
    expect_nothing("cut");
}

Test(ingest_upload, what_is_wrong_is_refused_and_leaves_nothing) {
    static char long_text[300], longer[9000];
    memset(long_text, 'n', sizeof long_text - 1);
    memset(longer, ' ', sizeof longer - 1);
    static const uint8_t sha[SHA256_BYTES] = { 1 };
    static const char data[] = "0123456789";
    const struct { const char *name; struct rig_upload u; size_t len; enum error_code want; } CASES[] = {
        { "type",             { .type = "application/x-msdownload", .announced_bytes = -1 },      10, ERR_DOC_TYPE },
        { "no type",          { .type = "x", .announced_bytes = -1 },                            10, ERR_DOC_TYPE },
        { "announced empty",  { .announced_bytes = 0 },                                          10, ERR_DOC_EMPTY },
        { "empty",            { .announced_bytes = -1 },                                         0,  ERR_DOC_EMPTY },
        { "announced large",  { .announced_bytes = RIG_UPLOAD_MAX_BYTES + 1 },                   10, ERR_REQ_BODY_TOO_LARGE },
        { "more",             { .announced_bytes = 9 },                                          10, ERR_REQ_MALFORMED },
        { "fewer",            { .announced_bytes = 11 },                                         10, ERR_REQ_TRUNCATED },
        { "checksum",         { .announced_bytes = -1, .sha256 = sha, .sha256_len = 32 },        10, ERR_DOC_CHECKSUM },
        { "short checksum",   { .announced_bytes = -1, .sha256 = sha, .sha256_len = 31 },        10, ERR_REQ_FIELD },
        { "long name",        { .announced_bytes = -1, .name = long_text },                      10, ERR_REQ_FIELD },
        { "control in name",  { .announced_bytes = -1, .name = "a\nb" },                         10, ERR_REQ_FIELD },
        { "name not UTF-8",   { .announced_bytes = -1, .name = "a\xff" },                        10, ERR_REQ_FIELD },
        { "long mrn",         { .announced_bytes = -1, .mrn = long_text },                       10, ERR_REQ_FIELD },
        { "control in mrn",   { .announced_bytes = -1, .mrn = "a\x7f" },                         10, ERR_REQ_FIELD },
        { "metadata no JSON", { .announced_bytes = -1, .metadata = "{" },                        10, ERR_REQ_FIELD },
        { "metadata array",   { .announced_bytes = -1, .metadata = "[]" },                       10, ERR_REQ_FIELD },
        { "metadata number",  { .announced_bytes = -1, .metadata = "{\"a\":1}" },                10, ERR_REQ_FIELD },
        { "id of 15 bytes",   { .announced_bytes = -1, .id = long_text, .id_len = 15 },          10, ERR_REQ_FIELD },
        { "id of version 4",  { .announced_bytes = -1, .id = "\x01\x90\xb6\xce\1\2\x40\0\x80\1\2\3\4\5\6\7", .id_len = 16 }, 10, ERR_REQ_FIELD },
        { "id of no variant", { .announced_bytes = -1, .id = "\x01\x90\xb6\xce\1\2\x70\0\0\1\2\3\4\5\6\7", .id_len = 16 }, 10, ERR_REQ_FIELD },
        { "priority",         { .announced_bytes = -1, .priority = "urgent" },                   10, ERR_REQ_FIELD },
        { "long key",         { .announced_bytes = -1, .key = long_text },                       10, ERR_REQ_FIELD },
        { "space in key",     { .announced_bytes = -1, .key = "a b" },                           10, ERR_REQ_FIELD },
        { "metadata long",    { .announced_bytes = -1, .metadata = longer },                     10, ERR_REQ_FIELD },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct why why = { 0 };
        enum status st = rig_upload(&CASES[i].u, data, CASES[i].len, NULL, &why);
        cr_expect_eq(st, ST_INVALID, "%s: %s %s", CASES[i].name, status_name(st), why.text);
        cr_expect_eq(why.code, CASES[i].want, "%s: %s", CASES[i].name, error_text_code(why.code));
        expect_nothing(CASES[i].name);
    }
}

Test(ingest_upload, the_limit_holds_for_what_was_not_announced) {
    static char data[RIG_UPLOAD_MAX_BYTES + 1];
    struct why why = { 0 };
    cr_expect_eq(rig_upload(NULL, data, sizeof data, NULL, &why), ST_INVALID);
    cr_expect_eq(why.code, ERR_REQ_BODY_TOO_LARGE);
    WAIT_FOR(rig.cloud.aborted == 1);
    expect_nothing("limit");
}

/* The ticket of the last part is who commits: it must be the one who began. */
Test(ingest_upload, the_last_ticket_must_be_the_same_persons_and_still_good) {
    const struct { const char *name, *ticket; enum status want; } CASES[] = {
        { "another user",      pg_ticket(PG_SLUG_A, "clinician", "bob"), ST_FORBIDDEN },
        { "another tenant",    pg_ticket(PG_SLUG_B, "clinician", "ann"), ST_FORBIDDEN },
        { "without the scope", pg_ticket(PG_SLUG_A, "reviewer", "ann"),  ST_FORBIDDEN },
        { "no ticket",         "forged",                                ST_UNAUTHENTICATED },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct rig_upload u = { .announced_bytes = -1, .end_ticket = CASES[i].ticket };
        cr_expect_eq(rig_upload(&u, "abc", 3, NULL, NULL), CASES[i].want, "%s", CASES[i].name);
        expect_nothing(CASES[i].name);
    }
    struct rig_upload good = { .announced_bytes = -1, .end_ticket = pg_ticket(PG_SLUG_A, "clinician", "ann") };
    cr_expect_eq(rig_upload(&good, "abc", 3, NULL, NULL), ST_OK);
}

Test(ingest_upload, who_may_not_write_is_refused_before_a_byte_is_stored) {
    cr_expect_eq(rig_upload_as(pg_ticket(PG_SLUG_A, "reviewer", "rev"), NULL, "abc", 3, NULL, NULL), ST_FORBIDDEN);
    cr_expect_eq(rig_upload_as("", NULL, "abc", 3, NULL, NULL), ST_UNAUTHENTICATED);
    expect_nothing("refused");
}

Test(ingest_upload, without_store_or_key_service_there_is_no_document) {
    struct why why = { 0 };
    rig.cloud.kms_status = 400;
    rig.cloud.kms_error = "DisabledException";
    cr_expect_eq(rig_upload(NULL, "abc", 3, NULL, &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_KMS_DISABLED);
    rig.cloud.kms_status = 0;
    rig.cloud.put_status = 403;
    cr_expect_eq(rig_upload(NULL, "abc", 3, NULL, &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_STORE_UNAVAILABLE);
    rig.cloud.put_status = 0;
    expect_nothing("outage");
}

/* ---- the answer to COMMIT gets lost ---- */

static void through_proxy(enum proxy_cut cut, unsigned cuts) {
    struct why why = { 0 };
    struct pg_proxy *proxy = pg_proxy_start("COMMIT", cut, cuts);
    struct db_options options = { .url = pg_proxy_url(proxy, "cordon_ingest"), .process = "ingest-test" };
    db_pool_destroy(&rig.ingest->db);
    cr_assert_eq(db_pool_new(&options, &rig.ingest->db, &why), ST_OK, "%s", why.text);
    /* the first COMMITs are the ones that read the tenant's keys and write the intent */
    struct rig_upload u = { .mrn = "MRN-1", .announced_bytes = -1 };
    pg_proxy_spare(proxy, 2);
    cr_expect_eq(rig_upload(&u, "abc", 3, NULL, &why), ST_OK, "%s", why.text);
    cr_expect_eq(pg_proxy_cuts(proxy), cuts, "the answer was to be lost");
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
    db_pool_destroy(&rig.ingest->db);
    pg_proxy_stop(&proxy);
    options.url = pg_url("cordon_ingest");
    cr_assert_eq(db_pool_new(&options, &rig.ingest->db, &why), ST_OK);
}

Test(ingest_upload, a_commit_whose_answer_is_lost_is_a_commit) {
    through_proxy(CUT_ANSWER, 1);
}

Test(ingest_upload, a_commit_that_never_arrived_is_done_again) {
    through_proxy(CUT_QUESTION, 1);
}

Test(ingest_upload, the_second_try_may_be_cut_too) {
    through_proxy(CUT_QUESTION, 2);
}

Test(ingest_upload, a_commit_of_unknown_outcome_is_503_and_keeps_the_original) {
    struct why why = { 0 };
    struct pg_proxy *proxy = pg_proxy_start("COMMIT", CUT_QUESTION, 1000);
    struct db_options options = { .url = pg_proxy_url(proxy, "cordon_ingest"), .process = "ingest-test" };
    db_pool_destroy(&rig.ingest->db);
    cr_assert_eq(db_pool_new(&options, &rig.ingest->db, &why), ST_OK, "%s", why.text);
    pg_proxy_spare(proxy, 2);
    cr_expect_eq(rig_upload(NULL, "abc", 3, NULL, &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_UNAVAILABLE);
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1, "the document may be there");
    db_pool_destroy(&rig.ingest->db);
    pg_proxy_stop(&proxy);
    options.url = pg_url("cordon_ingest");
    cr_assert_eq(db_pool_new(&options, &rig.ingest->db, &why), ST_OK);
}
