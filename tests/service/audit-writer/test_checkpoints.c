/* Signed heads: what is signed and when, that the bucket has it, and that a database which was put back is appended to
 * by nobody. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "core/arena.h"
#include "bucket.h"

/* ---- set-up ---- */

static struct metrics *metrics;
static struct note_key *key;
static struct credentials *credentials;
static struct aws *aws;
static struct s3 *s3;
static struct signer *signer;
static const struct checkpoint_pace AT_ONCE = { .events = 1, .wait_ms = 0 };

static struct signer *new_signer(void) {
    struct anchor anchor = { .s3 = s3, .key = key, .keep_days = 7 };
    return signer_new(rig_pool(), key, &anchor, NULL, &AT_ONCE, metrics);
}

static void set_up(void) {
    struct why why = { 0 };
    rig_open();
    bucket_open();
    metrics = metrics_new();
    CLEANUP(secret_destroy) struct secret *text = secret_new(SKEY, strlen(SKEY));
    cr_assert_eq(note_key_new(text, &key, &why), ST_OK);
    CLEANUP(secret_destroy) struct secret *aws_key = secret_new("s", 1);
    credentials = credentials_new("AKIDTEST", aws_key, NULL, 0);
    aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    s3 = s3_new(aws, loopback_url(bucket.server), "anchors");
    signer = new_signer();
}

static void tear_down(void) {
    signer_destroy(&signer);
    s3_destroy(&s3);
    aws_destroy(&aws);
    credentials_release(&credentials);
    note_key_destroy(&key);
    metrics_destroy(&metrics);
    bucket_close();
    rig_close();
}

TestSuite(audit_checkpoints, .init = set_up, .fini = tear_down, .timeout = 120);

static const char *ask(const char *sql) { return pg_ask(pg_admin(), "%s", sql); }
static bool is_permitted(void) { return signer_permits(signer, &(struct why){ 0 }) == ST_OK; }
static const char *ticket(void) { return pg_ticket(PG_SLUG_A, "clinician", "alice"); }

static enum status sign(size_t *ret_count) {
    struct why why = { 0 };
    enum status st = checkpoint_sign(rig_pool(), key, &AT_ONCE, ret_count, &why);
    return st;
}

/* Take back everything that was put on a log behind seq, as a restored backup would have it. */
static void put_back(int64_t number) {
    pg_ask(pg_admin(), "SET session_replication_role = replica; ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL; ALTER TABLE audit.anchors DISABLE TRIGGER ALL;"
        "DELETE FROM audit.anchors WHERE number > %d; DELETE FROM audit.checkpoints WHERE number > %d;"
        "ALTER TABLE audit.checkpoints ENABLE TRIGGER ALL; ALTER TABLE audit.anchors ENABLE TRIGGER ALL; SET session_replication_role = origin", (int)number, (int)number);
}

/* ---- what is signed ---- */

/* The package's document and row, without what an order does besides. */
static void order_package(const char *id) {
    pg_ask(pg_admin(), "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
        "SELECT tenant_id, '%s', 'application/x-tar', 0, 1, id FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' LIMIT 1;"
        "INSERT INTO app.evidence (tenant_id, id, job_id, reason_code, reference, documents, created_by, expires_at) "
        "SELECT tenant_id, '%s', gen_random_uuid(), 'audit', '', 0, id, now() + interval '1 day' FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' LIMIT 1", id, id);
}

Test(audit_checkpoints, a_head_that_a_package_waits_for_is_signed_at_once_and_others_in_their_time) {
    static const char PACKAGE[] = "01920000-0000-7000-8000-0000000000e1";
    const struct checkpoint_pace slow = { .events = 1000000, .wait_ms = 3600000 };
    size_t count = 0, moved = 0;
    bool is_due = false;
    struct why why = { 0 };
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), DOCUMENT_A1);
    cr_assert_eq(sign(&count), ST_OK);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), DOCUMENT_A1);
    cr_assert_eq(checkpoint_is_due(rig_pool(), &slow, &is_due, &why), ST_OK);
    cr_expect(!is_due);
    const char *const steps[] = { NULL, "UPDATE app.evidence SET manifest = sha256('x')" };
    for (size_t i = 0; i < 2; i++) {
        i == 0 ? order_package(PACKAGE) : (void)ask(steps[i]);
        cr_assert_eq(checkpoint_is_due(rig_pool(), &slow, &is_due, &why), ST_OK);
        cr_expect(!is_due, "it is not on the log yet");
        cr_assert_eq(outbox_drain(rig_pool(), NULL, 100, &moved, &why), ST_OK);
        cr_assert_eq(checkpoint_is_due(rig_pool(), &slow, &is_due, &why), ST_OK);
        cr_expect(is_due, "%s", i == 0 ? "the order" : "the manifest");
        cr_assert_eq(checkpoint_sign(rig_pool(), key, &slow, &count, &why), ST_OK);
        cr_expect_geq(count, 2);
        cr_assert_eq(checkpoint_is_due(rig_pool(), &slow, &is_due, &why), ST_OK);
        cr_expect(!is_due, "once");
    }
}

Test(audit_checkpoints, each_head_that_grew_is_signed_and_named_on_the_platform_s_log) {
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), DOCUMENT_A1);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, pg_ticket(PG_SLUG_B, "clinician", "bob"), NULL);
    cr_assert_eq(sign(&count), ST_OK);
    cr_assert_eq(count, 3, "two tenants and the platform");
    cr_assert_str_eq(ask("SELECT string_agg(split_part(note, E'\\n', 1) || ' ' || size, ';' ORDER BY tenant_id) FROM audit.checkpoints"),
        "PeterNeumann 2;PeterNeumann/" PG_TENANT_A " 1;PeterNeumann/" PG_TENANT_B " 1");
    cr_assert_str_eq(ask("SELECT count(*) FROM audit.checkpoints c JOIN audit.audit_logs l ON l.tenant_id = '" NIL_TENANT "' AND l.seq = c.event_seq "
        "WHERE l.resource_id = c.tenant_id AND convert_from(l.event, 'UTF8')::jsonb #>> '{detail,root}' = encode(c.root, 'hex')"), "2");
    cr_assert_eq(sign(&count), ST_OK);
    cr_assert_eq(count, 0, "signing by itself makes nothing to sign");
    cr_assert_eq(rig_check_tree(NIL_TENANT), 2);
}

Test(audit_checkpoints, the_pace_decides_when) {
    struct why why = { 0 };
    struct checkpoint_pace slow = { .events = 3, .wait_ms = 3600000 };
    bool is_due = false;
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(checkpoint_sign(rig_pool(), key, &slow, &count, &why), ST_OK);
    cr_assert_gt(count, 0, "one that was never signed waits for nothing");
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(checkpoint_sign(rig_pool(), key, &slow, &count, &why), ST_OK);
    cr_assert_eq(count, 0);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(checkpoint_is_due(rig_pool(), &slow, &is_due, &why), ST_OK);
    cr_assert(is_due);
    cr_assert_eq(checkpoint_sign(rig_pool(), key, &slow, &count, &why), ST_OK);
    cr_assert_eq(count, 2);
}

Test(audit_checkpoints, one_signs_at_a_time) {
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    PGconn *other = pg_connect("cordon_audit");
    pg_ask(other, "BEGIN; SELECT audit.begin_signing()");
    cr_assert_eq(sign(&count), ST_OK);
    cr_assert_eq(count, 0);
    pg_ask(other, "ROLLBACK");
    cr_assert_eq(sign(&count), ST_OK);
    cr_assert_eq(count, 2);
    PQfinish(other);
}

Test(audit_checkpoints, what_is_not_committed_is_not_signed) {
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(sign(&count), ST_OK);
    struct why why = { 0 };
    struct rig_call c;
    const char *t = ticket();
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, t, NULL, NULL);
    c.stamp.tenant_id = rig_uuid(PG_TENANT_A);
    struct plain_tx tx = { 0 };
    cr_assert_eq(plain_tx_begin(&tx, rig_pool(), clock_mono_ms() + 5000, &why), ST_OK);
    cr_assert_eq(batch_append(&tx, (struct batch_call *[]){ &c.call }, 1, &why), ST_OK, "%s", why.text);
    cr_assert_eq(sign(&count), ST_OK);
    cr_assert_eq(count, 0);
    plain_tx_end(&tx);
    rig_call_end(&c);
}

Test(audit_checkpoints, nobody_changes_removes_or_invents_a_signed_head) {
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(sign(&count), ST_OK);
    const char *tables[] = { "tree_nodes", "checkpoints", "anchors", "recoveries", "cosignatures" };
    pg_ask(pg_admin(), "INSERT INTO audit.anchors VALUES (1); INSERT INTO audit.tree_nodes VALUES ('" PG_TENANT_A "', 1, 0, sha256('x'));"
        "INSERT INTO audit.cosignatures VALUES ('" PG_TENANT_A "', 1, 'w', 'line'); INSERT INTO audit.recoveries VALUES (9, 1, 'test')");
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        cr_expect_str_eq(pg_try(pg_admin(), "DELETE FROM audit.%s", tables[i]), "42501", "%s", tables[i]);
        cr_expect_str_eq(pg_try(pg_admin(), "TRUNCATE audit.%s CASCADE", tables[i]), "42501", "%s", tables[i]);
    }
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE audit.checkpoints SET note = 'x'"), "42501");
    PGconn *conn = pg_connect("cordon_audit");
    cr_expect_str_eq(pg_try(conn, "INSERT INTO audit.checkpoints (tenant_id, size, root, note, verifier, number, event_seq) "
        "VALUES ('" PG_TENANT_A "', 9, sha256('x'), 'n', 'v', 2, 1)"), "42501");
    cr_expect_str_eq(pg_try(conn, "SELECT audit.put_checkpoints(ARRAY['" PG_TENANT_A "']::uuid[], ARRAY[9]::bigint[], ARRAY[sha256('x')], ARRAY['n'], "
        "ARRAY['v'], ARRAY[1]::bigint[], 10)"), "22023", "a head that is not there");
    cr_expect_str_eq(pg_try(conn, "SELECT audit.recover(10, 'x')"), "42501", "an operator's to say");
    cr_expect_str_eq(pg_try(conn, "SELECT * FROM audit.checkpoints"), "42501");
    PQfinish(conn);
}

Test(audit_checkpoints, an_auditor_reads_the_own_tenant_s_and_the_platform_s) {
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, pg_ticket(PG_SLUG_B, "clinician", "bob"), NULL);
    cr_assert_eq(sign(&count), ST_OK);
    PGconn *conn = pg_connect("cordon_audit_reader");
    pg_ask(conn, "BEGIN; SELECT * FROM authz.enter('%s')", pg_ticket(PG_SLUG_A, "auditor", "carol"));
    cr_expect_str_eq(pg_ask(conn, "SELECT string_agg(tenant_id::text, ' ' ORDER BY tenant_id) FROM audit.checkpoints"), NIL_TENANT " " PG_TENANT_A);
    pg_ask(conn, "ROLLBACK; BEGIN; SELECT * FROM authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "alice"));
    cr_expect_str_eq(pg_ask(conn, "SELECT count(*) FROM audit.checkpoints"), "0", "without audit:read");
    PQfinish(conn);
}

Test(audit_checkpoints, nodes_of_filled_subtrees_are_kept) {
    enum { EVENTS = 260 };
    const char *t = ticket();
    for (int done = 0; done < EVENTS; done += 52) {
        struct rig_call calls[52];
        for (int i = 0; i < 52; i++)
            rig_call(&calls[i], AUDIT_SEARCH_DISCLOSE, t, NULL, NULL);
        cr_assert_eq(rig_commit(calls, 52), ST_OK);
        for (int i = 0; i < 52; i++)
            rig_call_end(&calls[i]);
    }
    struct merkle_range range = { 0 };
    PGresult *rows = PQexecParams(pg_admin(), "SELECT leaf_hash FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "' AND seq < 256 ORDER BY seq",
                                  0, NULL, NULL, NULL, NULL, 1);
    cr_assert_eq(PQntuples(rows), 256);
    for (int i = 0; i < 256; i++) {
        struct merkle_hash leaf;
        memcpy(leaf.bytes, PQgetvalue(rows, i, 0), sizeof leaf.bytes);
        merkle_append(&range, &leaf);
    }
    PQclear(rows);
    struct merkle_hash root = merkle_root(&range);
    rows = PQexecParams(pg_admin(), "SELECT hash FROM audit.tree_nodes WHERE tenant_id = '" PG_TENANT_A "' AND level = 1 AND index = 0", 0, NULL, NULL, NULL, NULL, 1);
    cr_assert_eq(PQntuples(rows), 1);
    cr_assert(memcmp(PQgetvalue(rows, 0, 0), root.bytes, sizeof root.bytes) == 0);
    PQclear(rows);
}

/* ---- the bucket ---- */

Test(audit_checkpoints, nothing_is_appended_before_the_bucket_was_asked) {
    cr_assert(!is_permitted());
    bucket.is_away = true;
    signer_turn(signer);
    cr_assert(!is_permitted(), "an outage is no agreement");
    bucket.is_away = false;
    signer_turn(signer);
    cr_assert(is_permitted());
    bucket.is_away = true;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    signer_turn(signer);
    cr_assert(is_permitted(), "an outage later on stops nobody");
}

static void *look_once(void *unused) {
    usleep(200000);             /* until the other has waited for a while, or not even begun: the answer is the same */
    signer_turn(signer);
    return unused;
}

Test(audit_checkpoints, who_comes_before_the_first_look_waits_for_it_and_for_no_other) {
    struct why why = { 0 };
    pthread_t thread;
    cr_assert_eq(signer_permits_by(signer, clock_mono_ms() + 50, &why), ST_UNAVAILABLE, "nobody looks");
    cr_expect_neq(why.code, ERR_AUDIT_BEHIND, "no operator is needed");
    cr_assert_eq(pthread_create(&thread, NULL, look_once, NULL), 0);
    cr_expect_eq(signer_permits_by(signer, clock_mono_ms() + 30000, &why), ST_OK, "%s", why.text);
    pthread_join(thread, NULL);

    signer_destroy(&signer);
    signer = new_signer();
    bucket.is_away = true;
    signer_turn(signer);
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(signer_permits_by(signer, began_ms + 30000, &why), ST_UNAVAILABLE);
    cr_expect_lt(clock_mono_ms() - began_ms, 15000, "the bucket is away, and may be so for long");
}

Test(audit_checkpoints, what_was_signed_goes_into_the_bucket_locked_and_once) {
    signer_turn(signer);
    for (size_t i = 1; i <= 3; i++) {
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        signer_turn(signer);
        cr_assert(is_permitted());
        cr_assert_eq(bucket.count, i);
    }
    cr_assert_eq(bucket.unlocked, 0);
    cr_assert_str_eq(bucket.objects[0].key, "checkpoints/000000000001.jsonl");
    const char first[] = "{\"cordon\":\"checkpoint\",\"note\":\"PeterNeumann\\n1\\n";
    cr_assert(strncmp(bucket.objects[0].data, first, strlen(first)) == 0, "%s", bucket.objects[0].data);
    cr_assert_not_null(strstr(bucket.objects[2].data, "PeterNeumann/" PG_TENANT_A "\\n3\\n"));
    cr_assert_str_eq(ask("SELECT max(number) || ' ' || count(*) FROM audit.anchors"), "3 3");
}

Test(audit_checkpoints, what_an_outage_kept_back_follows) {
    signer_turn(signer);
    bucket.is_away = true;
    size_t count = 0;
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(sign(&count), ST_OK);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_eq(sign(&count), ST_OK);
    signer_turn(signer);
    cr_assert_eq(bucket.count, 0);
    bucket.is_away = false;
    signer_turn(signer);
    cr_assert_eq(bucket.count, 2);
    cr_assert(is_permitted());
}

Test(audit_checkpoints, a_database_that_was_put_back_is_appended_to_by_nobody_until_an_operator_says_so) {
    signer_turn(signer);
    for (int i = 0; i < 5; i++) {
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        signer_turn(signer);
    }
    cr_assert_eq(bucket.count, 5);
    put_back(2);
    struct why why = { 0 };
    signer_destroy(&signer);
    signer = new_signer();
    signer_turn(signer);
    cr_assert_eq(signer_permits(signer, &why), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_AUDIT_BEHIND);
    cr_assert_not_null(strstr(why.text, "the anchor has checkpoint 5, this database ends at 2"), "%s", why.text);
    cr_assert_eq(bucket.count, 5);
    signer_turn(signer);
    cr_assert(!is_permitted(), "it does not go away by itself");
    cr_assert_str_eq(pg_try(pg_admin(), "SET ROLE cordon_owner; SELECT audit.recover(1, 'too-few')"), "22023");
    pg_ask(pg_admin(), "RESET ROLE; SET ROLE cordon_owner; SELECT audit.recover(5, 'restored backup'); RESET ROLE");
    signer_turn(signer);
    cr_assert(is_permitted());
    cr_assert_eq(bucket.count, 6, "what has grown since is signed at once");
    cr_assert_str_eq(bucket.objects[5].key, "checkpoints/000000000006.jsonl");
    cr_assert_str_eq(ask("SELECT action || ' ' || detail::text FROM audit.audit_outbox ORDER BY id DESC LIMIT 1"),
        "audit.recover {\"last\": 2, \"reason\": \"restored_backup\", \"anchored\": 5}");
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    signer_turn(signer);
    cr_assert(is_permitted());
    cr_assert_eq(bucket.count, 7);
}

Test(audit_checkpoints, one_that_was_put_back_while_we_run_signs_no_other_future) {
    signer_turn(signer);
    for (int i = 0; i < 3; i++) {
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        signer_turn(signer);
    }
    put_back(1);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    signer_turn(signer);
    cr_assert(!is_permitted());
    cr_assert_str_eq(ask("SELECT max(number) FROM audit.checkpoints"), "1", "nothing was signed");
}

Test(audit_checkpoints, another_database_s_bucket_is_noticed) {
    signer_turn(signer);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    signer_turn(signer);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    uint8_t root[NOTE_ROOT_BYTES] = { 1 };
    char *object = xalloc(4096), *at = object;
    at += sprintf(at, "{\"cordon\":\"checkpoint\",\"note\":\"");
    for (const char *p = note_sign(key, note_origin(key, "", mem), 1, root, mem); *p; p++)
        at += *p == '\n' ? sprintf(at, "\\n") : sprintf(at, "%c", *p);
    (void)sprintf(at, "\"}\n");
    free(bucket.objects[0].data);
    bucket.objects[0].data = object;
    signer_destroy(&signer);
    signer = new_signer();
    signer_turn(signer);
    cr_assert(!is_permitted());
}

Test(audit_checkpoints, an_answer_that_our_key_did_not_sign_is_no_answer) {
    const char *answers[] = { "", "<Error/>", "{\"cordon\":\"checkpoint\",\"note\":\"PeterNeumann\\n9\\nAAAA\\n\"}\n", "{\"cordon\":\"checkpoint\"}\n" };
    signer_turn(signer);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    signer_turn(signer);
    char *kept = bucket.objects[0].data;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        bucket.objects[0].data = (char *)answers[i];
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        signer_turn(signer);
        cr_expect(is_permitted(), "no alarm for damage on the way: %s", answers[i]);
    }
    signer_destroy(&signer);
    signer = new_signer();
    signer_turn(signer);
    cr_expect(!is_permitted(), "and no agreement either");
    bucket.objects[0].data = kept;
    signer_turn(signer);
    cr_expect(is_permitted());
}

/* Two audit-writers: what the one has signed and put while the other looked is no sign of a lost tail. */
static void take_turn(void *other) { signer_turn(other); }

Test(audit_checkpoints, another_signer_s_newest_checkpoint_is_no_alarm) {
    signer_turn(signer);
    struct signer *other = new_signer();
    signer_turn(other);
    for (int i = 0; i < 5; i++) {
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        bucket.before_head = take_turn, bucket.before_head_ctx = other;         /* its whole turn comes between the look at the database and that at the bucket */
        signer_turn(signer);
        cr_expect(is_permitted());
        bucket.before_head = NULL;
        signer_turn(signer);
        cr_expect(is_permitted());
    }
    signer_destroy(&other);
    cr_expect_eq(counter_value(metrics_counter(metrics, "cordon_audit_checkpoint_failures_total", "", "")), 0);
}

Test(audit_checkpoints, a_log_that_lost_its_tail_is_noticed_without_the_bucket) {
    signer_turn(signer);
    for (int i = 0; i < 3; i++)
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    signer_turn(signer);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads DISABLE TRIGGER ALL; UPDATE audit.audit_heads SET size = 2, range = substr(range, 1, 32), root = substr(range, 1, 32) "
                       "WHERE tenant_id = '" PG_TENANT_A "'; ALTER TABLE audit.audit_heads ENABLE TRIGGER ALL");
    signer_destroy(&signer);
    signer = new_signer();
    signer_turn(signer);
    cr_assert(!is_permitted());
}

Test(audit_checkpoints, a_refused_log_refuses_calls_and_leaves_the_outbox_alone) {
    void *writer = NULL;
    struct why why = { 0 };
    signer_turn(signer);
    for (int i = 0; i < 3; i++) {
        (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        signer_turn(signer);
    }
    put_back(1);
    const char *url = pg_url("cordon_audit");
    CLEANUP(live_secret_destroy) struct live_secret *database = live_secret_new(url, strlen(url));
    CLEANUP(secret_destroy) struct secret *text = secret_new(SKEY, strlen(SKEY)), *aws_key = secret_new("s", 1);
    struct audit_writer_settings settings = { .database_url = database, .connections = 5, .checkpoint_key = text, .checkpoint_interval_s = 1,
        .checkpoint_events = 1, .anchor_days = 1, .anchor_bucket = "anchors", .s3_endpoint = loopback_url(bucket.server),
        .aws = { .region = "us-east-1", .identity = "audit-writer", .proxy = "", .access_key_id = "AKIDTEST", .secret_access_key = aws_key, .web_identity_token_file = "",
                 .role_arn = "", .role_session_name = "", .credentials_file = "", .config_file = "", .profile = "default", .container_relative_uri = "",
                 .container_full_uri = "", .container_token_file = "", .metadata_endpoint = "", .assume_role_arn = "", .tenant_role_arn = "", .sts_endpoint = "" } };
    struct runtime rt = { .process = "audit-writer", .metrics = metrics };
    cr_assert_eq(AUDIT_WRITER.open(&writer, &settings, &rt, &why), ST_OK, "%s", why.text);
    cr_assert_eq(AUDIT_WRITER.start(writer, &rt, &why), ST_OK);
    cr_assert_str_eq(AUDIT_WRITER.ready[1].name, "anchor");
    cr_assert_eq(AUDIT_WRITER.ready[1].check(writer, &why), ST_UNAVAILABLE);

    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    struct uuid id = uuid_v7();
    Audit__Event event = AUDIT__EVENT__INIT;
    event.event_id = (ProtobufCBinaryData){ UUID_BYTES, id.bytes };
    event.action = "search.disclose";
    event.outcome = "success";
    Audit__AppendRequest req = AUDIT__APPEND_REQUEST__INIT;
    req.events = (Audit__Event *[]){ &event };
    req.n_events = 1;
    struct call call = { .mem = mem, .request_id = uuid_v7(), .ticket = ticket(), .peer = PEER_QUERY, .deadline_ms = clock_mono_ms() + 5000 };
    ProtobufCBinaryData body = { .len = audit__append_request__get_packed_size(&req) };
    body.data = arena_alloc(mem, body.len + 1);
    audit__append_request__pack(&req, body.data);
    ProtobufCMessage *reply = NULL;
    cr_assert_eq(service_dispatch(&AUDIT_WRITER, writer, &call, "audit.Append", body, &reply), ST_UNAVAILABLE);
    cr_assert_eq(call.why.code, ERR_AUDIT_BEHIND);
    AUDIT_WRITER.drain(writer, clock_mono_ms() + 5000);
    AUDIT_WRITER.close(&writer);
}

/* Refused before anything is connected, each for its own reason. */
Test(audit_checkpoints, production_wants_key_and_bucket_and_what_proves_the_log_for_six_years) {
    const char *url = pg_url("cordon_audit");
    CLEANUP(live_secret_destroy) struct live_secret *database = live_secret_new(url, strlen(url));
    CLEANUP(secret_destroy) struct secret *text = secret_new(SKEY, strlen(SKEY));
    const struct { struct secret *key; const char *bucket; int64_t days; const char *word; } rows[] = {
        { NULL, "anchors", 2557, "CORDON_CHECKPOINT_KEY" }, { text, "", 2557, "CORDON_ANCHOR_BUCKET" }, { text, "anchors", 2191, "CORDON_ANCHOR_DAYS" },
        { text, "anchors", 2192, "verify-full" } };     /* the next thing that production wants */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct audit_writer_settings settings = { .database_url = database, .connections = 2, .checkpoint_key = rows[i].key, .anchor_bucket = rows[i].bucket,
                                                  .anchor_days = rows[i].days };
        struct runtime rt = { .process = "audit-writer", .metrics = metrics, .is_production = true };
        struct why why = { 0 };
        void *writer = NULL;
        cr_expect_eq(AUDIT_WRITER.open(&writer, &settings, &rt, &why), ST_INVALID);
        cr_expect_not_null(strstr(why.text, rows[i].word), "%s", why.text);
        AUDIT_WRITER.close(&writer);
    }
}

/* An id with two contents through the committer: refused, counted, and on the log of whoever tried. */
Test(audit_checkpoints, an_id_used_for_something_else_is_refused_counted_and_on_record) {
    struct committer *committer = committer_new(rig_pool(), metrics);
    struct rig_call first, other;
    rig_call(&first, AUDIT_SEARCH_DISCLOSE, ticket(), NULL, NULL);
    cr_assert_eq(committer_append(committer, &first.call, clock_mono_ms() + 10000), ST_OK);
    rig_call(&other, AUDIT_SEARCH_DISCLOSE, ticket(), DOCUMENT_A1, &first.event->event_id);
    cr_assert_eq(committer_append(committer, &other.call, clock_mono_ms() + 10000), ST_CONFLICT);
    committer_destroy(&committer);
    cr_assert_eq(counter_value(metrics_counter(metrics, "cordon_audit_conflicts_total", "", "")), 1);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT resource_id || ' ' || outcome || ' ' || (actor_id IS NOT NULL) FROM audit.audit_logs WHERE action = 'audit.conflict' "
                            "AND tenant_id = '" PG_TENANT_A "'"), pg_ask(pg_admin(), "SELECT '%s denied true'", rig_text(&first.event->event_id)));
    (void)rig_check_tree(PG_TENANT_A);
    rig_call_end(&first);
    rig_call_end(&other);
}

/* The index of documents has each event once for each document that it names, and the log's month with it. */
Test(audit_checkpoints, events_are_found_by_the_documents_that_they_name) {
    const char *one = rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), DOCUMENT_A1);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
    cr_assert_str_eq(ask("SELECT string_agg(event_id || ' ' || seq, ',') FROM audit.document_events WHERE tenant_id = '" PG_TENANT_A "' AND document_id = '" DOCUMENT_A1 "'"),
                     pg_ask(pg_admin(), "SELECT '%s 0'", one));
}

/* ---- the log is read again ---- */

static struct recheck *new_recheck(int64_t events_s) {
    return recheck_new(rig_pool(), &(struct anchor){ .s3 = s3, .key = key, .keep_days = 7 }, events_s, metrics);
}

/* Turns until the pass is over. */
static int pass(struct recheck *r) {
    struct why why = { 0 };
    bool is_done = false;
    int turns = 0;
    for (; !is_done && turns < 1000; turns++)
        cr_assert_eq(recheck_turn(r, &is_done, &why), ST_OK, "%s", why.text);
    return turns;
}

static const char *damages(void) {
    return ask("SELECT coalesce(string_agg(resource_id || '@' || coalesce(convert_from(event, 'UTF8')::json -> 'detail' ->> 'seq', '?'), ' ' ORDER BY seq), '') "
               "FROM audit.audit_logs WHERE action = 'audit.damage' AND outcome = 'failure' AND tenant_id = '" NIL_TENANT "'");
}

#define OTHER "01920000-0000-7000-8000-0000000000ee"

/* As whoever owns the machine could: no trigger and no constraint stands in the way. */
static void tamper(const char *sql) {
    pg_ask(pg_admin(), "BEGIN; SET LOCAL session_replication_role = replica; ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL;"
                       "ALTER TABLE audit.audit_logs DROP CONSTRAINT IF EXISTS leaf_is_hash_of_event; %s; COMMIT", sql);
}

static void fill_and_sign(int rounds, int events) {
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < events; k++)
            (void)rig_append(AUDIT_SEARCH_DISCLOSE, ticket(), NULL);
        signer_turn(signer);
    }
}

Test(audit_checkpoints, a_whole_log_is_read_again_in_small_bites_and_found_whole) {
    fill_and_sign(3, 4);
    struct recheck *r = new_recheck(2);
    cr_assert_gt(pass(r), 5, "two events a turn");
    cr_assert_str_eq(damages(), "");
    (void)pass(r);
    cr_assert_str_eq(damages(), "", "and again from the beginning");
    recheck_destroy(&r);
}

Test(audit_checkpoints, an_event_changed_behind_the_triggers_is_named_once) {
    fill_and_sign(2, 3);
    tamper("UPDATE audit.audit_logs SET event = overlay(event PLACING 'x'::bytea FROM 20) WHERE tenant_id = '" PG_TENANT_A "' AND seq = 4");
    struct recheck *r = new_recheck(1000);
    (void)pass(r);
    cr_assert_str_eq(damages(), PG_TENANT_A "@4");
    (void)pass(r);
    cr_assert_str_eq(damages(), PG_TENANT_A "@4", "said once while it lasts");
    recheck_destroy(&r);
}

Test(audit_checkpoints, an_event_changed_together_with_its_leaf_is_named_by_its_columns) {
    fill_and_sign(2, 3);
    tamper("UPDATE audit.audit_logs SET event = overlay(event PLACING 'x'::bytea FROM 20), "
           "leaf_hash = sha256('\\x00'::bytea || overlay(event PLACING 'x'::bytea FROM 20)) WHERE tenant_id = '" PG_TENANT_A "' AND seq = 1");
    struct recheck *r = new_recheck(1000);
    (void)pass(r);
    cr_assert_str_eq(damages(), PG_TENANT_A "@1");
    recheck_destroy(&r);
}

Test(audit_checkpoints, an_event_changed_with_its_leaf_and_its_columns_is_found_by_the_signed_root) {
    fill_and_sign(2, 3);
    tamper("UPDATE audit.audit_logs l SET actor_id = '" OTHER "', event = x.e, leaf_hash = sha256('\\x00'::bytea || x.e) FROM "
           "(SELECT event_id, convert_to(replace(convert_from(event, 'UTF8'), actor_id::text, '" OTHER "'), 'UTF8') AS e FROM audit.audit_logs) x "
           "WHERE x.event_id = l.event_id AND tenant_id = '" PG_TENANT_A "' AND seq = 1");
    struct recheck *r = new_recheck(1000);
    (void)pass(r);
    cr_assert_str_eq(damages(), PG_TENANT_A "@?");
    recheck_destroy(&r);
}

Test(audit_checkpoints, a_column_that_says_otherwise_than_its_event_is_named) {
    fill_and_sign(2, 3);
    tamper("UPDATE audit.audit_logs SET actor_id = '" OTHER "' WHERE tenant_id = '" PG_TENANT_A "' AND seq = 4");
    struct recheck *r = new_recheck(1000);
    (void)pass(r);
    cr_assert_str_eq(damages(), PG_TENANT_A "@4");
    recheck_destroy(&r);
}

Test(audit_checkpoints, an_event_deleted_with_its_head_rewritten_is_found_though_everything_in_the_database_agrees) {
    fill_and_sign(2, 3);
    tamper("DELETE FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "' AND seq = 5; ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL;"
           "ALTER TABLE audit.audit_heads DISABLE TRIGGER ALL; DELETE FROM audit.checkpoints WHERE tenant_id = '" PG_TENANT_A "' AND size > 3");
    struct recheck *r = new_recheck(1000);
    (void)pass(r);
    cr_assert_str_eq(damages(), PG_TENANT_A "@5");
    recheck_destroy(&r);
}
