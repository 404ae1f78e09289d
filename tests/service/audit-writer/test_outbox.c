/* Changes record themselves: what triggers write, and that it moves onto the log exactly once. */
#include <pthread.h>
#include <unistd.h>

#include "outbox.h"
#include "rig.h"

TestSuite(audit_outbox, .init = rig_open, .fini = rig_close, .timeout = 120);

#define REQUEST "01920000-0000-7000-8000-00000000abcd"

static void drain_all(void) {
    struct why why = { 0 };
    size_t moved = 1;
    while (moved > 0)
        cr_assert_eq(outbox_drain(rig_pool(), NULL, 3, &moved, &why), ST_OK, "%s", why.text);
}

/* action/actor's subject/detail of each event of a tenant, in order */
static const char *story(const char *tenant) {
    return pg_ask(pg_admin(), "SELECT string_agg(l.action || '/' || coalesce(u.subject, '-') || '/' || coalesce(e.j ->> 'detail', '{}'), ' | ' ORDER BY l.seq) "
        "FROM audit.audit_logs l CROSS JOIN LATERAL (SELECT convert_from(l.event, 'UTF8')::jsonb AS j) e LEFT JOIN auth.users u ON u.tenant_id = l.tenant_id AND u.id = l.actor_id "
        "WHERE l.tenant_id = '%s'", tenant);
}

static void upload(PGconn *ingest, const char *ticket, const char *document_id) {
    pg_ask(ingest, "BEGIN; SELECT set_config('cordon.request_id', '" REQUEST "', true); SELECT * FROM authz.enter('%s')", ticket);
    pg_ask(ingest, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
                   "VALUES (authz.tenant(), '%s', 'text/plain; name=John Doe', 10, 1, authz.user_id())", document_id);
}

Test(audit_outbox, an_upload_is_recorded_with_user_session_and_request) {
    PGconn *ingest = pg_connect("cordon_ingest");
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    rig_empty_outbox();
    upload(ingest, ticket, "01920000-0000-7000-8000-0000000000d1");
    pg_ask(ingest, "SELECT jobs.enqueue('01920000-0000-7000-8000-0000000000e1', 'ingest', 'ingest', '01920000-0000-7000-8000-0000000000d1')");
    pg_ask(ingest, "COMMIT");
    drain_all();
    cr_assert_str_eq(story(PG_TENANT_A), "document.create/alice/{\"bytes\": 10, \"status\": \"processing\", \"content_type\": \"text/plain\"} | "
                                         "job.enqueue/alice/{\"kind\": \"ingest\", \"queue\": \"ingest\"}");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_logs WHERE request_id = '" REQUEST "' AND session_id IS NOT NULL AND recorded_at > occurred_at "
        "AND document_ids = '{01920000-0000-7000-8000-0000000000d1}' AND kind = 'mutation' AND convert_from(event, 'UTF8')::jsonb ->> 'reported_by' = 'database'"), "2");
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()"), "0");
    PQfinish(ingest);
}

Test(audit_outbox, a_change_that_is_rolled_back_leaves_no_record) {
    PGconn *ingest = pg_connect("cordon_ingest");
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    rig_empty_outbox();
    upload(ingest, ticket, "01920000-0000-7000-8000-0000000000d1");
    pg_ask(ingest, "ROLLBACK");
    drain_all();
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 0);
    PQfinish(ingest);
}

Test(audit_outbox, deletion_failure_and_login_are_recorded) {
    PGconn *ingest = pg_connect("cordon_ingest"), *jobs = pg_connect("cordon_jobs");
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician,no such role", "alice");
    pg_ask(ingest, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
    pg_ask(ingest, "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = '" DOCUMENT_A2 "'; COMMIT");
    pg_ask(ingest, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
    pg_ask(ingest, "SELECT jobs.enqueue('01920000-0000-7000-8000-0000000000e1', 'ingest', 'ingest', '" DOCUMENT_A1 "'); COMMIT");
    pg_ask(pg_admin(), "UPDATE jobs.jobs SET max_attempts = 1");
    pg_ask(jobs, "SELECT * FROM jobs.claim('ingest', 'w', 1, 100)");
    pg_ask(pg_admin(), "SELECT pg_sleep(0.15)");
    pg_ask(jobs, "SELECT * FROM jobs.reap('ingest')");
    pg_ask(pg_admin(), "UPDATE auth.sessions s SET revoked_at = now(), revoked_reason = 'lost phone' FROM auth.users u WHERE u.id = s.user_id AND u.subject = 'alice'");
    drain_all();
    cr_assert_str_eq(story(PG_TENANT_A),
        "user.create/alice/{} | auth.session.start/alice/{\"roles\": [\"clinician\"]} | "
        "document.delete/alice/{\"to\": \"deleted\", \"from\": \"processing\"} | job.enqueue/alice/{\"kind\": \"ingest\", \"queue\": \"ingest\"} | "
        "job.dead/-/{\"kind\": \"ingest\", \"queue\": \"ingest\", \"reason\": \"worker_lost\", \"attempt\": 1} | "
        "document.status/-/{\"to\": \"failed\", \"from\": \"processing\", \"reason\": \"worker_lost\"} | "
        "auth.session.revoke/alice/{\"reason\": \"lost_phone\", \"revoked\": true}");
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 7);
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(audit_outbox, platform_changes_are_on_their_logs) {
    PGconn *auth = pg_connect("cordon_auth");
    pg_ask(auth, "BEGIN; SELECT * FROM authz.enter('%s')", pg_ticket(NULL, "platform_admin", "root"));
    pg_ask(auth, "INSERT INTO auth.tenants (id, slug, name) VALUES ('33333333-3333-7333-8333-333333333333', 'third', 'Third House'); COMMIT");
    pg_ask(pg_admin(), "INSERT INTO auth.role_scopes (role, scope) VALUES ('auditor', 'query')");
    pg_ask(pg_admin(), "SELECT authz.rotate_ticket_key()");
    drain_all();
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT action || ' ' || (SELECT subject FROM auth.users u WHERE u.id = actor_id) FROM audit.audit_logs "
        "WHERE tenant_id = '33333333-3333-7333-8333-333333333333'"), "tenant.create root");
    cr_assert_str_eq(story(NIL_TENANT), "user.create/root/{} | auth.session.start/root/{\"roles\": [\"platform_admin\"]} | "
        "policy.change/-/{\"new\": \"auditor/query\", \"verb\": \"insert\", \"table\": \"role_scopes\"} | ticket_key.rotate/-/{\"kid\": 2}");
    cr_assert_eq(rig_check_tree(NIL_TENANT), 4);
    PQfinish(auth);
}

Test(audit_outbox, a_failed_drain_puts_everything_back) {
    pg_ticket(PG_SLUG_A, "clinician", "alice");
    const char *before = pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()");
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads ADD CONSTRAINT full_disk CHECK (size < 1)");
    struct why why = { 0 };
    size_t moved = 0;
    cr_assert_neq(outbox_drain(rig_pool(), NULL, 10, &moved, &why), ST_OK);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()"), before);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_logs"), "0");
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads DROP CONSTRAINT full_disk");
    drain_all();
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
}

Test(audit_outbox, a_change_beside_the_status_is_recorded) {
    PGconn *ingest = pg_connect("cordon_ingest");
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    rig_empty_outbox();
    pg_ask(ingest, "BEGIN; SELECT authz.enter('%s'); UPDATE app.documents SET pages = 7 WHERE id = '" DOCUMENT_A1 "'; COMMIT", ticket);
    drain_all();
    cr_assert_str_eq(story(PG_TENANT_A), "document.update/alice/{\"changed\": [\"pages\"]}");
    PQfinish(ingest);
}

Test(audit_outbox, records_that_are_taken_but_not_put_on_the_log_stay) {
    pg_ticket(PG_SLUG_A, "clinician", "alice");
    const char *before = pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()");
    PGconn *writer = pg_connect("cordon_audit");
    cr_expect_str_eq(pg_try(writer, "SELECT * FROM audit.drain(1000)"), "42501");
    pg_ask(writer, "BEGIN; SELECT * FROM audit.drain(1000)");
    cr_expect_str_eq(pg_try(writer, "COMMIT"), "42501");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()"), before);
    PQfinish(writer);
}

Test(audit_outbox, a_detail_against_the_rules_does_not_block_the_rest) {
    pg_ask(pg_admin(), "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
        "VALUES (authz.uuid_v7(), '" PG_TENANT_A "', now(), 'document.update', '{}', '{\"name\": \"John Doe\"}')");
    pg_ticket(PG_SLUG_A, "clinician", "alice");
    drain_all();
    cr_assert_str_eq(story(PG_TENANT_A), "document.update/-/{\"detail_refused\": true} | user.create/alice/{} | auth.session.start/alice/{\"roles\": [\"clinician\"]}");
}

Test(audit_outbox, records_go_where_the_last_ones_were_left_and_elsewhere_when_others_were_there) {
    struct batch_memory *memory = batch_memory_new();
    struct why why = { 0 };
    size_t moved = 0;
    const char *insert = "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
                         "SELECT authz.uuid_v7(), '" PG_TENANT_A "', now(), 'document.update', '{}', '{}' FROM generate_series(1, 3)";
    const char *a = pg_ticket(PG_SLUG_A, "clinician", "alice");
    rig_empty_outbox();
    for (int i = 0; i < 6; i++) {
        if (i == 2)
            pg_ask(pg_admin(), "ALTER FUNCTION audit.lock_heads(uuid[]) RENAME TO hidden");
        pg_ask(pg_admin(), "%s", insert);
        cr_assert_eq(outbox_drain(rig_pool(), memory, 10, &moved, &why), ST_OK, "%s", why.text);
        cr_assert_eq(moved, 3);
        if (i == 3) {
            pg_ask(pg_admin(), "ALTER FUNCTION audit.hidden(uuid[]) RENAME TO lock_heads");
            rig_append(AUDIT_SEARCH_DISCLOSE, a, NULL);     /* by another writer */
        }
    }
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_logs WHERE recorded_at < occurred_at"), "0");
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 19);
    batch_memory_destroy(&memory);
}

Test(audit_outbox, what_runs_for_each_record_is_not_planned_for_each) {
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM unnest('{audit.refuse_loss(), \"audit.drain(integer,boolean)\", audit.on_question()}'::regprocedure[]) f "
        "JOIN pg_proc p ON p.oid = f WHERE 'plan_cache_mode=force_generic_plan' = ANY (p.proconfig)"), "3");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM unnest('{\"audit.drain(integer,boolean)\", audit.code(text), authz.uuid_v7()}'::regprocedure[]) f "
        "JOIN pg_proc p ON p.oid = f JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname = 'plpgsql'"), "3", "SQL functions are planned at each call");
}

static void *drain_thread(void *arg) {
    struct why why = { 0 };
    size_t moved = 1, *total = arg;
    for (int failed = 0; moved > 0 && failed < 100;) {
        moved = 0;
        bool is_done = outbox_drain(rig_pool(), NULL, 5, &moved, &why) == ST_OK;      /* on a loaded machine it may not, in its time */
        failed += !is_done;
        *total += moved;
        moved += !is_done;
    }
    return NULL;
}

Test(audit_outbox, several_writers_move_each_record_once) {
    pg_ask(pg_admin(), "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
        "SELECT authz.uuid_v7(), CASE i %% 2 WHEN 0 THEN '" PG_TENANT_A "'::uuid ELSE '" PG_TENANT_B "'::uuid END, now(), 'document.update', '{}', '{}' FROM generate_series(1, 120) i");
    pthread_t threads[4];
    size_t totals[4] = { 0 }, sum = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, drain_thread, &totals[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        sum += totals[i];
    }
    cr_assert_eq(sum, 120);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 60);
    cr_assert_eq(rig_check_tree(PG_TENANT_B), 60);
}

/* The thread, with nobody who stops it from appending. */
static struct metrics *metrics;
static struct signer *permissive;
static struct outbox *outbox;

static void start_thread(void) {
    struct db_options options = { .url = pg_url("cordon_audit"), .process = "audit-writer-test" };
    struct why why = { 0 };
    metrics = metrics_new();
    cr_assert_eq(outbox_new(rig_pool(), &options, metrics, &outbox, &why), ST_OK, "%s", why.text);
    permissive = signer_new(rig_pool(), NULL, &(struct anchor){ 0 }, NULL, &(struct checkpoint_pace){ 0 }, metrics);
    outbox_start(outbox, permissive, NULL);
}

static void stop_thread(void) {
    outbox_destroy(&outbox);
    signer_destroy(&permissive);
    metrics_destroy(&metrics);
}

static void wait_until_waiting(const char *records, int64_t most_ms) {
    int64_t deadline_ms = clock_mono_ms() + most_ms;
    while (strcmp(pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()"), records) != 0) {
        cr_assert_lt(clock_mono_ms(), deadline_ms, "not %s records in the outbox", records);
        usleep(10000);
    }
}

static void wait_until_printed(const char *line, int64_t most_ms) {
    CLEANUP(buffer_end) struct buffer page = { 0 };
    int64_t deadline_ms = clock_mono_ms() + most_ms;
    for (metrics_print(metrics, &page); !strstr(page.data, line); metrics_print(metrics, &page)) {
        cr_assert_lt(clock_mono_ms(), deadline_ms, "not printed: %s", line);
        usleep(10000);
        buffer_clear(&page);
    }
}

/* It looks every second as well, but never sooner than a second after it has looked. */
Test(audit_outbox, the_thread_is_woken_by_the_change) {
    enum { TRIES = 20, SOONER_MS = 500 };
    int changes = 0;
    bool is_woken = false;
    start_thread();
    while (!is_woken && changes < TRIES) {      /* of a machine that stands still meanwhile nothing is learnt */
        int64_t began_ms = clock_mono_ms();
        pg_ask(pg_admin(), "UPDATE app.documents SET name_enc = '\\x%02d' WHERE id = '" DOCUMENT_A1 "'", changes);
        wait_until_waiting("0", 30000);
        is_woken = changes++ > 0 && clock_mono_ms() - began_ms < SOONER_MS;     /* the first may be what it finds at its start */
    }
    stop_thread();
    cr_expect(is_woken);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), changes);
}

/* Every table that holds state of a tenant or decides who may do what writes its record. */
Test(audit_outbox, every_action_of_the_triggers_is_in_the_list) {
    PGresult *rows = PQexec(pg_admin(), "SELECT DISTINCT m[1] FROM pg_proc p, regexp_matches(p.prosrc, '''([a-z_]+\\.[a-z_.]+)''', 'g') m "
                                        "WHERE p.proname LIKE 'on\\_%' AND p.pronamespace = 'audit'::regnamespace");
    cr_assert_gt(PQntuples(rows), 15);
    for (int i = 0; i < PQntuples(rows); i++)
        cr_expect_neq(audit_action_find(PQgetvalue(rows, i, 0)), AUDIT_ACTION_COUNT, "%s", PQgetvalue(rows, i, 0));
    PQclear(rows);
}

#define INSERT_SQL "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
#define LONG_AGO "00d00000-0000-7000-8000-000000000001"        /* 1998 */

Test(audit_outbox, a_change_whose_record_the_log_would_not_take_does_not_happen) {
    PGconn *ingest = pg_connect("cordon_ingest");
    const char *ticket = pg_ticket(PG_SLUG_A, "clinician", "alice");
    rig_empty_outbox();
    cr_expect_str_eq(pg_try(pg_admin(), INSERT_SQL "VALUES ('" LONG_AGO "', '" PG_TENANT_A "', now(), 'tenant.update', '{}', '{}')"), "CA002", "a month that is not there");
    pg_ask(pg_admin(), "INSERT INTO audit.archive_months (month) VALUES (date_trunc('month', timezone('UTC', now())))");     /* as a clock that was years ahead would leave it */
    pg_ask(ingest, "BEGIN; SELECT * FROM authz.enter('%s')", ticket);
    cr_expect_str_eq(pg_try(ingest, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
                                    "VALUES (authz.tenant(), '01920000-0000-7000-8000-0000000000d1', 'text/plain', 10, 1, authz.user_id())"), "CA002");
    pg_ask(ingest, "ROLLBACK");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.documents WHERE id = '01920000-0000-7000-8000-0000000000d1'"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT waiting FROM audit.backlog()"), "0");
    PQfinish(ingest);
}

Test(audit_outbox, a_record_that_the_log_never_takes_holds_up_its_own_tenant_and_is_told) {
    rig_empty_outbox();
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_outbox DISABLE TRIGGER refuse_closed");        /* none comes in otherwise */
    pg_ask(pg_admin(), INSERT_SQL "VALUES ('" LONG_AGO "', '" PG_TENANT_A "', now(), 'tenant.update', '{}', '{}')");
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER refuse_closed");
    pg_ask(pg_admin(), INSERT_SQL "SELECT authz.uuid_v7(), t::uuid, now(), 'tenant.update', '{}', '{}' FROM unnest('{" PG_TENANT_A "," PG_TENANT_B "," NIL_TENANT "}'::text[]) t");
    struct why why = { 0 };
    size_t moved = 0;
    int64_t records = 0;
    enum status st = outbox_drain(rig_pool(), NULL, 100, &moved, &why);
    cr_assert(st != ST_OK && !status_is_retryable(st), "%s", status_name(st));
    cr_assert_eq(outbox_tell_refused(rig_pool(), &records, &why), ST_OK, "%s", why.text);
    cr_expect_eq(records, 1);
    cr_assert_eq(outbox_drain_others(rig_pool(), 100, &moved, &why), ST_OK, "%s", why.text);
    cr_expect_eq(moved, 2);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(tenant_id::text, ' ') FROM audit.audit_outbox"), PG_TENANT_A " " PG_TENANT_A, "in its order");
    cr_expect_eq(rig_check_tree(PG_TENANT_B), 1);

    pg_ask(pg_admin(), INSERT_SQL "VALUES (authz.uuid_v7(), '" PG_TENANT_B "', now(), 'tenant.update', '{}', '{}')");
    start_thread();
    wait_until_waiting("2", 30000);
    wait_until_printed("\ncordon_audit_outbox_refused_records 1\n", 30000);
    pg_ask(pg_admin(), "SET ROLE cordon_owner; SELECT audit.make_partition('audit.audit_logs', '1998-04-01'), audit.make_partition('audit.document_events', '1998-04-01'); RESET ROLE");
    wait_until_waiting("0", 30000);
    stop_thread();
    cr_expect_eq(rig_check_tree(PG_TENANT_A), 2);
}
