/* What a superuser whom no trigger, no constraint and no index hinders does to the log, by the thousand: each change is
 * made in the database, exported by the code that exports, and given to cordon-verify, which names the event. Whoever
 * rewrites the log, or cuts off its end, agrees with everything inside the database: then checkpoints kept outside find
 * it. Columns that only repeat what the event says are in no export: audit-writer's look at the rows finds those, and only
 * some of these logs are exported, which shows that the events are whole.
 *
 * Change and export are one transaction, rolled back to before the change: the export sees what it would see for good. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/event.h"
#include "audit_export.h"
#include "audit_forms.h"
#include "core/clock.h"
#include "core/text_codec.h"
#include "crypto/digest.h"
#include "log.h"
#include "rig.h"

enum { EVENTS = 32, KEPT_EVERY = 8, KEPT = EVENTS / KEPT_EVERY, COLUMNS_EXPORTED_EVERY = 16, SHORT_MUTATIONS = 10000, LONG_MUTATIONS = 100000, ROUND = 80 };

TestSuite(query_mutations, .init = rig_open, .fini = rig_close, .timeout = 7200);      /* the long form, on a busy machine */

static const int64_t BEGAN_US = INT64_C(1700000000) * 1000000;
static char folder[] = "/dev/shm/cordon-mutations-XXXXXX";

static uint64_t state = 88172645463325252u;
static unsigned any(unsigned n) {               /* xorshift: the same mutations every time */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state % n);
}

/* ---- the log, of events of all shapes ---- */

static void insert(const struct audit_event *e) {
    CLEANUP(buffer_end) struct buffer documents = { 0 };
    char text[UUID_TEXT_BYTES], hex[65], ticket[65];
    const struct audit_stamp *s = &e->stamp;
    for (size_t i = 0; i < e->document_count; i++)
        buffer_printf(&documents, "%s%s", i ? "," : "", uuid_format(&e->document_ids[i], text));
    char ids[5][UUID_TEXT_BYTES];
    const struct uuid *const optional[] = { &s->actor_id, &s->session_id, &s->job_id, &e->request_id, &e->resource_id };
    for (int i = 0; i < 5; i++)
        (void)snprintf(ids[i], sizeof ids[i], "%s", uuid_is_nil(optional[i]) ? "" : uuid_format(optional[i], text));
    pg_ask(pg_admin(),
        "WITH r AS (INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, session_id, job_id, "
        "request_id, resource_id, document_ids, ticket_digest, content_digest, event, leaf_hash) VALUES ('%s', '" PG_TENANT_A "', %" PRId64
        ", to_timestamp(0) + %" PRId64 " * interval '1 us', to_timestamp(0) + %" PRId64 " * interval '1 us', '%s', '%s', '%s', nullif('%s', '')::uuid, "
        "nullif('%s', '')::uuid, nullif('%s', '')::uuid, nullif('%s', '')::uuid, nullif('%s', '')::uuid, '{%s}', decode(nullif('%s', ''), 'hex'), '\\x%s', "
        "convert_to('%s', 'UTF8'), sha256('\\x00'::bytea || convert_to('%s', 'UTF8'))) RETURNING *) "
        "INSERT INTO audit.document_events (tenant_id, document_id, seq, event_id) SELECT DISTINCT r.tenant_id, d, r.seq, r.event_id FROM r, unnest(r.document_ids) d",
        uuid_format(&e->event_id, text), s->seq, s->occurred_at_us, s->recorded_at_us, audit_kind_text(audit_action_kind(e->action)), audit_action_name(e->action),
        audit_outcome_text(e->outcome), ids[0], ids[1], ids[2], ids[3], ids[4], documents.data ? documents.data : "",
        e->has_ticket ? hex_encode(e->ticket_digest, 32, ticket) : "", hex_encode(e->content_digest, 32, hex), e->bytes.data, e->bytes.data);
}

static void put_event(int seq) {
    static const struct uuid NIL;
    struct uuid ids[4];
    struct why why = { 0 };
    uint8_t digest[SHA256_BYTES];
    sha256("1.1.ticket", strlen("1.1.ticket"), digest);
    for (size_t i = 0; i < 4; i++)
        ids[i] = uuid_v7();
    struct uuid tenant = rig_uuid(PG_TENANT_A);
    const bool has_documents = seq % 3 != 0, is_job = seq % 5 == 0, has_ticket = seq % 7 != 0;
    const struct audit_record record = { .event_id = ids[0], .action = seq % 4 == 1 ? AUDIT_AUTH_DENIED : AUDIT_SEARCH_DISCLOSE,
        .outcome = seq % 4 == 1 ? AUDIT_REFUSED : AUDIT_SUCCESS, .document_ids = ids + 1, .document_count = has_documents ? 1 + (size_t)seq % 3 : 0,
        .chunk_ids = ids + 2, .chunk_count = (size_t)seq % 3, .resource_id = seq % 2 ? ids[3] : NIL,
        .detail_json = seq % 6 ? "{\"hits\":2,\"reported_by\":\"nobody\",\"of\":[{\"path\":\"a\\\\\\\"}b\"}]}" : NULL };
    const struct audit_origin origin = { .reported_by = "query", .request_id = seq % 8 ? ids[2] : NIL, .ticket_digest = has_ticket ? digest : NULL };
    struct audit_stamp stamp = { .tenant_id = tenant, .seq = seq, .occurred_at_us = BEGAN_US + seq * INT64_C(1000003), .recorded_at_us = BEGAN_US + seq * INT64_C(1000003) + 77 };
    if (has_ticket)
        stamp.actor_id = ids[3];
    *(is_job ? &stamp.job_id : &stamp.session_id) = ids[2];
    if (seq % 9 == 0)
        stamp.grant_id = ids[1];
    CLEANUP(audit_event_destroy) struct audit_event *e = NULL;
    cr_assert_eq(audit_event_new(&record, &origin, &e, &why), ST_OK, "%s", why.text);
    cr_assert_eq(audit_event_stamp(e, &stamp, &why), ST_OK, "%s", why.text);
    insert(e);
}

/* Nothing of the database is in the way any more; and turn() changes one byte, or one letter, of a value. */
static void take_over(void) {
    pg_ask(pg_admin(),
        "SET session_replication_role = replica; ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL; ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL;"
        "ALTER TABLE audit.document_events DISABLE TRIGGER ALL;"
        "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'audit.audit_logs'::regclass AND contype IN ('c', 'p', 'u') LOOP "
        "EXECUTE format('ALTER TABLE audit.audit_logs DROP CONSTRAINT %%I', c.conname); END LOOP; END $$;"
        /* months without events: they only cost time */
        "DO $$ DECLARE t regclass; is_empty boolean; BEGIN FOR t IN SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE inhparent = ANY ('{audit.audit_logs,audit.document_events}'::regclass[]) AND c.relkind = 'r' LOOP "
        "EXECUTE format('SELECT NOT EXISTS (SELECT FROM %%s)', t) INTO is_empty; IF is_empty THEN EXECUTE format('DROP TABLE %%s', t); END IF; END LOOP; END $$;"
        "CREATE FUNCTION public.turn(v bytea, at integer, by integer) RETURNS bytea LANGUAGE sql AS "
        "'SELECT set_byte(v, at %% length(v), get_byte(v, at %% length(v)) # (1 + by %% 255))';"
        "CREATE FUNCTION public.turn(v uuid, at integer, by integer) RETURNS uuid LANGUAGE sql AS "
        "'SELECT encode(public.turn(uuid_send(v), at, by), ''hex'')::uuid';"
        "CREATE FUNCTION public.turn(v text, at integer, by integer) RETURNS text LANGUAGE sql AS "
        "'SELECT overlay(v PLACING chr(97 + (ascii(substr(v, 1 + at %% length(v), 1)) - 96 + by %% 25) %% 26) FROM 1 + at %% length(v) FOR 1)';"
        "CREATE FUNCTION public.turn(v timestamptz, at integer, by integer) RETURNS timestamptz LANGUAGE sql AS "
        "'SELECT to_timestamp(0) + ((extract(epoch FROM v) * 1000000)::bigint # ((1 + by %% 255)::bigint << (8 * (at %% 6)))) * interval ''1 us'''");
}

static void make_log(char kept[KEPT][64]) {
    for (int i = 0; i < EVENTS; i++) {
        put_event(i);
        if ((i + 1) % KEPT_EVERY)
            continue;
        const char *note = log_sign(PG_TENANT_A);
        (void)snprintf(kept[i / KEPT_EVERY], sizeof kept[0], "%s/%d.note", folder, i + 1);
        FILE *f = fopen(kept[i / KEPT_EVERY], "we");
        cr_assert(f && fputs(note, f) >= 0 && fclose(f) == 0);
    }
}

/* ---- what is done to it ---- */

#define TABLE "audit.audit_logs"
#define AT "tenant_id = '" PG_TENANT_A "'::uuid AND seq = $1::bigint"
#define HASHED(bytes) "sha256('\\x00'::bytea || " bytes ")"
#define COLUMN(name, value) { name, { "turn_" name, "UPDATE " TABLE " SET " name " = " value " WHERE " AT, 3 }, BY_COLUMNS, exactly }
#define TURN(name) COLUMN(name, "public.turn(" name ", $2::integer, $3::integer)")
#define TURN_ID(name) COLUMN(name, "coalesce(public.turn(" name ", $2::integer, $3::integer), event_id)")

enum finder { BY_EXPORT, BY_COLUMNS, BY_EITHER, BY_OUTSIDE };
struct place { unsigned n, at, by; };

/* Which event is named, the first and the last that it may be. */
struct named { int64_t first, last; };
static struct named exactly(const struct place *p) { return (struct named){ p->n, p->n }; }
static struct named behind(const struct place *p) { return (struct named){ p->n + 1, p->n + 1 }; }
static struct named earlier(const struct place *p) {            /* of n and $2, which are two */
    unsigned m = p->at % EVENTS;
    return (struct named){ m < p->n ? m : p->n, m < p->n ? m : p->n };
}
static struct named kept_before(const struct place *p) {        /* what the newest checkpoint outside that still agrees says */
    return (struct named){ p->n / KEPT_EVERY * KEPT_EVERY, p->n / KEPT_EVERY * KEPT_EVERY };
}
/* Two have one number, and are exported the right way round or the wrong one. */
static struct named neighbour(const struct place *p) { return (struct named){ p->n & ~1u, (p->n | 1) + 1 }; }
/* Its number is another one: either it is missing, or there are two of the other. */
static struct named renumbered(const struct place *p) {
    unsigned m = p->n ^ (4 * (1 + p->by % 15));
    return m < p->n ? (struct named){ m, m + 1 } : exactly(p);
}

static const struct mutation {
    const char *what;
    struct sql sql;                         /* $1: the event's number; $2 and $3: any numbers */
    enum finder finder;
    struct named (*named)(const struct place *p);
    bool is_signed;                         /* by whoever has the key as well */
} MUTATIONS[] = {
    { "a byte of an event", { "turn_event", "UPDATE " TABLE " SET event = public.turn(event, $2::integer, $3::integer) WHERE " AT, 3 }, BY_EXPORT, exactly },
    { "a byte of a leaf", { "turn_leaf", "UPDATE " TABLE " SET leaf_hash = public.turn(leaf_hash, $2::integer, $3::integer) WHERE " AT, 3 }, BY_EXPORT, exactly },
    { "a deletion", { "delete", "DELETE FROM " TABLE " WHERE " AT " AND $2::bigint + $3::bigint >= 0", 3 }, BY_EXPORT, exactly },
    { "a swap", { "swap", "UPDATE " TABLE " SET seq = $1::bigint + $2::bigint % 32 - seq WHERE tenant_id = '" PG_TENANT_A
                  "' AND seq IN ($1::bigint, $2::bigint % 32) AND $3::bigint >= 0", 3 }, BY_EXPORT, earlier },
    { "a duplication", { "copy", "INSERT INTO " TABLE " SELECT * FROM " TABLE " WHERE " AT " AND $2::bigint + $3::bigint >= 0", 3 }, BY_EXPORT, behind },
    { "a duplication with all behind it moved", { "copy_moved", "WITH moved AS (UPDATE " TABLE " SET seq = seq + 1 WHERE tenant_id = '" PG_TENANT_A
                  "' AND seq > $1::bigint AND $2::bigint + $3::bigint >= 0) INSERT INTO " TABLE " (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, content_digest, "
                  "event, leaf_hash) SELECT event_id, tenant_id, seq + 1, occurred_at, recorded_at, kind, action, outcome, content_digest, event, leaf_hash FROM " TABLE
                  " WHERE " AT, 3 }, BY_EXPORT, behind },
    { "another number", { "turn_seq", "UPDATE " TABLE " SET seq = seq # (4 * (1 + $3::integer % 15)) WHERE " AT " AND $2::bigint >= 0", 3 }, BY_EXPORT, renumbered },
    { "its neighbour's number", { "turn_seq_least", "UPDATE " TABLE " SET seq = seq # 1 WHERE " AT " AND $2::bigint + $3::bigint >= 0", 3 }, BY_EITHER, neighbour },
    { "another tenant", { "turn_tenant", "UPDATE " TABLE " SET tenant_id = public.turn(tenant_id, $2::integer, $3::integer) WHERE " AT, 3 }, BY_EXPORT, exactly },
    { "a tail cut off, with its checkpoints", { "cut", "WITH gone AS (DELETE FROM audit.checkpoints WHERE tenant_id = '" PG_TENANT_A "' AND size > $1::bigint AND $2::bigint + $3::bigint >= 0) "
                  "DELETE FROM " TABLE " WHERE tenant_id = '" PG_TENANT_A "' AND seq >= $1::bigint", 3 }, BY_OUTSIDE, kept_before },
    { "a tail cut off, and signed again", { "cut_signed", "DELETE FROM " TABLE " WHERE tenant_id = '" PG_TENANT_A "' AND seq >= $1::bigint AND $2::bigint + $3::bigint >= 0", 3 },
                  BY_OUTSIDE, exactly, true },
    { "a rewrite with all its hashes", { "rewrite", "UPDATE " TABLE " SET event = public.turn(event, 14, $3::integer % 3), leaf_hash = " HASHED("public.turn(event, 14, $3::integer % 3)")
                  " WHERE tenant_id = '" PG_TENANT_A "' AND seq >= $1::bigint AND $2::bigint >= 0", 3 }, BY_OUTSIDE, kept_before },
    { "a rewrite, signed again", { "rewrite_signed", "UPDATE " TABLE " SET event = public.turn(event, 14, $3::integer % 3), leaf_hash = " HASHED("public.turn(event, 14, $3::integer % 3)")
                  " WHERE tenant_id = '" PG_TENANT_A "' AND seq >= $1::bigint AND $2::bigint >= 0", 3 }, BY_OUTSIDE, kept_before, true },
    TURN("event_id"), TURN("occurred_at"), TURN("recorded_at"), TURN("kind"), TURN("action"), TURN("outcome"), TURN_ID("actor_id"), TURN_ID("session_id"),
    TURN_ID("job_id"), TURN_ID("request_id"), TURN_ID("resource_id"), TURN("content_digest"),
    COLUMN("ticket_digest", "coalesce(public.turn(ticket_digest, $2::integer, $3::integer), leaf_hash)"),
    { "what finds it by its documents", { "forget_document", "DELETE FROM audit.document_events WHERE " AT " AND $2::bigint + $3::bigint >= 0", 3 }, BY_COLUMNS, exactly },
    COLUMN("document_ids", "CASE WHEN document_ids = '{}' THEN ARRAY[event_id] ELSE array_replace(document_ids, document_ids[1], public.turn(document_ids[1], $2::integer, $3::integer)) END"),
};
enum { KINDS = sizeof MUTATIONS / sizeof *MUTATIONS };

/* ---- one transaction ---- */

static void run(struct plain_tx *tx, const struct db_step steps[], size_t n, PGresult *rows[]) {
    struct why why = { 0 };
    cr_assert_eq(plain_tx_run_steps(tx, steps, n, rows, &why), ST_OK, "%s", why.text);
}

static const struct sql READER = { "as_reader", "SET LOCAL ROLE cordon_audit_reader", 0 };

/* As whoever has the key would, over what is there now. */
static void sign_again(struct plain_tx *tx, struct arena *mem) {
    static const struct sql LEAVES = { "leaves", "SELECT leaf_hash FROM " TABLE " WHERE tenant_id = '" PG_TENANT_A "' ORDER BY seq", 0 };
    static const struct sql FORGET = { "forget", "DELETE FROM audit.checkpoints WHERE tenant_id = '" PG_TENANT_A "'", 0 };
    static const struct sql PUT = { "put_note", "INSERT INTO audit.checkpoints (tenant_id, size, root, note, verifier, number, event_seq) VALUES ('" PG_TENANT_A
                                    "', $1, $2, $3, $4, 1, 0)", 4 };
    PGresult *rows[2] = { NULL };
    struct merkle_range range = { 0 };
    run(tx, (struct db_step[]){ { .sql = &LEAVES }, { .sql = &FORGET } }, 2, rows);
    for (int i = 0; i < db_count(rows[0]); i++) {
        struct merkle_hash leaf;
        size_t len;
        memcpy(leaf.bytes, db_bytea(rows[0], i, 0, &len), sizeof leaf.bytes);
        merkle_append(&range, &leaf);
    }
    struct log_note made = log_note(PG_TENANT_A, &range, mem);
    PQclear(rows[0]);
    PQclear(rows[1]);
    run(tx, (struct db_step[]){ { .sql = &PUT, .params = (struct db_param[]){ DB_INT((int64_t)range.size), DB_BYTES(made.root.bytes, 32), DB_TEXT(made.note),
                                  DB_TEXT(made.verifier) } }, { .sql = &READER } }, 2, rows);
    PQclear(rows[0]);
    PQclear(rows[1]);
}

static void export_to(struct tenant_tx *tx, struct arena *mem, const char *path) {
    const Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    struct call call = { .mem = mem };
    struct audit_export x = { .call = &call, .form = audit_form_find("") };
    struct audit_export_portion portion = { 0 };
    enum status st = audit_export_begin(&x, tx, &req);
    if (st == ST_OK)
        st = audit_export_read(&x, tx, x.first, x.last, &portion);
    if (st == ST_OK)
        st = audit_export_put(&x, NULL, &portion);
    audit_export_portion_end(&portion);
    if (st == ST_OK)
        st = audit_export_end(&x);
    cr_assert_eq(st, ST_OK, "%s", call.why.text);
    FILE *f = fopen(path, "we");
    cr_assert(f && fwrite(x.out.data, 1, x.out.len, f) == x.out.len && fclose(f) == 0);
    buffer_end(&x.out);
    buffer_end(&x.line);
}

struct done { const struct mutation *m; struct place p; int64_t column_seq; char path[64]; };

/* Take the last change back, make this one and export what is there then, when it has a path. */
static void mutate(struct tenant_tx *tx, struct arena *mem, struct done *d) {
    static const struct sql BACK = { "take_back", "ROLLBACK TO SAVEPOINT before", 0 };
    static const struct sql COLUMNS = { "columns", "SELECT seq FROM audit.leaves_now('" PG_TENANT_A "', $1::bigint & ~7, 8) WHERE NOT is_as_stored ORDER BY seq LIMIT 1", 1 };
    const struct db_param params[] = { DB_INT(d->p.n), DB_INT(d->p.at), DB_INT(d->p.by) };
    const bool asks_columns = d->m->finder == BY_COLUMNS || d->m->finder == BY_EITHER;
    struct db_step steps[4] = { { .sql = &BACK }, { .sql = &d->m->sql, .params = params } };
    PGresult *rows[4] = { NULL };
    size_t n = 2;
    if (asks_columns)
        steps[n++] = (struct db_step){ .sql = &COLUMNS, .params = params };
    if (!d->m->is_signed)
        steps[n++] = (struct db_step){ .sql = &READER };
    run(&tx->plain, steps, n, rows);
    cr_assert_gt(db_affected(rows[1]), 0, "%s of %u changed nothing", d->m->what, d->p.n);
    d->column_seq = asks_columns && db_count(rows[2]) ? db_i64(rows[2], 0, 0) : -1;
    for (size_t i = 0; i < n; i++)
        PQclear(rows[i]);
    if (d->m->is_signed)
        sign_again(&tx->plain, mem);
    if (*d->path)
        export_to(tx, mem, d->path);
}

static struct place choose(const struct mutation *m) {
    struct place p = { any(EVENTS), any(1 << 20), any(1 << 20) };
    if (m->named == behind)
        p.n = any(EVENTS - 1);              /* behind the last one nothing is signed yet */
    else if (m->finder == BY_OUTSIDE && m->named != exactly)
        p.n = KEPT_EVERY + any(EVENTS - KEPT_EVERY);            /* something signed is left */
    else if (m->named == exactly && m->is_signed)
        p.n = 1 + any(EVENTS - 1);
    if (m->named == earlier && p.at % EVENTS == p.n)
        p.at++;
    if (strcmp(m->sql.name, "forget_document") == 0)
        p.n ^= p.n % 3 == 0;                /* one that names documents */
    if (strcmp(m->sql.name, "turn_event_id") == 0)
        p.at = 6 + p.at % 10;               /* the first six are the time: another month, which is not there */
    return p;
}

/* ---- the stranger's word ---- */

static const char *said_of(const char *said, const struct done *d) {
    const char *line = strstr(said, d->path);
    cr_assert_not_null(line, "%s", d->path);
    return line + strlen(d->path) + 2;
}

static void judge(const struct done *done, size_t count, char kept[KEPT][64]) {
    const char *args[2 + 2 * KEPT + ROUND + 1] = { "--key", LOG_VERIFIER };
    CLEANUP(buffer_end) struct buffer said = { 0 };
    size_t n = 2;
    for (int i = 0; i < KEPT; i++) {
        args[n++] = "--checkpoint";
        args[n++] = kept[i];
    }
    for (size_t i = 0; i < count; i++)
        if (*done[i].path)
            args[n++] = done[i].path;
    cr_assert_eq(log_run_verify(args, &said), 1);
    for (size_t i = 0; i < count; i++) {
        const struct done *d = &done[i];
        const char *word = *d->path ? said_of(said.data, d) : "verified";
        const bool is_verified = strncmp(word, "verified", 8) == 0;
        struct named want = d->m->named(&d->p);
        int64_t index = is_verified ? d->column_seq : -1;
        cr_assert(is_verified ? d->m->finder == BY_COLUMNS || d->m->finder == BY_EITHER : d->m->finder != BY_COLUMNS, "%s of %u, %u, %u: %.100s", d->m->what,
                  d->p.n, d->p.at, d->p.by, word);
        cr_assert(is_verified || sscanf(word, "NOT VERIFIED at event %" SCNd64, &index) == 1, "%s of %u: %.100s", d->m->what, d->p.n, word);
        cr_assert(index >= want.first && index <= want.last, "%s of %u, %u, %u: %" PRId64 " named: %.100s", d->m->what, d->p.n, d->p.at, d->p.by, index, word);
        if (*d->path)
            unlink(d->path);
    }
}

static void play_round(struct db_pool *pool, unsigned from, char kept[KEPT][64]) {
    static const struct sql ENTER = { "enter_test", "SELECT authz.enter($1)", 1 }, BEFORE = { "before", "SAVEPOINT before", 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    static struct done done[ROUND];
    struct tenant_tx tx = { .claims.tenant_id = rig_uuid(PG_TENANT_A) };
    struct why why = { 0 };
    PGresult *rows[2] = { NULL };
    const struct db_param ticket = DB_TEXT(pg_ticket(PG_SLUG_A, "auditor", "olga"));
    cr_assert_eq(plain_tx_begin(&tx.plain, pool, clock_mono_ms() + 60000, &why), ST_OK, "%s", why.text);
    run(&tx.plain, (struct db_step[]){ { .sql = &ENTER, .params = &ticket }, { .sql = &BEFORE } }, 2, rows);
    PQclear(rows[0]);
    PQclear(rows[1]);
    for (unsigned i = 0; i < ROUND; i++) {
        const struct mutation *m = &MUTATIONS[(from + i) % KINDS];
        done[i] = (struct done){ .m = m, .p = choose(m) };
        if (m->finder != BY_COLUMNS || any(COLUMNS_EXPORTED_EVERY) == 0)
            (void)snprintf(done[i].path, sizeof done[i].path, "%s/%05u.jsonl", folder, i);
        mutate(&tx, mem, &done[i]);
    }
    plain_tx_end(&tx.plain);
    judge(done, ROUND, kept);
}

Test(query_mutations, every_change_that_a_superuser_makes_is_found_and_the_event_named) {
    char kept[KEPT][64];
    unsigned mutations = getenv("CORDON_TEST_LONG") ? LONG_MUTATIONS : SHORT_MUTATIONS;
    struct db_pool *pool = NULL;
    cr_assert_not_null(mkdtemp(folder));
    make_log(kept);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FILTER (WHERE is_as_stored) FROM audit.leaves_now('" PG_TENANT_A "', 0, 32)"), "32");
    take_over();
    const struct db_options options = { .url = pg_url(NULL), .process = "superuser", .connections = 1 };
    cr_assert_eq(db_pool_new(&options, &pool, &rig.why), ST_OK, "%s", rig.why.text);
    for (unsigned i = 0; i < mutations; i += ROUND)
        play_round(pool, i, kept);
    db_pool_destroy(&pool);
    for (int i = 0; i < KEPT; i++)
        unlink(kept[i]);
    rmdir(folder);
}
