/* conversations — one's own: listed without their texts, read on the record, deleted with all that they hold. */
#include <string.h>

#include "columns.h"
#include "core/wire.h"
#include "db/cursor.h"
#include "db/tenant_tx.h"
#include "query.h"
#include "query.pb-c.h"
#include "stored.h"

enum { COL_ID, COL_CREATED, COL_UPDATED, COL_ANSWERS };

enum status on_list_conversations(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql LIST = { "list_conversations",
        "SELECT c.id, c.created_at, a.latest, a.answers FROM app.conversations c, LATERAL (SELECT max(b.created_at) AS latest, count(*) AS answers "
        "FROM app.answers b WHERE b.tenant_id = c.tenant_id AND b.conversation_id = c.id) a "
        "WHERE c.tenant_id = $1 AND ($2::uuid IS NULL OR c.id < $2) ORDER BY c.id DESC LIMIT $3", 3 };
    const Query__ListConversationsRequest *req = (const void *)in;
    Query__ListConversationsReply *reply = (void *)out;
    struct query *q = self;
    struct list_page page;
    enum status st = list_page_read(call->mem, req->cursor, req->limit, &page, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &LIST, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), PAGE_AFTER(&page), PAGE_ROWS(&page) }, &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st != ST_OK)
        return st;
    size_t n = list_page_end(&page, call->mem, rows, COL_ID, &reply->next_cursor);
    reply->conversations = arena_alloc(call->mem, (n + 1) * sizeof *reply->conversations);
    for (int row = 0; row < (int)n; row++) {
        Query__Conversation *c = reply->conversations[reply->n_conversations++] = arena_alloc(call->mem, sizeof *c);
        query__conversation__init(c);
        c->conversation_id = column_id(call->mem, rows, row, COL_ID);
        c->created_at_us = db_micros(rows, row, COL_CREATED);
        c->updated_at_us = db_micros(rows, row, COL_UPDATED);
        c->answers = column_count(rows, row, COL_ANSWERS);
    }
    return ST_OK;
}

enum status on_get_conversation(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__GetConversationRequest *req = (const void *)in;
    Query__GetConversationReply *reply = (void *)out;
    struct uuid id, before;
    bool is_first = true;
    if (req->limit > RECALL_MAX || !uuid_from_bytes(req->conversation_id.data, req->conversation_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "limit or conversation_id");
    enum status st = cursor_to_uuid(call->mem, req->cursor, &is_first, &before, &call->why);
    if (st != ST_OK)
        return st;
    CLEANUP(recalled_end) struct recalled r = { 0 };
    struct recall which = { .conversation_id = &id, .before = is_first ? NULL : &before, .limit = req->limit ? req->limit : RECALL_MAX,
                            .purpose = "read" };
    st = recall(self, call, &which, &r);
    if (st == ST_OK && r.count == 0 && is_first)
        return fail(&call->why, ST_NOT_FOUND, "conversation");
    if (st != ST_OK)
        return st;
    reply->answers = arena_alloc(call->mem, (r.count + 1) * sizeof *reply->answers);
    reply->n_answers = r.count;
    memcpy(reply->answers, r.answers, r.count * sizeof *reply->answers);
    if (r.has_more && uuid_from_bytes(r.answers[r.count - 1]->answer_id.data, UUID_BYTES, &before))
        reply->next_cursor = (char *)cursor_from_uuid(call->mem, &before);
    return ST_OK;
}

enum status on_delete_conversation(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql DELETE = { "delete_conversation", "DELETE FROM app.conversations WHERE tenant_id = $1 AND id = $2", 2 };
    const Query__DeleteConversationRequest *req = (const void *)in;
    struct query *q = self;
    struct uuid id;
    (void)out;
    if (!uuid_from_bytes(req->conversation_id.data, req->conversation_id.len, &id))
        return fail_as(&call->why, ERR_REQ_FIELD, "conversation_id");
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, q->db, call->ticket, &call->request_id, SCOPE_QUERY, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &DELETE, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), DB_UUID(&id) }, &rows, &call->why);
    if (st == ST_OK && db_affected(rows) == 0)
        return fail(&call->why, ST_NOT_FOUND, "conversation");
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}
