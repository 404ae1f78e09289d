#include "rig.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "crypto/digest.h"

static struct db_pool *pool;

static void add_document(const char *tenant_slug, const char *subject, const char *document_id) {
    PGconn *conn = pg_connect("cordon_ingest");
    pg_ask(conn, "BEGIN; SELECT * FROM authz.enter('%s')", pg_ticket(tenant_slug, "clinician", subject));
    pg_ask(conn, "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by) "
                 "VALUES (authz.tenant(), '%s', 'text/plain', 10, 1, authz.user_id())", document_id);
    pg_ask(conn, "SELECT keys.put_document_key('%s', 1, '\\x%s')", document_id, strrchr(document_id, '-') + 1);
    pg_ask(conn, "COMMIT");
    PQfinish(conn);
}

/* What the set-up did is none of the tests' business. */
void rig_empty_outbox(void) {
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_outbox DISABLE TRIGGER refuse_loss; DELETE FROM audit.audit_outbox;"
                       "ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER refuse_loss");
}

void rig_open(void) {
    pg_open();
    add_document(PG_SLUG_A, "setup", DOCUMENT_A1);
    add_document(PG_SLUG_A, "setup", DOCUMENT_A2);
    add_document(PG_SLUG_B, "setup", DOCUMENT_B1);
    rig_empty_outbox();
    struct why why = { 0 };
    struct db_options options = { .url = pg_url("cordon_audit"), .process = "audit-writer-test", .connections = 8 };
    cr_assert_eq(db_pool_new(&options, &pool, &why), ST_OK, "%s", why.text);
}

void rig_close(void) {
    db_pool_destroy(&pool);
    pg_close();
}

struct db_pool *rig_pool(void) {
    return pool;
}

struct uuid rig_uuid(const char *text) {
    struct uuid id;
    cr_assert(uuid_parse(text, strlen(text), &id), "%s", text);
    return id;
}

const char *rig_text(const struct uuid *id) {
    char *text = xalloc(UUID_TEXT_BYTES);
    static char *kept[4096];        /* so that a leak checker sees an owner */
    static size_t at;
    free(kept[at % 4096]);
    kept[at++ % 4096] = text;
    uuid_format(id, text);
    return text;
}

struct audit_event *rig_event(enum audit_action action, const char *ticket, const char *document_id, const struct uuid *event_id) {
    struct uuid document = document_id ? rig_uuid(document_id) : (struct uuid){ 0 };
    struct audit_record record = { .event_id = event_id ? *event_id : uuid_v7(), .action = action, .outcome = AUDIT_SUCCESS,
        .document_ids = &document, .document_count = document_id != NULL, .detail_json = "{\"n\":1}" };
    uint8_t digest[SHA256_BYTES];
    sha256(ticket ? ticket : "", ticket ? strlen(ticket) : 0, digest);
    struct audit_origin origin = { .reported_by = "query", .request_id = rig_uuid("01920000-0000-7000-8000-0000000000ff"), .ticket_digest = ticket ? digest : NULL };
    struct audit_event *event = NULL;
    struct why why = { 0 };
    cr_assert_eq(audit_event_new(&record, &origin, &event, &why), ST_OK, "%s", why.text);
    return event;
}

void rig_call(struct rig_call *c, enum audit_action action, const char *ticket, const char *document_id, const struct uuid *event_id) {
    *c = (struct rig_call){ .event = rig_event(action, ticket, document_id, event_id) };
    c->call = (struct batch_call){ .events = &c->event, .count = 1, .ticket = ticket, .stamps = &c->stamp };
}

void rig_call_end(struct rig_call *c) {
    audit_event_destroy(&c->event);
}

enum status rig_commit(struct rig_call calls[], size_t count) {
    struct batch_call *list[64];
    struct why why = { 0 };
    for (size_t i = 0; i < count; i++)
        list[i] = &calls[i].call;
    return batch_commit(pool, NULL, list, count, clock_mono_ms() + 10000, &why);
}

const char *rig_append(enum audit_action action, const char *ticket, const char *document_id) {
    struct rig_call c;
    rig_call(&c, action, ticket, document_id, NULL);
    cr_assert_eq(rig_commit(&c, 1), ST_OK);
    cr_assert_eq(c.call.status, ST_OK, "%s", c.call.why.text);
    const char *id = rig_text(&c.event->event_id);
    rig_call_end(&c);
    return id;
}

int64_t rig_check_tree(const char *tenant) {
    struct merkle_range range = { 0 };
    const char *params[] = { tenant };
    PGresult *rows = PQexecParams(pg_admin(), "SELECT seq, event, leaf_hash FROM audit.audit_logs WHERE tenant_id = $1 ORDER BY seq",
                                  1, NULL, params, NULL, NULL, 1);
    cr_assert_eq(PQresultStatus(rows), PGRES_TUPLES_OK, "%s", PQerrorMessage(pg_admin()));
    for (int i = 0; i < PQntuples(rows); i++) {
        char member[32];
        int64_t seq = db_i64(rows, i, 0);
        size_t len, leaf_len;
        const uint8_t *event = db_bytea(rows, i, 1, &len), *stored = db_bytea(rows, i, 2, &leaf_len);
        struct merkle_hash leaf = merkle_leaf(event, len);
        cr_assert_eq(seq, i, "gap or fork at %d", i);
        snprintf(member, sizeof member, "\"seq\":%d,", i);
        cr_assert_not_null(memmem(event, len, member, strlen(member)));
        cr_assert(leaf_len == sizeof leaf.bytes && memcmp(leaf.bytes, stored, leaf_len) == 0);
        merkle_append(&range, &leaf);
    }
    PQclear(rows);
    struct merkle_hash root = merkle_root(&range);
    rows = PQexecParams(pg_admin(), "SELECT size, root, range FROM audit.audit_heads WHERE tenant_id = $1", 1, NULL, params, NULL, NULL, 1);
    if (range.size > 0 || PQntuples(rows) > 0) {
        size_t root_len, range_len;
        cr_assert_eq(db_i64(rows, 0, 0), (int64_t)range.size);
        const uint8_t *stored = db_bytea(rows, 0, 1, &root_len), *nodes = db_bytea(rows, 0, 2, &range_len);
        cr_assert(root_len == sizeof root.bytes && memcmp(stored, root.bytes, root_len) == 0, "the head's root is not the rows'");
        cr_assert(range_len == merkle_node_count(range.size) * MERKLE_HASH_BYTES && memcmp(nodes, range.nodes, range_len) == 0);
    }
    PQclear(rows);
    return (int64_t)range.size;
}
