/* The end of a tenant, once KMS has deleted its key: what is left is destroyed by the process's own schedule. */
#include "rig.h"

TestSuite(ingest_ending, .init = rig_open, .fini = rig_close, .timeout = 90);

#define OFFBOARDING "01a40000-0000-7000-8000-000000000001"
#define OTHERS "/docs/tenants/" PG_TENANT_B "/01a40000-0000-7000-8000-000000000002"
#define STATE_SQL "SELECT state FROM auth.offboardings"

static void add_ready(const char *mrn) {
    struct rig_upload u = { .type = "text/plain", .name = "note.txt", .mrn = mrn, .announced_bytes = 11 };
    cr_assert_eq(rig_upload(&u, "a few words", 11, NULL, NULL), ST_OK);
}

/* Tenant A, with documents and a conversation, whose key was to be deleted at that time. */
static void schedule_end(const char *delete_at) {
    add_ready("MRN-1");
    add_ready("MRN-2");
    rig_start_jobs();
    rig_wait_for("ready ready", "SELECT string_agg(status, ' ') FROM app.documents");
    PGconn *conn = pg_connect(NULL);
    pg_ask(conn, "SET session_replication_role = replica");
    pg_ask(conn, "INSERT INTO app.conversations (tenant_id, id, user_id) SELECT tenant_id, '01a40000-0000-7000-8000-000000000003', id FROM auth.users "
                 "WHERE tenant_id = '" PG_TENANT_A "' LIMIT 1");
    PQfinish(conn);
    pg_ask(pg_admin(), "UPDATE auth.users SET name_enc = '\\x01', email_enc = '\\x01', email_index = sha256(id::text::bytea)");
    pg_ask(pg_admin(), "INSERT INTO auth.offboardings (tenant_id, id, state, delete_at) VALUES ('" PG_TENANT_A "', '" OFFBOARDING "', 'scheduled', %s)", delete_at);
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended', kms_key_id = 'key-a' WHERE id = '" PG_TENANT_A "'");
}

/* As cordon-offboard does when KMS knows the key no more; and the schedule's time has come. */
static void key_is_gone(void) {
    pg_ask(pg_admin(), "SELECT keys.key_is_gone(offboarding_id) FROM keys.begin_ending('" PG_SLUG_A "')");
    pg_ask(pg_admin(), "UPDATE jobs.schedules SET next_run_at = now() WHERE name = 'endings'");
}

/* Though it was put off. */
static void try_now(void) {
    rig_wait_for("t", "SELECT lease_until IS NULL FROM jobs.schedules WHERE name = 'endings'");
    pg_ask(pg_admin(), "UPDATE auth.offboardings SET next_at = now() - interval '1 s'");
    pg_ask(pg_admin(), "UPDATE jobs.schedules SET next_run_at = now() WHERE name = 'endings'");
}

Test(ingest_ending, destroys_shares_objects_rows_and_names_step_by_step_and_certifies_it) {
    schedule_end("now() - interval '1 min'");
    fake_cloud_leave(&rig.cloud, OTHERS, NULL);
    fake_cloud_leave(&rig.cloud, "/shares/tenants/" PG_TENANT_A "/01a40000-0000-7000-8000-000000000009", NULL);     /* which no row tells of */
    cr_assert_eq(fake_cloud_shares(&rig.cloud), 3);
    pg_ask(pg_admin(), "SELECT app.make_vector_partition('" PG_TENANT_A "')");      /* as a big tenant has */
    key_is_gone();
    rig_wait_for("destroyed", STATE_SQL);
    cr_expect_eq(fake_cloud_shares(&rig.cloud), 0);
    cr_expect_eq(fake_cloud_count(&rig.cloud), 1, "another tenant's is there");
    cr_expect_str_eq(pg_ask(pg_admin(), DERIVED_SQL), "0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), LEFT_SQL), "0 0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.vector_sets"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_class WHERE relname LIKE 'text\\_vectors\\_1%%'"), "0", "nor a partition of its own");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.subjects) || ' ' || (SELECT count(*) FROM app.conversations) || ' ' || "
                                        "(SELECT count(*) FROM keys.tenant_keys WHERE tenant_id = '" PG_TENANT_A "')"), "0 0 0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(DISTINCT status || num_nonnulls(issuer, subject, name_enc, email_enc, email_index, profile_index), ' ') "
                                        "FROM auth.users WHERE tenant_id = '" PG_TENANT_A "'"), "deleted0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT status FROM auth.tenants WHERE id = '" PG_TENANT_A "'"), "destroyed");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(detail ->> 'state', ' ' ORDER BY id) FROM audit.audit_outbox WHERE action = 'tenant.offboard'"),
                     "scheduled key_destroyed shares_destroyed objects_destroyed destroyed");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT detail ->> 'certificate' = encode(sha256(convert_to(o.certificate, 'UTF8')), 'hex') "
                                        "FROM audit.audit_outbox, auth.offboardings o WHERE action = 'tenant.destroy'"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT concat_ws(' ', p #>> '{tenant}', p #>> '{destroyed,kms_key}', p #>> '{destroyed,key_shares}', p #>> '{destroyed,object_versions}', "
        "p #>> '{destroyed,rows,documents}', p #>> '{destroyed,rows,chunks}', p #>> '{destroyed,rows,conversations}', p #>> '{destroyed,rows,patients}', "
        "jsonb_array_length(p #> '{destroyed,tenant_keys}'), jsonb_array_length(p -> 'left')) FROM (SELECT certificate::jsonb AS p FROM auth.offboardings) x"),
        PG_SLUG_A " key-a 3 2 2 2 1 2 2 5");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.erasures"), "0", "a conversation's end asks for no erasure of its own");
}

Test(ingest_ending, waits_for_a_store_that_is_away_and_goes_on_where_it_stood) {
    schedule_end("now() - interval '1 min'");
    rig.cloud.get_status = 403;
    key_is_gone();
    rig_wait_for("t", "SELECT last_outcome <> 'done' FROM jobs.schedules WHERE name = 'endings'");
    cr_expect_str_eq(pg_ask(pg_admin(), STATE_SQL), "key_destroyed");
    cr_expect_str_neq(pg_ask(pg_admin(), LEFT_SQL), "0 0 0", "rows come last");
    rig.cloud.get_status = 0;
    try_now();
    rig_wait_for("destroyed", STATE_SQL);
    cr_expect_eq(fake_cloud_count(&rig.cloud) + fake_cloud_shares(&rig.cloud), 0);
}

#define OFFBOARDING_B "01a40000-0000-7000-8000-00000000000b"
#define PUT_OFF_SQL "SELECT concat_ws(' ', state, refusals, refused_code, round(extract(epoch FROM next_at - clock_timestamp()) / 60)) FROM auth.offboardings WHERE id = '" OFFBOARDING "'"

Test(ingest_ending, one_whose_store_refuses_waits_longer_each_time_and_holds_up_no_other) {
    schedule_end("now() - interval '1 min'");
    fake_cloud_leave(&rig.cloud, OTHERS, NULL);
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended', kms_key_id = 'key-b' WHERE id = '" PG_TENANT_B "'");
    pg_ask(pg_admin(), "INSERT INTO auth.offboardings (tenant_id, id, state, delete_at, next_at) VALUES ('" PG_TENANT_B "', '" OFFBOARDING_B "', 'key_destroyed', now(), now())");
    rig.cloud.get_refused = PG_TENANT_A;
    rig.cloud.get_status = 403;
    pg_ask(pg_admin(), "UPDATE auth.offboardings SET next_at = now() - interval '1 h' WHERE id = '" OFFBOARDING "'");      /* its turn is first */
    key_is_gone();
    rig_wait_for("destroyed", "SELECT state FROM auth.offboardings WHERE id = '" OFFBOARDING_B "'");
    rig_wait_for("key_destroyed 1 STORE_001 1", PUT_OFF_SQL);
    rig_wait_for("t", "SELECT last_outcome <> 'done' FROM jobs.schedules WHERE name = 'endings'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT stopped FROM keys.work_states() WHERE kind = 'offboarding'"), "1");
    try_now();
    rig_wait_for("key_destroyed 2 STORE_001 2", PUT_OFF_SQL);
    pg_ask(pg_admin(), "UPDATE auth.offboardings SET refusals = 1000 WHERE id = '" OFFBOARDING "'");
    try_now();
    rig_wait_for("key_destroyed 1001 STORE_001 60", PUT_OFF_SQL);
    rig.cloud.get_status = 0;
    try_now();
    rig_wait_for("destroyed", "SELECT state FROM auth.offboardings WHERE id = '" OFFBOARDING "'");
    cr_expect_eq(fake_cloud_count(&rig.cloud) + fake_cloud_shares(&rig.cloud), 0);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM keys.work_states() WHERE kind = 'offboarding'"), "0");
}

Test(ingest_ending, one_that_gets_on_is_not_refused_and_has_its_turn_behind_the_others) {
    schedule_end("now() - interval '1 min'");
    pg_ask(pg_admin(), "UPDATE jobs.schedules SET every = '1 h', next_run_at = now() + interval '1 h' WHERE name = 'endings'");        /* not by itself */
    rig_wait_for("t", "SELECT lease_until IS NULL FROM jobs.schedules WHERE name = 'endings'");
    pg_ask(pg_admin(), "UPDATE auth.tenants SET status = 'suspended', kms_key_id = 'key-b' WHERE id = '" PG_TENANT_B "'");
    pg_ask(pg_admin(), "INSERT INTO auth.offboardings (tenant_id, id, state, delete_at, next_at) VALUES ('" PG_TENANT_B "', '" OFFBOARDING_B "', 'key_destroyed', now(), now())");
    pg_ask(pg_admin(), "SELECT keys.key_is_gone('" OFFBOARDING "')");
    pg_ask(pg_admin(), "UPDATE auth.offboardings SET next_at = now() - interval '1 h', refusals = 3, refused_code = 'STORE_001' WHERE id = '" OFFBOARDING "'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT offboarding_id FROM keys.ending_next()"), OFFBOARDING);
    pg_ask(pg_admin(), "SELECT keys.ending_step('" OFFBOARDING "', 'key_destroyed', 2, false)");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT offboarding_id FROM keys.ending_next()"), OFFBOARDING_B);
    cr_expect_str_eq(pg_ask(pg_admin(), PUT_OFF_SQL), "key_destroyed 0 0");
    pg_ask(pg_admin(), "SELECT keys.ending_step('" OFFBOARDING "', 'key_destroyed', 0, true), keys.ending_step('" OFFBOARDING "', 'shares_destroyed', 0, true)");
    pg_ask(pg_admin(), "UPDATE auth.offboardings SET next_at = now() - interval '1 h', refusals = 3, refused_code = 'STORE_001' WHERE id = '" OFFBOARDING "'");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.ending_rows('" OFFBOARDING "', 1)"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT offboarding_id FROM keys.ending_next()"), OFFBOARDING_B);
    cr_expect_str_eq(pg_ask(pg_admin(), PUT_OFF_SQL), "objects_destroyed 0 0");
}

Test(ingest_ending, what_is_held_meanwhile_is_put_off_too) {
    schedule_end("now() - interval '1 min'");
    pg_ask(pg_admin(), "INSERT INTO app.holds (tenant_id, id, document_id, reason_code, reference, placed_by) "
                       "SELECT tenant_id, '" OFFBOARDING "', id, 'audit', '', created_by FROM app.documents LIMIT 1");
    pg_ask(pg_admin(), "SELECT keys.key_is_gone('" OFFBOARDING "')");      /* as if it was asked whether there is a hold before */
    try_now();
    rig_wait_for("objects_destroyed 1 DOC_010 1", PUT_OFF_SQL);
    pg_ask(pg_admin(), "UPDATE app.holds SET released_at = now(), released_by = placed_by");
    try_now();
    rig_wait_for("destroyed", STATE_SQL);
}

Test(ingest_ending, does_not_begin_before_its_time_nor_with_a_hold_and_is_never_taken_back) {
    schedule_end("now() + interval '1 day'");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT keys.begin_ending('" PG_SLUG_A "')"), "CA001");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT keys.begin_ending('nobody')"), "CA001");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE auth.tenants SET status = 'active' WHERE id = '" PG_TENANT_A "'"), "23514", "not while its end is scheduled");
    pg_ask(pg_admin(), "UPDATE auth.offboardings SET delete_at = now()");
    pg_ask(pg_admin(), "INSERT INTO app.holds (tenant_id, id, is_log, reason_code, reference, placed_by) SELECT tenant_id, '" OFFBOARDING "', true, 'audit', '', id "
                       "FROM auth.users WHERE tenant_id = '" PG_TENANT_A "' LIMIT 1");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT keys.begin_ending('" PG_SLUG_A "')"), "CH001");
    pg_ask(pg_admin(), "UPDATE app.holds SET released_at = now(), released_by = placed_by");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE auth.offboardings SET state = 'objects_destroyed'"), "23514", "no state is left out");
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE auth.offboardings SET state = 'destroyed', certificate = '{}'"), "23514");
    key_is_gone();
    rig_wait_for("destroyed", STATE_SQL);
    cr_expect_str_eq(pg_try(pg_admin(), "UPDATE auth.tenants SET status = 'suspended' WHERE id = '" PG_TENANT_A "'"), "23514");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT keys.cancel_offboarding('" PG_SLUG_A "')"), "23514");
    cr_expect_str_eq(pg_try(pg_admin(), "SELECT keys.begin_ending('" PG_SLUG_A "')"), "00000", "to say it again changes nothing");
    cr_expect_str_eq(pg_try(pg_connect("cordon_ingest"), "SELECT keys.ending_next()"), "42501");
    cr_expect_str_eq(pg_try(pg_connect("cordon_jobs"), "SELECT keys.key_is_gone('" OFFBOARDING "')"), "42501");
}
