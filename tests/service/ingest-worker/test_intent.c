/* Uploads under way: the intent before the first effect, its heartbeat, who may commit, and what the janitor removes. */
#include "core/wire.h"
#include "rig.h"

#define ID_TEXT "0190b6ce-0102-7000-8001-020304050607"
static const uint8_t ID[UUID_BYTES] = { 1, 0x90, 0xb6, 0xce, 1, 2, 0x70, 0, 0x80, 1, 2, 3, 4, 5, 6, 7 };
#define OBJECT_KEY "tenants/" PG_TENANT_A "/" ID_TEXT
#define LONG_AGO "2001-01-01T00:00:00.000Z"
#define JUST_NOW "2999-01-01T00:00:00.000Z"

TestSuite(ingest_intent, .init = rig_open, .fini = rig_close, .timeout = 120);

static char part[BUS_PART_MAX_BYTES];

/* An upload that is open until the test goes on. */
struct open_upload { struct asker asker; struct bus_stream *stream; };

static void begin(struct open_upload *o, const char *key, const void *id) {
    asker_start(&o->asker, &rig.edge, PATIENCE_MS);
    o->asker.call.ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    Ingest__UploadRequest req = INGEST__UPLOAD_REQUEST__INIT;
    req.content_type = (char *)"text/plain";
    req.announced_bytes = -1;
    req.idempotency_key = (char *)key;
    req.document_id = (ProtobufCBinaryData){ id ? UUID_BYTES : 0, (uint8_t *)id };
    cr_assert_eq(bus_stream_open(&o->asker.call, "ingest.Upload", &req.base, &o->stream), ST_OK);
    rig_wait_for("1", "SELECT count(*) FROM app.uploads WHERE swept_at IS NULL");
}

static void send_parts(struct open_upload *o, unsigned parts) {
    for (unsigned i = 0; i < parts; i++)
        cr_assert_eq(bus_stream_write(o->stream, part, sizeof part, false, NULL), ST_OK);
}

static enum status end(struct open_upload *o, const char *last, struct why *ret_why) {
    ProtobufCMessage *reply = NULL;
    enum status st = bus_stream_write(o->stream, last, strlen(last), true, NULL);
    if (st == ST_OK)
        st = bus_stream_finish(o->stream, &ingest__upload_reply__descriptor, &reply);
    *ret_why = o->asker.call.why;
    bus_stream_destroy(&o->stream);
    asker_end(&o->asker);
    return st;
}

static void sweep(void) {
    struct why why = { 0 };
    cr_assert_eq(janitor_sweep(rig.ingest, clock_mono_ms() + PATIENCE_MS, &why), ST_OK, "%s", why.text);
}

/* As a process that died leaves it: an intent of tenant A whose lease is over. */
static void leave_intent(void) {
    pg_ticket(PG_SLUG_A, "clinician", "ann");
    pg_ask(pg_admin(), "INSERT INTO app.uploads (tenant_id, document_id, fence, user_id, content_type, lease_ms) SELECT tenant_id, '" ID_TEXT "', "
                       "gen_random_uuid(), id, 'text/plain', 1000 FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' AND subject = 'ann'");
    rig_wait_for("t", "SELECT heartbeat_at + lease_ms * interval '1 ms' < clock_timestamp() FROM app.uploads");
}

static void expect_nothing_stored(void) {
    cr_expect_eq(fake_cloud_count(&rig.cloud), 0);
    cr_expect_eq(fake_cloud_uploads(&rig.cloud), 0);
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "0 0 0");
}

Test(ingest_intent, is_there_before_the_store_hears_of_the_upload_and_gone_with_the_commit) {
    struct open_upload o;
    struct why why;
    begin(&o, "", ID);
    cr_expect_eq(fake_cloud_uploads(&rig.cloud), 0);
    send_parts(&o, 30);
    WAIT_FOR(fake_cloud_uploads(&rig.cloud) == 1);
    cr_assert_eq(end(&o, "z", &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT id FROM app.documents"), ID_TEXT, "the id that the client chose");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(action, ' ' ORDER BY id) FROM audit.audit_outbox WHERE action LIKE 'upload.%%' OR action = 'document.create'"),
                     "upload.begin document.create upload.end");
}

Test(ingest_intent, its_bytes_are_counted_while_they_come) {
    struct open_upload o;
    struct why why;
    begin(&o, "", NULL);
    for (int i = 0; i < 3; i++) {
        send_parts(&o, 1);
        usleep(1100000);        /* longer than between two heartbeats */
    }
    rig_wait_for("t", "SELECT bytes_received >= 524288 FROM app.uploads");
    cr_assert_eq(end(&o, "z", &why), ST_OK, "%s", why.text);
}

Test(ingest_intent, an_upload_that_lives_is_left_alone) {
    struct open_upload o;
    struct why why;
    begin(&o, "", ID);
    send_parts(&o, 30);
    sweep();
    cr_expect_eq(fake_cloud_uploads(&rig.cloud), 1);
    cr_assert_eq(end(&o, "z", &why), ST_OK, "%s", why.text);
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
}

Test(ingest_intent, what_a_dead_process_left_is_removed_and_looked_for_once_more) {
    leave_intent();
    fake_cloud_leave(&rig.cloud, OBJECT_KEY, NULL);
    fake_cloud_leave(&rig.cloud, OBJECT_KEY, JUST_NOW);
    sweep();
    expect_nothing_stored();
    /* a request of that process, sent long ago, may still arrive: its id stays taken until it cannot */
    struct rig_upload same_id = { .announced_bytes = -1, .id = ID, .id_len = sizeof ID };
    struct why why;
    cr_expect_eq(rig_upload(&same_id, "abc", 3, NULL, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_DOC_ID_TAKEN);
    fake_cloud_leave(&rig.cloud, OBJECT_KEY, NULL);
    sweep();
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1, "not yet due");
    pg_ask(pg_admin(), "UPDATE app.uploads SET swept_at = swept_at - interval '21 min', sweep_after = sweep_after - interval '21 min'");
    sweep();
    expect_nothing_stored();
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads"), "0");
    cr_expect_eq(rig_upload(&same_id, "abc", 3, NULL, &why), ST_OK);
}

Test(ingest_intent, a_store_that_is_away_is_asked_again) {
    leave_intent();
    fake_cloud_leave(&rig.cloud, OBJECT_KEY, NULL);
    struct why why = { 0 };
    rig.cloud.get_status = 403;
    cr_expect_neq(janitor_sweep(rig.ingest, clock_mono_ms() + PATIENCE_MS, &why), ST_OK);
    rig.cloud.get_status = 0;
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads WHERE swept_at IS NOT NULL"), "1");
    pg_ask(pg_admin(), "UPDATE app.uploads SET sweep_after = clock_timestamp() - interval '1 s'");
    sweep();
    expect_nothing_stored();
}

/* Given up between two parts: by the janitor of another process, while this one was stopped. */
Test(ingest_intent, who_was_given_up_cannot_go_on) {
    struct open_upload o;
    struct why why;
    begin(&o, "", ID);
    send_parts(&o, 30);
    WAIT_FOR(fake_cloud_uploads(&rig.cloud) == 1);
    pg_ask(pg_admin(), "UPDATE app.uploads SET swept_at = clock_timestamp()");
    usleep(1100000);            /* longer than between two heartbeats */
    cr_expect_eq(end(&o, "z", &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_DOC_UPLOAD_LOST, "%s", why.text);
    expect_nothing_stored();
}

Test(ingest_intent, who_was_given_up_cannot_commit) {
    struct open_upload o;
    struct why why;
    begin(&o, "", ID);
    pg_ask(pg_admin(), "UPDATE app.uploads SET swept_at = clock_timestamp()");
    cr_expect_eq(end(&o, "abc", &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_DOC_UPLOAD_LOST, "%s", why.text);
    expect_nothing_stored();
}

Test(ingest_intent, the_original_of_a_document_is_never_swept) {
    struct rig_upload u = { .announced_bytes = -1, .id = ID, .id_len = sizeof ID };
    cr_assert_eq(rig_upload(&u, "abc", 3, NULL, NULL), ST_OK);
    leave_intent();
    sweep();
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
}

Test(ingest_intent, an_upload_whose_store_failed_is_the_janitors) {
    rig.cloud.put_status = 403;
    cr_expect_eq(rig_upload(NULL, "abc", 3, NULL, NULL), ST_UNAVAILABLE);
    rig.cloud.put_status = 0;
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads"), "1", "what became of the PUT is not known");
    rig_wait_for("t", "SELECT heartbeat_at + lease_ms * interval '1 ms' < clock_timestamp() FROM app.uploads");
    sweep();
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads WHERE swept_at IS NOT NULL AND sweep_after > swept_at + interval '19 min'"), "1");
}

Test(ingest_intent, a_multipart_upload_that_nobody_knows_of_goes_after_a_day) {
    fake_cloud_leave(&rig.cloud, OBJECT_KEY, JUST_NOW);
    sweep();
    cr_expect_eq(fake_cloud_uploads(&rig.cloud), 1, "somebody may be about to write of it");
    fake_cloud_leave(&rig.cloud, OBJECT_KEY, LONG_AGO);
    fake_cloud_leave(&rig.cloud, "elsewhere/" ID_TEXT, LONG_AGO);
    sweep();
    cr_expect_eq(fake_cloud_uploads(&rig.cloud), 2, "the young one, and what is none of ours");
}

Test(ingest_intent, an_id_belongs_to_one_document_of_a_tenant) {
    struct rig_upload u = { .announced_bytes = -1, .id = ID, .id_len = sizeof ID };
    struct uuid id;
    struct why why;
    char text[UUID_TEXT_BYTES];
    cr_assert_eq(rig_upload(&u, "abc", 3, &id, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(uuid_format(&id, text), ID_TEXT);
    cr_expect_eq(rig_upload(&u, "abc", 3, NULL, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_DOC_ID_TAKEN);
    cr_expect_eq(rig_upload_as(pg_ticket(PG_SLUG_B, "clinician", "bea"), &u, "abc", 3, NULL, &why), ST_OK, "another tenant's is another");
    cr_expect_eq(fake_cloud_count(&rig.cloud), 2);
    struct open_upload o;
    static const uint8_t other[UUID_BYTES] = { 1, 0x90, 0xb6, 0xce, 1, 2, 0x70, 0, 0x80, 1, 2, 3, 4, 5, 6, 9 };
    struct rig_upload busy = { .announced_bytes = -1, .id = other, .id_len = sizeof other };
    begin(&o, "", other);
    cr_expect_eq(rig_upload(&busy, "abc", 3, NULL, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_DOC_ID_TAKEN);
    cr_expect_eq(end(&o, "abc", &why), ST_OK, "the first is not disturbed");
}

Test(ingest_intent, the_priority_is_the_jobs) {
    struct rig_upload bulk = { .announced_bytes = -1, .priority = "bulk" }, quick = { .announced_bytes = -1, .priority = "interactive" };
    cr_assert_eq(rig_upload(&bulk, "abc", 3, NULL, NULL), ST_OK);
    cr_assert_eq(rig_upload(NULL, "abc", 3, NULL, NULL), ST_OK);
    cr_assert_eq(rig_upload(&quick, "abc", 3, NULL, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(priority::text, ' ' ORDER BY seq) FROM jobs.jobs"), "200 100 50");
}

/* ---- Idempotency-Key ---- */

#define KEY "8e03978e-40d5-43e8-bc93-6894a57f9324"

static void expect_reused(const struct rig_upload *u, const char *body, const char *name) {
    struct why why;
    cr_expect_eq(rig_upload(u, body, strlen(body), NULL, &why), ST_CONFLICT, "%s", name);
    cr_expect_eq(why.code, ERR_IDEM_REUSED, "%s: %s", name, why.text);
}

Test(ingest_intent, the_same_upload_under_the_same_key_is_one_document) {
    struct rig_upload u = { .announced_bytes = -1, .key = KEY, .name = "a.txt", .mrn = "MRN-1" };
    struct uuid first, again;
    struct why why;
    cr_assert_eq(rig_upload(&u, "abc", 3, &first, &why), ST_OK, "%s", why.text);
    unsigned audited = rig.audited;
    cr_assert_eq(rig_upload(&u, "abc", 3, &again, &why), ST_OK, "%s", why.text);
    cr_expect(uuid_equal(&first, &again));
    cr_expect_eq(rig.audited, audited + 1, "the repetition is on record");
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.uploads"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT k.job_id = j.id AND k.document_id = j.document_id FROM app.idempotency_keys k, jobs.jobs j"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT k::text LIKE '%%' || encode('" KEY "', 'hex') || '%%' OR k::text LIKE '%%8e03978e%%' FROM app.idempotency_keys k"), "f");
}

Test(ingest_intent, another_request_under_the_same_key_is_refused) {
    struct rig_upload u = { .announced_bytes = -1, .key = KEY, .name = "a.txt" };
    cr_assert_eq(rig_upload(&u, "abc", 3, NULL, NULL), ST_OK);
    expect_reused(&u, "abd", "another body");
    expect_reused(&(struct rig_upload){ .announced_bytes = -1, .key = KEY, .name = "b.txt" }, "abc", "another name");
    expect_reused(&(struct rig_upload){ .announced_bytes = -1, .key = KEY, .name = "a.txt", .mrn = "1" }, "abc", "another patient");
    expect_reused(&(struct rig_upload){ .announced_bytes = -1, .key = KEY, .name = "a.txt", .metadata = "{}" }, "abc", "other metadata");
    expect_reused(&(struct rig_upload){ .announced_bytes = -1, .key = KEY, .name = "a.txt", .type = "text/markdown" }, "abc", "another type");
    expect_reused(&(struct rig_upload){ .announced_bytes = -1, .key = KEY, .name = "a.txt", .priority = "bulk" }, "abc", "another priority");
    expect_reused(&(struct rig_upload){ .announced_bytes = -1, .key = KEY, .name = "a.txt", .id = ID, .id_len = sizeof ID }, "abc", "another id");
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
    /* a key is its user's own */
    cr_expect_eq(rig_upload_as(pg_ticket(PG_SLUG_A, "clinician", "bob"), &u, "xyz", 3, NULL, NULL), ST_OK);
    cr_expect_eq(rig_upload_as(pg_ticket(PG_SLUG_B, "clinician", "ann"), &u, "xyz", 3, NULL, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || count(DISTINCT (tenant_id, user_id)) FROM app.idempotency_keys"), "3 3");
}

Test(ingest_intent, a_key_in_use_is_busy_until_its_upload_is_over) {
    struct open_upload o;
    struct rig_upload same = { .announced_bytes = -1, .key = KEY };
    struct why why;
    begin(&o, KEY, NULL);
    cr_expect_eq(rig_upload(&same, "abc", 3, NULL, &why), ST_CONFLICT);
    cr_expect_eq(why.code, ERR_IDEM_BUSY, "%s", why.text);
    cr_expect_gt(why.retry_after_ms, 0);
    cr_assert_eq(end(&o, "abc", &why), ST_OK);
    cr_expect_eq(rig_upload(&same, "abc", 3, NULL, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
}

Test(ingest_intent, a_key_whose_upload_failed_may_be_used_again) {
    struct rig_upload bad = { .announced_bytes = 9, .key = KEY }, good = { .announced_bytes = -1, .key = KEY };
    cr_expect_eq(rig_upload(&bad, "abc", 3, NULL, NULL), ST_INVALID);
    cr_expect_eq(rig_upload(&good, "abc", 3, NULL, NULL), ST_OK);
}

/* The first one's process is stopped: the client tries again, and only one of the two becomes a document. */
Test(ingest_intent, a_dead_upload_does_not_keep_its_key) {
    struct open_upload o;
    struct rig_upload same = { .announced_bytes = -1, .key = KEY };
    struct why why;
    begin(&o, KEY, ID);
    rig_wait_for("t", "SELECT heartbeat_at + lease_ms * interval '1 ms' < clock_timestamp() FROM app.uploads");
    cr_expect_eq(rig_upload(&same, "abc", 3, NULL, &why), ST_OK, "%s", why.text);
    cr_expect_eq(end(&o, "abc", &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_DOC_UPLOAD_LOST, "%s", why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "1 1 1");
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1);
}

Test(ingest_intent, a_key_is_forgotten_after_a_day) {
    struct rig_upload u = { .announced_bytes = -1, .key = KEY };
    struct uuid first, again;
    cr_assert_eq(rig_upload(&u, "abc", 3, &first, NULL), ST_OK);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT expires_at > now() + interval '23 h' FROM app.idempotency_keys"), "t");
    sweep();
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.idempotency_keys"), "1");
    pg_ask(pg_admin(), "UPDATE app.idempotency_keys SET expires_at = now() - interval '1 s'");
    cr_assert_eq(rig_upload(&u, "abd", 3, &again, NULL), ST_OK, "also before the cleaner comes");
    cr_expect_not(uuid_equal(&first, &again));
    pg_ask(pg_admin(), "UPDATE app.idempotency_keys SET expires_at = now() - interval '1 s'");
    sweep();
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.idempotency_keys"), "0");
}

Test(ingest_intent, without_the_record_there_is_no_repetition) {
    struct rig_upload u = { .announced_bytes = -1, .key = KEY };
    cr_assert_eq(rig_upload(&u, "abc", 3, NULL, NULL), ST_OK);
    rig.audit_status = ST_UNAVAILABLE;
    cr_expect_eq(rig_upload(&u, "abc", 3, NULL, NULL), ST_UNAVAILABLE);
}
