/* break_glass — access to what labels hide, for one person, narrow and short, and never unseen: the grant is on record
 * before it opens anything, every ticket under it carries its id, and the next one waits until it has been reviewed. */
#include <string.h>

#include "auth.pb-c.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "transact.h"

enum { MINUTES_DEFAULT = 60, MINUTES_MIN = 5, MINUTES_MAX = 240, REASON_MIN_BYTES = 10, REASON_MAX_BYTES = 1000, LABELS_MAX = 8, DOCUMENTS_MAX = 16 };

/* BreakGlassRequest -> BreakGlassReply. */
enum status on_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql BREAK = { "break_glass",
        "INSERT INTO auth.break_glass (tenant_id, id, user_id, reason_code, reason_enc, labels, document_ids, expires_at) "
        "SELECT authz.tenant(), $1, authz.user_id(), $2, $3, $4::pg_catalog.text[], $5::pg_catalog.uuid[], pg_catalog.now() + $6::pg_catalog.int4 * interval '1 min' "
        "WHERE NOT EXISTS (SELECT FROM pg_catalog.unnest($4::pg_catalog.text[]) w WHERE w NOT IN (SELECT l.label FROM auth.labels l)) "
        "RETURNING expires_at", 6 };
    const Auth__BreakGlassRequest *req = (const void *)in;
    Auth__BreakGlassReply *reply = (void *)out;
    struct auth *a = self;
    struct uuid id = uuid_v7();
    size_t reason_len = strlen(req->reason);
    uint32_t minutes = req->minutes ? req->minutes : MINUTES_DEFAULT;
    if (reason_len < REASON_MIN_BYTES || reason_len > REASON_MAX_BYTES || !utf8_is_text(req->reason, reason_len, NULL))
        return fail_as(&call->why, ERR_REQ_FIELD, "reason");
    if (minutes < MINUTES_MIN || minutes > MINUTES_MAX || req->n_labels > LABELS_MAX || req->n_document_ids > DOCUMENTS_MAX ||
        req->n_labels + req->n_document_ids == 0)
        return fail_as(&call->why, ERR_REQ_FIELD, "minutes, labels or document_ids");
    struct blob reason = { 0 };
    const char *documents = "{}";
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = id_array(call, req->document_ids, req->n_document_ids, &documents);
    if (st == ST_OK)
        st = directory_seal(a->directory, DIRECTORY_REASON, req->reason, call->mem, &reason, &call->why);
    if (st == ST_OK)
        st = transact(a, call, SCOPE_BREAKGLASS_REQUEST, &BREAK, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->reason_code),
            DB_BYTES(reason.data, reason.len), DB_TEXT(text_array(call->mem, (const char *const *)req->labels, req->n_labels)),
            DB_TEXT(documents), DB_INT(minutes) }, &rows);
    if (st == ST_CONFLICT)
        return fail_as(&call->why, ERR_AUTH_UNREVIEWED, "an earlier grant has not been reviewed");
    if (st != ST_OK)
        return st;
    if (db_count(rows) == 0)
        return fail_as(&call->why, ERR_REQ_FIELD, "labels: one that the tenant does not have");
    counter_add(a->glass_broken, 1);
    reply->grant_id = wire_id(call->mem, &id);
    reply->expires_at_us = db_micros(rows, 0, 0);
    return ST_OK;
}

/* EndBreakGlassRequest -> {}. One's own, before its time. */
enum status on_end_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql END = { "end_break_glass",
        "UPDATE auth.break_glass b SET ended_at = pg_catalog.now() WHERE b.tenant_id = authz.tenant() AND b.id = $1 "
        "AND b.user_id = authz.user_id() AND b.ended_at IS NULL", 1 };
    const Auth__EndBreakGlassRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->grant_id, "grant_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_NONE, &END, (struct db_param[]){ DB_UUID(&id) }) : st;
}

static void read_documents(struct arena *mem, const PGresult *rows, int row, int column, Auth__BreakGlass *grant) {
    size_t count = 0;
    char **texts = read_texts(mem, rows, row, column, &count);
    grant->document_ids = arena_alloc(mem, (count + 1) * sizeof *grant->document_ids);
    for (size_t i = 0; i < count; i++) {
        struct uuid id;
        if (uuid_parse(texts[i], strlen(texts[i]), &id))
            grant->document_ids[grant->n_document_ids++] = wire_id(mem, &id);
    }
}

/* ListBreakGlassRequest -> ListBreakGlassReply, newest first. */
enum status on_list_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct id_list LIST = { { "list_break_glass",
        "SELECT b.id, b.user_id, b.reason_code, b.reason_enc, b.labels, b.document_ids::pg_catalog.text[], b.created_at, b.expires_at, b.ended_at, "
        "b.reviewed_at, b.finding FROM auth.break_glass b WHERE b.tenant_id = authz.tenant() AND b.id < $1 ORDER BY b.id DESC LIMIT $2", 2 },
        SCOPE_BREAKGLASS_REVIEW, "break_glass", &LAST_ID };
    const Auth__ListBreakGlassRequest *req = (const void *)in;
    Auth__ListBreakGlassReply *reply = (void *)out;
    struct auth *a = self;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    int count = 0;
    enum status st = show_list(a, call, &LIST, req->cursor, req->limit, &rows, &count, &reply->next_cursor);
    reply->grants = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->grants);
    for (int i = 0; st == ST_OK && i < count; i++) {
        Auth__BreakGlass *grant = arena_alloc(call->mem, sizeof *grant);
        auth__break_glass__init(grant);
        size_t len = 0;
        const char *reason = "";
        const uint8_t *sealed = db_bytea(rows, i, 3, &len);
        st = directory_open(a->directory, DIRECTORY_REASON, sealed, len, call->mem, &reason, &call->why);
        grant->id = id_column(call->mem, rows, i, 0);
        grant->user_id = id_column(call->mem, rows, i, 1);
        grant->reason_code = arena_strdup(call->mem, db_text(rows, i, 2));
        grant->reason = arena_strdup(call->mem, reason);
        grant->labels = read_texts(call->mem, rows, i, 4, &grant->n_labels);
        read_documents(call->mem, rows, i, 5, grant);
        grant->created_at_us = db_micros(rows, i, 6);
        grant->expires_at_us = db_micros(rows, i, 7);
        grant->ended_at_us = db_micros(rows, i, 8);
        grant->reviewed_at_us = db_micros(rows, i, 9);
        grant->finding = arena_strdup(call->mem, db_text(rows, i, 10));
        reply->grants[reply->n_grants++] = grant;
    }
    return st;
}

/* ReviewBreakGlassRequest -> {}. Somebody else's, once; what still runs ends with it. */
enum status on_review_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql REVIEW = { "review_break_glass",
        "UPDATE auth.break_glass b SET reviewed_at = pg_catalog.now(), reviewed_by = authz.user_id(), finding = $2, "
        "ended_at = coalesce(b.ended_at, least(b.expires_at, pg_catalog.now())) "
        "WHERE b.tenant_id = authz.tenant() AND b.id = $1 AND b.user_id <> authz.user_id() AND b.reviewed_at IS NULL", 2 };
    const Auth__ReviewBreakGlassRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->grant_id, "grant_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_BREAKGLASS_REVIEW, &REVIEW, (struct db_param[]){ DB_UUID(&id), DB_TEXT(req->finding) }) : st;
}
