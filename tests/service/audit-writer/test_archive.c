/* Closed months of the log: into the bucket, read back up to a signed head, out of the table; held, damaged, killed on the way;
 * and that nobody deletes anything by it. */
#include <stdio.h>
#include <stdlib.h>

#include "archiver.h"
#include "audit_writer.h"
#include "bucket.h"
#include "core/arena.h"

static struct metrics *metrics;
static struct note_key *key;
static struct credentials *credentials;
static struct aws *aws;
static struct s3 *s3;
static struct signer *signer;
static struct archiver *archiver;
static struct recheck *recheck;
static char month[ARCHIVE_MONTH_BYTES], table[16];      /* the one that is due: the third before this one */
static const struct checkpoint_pace AT_ONCE = { .events = 1, .wait_ms = 0 };

static const char *ask(const char *sql) { return pg_ask(pg_admin(), "%s", sql); }

/* A UUIDv7 of the month that is due. */
static struct uuid old_id(void) {
    struct uuid id = uuid_v7();
    int64_t ms = strtoll(pg_ask(pg_admin(), "SELECT (extract(epoch FROM '%s-15'::timestamptz) * 1000)::bigint", month), NULL, 10);
    for (int i = 5; i >= 0; i--, ms >>= 8)
        id.bytes[i] = (uint8_t)ms;
    return id;
}

static struct archiver *new_archiver(void) {
    struct anchor anchor = { .s3 = s3, .key = key, .keep_days = 7 };
    return archiver_new(rig_pool(), &anchor, &(struct archive_terms){ .live_months = 2, .retention_years = 7 }, metrics);
}

static const char *slug_ticket(const char *slug) { return pg_ticket(slug, "clinician", "alice"); }

static struct uuid append_old(const char *slug) {
    struct rig_call c;
    struct uuid id = old_id();
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, slug_ticket(slug), NULL, &id);
    cr_assert_eq(rig_commit(&c, 1), ST_OK);
    cr_assert_eq(c.call.status, ST_OK, "%s", c.call.why.text);
    rig_call_end(&c);
    return id;
}

static void sign(void) {
    signer_turn(signer);
    cr_assert_eq(signer_permits(signer, &(struct why){ 0 }), ST_OK);
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
    struct anchor anchor = { .s3 = s3, .key = key, .keep_days = 7 };
    signer = signer_new(rig_pool(), key, &anchor, NULL, &AT_ONCE, metrics);
    archiver = new_archiver();
    recheck = recheck_new(rig_pool(), &anchor, 100000, metrics);
    (void)snprintf(month, sizeof month, "%s", ask("SELECT to_char(timezone('UTC', now()) - interval '3 months', 'YYYY-MM')"));
    (void)snprintf(table, sizeof table, "%.4s_%s", month, month + 5);
    pg_ask(pg_admin(), "SET ROLE cordon_owner; SELECT audit.make_partition('audit.audit_logs', '%s-01'); "
                       "SELECT audit.make_partition('audit.document_events', '%s-01'); SELECT audit.make_partitions(); RESET ROLE", month, month);
}

static void tear_down(void) {
    recheck_destroy(&recheck);
    archiver_destroy(&archiver);
    signer_destroy(&signer);
    s3_destroy(&s3);
    aws_destroy(&aws);
    credentials_release(&credentials);
    note_key_destroy(&key);
    metrics_destroy(&metrics);
    bucket_close();
    rig_close();
}

TestSuite(audit_archive, .init = set_up, .fini = tear_down, .timeout = 120);

/* Until there is nothing to do, or the first failure. */
static enum status archive_all(struct why *why) {
    bool is_done = false;
    enum status st = ST_OK;
    for (int turns = 0; st == ST_OK && !is_done; turns++) {
        cr_assert_lt(turns, 100);
        st = archiver_turn(archiver, &is_done, why);
    }
    return st;
}

static void archive_it(void) {
    struct why why = { 0 };
    cr_assert_eq(archive_all(&why), ST_OK, "%s", why.text);
}

static void check_again(void) {
    struct why why = { 0 };
    bool is_done = false;
    while (!is_done)
        cr_assert_eq(recheck_turn(recheck, &is_done, &why), ST_OK, "%s", why.text);
}

static double value(const char *gauge) {
    CLEANUP(buffer_end) struct buffer page = { 0 };
    char line[80];
    metrics_print(metrics, &page);
    (void)snprintf(line, sizeof line, "\n%s ", gauge);
    const char *at = strstr(page.data, line);
    cr_assert_not_null(at, "%s", gauge);
    return strtod(at + strlen(line), NULL);
}
static bool is_detached(void) { return pg_ask(pg_admin(), "SELECT to_regclass('audit.detached_%s') IS NOT NULL", table)[0] == 't'; }

/* Two tenants' events of the old month, with one of this month between them. */
static void fill(void) {
    append_old(PG_SLUG_A);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, slug_ticket(PG_SLUG_A), DOCUMENT_A1);
    append_old(PG_SLUG_A);
    append_old(PG_SLUG_B);
    append_old(PG_SLUG_A);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, slug_ticket(PG_SLUG_A), NULL);
}

Test(audit_archive, a_closed_month_goes_to_the_bucket_and_its_hashes_stay) {
    fill();
    sign();
    const char *leaves = ask("SELECT string_agg(encode(leaf_hash, 'hex'), ' ' ORDER BY tenant_id, seq) FROM audit.audit_logs WHERE action <> 'audit.checkpoint'");
    size_t before = bucket.count;
    archive_it();
    cr_assert_eq(bucket.count, before + 2, "an object of each tenant");
    cr_assert_eq(bucket.unlocked, 0);
    char name[ARCHIVE_KEY_BYTES];
    struct uuid tenant = rig_uuid(PG_TENANT_A);
    int at = bucket_find(archive_key(name, &tenant, month, 0), 0);
    cr_assert_geq(at, 0, "%s", name);
    cr_assert_str_eq(bucket.objects[at].data, pg_ask(pg_admin(), "SELECT string_agg(convert_from(event, 'UTF8') || E'\\n', '' ORDER BY seq) "
        "FROM audit.detached_%s WHERE tenant_id = '" PG_TENANT_A "'", table), "the bytes that were hashed, as lines");
    cr_assert_str_eq(ask("SELECT string_agg(encode(leaf_hash, 'hex'), ' ' ORDER BY tenant_id, seq) FROM audit.audit_logs WHERE action <> 'audit.checkpoint'"),
                     leaves, "no leaf is gone or other");
    cr_assert_str_eq(ask("SELECT count(*) FILTER (WHERE event IS NULL) || ' ' || count(*) FILTER (WHERE event IS NULL AND archive_bytes > 0) "
                         "FROM audit.audit_logs"), "4 4");
    cr_assert_eq(value("cordon_audit_archive_waiting_months"), 0);
    cr_assert_str_eq(ask("SELECT string_agg(action || ' ' || coalesce(detail ->> 'events', ''), ';' ORDER BY id) FROM audit.audit_outbox WHERE action LIKE 'archive%'"),
                     "archive.store 3;archive.store 1;archive.detach 4");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT min(retain_until) >= '%s-01'::timestamptz + interval '7 years' FROM audit.archives", month), "t");
}

Test(audit_archive, a_month_is_due_however_the_catalog_is_joined) {
    cr_expect_str_eq(ask("SET enable_nestloop = off; SET enable_mergejoin = off; SELECT count(*) FROM audit.archive_due(2)"), "1");
}

Test(audit_archive, the_log_and_its_objects_are_read_again_and_the_old_table_can_go_after_that) {
    fill();
    sign();
    archive_it();
    cr_expect_str_eq(pg_try(pg_admin(), "SET ROLE cordon_owner; SELECT audit.drop_archived('%s-01')", month), "55000", "not verified since");
    pg_ask(pg_admin(), "RESET ROLE");
    check_again();
    cr_assert_eq(value("cordon_audit_damaged_logs"), 0);
    cr_assert_eq(value("cordon_audit_damaged_archives"), 0);
    pg_ask(pg_admin(), "SET ROLE cordon_owner; SELECT audit.drop_archived('%s-01'); RESET ROLE", month);
    cr_assert(!is_detached());
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox WHERE action = 'archive.drop' AND detail ->> 'month' = '%s'", month), "1");
    sign();
    check_again();
    cr_assert_eq(value("cordon_audit_damaged_logs"), 0);
}

Test(audit_archive, what_is_wrong_with_an_object_is_found_reported_and_keeps_the_old_table) {
    fill();
    sign();
    archive_it();
    int at = bucket_find("/log/", 1);
    bucket.objects[at].data[20] ^= 1;
    check_again();
    cr_expect_eq(value("cordon_audit_damaged_archives"), 1);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT convert_from(event, 'UTF8')::jsonb ->> 'detail' FROM audit.audit_logs WHERE action = 'audit.damage'"),
                     pg_ask(pg_admin(), "SELECT '{\"first\": 0, \"month\": \"%s\"}'", month));
    cr_expect_str_eq(pg_try(pg_admin(), "SET ROLE cordon_owner; SELECT audit.drop_archived('%s-01')", month), "55000");
    pg_ask(pg_admin(), "RESET ROLE");
    bucket.objects[at].data[20] ^= 1;
    check_again();
    cr_expect_eq(value("cordon_audit_damaged_archives"), 0);
    bucket.objects[at].key[10] ^= 1;                /* gone */
    check_again();
    cr_expect_eq(value("cordon_audit_damaged_archives"), 1);
}

/* Whoever changes what only repeats the event hides it from filters and reports. */
Test(audit_archive, columns_of_archived_events_that_say_something_else_are_found_and_keep_the_old_table) {
    static const struct { const char *what, *set; } CHANGES[] = {
        { "occurred_at", "occurred_at + interval '1 us'" }, { "recorded_at", "recorded_at - interval '1 day'" }, { "kind", "'mutation'" }, { "action", "'search.disclosf'" },
        { "outcome", "'failure'" }, { "actor_id", "NULL" }, { "actor_id", "event_id" }, { "session_id", "NULL" }, { "session_id", "event_id" }, { "job_id", "event_id" },
        { "request_id", "NULL" }, { "request_id", "event_id" }, { "resource_id", "event_id" }, { "document_ids", "'{}'" },
        { "document_ids", "document_ids || event_id" }, { "event_id", "(left(event_id::text, 35) || translate(right(event_id::text, 1), '0123456789abcdef', '123456789abcdef0'))::uuid" },
    };
    struct rig_call c;
    struct uuid id = old_id();
    append_old(PG_SLUG_A);
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, slug_ticket(PG_SLUG_A), DOCUMENT_A1, &id);
    cr_assert_eq(rig_commit(&c, 1), ST_OK);
    rig_call_end(&c);
    append_old(PG_SLUG_A);
    sign();
    archive_it();
    check_again();
    cr_assert_eq(value("cordon_audit_damaged_logs") + value("cordon_audit_damaged_archives"), 0);
    pg_ask(pg_admin(), "UPDATE audit.archive_months SET verified_at = NULL; ALTER TABLE audit.audit_logs_%s DISABLE TRIGGER ALL; ALTER TABLE audit.document_events DISABLE TRIGGER ALL; "
           "CREATE TABLE public.kept AS SELECT * FROM audit.audit_logs_%s WHERE seq = 1", table, table);
    for (size_t i = 0; i <= sizeof CHANGES / sizeof *CHANGES; i++) {
        const bool is_index = i == sizeof CHANGES / sizeof *CHANGES;
        const char *what = is_index ? "the index of documents" : CHANGES[i].what;
        if (is_index)
            pg_ask(pg_admin(), "DELETE FROM audit.document_events WHERE seq = 1");
        else
            pg_ask(pg_admin(), "UPDATE audit.audit_logs_%s SET %s = %s WHERE seq = 1", table, what, CHANGES[i].set);
        check_again();
        cr_expect_eq(value("cordon_audit_damaged_logs"), 1, "%s", what);
        cr_expect_eq(value("cordon_audit_damaged_archives"), 0, "%s", what);
        cr_expect_str_eq(ask("SELECT convert_from(event, 'UTF8')::jsonb -> 'detail' -> 'seq' FROM audit.audit_logs WHERE action = 'audit.damage' ORDER BY seq DESC LIMIT 1"), "1", "%s", what);
        cr_expect_str_eq(ask("SELECT count(*) FROM audit.archive_months WHERE verified_at IS NOT NULL"), "0", "%s", what);
        if (!is_index)
            pg_ask(pg_admin(), "DELETE FROM audit.audit_logs_%s WHERE seq = 1; INSERT INTO audit.audit_logs_%s SELECT * FROM public.kept", table, table);
    }
    pg_ask(pg_admin(), "INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id) SELECT tenant_id, document_ids[1], seq, event_id FROM public.kept");
    check_again();
    cr_expect_eq(value("cordon_audit_damaged_logs"), 0);
    cr_expect_str_eq(ask("SELECT count(*) FROM audit.archive_months WHERE verified_at IS NOT NULL"), "1");
}

Test(audit_archive, an_object_that_comes_back_otherwise_is_no_object) {
    fill();
    sign();
    struct why why = { 0 };
    /* what somebody has put there under the name before us */
    struct uuid tenant = rig_uuid(PG_TENANT_A);
    char name[ARCHIVE_KEY_BYTES];
    (void)snprintf(bucket.objects[bucket.count].key, sizeof bucket.objects[0].key, "%s", archive_key(name, &tenant, month, 0));
    bucket.objects[bucket.count++].data = memcpy(xalloc(16), "{\"v\":1}\n", 9);
    cr_assert_eq(archive_all(&why), ST_CONFLICT, "%s", why.text);
    cr_assert(!is_detached());
    cr_assert_str_eq(ask("SELECT count(*) FROM audit.archives"), "0");
}

Test(audit_archive, hashes_that_lead_to_no_signed_head_are_not_archived) {
    fill();
    sign();
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_logs_%s DISABLE TRIGGER ALL; UPDATE audit.audit_logs_%s SET event = e, leaf_hash = sha256('\\x00'::bytea || e) "
        "FROM (SELECT convert_to(replace(convert_from(event, 'UTF8'), '\"n\":1', '\"n\":2'), 'UTF8') AS e, event_id AS id FROM audit.audit_logs_%s WHERE tenant_id = '"
        PG_TENANT_A "' AND seq = 2) x WHERE event_id = x.id; ALTER TABLE audit.audit_logs_%s ENABLE TRIGGER ALL", table, table, table, table);
    struct why why = { 0 };
    cr_assert_eq(archive_all(&why), ST_CONFLICT, "%s", why.text);
    cr_assert_not_null(strstr(why.text, "do not lead to the head"), "%s", why.text);
    cr_assert(!is_detached());
}

Test(audit_archive, what_is_not_signed_outside_waits) {
    append_old(PG_SLUG_A);
    struct why why = { 0 };
    cr_assert_eq(archive_all(&why), ST_UNAVAILABLE, "%s", why.text);
    sign();
    archive_it();
    cr_assert(is_detached());
}

/* The connection to the bucket ends where a process might: behind the PUT, before what came of it is known. */
Test(audit_archive, an_attempt_that_ended_anywhere_is_gone_on_with) {
    fill();
    sign();
    struct why why = { 0 };
    bucket.puts_left = 0;           /* stored, and not read back */
    cr_assert_neq(archive_all(&why), ST_OK);
    cr_assert_eq(bucket_find("/log/", 1), -1);
    bucket.is_away = false;
    bucket.puts_left = 1;           /* the first is recorded, the second is stored and not read back */
    archiver_destroy(&archiver);
    archiver = new_archiver();
    cr_assert_neq(archive_all(&why), ST_OK);
    cr_assert_str_eq(ask("SELECT count(*) FROM audit.archives"), "1");
    cr_assert(!is_detached());
    bucket.is_away = false;
    bucket.puts_left = -1;
    archiver_destroy(&archiver);
    archiver = new_archiver();
    archive_it();
    cr_assert_eq(bucket_find("/log/", 2), -1, "no object twice");
    check_again();
    cr_assert_eq(value("cordon_audit_damaged_logs") + value("cordon_audit_damaged_archives"), 0);
}

Test(audit_archive, ids_stay_unique_and_a_closed_month_takes_no_event) {
    struct uuid id = append_old(PG_SLUG_A);
    sign();
    archive_it();
    struct rig_call c;
    rig_call(&c, AUDIT_ANSWER_DISCLOSE, slug_ticket(PG_SLUG_A), NULL, &id);
    (void)rig_commit(&c, 1);
    cr_expect_eq(c.call.status, ST_CONFLICT, "an archived id with other content");
    rig_call_end(&c);
    id = old_id();
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, slug_ticket(PG_SLUG_A), NULL, &id);
    (void)rig_commit(&c, 1);
    cr_expect_neq(c.call.status, ST_OK, "a new one of that month");
    rig_call_end(&c);
    (void)rig_append(AUDIT_SEARCH_DISCLOSE, slug_ticket(PG_SLUG_A), NULL);
}

Test(audit_archive, a_month_waits_for_what_waits_in_the_outbox) {
    append_old(PG_SLUG_A);
    struct uuid id = old_id();
    pg_ask(pg_admin(), "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
                       "VALUES ('%s', '" PG_TENANT_A "', now(), 'tenant.update', '{}', '{}')", rig_text(&id));
    sign();
    archive_it();
    cr_assert(!is_detached());
    size_t moved = 0;
    cr_assert_eq(outbox_drain(rig_pool(), NULL, 100, &moved, &(struct why){ 0 }), ST_OK);
    sign();
    archive_it();
    cr_assert(is_detached());
    cr_assert_str_eq(ask("SELECT sum(events) FROM audit.archives"), "2");
}

#define INSERT_SQL "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) " \
                   "VALUES ('%s', '" PG_TENANT_A "', now(), 'tenant.update', '{}', '{}')"

Test(audit_archive, a_month_is_not_closed_while_a_record_of_it_is_being_made_and_takes_none_afterwards) {
    append_old(PG_SLUG_A);
    sign();
    struct uuid id = old_id();
    struct why why = { 0 };
    PGconn *other = pg_connect(NULL);
    pg_ask(other, "BEGIN");
    pg_ask(other, INSERT_SQL, rig_text(&id));
    cr_expect_eq(archive_all(&why), ST_UNAVAILABLE, "it waits for a second");
    pg_ask(other, "COMMIT");
    archive_it();
    cr_expect(!is_detached(), "it sees the record now");
    size_t moved = 0;
    cr_assert_eq(outbox_drain(rig_pool(), NULL, 100, &moved, &why), ST_OK);
    sign();
    bool is_done = false;
    cr_assert_eq(archiver_turn(archiver, &is_done, &why), ST_OK, "%s", why.text);
    id = old_id();
    cr_expect_str_eq(pg_try(other, INSERT_SQL, rig_text(&id)), "CA002", "closing");
    archive_it();
    cr_expect_str_eq(pg_try(other, INSERT_SQL, rig_text(&id)), "CA002", "closed");
    cr_expect(is_detached());
    PQfinish(other);
}

Test(audit_archive, no_month_is_closed_by_a_clock_that_is_a_day_away) {
    const int64_t day_us = INT64_C(86400) * 1000000, now_us = clock_unix_us();
    struct why why = { 0 };
    cr_expect_eq(archive_check_clock(now_us + day_us - 1, now_us, &why), ST_OK);
    cr_expect_eq(archive_check_clock(now_us - day_us + 1, now_us, &why), ST_OK);
    cr_expect_eq(archive_check_clock(now_us + day_us, now_us, &why), ST_UNAVAILABLE);
    cr_expect_eq(archive_check_clock(now_us - day_us, now_us, &why), ST_UNAVAILABLE);
}

static void hold_log(void) {
    pg_ask(pg_admin(), "INSERT INTO app.holds (tenant_id, id, is_log, reason_code, reference, placed_by) "
        "SELECT tenant_id, gen_random_uuid(), true, 'litigation', 'case-7', id FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' LIMIT 1");
}

Test(audit_archive, a_hold_keeps_a_month_in_its_table_and_an_object_beyond_its_time) {
    fill();
    sign();
    hold_log();
    archive_it();
    cr_assert(!is_detached());
    cr_assert_eq(bucket_find("/log/", 0), -1);
    cr_assert_eq(value("cordon_audit_archive_held_months"), 1);
    cr_assert_eq(value("cordon_audit_archive_waiting_months"), 0);
    pg_ask(pg_admin(), "UPDATE app.holds SET released_by = placed_by, released_at = now()");
    archive_it();
    cr_assert(is_detached());
    hold_log();
    archive_it();
    int a = bucket_find(PG_TENANT_A "/log/", 0), b = bucket_find(PG_TENANT_B "/log/", 0);
    cr_assert(bucket.objects[a].is_held && !bucket.objects[b].is_held);
    check_again();
    cr_expect_str_eq(pg_try(pg_admin(), "SET ROLE cordon_owner; SELECT audit.drop_archived('%s-01')", month), "CH001");
    pg_ask(pg_admin(), "RESET ROLE; UPDATE app.holds SET released_by = placed_by, released_at = now() WHERE released_at IS NULL");
    archive_it();
    cr_assert(!bucket.objects[a].is_held);
    cr_expect_str_eq(ask("SELECT string_agg(coalesce(detail ->> 'held', detail ->> 'log'), ' ' ORDER BY id) FROM audit.audit_outbox "
                         "WHERE action IN ('hold.place', 'hold.release', 'archive.hold')"), "true true true true true false");
}

Test(audit_archive, an_operator_holds_the_platform_s_log) {
    size_t moved = 0;
    struct uuid id = old_id();
    pg_ask(pg_admin(), "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
                       "VALUES ('%s', '" NIL_TENANT "', now(), 'tenant.update', '{}', '{}')", rig_text(&id));
    cr_assert_eq(outbox_drain(rig_pool(), NULL, 100, &moved, &(struct why){ 0 }), ST_OK);
    sign();
    pg_ask(pg_admin(), "SET ROLE cordon_owner; SELECT audit.hold_log('case 8'); RESET ROLE");
    archive_it();
    cr_assert(!is_detached());
    cr_assert_str_eq(pg_ask(pg_admin(), "SET ROLE cordon_owner; SELECT audit.release_log()"), "t");
    pg_ask(pg_admin(), "RESET ROLE");
    cr_assert_eq(outbox_drain(rig_pool(), NULL, 100, &moved, &(struct why){ 0 }), ST_OK);
    archive_it();
    cr_assert(is_detached());
}

Test(audit_archive, no_role_deletes_anything_of_the_log) {
    fill();
    sign();
    struct why why = { 0 };
    bool is_done = false;
    cr_assert_eq(archiver_turn(archiver, &is_done, &why), ST_OK, "%s", why.text);      /* one object; the month is closing */
    const char *roles[] = { "cordon_audit", "cordon_audit_definer", "cordon_owner", "cordon_audit_reader", "postgres" };
    const char *tables[] = { "audit_logs", "archives", "archive_months", "log_holds" };
    char names[3][32];
    (void)snprintf(names[0], sizeof names[0], "audit_logs_%s", table);
    (void)snprintf(names[1], sizeof names[1], "closing_%s", table);
    (void)snprintf(names[2], sizeof names[2], "detached_%s", table);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
            pg_ask(pg_admin(), "SET ROLE %s", roles[r]);
            for (size_t t = 0; t < 7; t++) {
                const char *name = t < 4 ? tables[t] : names[t - 4];
                if (strcmp(name, names[pass == 0 ? 2 : 1]) == 0)        /* not there */
                    continue;
                cr_expect_str_eq(pg_try(pg_admin(), "DELETE FROM audit.%s", name), "42501", "%s %s", roles[r], name);
                cr_expect_str_eq(pg_try(pg_admin(), "TRUNCATE audit.%s CASCADE", name), "42501", "%s %s", roles[r], name);
            }
            pg_ask(pg_admin(), "RESET ROLE");
        }
        PGconn *conn = pg_connect("cordon_audit");
        cr_expect_str_neq(pg_try(conn, "SELECT audit.archive_detach('%s-01', 2)", month), "00000", "before its time, or again");
        cr_expect_str_eq(pg_try(conn, "SELECT audit.swap_archive('%s-01')", month), "42501");
        cr_expect_str_eq(pg_try(conn, "SELECT audit.drop_archived('%s-01')", month), "42501");
        cr_expect_str_eq(pg_try(conn, "SELECT audit.archive_begin(date_trunc('month', now())::date, -5)"), "42501", "this month");
        cr_expect_str_eq(pg_try(conn, "SELECT audit.archive_begin((date_trunc('month', now()) - interval '1 month')::date, NULL)"), "42501", "the last one");
        cr_expect_str_eq(pg_try(conn, "SELECT audit.archive_begin((date_trunc('month', now()) - interval '1 month')::date, 0)"), "42501");
        PQfinish(conn);
        archive_it();
        cr_assert(is_detached());
    }
}

Test(audit_archive, less_than_six_years_is_refused_by_the_database) {
    fill();
    sign();
    PGconn *conn = pg_connect("cordon_audit");
    pg_ask(conn, "SELECT audit.archive_begin('%s-01', 2)", month);
    cr_expect_str_eq(pg_try(conn, "SELECT audit.archive_put('" PG_TENANT_B "', '%s-01', 2, ARRAY[0]::bigint[], ARRAY[0]::bigint[], "
        "ARRAY[(SELECT 1)]::bigint[], 10, sha256('x'), 1, now() + interval '5 years 8 months')", month), "23514");
    PQfinish(conn);
}
