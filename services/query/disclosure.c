#include "disclosure.h"

#include <string.h>

#include "audit/client.h"
#include "columns.h"
#include "core/clock.h"
#include "core/fault.h"

enum { COL_ID, COL_VERSION, COL_WRAPPED };
enum { AHEAD_MS = 500 };

/* What the database gives for the event: the tenant's keys, and those of the documents and the conversation that it names,
 * as rows of one shape. All of it in one round trip; what a question leaves is committed in another. */
static enum status fetch_keys(struct disclosure *d, struct query *q, struct call *call, const struct disclosed *what, uint64_t scope,
                              struct tenant_keys *ret_tenant_keys, PGresult **ret_rows, PGresult **ret_conversation) {
    static const struct sql OPEN = { "open_keys", "SELECT document_id, version, wrapped FROM keys.open($1)", 1 };
    /* What the model may be given is what keys came for. */
    static const struct sql OPEN_AND_BEGIN = { "begin_question",
        "WITH opened AS MATERIALIZED (SELECT document_id, version, wrapped FROM keys.open($1)), "
        "begun AS (INSERT INTO app.questions (tenant_id, id, user_id, conversation_id, event_id, document_ids) "
        "VALUES (authz.tenant(), $2, authz.user_id(), $3, $1, ARRAY(SELECT o.document_id FROM opened o))) "
        "SELECT document_id, version, wrapped FROM opened", 3 };
    static const struct sql OPEN_CONVERSATION = { "open_conversation",
        "SELECT conversation_id, version, wrapped FROM keys.open_conversation($1)", 1 };
    enum { TENANT, DOCUMENTS, CONVERSATION };
    const struct db_param event[] = { DB_UUID(&d->event_id), DB_UUID(what->resource_id), DB_UUID(what->begins_in) };
    const struct db_step steps[] = { { .sql = &KEYSTORE_TENANT }, { .sql = what->begins_in ? &OPEN_AND_BEGIN : &OPEN, .params = event },
                                     { .sql = &OPEN_CONVERSATION, .params = event } };
    PGresult *rows[] = { NULL, NULL, NULL };
    size_t n = what->opens_conversation ? 3 : 2;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    enum status st = what->begins_in
        ? tenant_tx_begin_with(&tx, q->db, call->ticket, &call->request_id, scope, steps, n, rows, call->deadline_ms, &call->why)
        : tenant_tx_read(q->db, call->ticket, &call->request_id, scope, steps, n, rows, &tx.claims, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = keystore_rows_tenant(&tx.claims.tenant_id, rows[TENANT], call->mem, ret_tenant_keys, &call->why);
    pgrows_destroy(&rows[TENANT]);
    *ret_rows = rows[DOCUMENTS];
    *ret_conversation = rows[CONVERSATION];
    return st == ST_OK && what->begins_in ? tenant_tx_commit(&tx, &call->why) : st;
}

static enum status unwrap_row(struct query *q, struct call *call, const struct tenant_keys *tenant_keys, const PGresult *rows, int row,
                              struct document_key **ret_key) {
    CLEANUP(tenant_key_release) struct tenant_key *sealer = NULL;
    size_t len = 0;
    const uint8_t *wrapped = db_bytea(rows, row, COL_WRAPPED, &len);
    struct uuid id = db_uuid(rows, row, COL_ID);
    enum status st = keystore_open_tenant(q->keyring, tenant_keys, TENANT_KEY_DATA, (unsigned)db_i64(rows, row, COL_VERSION),
                                          call->deadline_ms, &sealer, &call->why);
    return st == ST_OK ? keystore_open_document(q->shares, sealer, &tenant_keys->tenant, &id, wrapped, len, call->deadline_ms, ret_key,
                                                &call->why) : st;
}

/* What opening these keys will ask the shares' bucket for, asked for at once. */
static void fetch_shares(struct query *q, struct call *call, const struct uuid *tenant, const PGresult *rows, const PGresult *conversation) {
    const PGresult *const results[] = { rows, conversation };
    struct uuid *ids = arena_alloc(call->mem, ((size_t)db_count(rows) + (size_t)db_count(conversation) + 1) * sizeof *ids);
    size_t n = 0, len = 0;
    for (size_t r = 0; r < sizeof results / sizeof *results; r++)
        for (int row = 0; results[r] && row < db_count(results[r]); row++) {
            const uint8_t *wrapped = db_bytea(results[r], row, COL_WRAPPED, &len);
            if (document_key_has_share(wrapped, len))
                ids[n++] = db_uuid(results[r], row, COL_ID);
        }
    shares_fetch(q->shares, tenant, ids, n, call->deadline_ms);
}

static enum status unwrap(struct disclosure *d, struct query *q, struct call *call, const struct tenant_keys *tenant_keys,
                          const PGresult *rows) {
    size_t n = (size_t)db_count(rows);
    d->keys = arena_alloc(call->mem, n * sizeof *d->keys);
    for (size_t i = 0; i < n; i++) {
        struct opened_key *k = &d->keys[d->key_count];
        k->document_id = db_uuid(rows, (int)i, COL_ID);
        enum status st = unwrap_row(q, call, tenant_keys, rows, (int)i, &k->key);
        if (st != ST_OK)
            return st;
        d->key_count++;
    }
    return ST_OK;
}

/* A share by itself opens nothing: it may come while the record is made, without which there is no other half for it. Only for
 * a moment, so that a store which does not answer keeps nobody from hearing that there is no record. */
static struct shares_fetching *fetch_ahead(struct query *q, struct call *call, const struct disclosed *what) {
    int64_t until_ms = clock_mono_ms() + AHEAD_MS;
    return what->tenant ? shares_fetch_begin(q->shares, what->tenant, what->document_ids, what->document_count,
                                             until_ms < call->deadline_ms ? until_ms : call->deadline_ms) : NULL;
}

static enum status record(struct call *call, const struct disclosed *what, struct uuid *ret_event_id) {
    struct audit_record shown = {
        .action = what->action, .document_ids = what->document_ids, .document_count = what->document_count,
        .chunk_ids = what->chunk_ids, .chunk_count = what->chunk_count,
        .resource_id = what->resource_id ? *what->resource_id : (struct uuid){ { 0 } }, .detail_json = what->detail_json };
    struct audit_record sent = shown;
    sent.action = AUDIT_MODEL_DISCLOSE;
    sent.detail_json = what->model_detail_json;
    struct uuid ids[2];
    enum status st = audit_append_many(call, (struct audit_record[]){ shown, sent }, what->model_detail_json ? 2 : 1, ids);
    if (st == ST_OK)
        *ret_event_id = ids[0];
    return st;
}

enum status disclosure_begin(struct disclosure *d, struct query *q, struct call *call, const struct disclosed *what,
                             uint64_t scope) {
    *d = (struct disclosure){ 0 };
    CLEANUP(shares_fetch_end) struct shares_fetching *ahead = fetch_ahead(q, call, what);
    enum status st = record(call, what, &d->event_id);
    if (st == ST_OK)
        st = fault_status(FAULT_QUERY_BEFORE_OPEN, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    CLEANUP(pgrows_destroy) PGresult *conversation = NULL;
    struct tenant_keys tenant_keys = { 0 };
    st = fetch_keys(d, q, call, what, scope, &tenant_keys, &rows, &conversation);
    d->tenant = tenant_keys.tenant;
    if (st == ST_OK)
        st = keystore_open_tenant(q->keyring, &tenant_keys, TENANT_KEY_DATA, 0, call->deadline_ms, &d->tenant_key, &call->why);
    shares_fetch_end(&ahead);
    if (st == ST_OK)
        fetch_shares(q, call, &d->tenant, rows, conversation);
    if (st == ST_OK)
        st = unwrap(d, q, call, &tenant_keys, rows);
    if (st == ST_OK && conversation && db_count(conversation) == 1)
        st = unwrap_row(q, call, &tenant_keys, conversation, 0, &d->conversation_key);
    if (st == ST_OK)
        st = fault_status(FAULT_QUERY_OPENED, &call->why);
    if (st != ST_OK)
        disclosure_end(d);
    return st;
}

void disclosure_end(struct disclosure *d) {
    for (size_t i = 0; i < d->key_count; i++)
        document_key_destroy(&d->keys[i].key);
    d->key_count = 0;
    document_key_destroy(&d->conversation_key);
    tenant_key_release(&d->tenant_key);
}

static const struct document_key *find_key(const struct disclosure *d, const struct uuid *document_id) {
    for (size_t i = 0; i < d->key_count; i++)
        if (uuid_equal(&d->keys[i].document_id, document_id))
            return d->keys[i].key;
    return NULL;
}

const char *disclosure_documents(const struct disclosure *d, struct arena *mem) {
    struct uuid *ids = arena_alloc(mem, (d->key_count + 1) * sizeof *ids);
    for (size_t i = 0; i < d->key_count; i++)
        ids[i] = d->keys[i].document_id;
    return uuid_array(mem, ids, d->key_count);
}

bool disclosure_has_key(const struct disclosure *d, const struct uuid *document_id) {
    return find_key(d, document_id) != NULL;
}

enum status disclosure_key(const struct disclosure *d, const struct uuid *document_id, const struct document_key **ret_key,
                           struct why *why) {
    const struct document_key *key = find_key(d, document_id);
    if (!key)
        return fail(why, ST_NOT_FOUND, "document: deleted since it was found");
    *ret_key = key;
    return ST_OK;
}

enum status disclosure_open_text(const struct disclosure *d, struct call *call, const struct uuid *document_id,
                                 enum field_kind kind, const struct uuid *row_id, const PGresult *rows, int row, int column,
                                 char **ret_text) {
    if (db_is_null(rows, row, column)) {
        *ret_text = arena_strdup(call->mem, "");
        return ST_OK;
    }
    const struct document_key *key = NULL;
    size_t len = 0;
    const uint8_t *sealed = db_bytea(rows, row, column, &len);
    struct blob plain = { 0 };
    enum status st = disclosure_key(d, document_id, &key, &call->why);
    if (st == ST_OK)
        st = document_key_open_field(key, kind, row_id, sealed, len, call->mem, &plain, &call->why);
    if (st == ST_OK)
        *ret_text = (char *)plain.data;
    return st;
}
