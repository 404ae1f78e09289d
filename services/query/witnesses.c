/* witnesses — a customer's own record of the log: cosignatures of checkpoints by keys that we do not hold are taken in,
 * checked, and given out with the checkpoint. Who rewrote the log would have to get those again. */
#include <stdlib.h>
#include <string.h>

#include "ledger/ledger.h"
#include "query.h"
#include "query.pb-c.h"

enum { WITNESSES_MAX = 64, LINES_MAX = 16 };

enum status witnesses_read(const char *setting, struct witness **ret_witnesses, size_t *ret_count, struct why *why) {
    struct witness *list = xalloc(WITNESSES_MAX * sizeof *list);
    size_t count = 0;
    enum status st = ST_OK;
    for (const char *at = setting; st == ST_OK && *at;) {
        size_t len = strcspn(at, ",");
        st = count < WITNESSES_MAX ? witness_read(at, len, &list[count], why) : fail(why, ST_INVALID, "more than %d witness keys", WITNESSES_MAX);
        count++;
        at += len + (at[len] == ',');
    }
    if (st != ST_OK) {
        free(list);
        return st;
    }
    *ret_witnesses = list;
    *ret_count = count;
    return ST_OK;
}

/* Whose cosignature of the note the line is; NULL: nobody's that we know. */
static const struct witness *witness_of(const struct query *q, const char *note, const char *line) {
    uint64_t time_s;
    for (size_t i = 0; i < q->witness_count; i++)
        if (witness_has_signed(&q->witnesses[i], note, line, &time_s))
            return &q->witnesses[i];
    return NULL;
}

static enum status add(const struct query *q, struct call *call, struct tenant_tx *tx, const Query__AddCosignaturesRequest *req,
                       const char *note, uint32_t *ret_accepted) {
    static const struct sql COSIGN = { "cosign", "SELECT audit.cosign($1, $2, $3, $4)", 4 };
    unsigned lines = 0;
    for (const char *at = req->lines; *at; lines++) {
        size_t len = strcspn(at, "\n");
        const char *line = arena_printf(call->mem, "%.*s\n", (int)len, at);
        const struct witness *w = lines < LINES_MAX ? witness_of(q, note, line) : NULL;
        at += len + (at[len] == '\n');
        if (!w)
            continue;
        enum status st = tenant_tx_run(tx, &COSIGN, (struct db_param[]){ DB_INT(req->size), DB_BOOL(req->platform), DB_TEXT(w->name), DB_TEXT(line) },
                                       NULL, &call->why);
        if (st != ST_OK)
            return st;
        (*ret_accepted)++;
    }
    return *ret_accepted > 0 ? ST_OK : fail_as(&call->why, ERR_REQ_FIELD, "no line is a cosignature of this checkpoint by a witness that is configured");
}

enum status on_add_cosignatures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__AddCosignaturesRequest *req = (const void *)in;
    Query__AddCosignaturesReply *reply = (void *)out;
    struct query *q = self;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    struct audit_head head;
    if (req->size < 1)
        return fail_as(&call->why, ERR_REQ_FIELD, "size");
    enum status st = tenant_tx_begin(&tx, q->audit_db, call->ticket, &call->request_id, SCOPE_AUDIT_WITNESS, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = audit_head_find(&tx, call->mem, req->size, req->platform, &head, &call->why);
    if (st == ST_OK)
        st = add(q, call, &tx, req, head.note, &reply->accepted);
    return st == ST_OK ? tenant_tx_commit(&tx, &call->why) : st;
}
