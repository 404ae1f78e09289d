/* The log is append-only for everybody, and the outbox belongs to the triggers. Each forbidden thing is tried. */
#include "rig.h"

static const char *const ROLES[] = {
    "cordon_owner", "cordon_auth", "cordon_ingest", "cordon_jobs", "cordon_query", "cordon_audit_reader", "cordon_audit",
    "cordon_authz_definer", "cordon_jobs_definer", "cordon_keys_definer", "cordon_audit_definer",
};
enum { ROLE_COUNT = sizeof ROLES / sizeof *ROLES };

TestSuite(audit_protection, .init = rig_open, .fini = rig_close, .timeout = 120);

static const char *partition(void) {
    return pg_ask(pg_admin(), "SELECT tableoid::regclass FROM audit.audit_logs LIMIT 1");
}

/* SQLSTATE of sql as role, within a transaction that is rolled back. */
static const char *try_as(const char *role, const char *sql) {
    pg_ask(pg_admin(), "BEGIN; SET LOCAL ROLE \"%s\"", role);
    const char *state = pg_try(pg_admin(), "%s", sql);
    pg_ask(pg_admin(), "ROLLBACK");
    return state;
}

static void refused_for_all(const char *verb, const char *table, const char *rest) {
    char sql[512];
    snprintf(sql, sizeof sql, "%s %s %s", verb, table, rest);
    for (int i = 0; i < ROLE_COUNT; i++)
        cr_expect_str_eq(try_as(ROLES[i], sql), "42501", "%s: %s", ROLES[i], sql);
    cr_expect_str_eq(try_as(pg_ask(pg_admin(), "SELECT current_user"), sql), "42501", "superuser: %s", sql);
    pg_ask(pg_admin(), "BEGIN; SET LOCAL session_replication_role = replica");
    cr_expect_str_eq(pg_try(pg_admin(), "%s", sql), "42501", "superuser as replica: %s", sql);
    pg_ask(pg_admin(), "ROLLBACK");
}

Test(audit_protection, nobody_updates_deletes_or_truncates_the_log) {
    rig_append(AUDIT_SEARCH_DISCLOSE, pg_ticket(PG_SLUG_A, "clinician", "alice"), DOCUMENT_A1);
    const char *tables[] = { "audit.audit_logs", partition() };
    for (int t = 0; t < 2; t++) {
        refused_for_all("UPDATE", tables[t], "SET outcome = 'denied'");
        refused_for_all("UPDATE", tables[t], "SET outcome = 'denied' WHERE false");
        refused_for_all("DELETE FROM", tables[t], "");
        refused_for_all("TRUNCATE", tables[t], "");
    }
    refused_for_all("DELETE FROM", "audit.audit_heads", "");
    refused_for_all("TRUNCATE", "audit.audit_heads", "");
    refused_for_all("UPDATE", "audit.audit_heads", "SET size = 0, range = '', root = sha256('')");
    refused_for_all("UPDATE", "audit.audit_heads", "SET root = sha256('x')");
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1);
}

static void insert_of(char *sql, size_t size, const char *event_id, const char *action, const char *hashed) {
    snprintf(sql, size, "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, content_digest, event, leaf_hash) "
             "VALUES ('%s', '" PG_TENANT_A "', 0, now(), now(), 'disclosure', '%s', 'success', sha256('x'), '{}', sha256('%s'))", event_id, action, hashed);
}

Test(audit_protection, nobody_inserts_but_what_moves_the_heads_and_only_what_hashes) {
    char sql[1024];
    struct uuid id = uuid_v7();
    insert_of(sql, sizeof sql, rig_text(&id), "search.disclose", "\\000{}");
    for (int i = 0; i < ROLE_COUNT; i++)
        cr_expect_str_eq(try_as(ROLES[i], sql), strcmp(ROLES[i], "cordon_audit_definer") == 0 ? "00000" : "42501", "%s", ROLES[i]);
    insert_of(sql, sizeof sql, rig_text(&id), "search.disclose", "{}");
    cr_expect_str_eq(try_as("cordon_audit_definer", sql), "23514", "a leaf that is not the hash of its event");
    snprintf(sql, sizeof sql, "SELECT 1 FROM %s", pg_ask(pg_admin(), "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'audit.audit_logs'::regclass"));
    for (int i = 1; i < ROLE_COUNT; i++)
        cr_expect_str_eq(try_as(ROLES[i], sql), "42501", "%s names a partition", ROLES[i]);
    cr_expect_str_eq(try_as("cordon_audit", "SELECT 1 FROM audit.audit_logs"), "42501", "the writer cannot read");
    cr_expect_str_eq(try_as("cordon_audit", "INSERT INTO audit.audit_heads (tenant_id) VALUES ('" PG_TENANT_A "')"), "42501");
    cr_expect_str_eq(try_as("cordon_audit", "INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id) "
        "VALUES ('" PG_TENANT_A "', '" DOCUMENT_A1 "', 0, gen_random_uuid())"), "42501");
    cr_expect_str_eq(try_as("cordon_audit", "INSERT INTO audit.tree_nodes (tenant_id, level, index, hash) VALUES ('" PG_TENANT_A "', 1, 0, sha256('x'))"), "42501");
}

Test(audit_protection, an_action_is_a_word_of_three_to_64_letters) {
    static const char L64[] = "abcdefghijklmnopqrstuvwxyz_.abcdefghijklmnopqrstuvwxyz_.abcdefgh";
    const char *const rows[][2] = { { "abc", "00000" }, { L64, "00000" }, { "ab", "23514" }, { pg_ask(pg_admin(), "SELECT '%s' || 'i'", L64), "23514" },
                                    { "a\u00e9b", "23514" }, { "Abc", "23514" }, { ".abc", "23514" }, { "a bc", "23514" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char sql[1024];
        struct uuid id = uuid_v7();
        insert_of(sql, sizeof sql, rig_text(&id), rows[i][0], "\\000{}");
        cr_expect_str_eq(try_as("cordon_audit_definer", sql), rows[i][1], "%s", rows[i][0]);
    }
}

Test(audit_protection, every_partition_is_guarded_and_the_months_ahead_exist) {
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_logs'::regclass "
        "AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"), "0");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_inherits i WHERE i.inhparent = 'audit.audit_logs'::regclass AND (SELECT count(*) FROM pg_trigger t "
        "WHERE t.tgrelid = i.inhrelid AND t.tgenabled = 'A' AND t.tgname IN ('refuse_row', 'refuse_statement')) <> 2"), "0");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT to_regclass('audit.audit_logs_' || to_char(timezone('UTC', now()) + interval '3 months', 'YYYY_MM')) IS NOT NULL"), "t");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT audit.make_partitions()"), "0", "made already");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a WHERE c.relname LIKE 'audit_logs\\_%%' AND c.relkind = 'r' "
        "AND a.grantee <> c.relowner"), "0", "grants are on the parent only");
}

Test(audit_protection, nobody_writes_the_outbox_directly) {
    char insert[256];
    (void)snprintf(insert, sizeof insert, "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
                   "VALUES ('%s', '" PG_TENANT_A "', now(), 'document.create', '{}', '{}')", pg_ask(pg_admin(), "SELECT authz.uuid_v7()"));
    for (int i = 0; i < ROLE_COUNT; i++) {
        bool is_definer = strcmp(ROLES[i], "cordon_audit_definer") == 0;
        cr_expect_str_eq(try_as(ROLES[i], insert), is_definer ? "00000" : "42501", "%s", ROLES[i]);
        if (is_definer)
            continue;
        cr_expect_str_eq(try_as(ROLES[i], "SELECT audit.record('document.create', '" PG_TENANT_A "', NULL, '{}', '{}')"), "42501", "%s", ROLES[i]);
        cr_expect_str_eq(try_as(ROLES[i], "TRUNCATE audit.audit_outbox"), "42501", "%s", ROLES[i]);
        if (i > 0) {    /* the owner may say DELETE, and forced row security shows it nothing */
            cr_expect_str_eq(try_as(ROLES[i], "DELETE FROM audit.audit_outbox"), "42501", "%s", ROLES[i]);
            cr_expect_str_eq(try_as(ROLES[i], "SELECT 1 FROM audit.audit_outbox"), "42501", "%s", ROLES[i]);
        }
        if (strcmp(ROLES[i], "cordon_audit") != 0)
            cr_expect_str_eq(try_as(ROLES[i], "SELECT audit.drain(1)"), "42501", "%s", ROLES[i]);
    }
}

/* audit.put() of one event on A's tree, whose head is said to be at `from` with this root. */
struct putting { int from, to; const char *root, *recorded, *ids, *leaf; };

static void put_of(char *sql, size_t size, struct putting p) {
    snprintf(sql, size, "SELECT audit.put('{" PG_TENANT_A "}', '{%d}', ARRAY['%s'::bytea], '{%d}', ARRAY['\\x%064d'::bytea], ARRAY[sha256('x')], '{}', '{}', '{}', '{}', %s, "
             "'{%s}', ARRAY[now()], '{disclosure}', '{search.disclose}', '{success}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{1}', '{0}', '{NULL}', "
             "ARRAY[sha256('x')], ARRAY['{}'::bytea], ARRAY[sha256('%s')], '{}', '{}')", p.from, p.root, p.to, 0, p.recorded, p.ids, p.leaf);
}

Test(audit_protection, heads_move_from_where_they_are_and_over_rows_that_come_with_it) {
    struct uuid id = uuid_v7(), other = uuid_v7();
    const char *event = rig_append(AUDIT_SEARCH_DISCLOSE, pg_ticket(PG_SLUG_A, "clinician", "alice"), DOCUMENT_A1);
    const char *root = pg_ask(pg_admin(), "SELECT root FROM audit.audit_heads WHERE tenant_id = '" PG_TENANT_A "'");
    const char *now = "clock_timestamp()", *good = rig_text(&id), *leaf = "\\000{}", *none = "\\x00";
    char two[128], sql[2048];
    snprintf(two, sizeof two, "%s,%s", good, rig_text(&other));
    const struct { struct putting p; const char *state, *what; } rows[] = {
        { { 1, 2, root, now, good, leaf }, "00000", "as audit-writer does" },
        { { 0, 1, root, now, good, leaf }, "40001", "the head is at 1" },
        { { 0, 1, none, now, good, leaf }, "40001", "the head is at 1, and has a root" },
        { { 2, 3, root, now, good, leaf }, "40001", "the head is not at 2" },
        { { 1, 2, none, now, good, leaf }, "40001", "the tree is another" },
        { { 1, 4, root, now, good, leaf }, "22023", "three places, one row" },
        { { 1, 2, root, now, two, leaf }, "22023", "one place, two rows" },
        { { 1, 1, root, now, "", leaf }, "23514", "nothing grows, over a row without an id" },
        { { 1, 2, root, "clock_timestamp() + interval '1 min'", good, leaf }, "40001", "the time is to come" },
        { { 1, 2, root, "clock_timestamp() - interval '1 min'", good, leaf }, "40001", "the time is long past" },
        { { 1, 2, root, "NULL", good, leaf }, "40001", "no time" },
        { { 1, 2, root, now, good, "{}" }, "23514", "no leaf of a tree" },
        { { 1, 2, root, now, event, leaf }, "23505", "that event is on the log" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_of(sql, sizeof sql, rows[i].p);
        cr_expect_str_eq(try_as("cordon_audit", sql), rows[i].state, "%s: %s", rows[i].what, pg_message());
    }
    for (int i = 0; i < ROLE_COUNT; i++) {
        put_of(sql, sizeof sql, rows[0].p);
        if (strcmp(ROLES[i], "cordon_audit") != 0 && strcmp(ROLES[i], "cordon_audit_definer") != 0)
            cr_expect_str_eq(try_as(ROLES[i], sql), "42501", "%s", ROLES[i]);
    }
    static const char *const FORMER[] = { "advance_heads", "put_nodes", "append" };
    for (size_t i = 0; i < sizeof FORMER / sizeof *FORMER; i++)
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM pg_proc WHERE pronamespace = 'audit'::regnamespace AND proname = '%s'", FORMER[i]), "0",
                         "%s", FORMER[i]);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1);
}

Test(audit_protection, an_auditor_reads_its_own_tenants_log_only) {
    rig_append(AUDIT_SEARCH_DISCLOSE, pg_ticket(PG_SLUG_A, "clinician", "alice"), DOCUMENT_A1);
    rig_append(AUDIT_SEARCH_DISCLOSE, pg_ticket(PG_SLUG_B, "clinician", "bob"), DOCUMENT_B1);
    PGconn *reader = pg_connect("cordon_audit_reader");
    cr_expect_str_eq(pg_ask(reader, "SELECT count(seq) FROM audit.audit_logs"), "0", "without a ticket");
    pg_ask(reader, "BEGIN; SELECT * FROM authz.enter('%s')", pg_ticket(PG_SLUG_A, "auditor", "carol"));
    cr_expect_str_eq(pg_ask(reader, "SELECT count(seq) || ' ' || min(tenant_id::text) FROM audit.audit_logs"), "1 " PG_TENANT_A);
    cr_expect_str_eq(pg_ask(reader, "SELECT count(size) FROM audit.audit_heads"), "1");
    cr_expect_str_eq(pg_try(reader, "SELECT ticket_digest FROM audit.audit_logs"), "42501");
    pg_ask(reader, "ROLLBACK; BEGIN; SELECT * FROM authz.enter('%s')", pg_ticket(PG_SLUG_A, "clinician", "alice"));
    cr_expect_str_eq(pg_ask(reader, "SELECT count(seq) FROM audit.audit_logs"), "0", "audit:read is missing");
    PQfinish(reader);
}
