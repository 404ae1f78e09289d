#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "claims.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/fault.h"
#include "heads.h"

enum { ATTEMPTS_MAX = 3 };

/* ---- what is on the log already, and what this batch has put there so far ---- */

struct known {
    struct uuid event_id, tenant_id;
    int64_t seq;
    uint8_t content_digest[MERKLE_HASH_BYTES];
    bool is_used;
};
struct ledger { struct known *slots; size_t mask; };        /* open addressing, at most half full */

static void ledger_end(struct ledger *l) {
    free(l->slots);
    *l = (struct ledger){ 0 };
}

static void ledger_init(struct ledger *l, size_t events) {
    size_t size = 16;
    while (size < events * 4)       /* each event may be found and placed */
        size *= 2;
    *l = (struct ledger){ xalloc(size * sizeof *l->slots), size - 1 };
}

/* Its slot, or the free one where it belongs. The last bytes of a UUIDv7 are random. */
static struct known *ledger_slot(struct ledger *l, const struct uuid *event_id) {
    uint64_t hash;
    memcpy(&hash, event_id->bytes + 8, sizeof hash);
    for (size_t i = hash & l->mask;; i = (i + 1) & l->mask)
        if (!l->slots[i].is_used || uuid_equal(&l->slots[i].event_id, event_id))
            return &l->slots[i];
}

static void ledger_put(struct ledger *l, const struct uuid *event_id, const struct uuid *tenant_id, int64_t seq,
                       const uint8_t *digest) {
    struct known *k = ledger_slot(l, event_id);
    *k = (struct known){ .event_id = *event_id, .tenant_id = *tenant_id, .seq = seq, .is_used = true };
    memcpy(k->content_digest, digest, sizeof k->content_digest);
}

/* ---- the steps ---- */

static size_t events_of(struct batch_call *calls[], size_t count) {
    size_t events = 0;
    for (size_t i = 0; i < count; i++)
        events += calls[i]->count;
    return events;
}

static void collect_ids(struct batch_call *calls[], size_t count, struct array *ids) {
    array_init(ids, ARRAY_UUID);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; calls[i]->status == ST_OK && k < calls[i]->count; k++)
            array_add_uuid(ids, &calls[i]->events[k]->event_id);
}

static enum status read_repeats(const PGresult *rows, struct ledger *ledger, struct why *why) {
    for (int i = 0; i < db_count(rows); i++) {
        size_t len;
        struct uuid event_id = db_uuid(rows, i, 0), tenant_id = db_uuid(rows, i, 1);
        const uint8_t *digest = db_bytea(rows, i, 3, &len);
        if (len != MERKLE_HASH_BYTES)
            return fail(why, ST_INTERNAL, "audit: a digest of %zu bytes", len);
        ledger_put(ledger, &event_id, &tenant_id, db_i64(rows, i, 2), digest);
    }
    return ST_OK;
}

/* Give each new event of the call its place; a repeat keeps the one it has. Events placed go to placed[]. */
static enum status place(struct batch_call *call, struct heads *heads, struct ledger *ledger,
                         struct audit_event *placed[], size_t *placed_count, struct why *why) {
    for (size_t k = 0; k < call->count; k++) {
        const struct audit_event *e = call->events[k];
        const struct known *known = ledger_slot(ledger, &e->event_id);
        if (known->is_used && (!uuid_equal(&known->tenant_id, &call->stamps[k].tenant_id) ||
                               memcmp(known->content_digest, e->content_digest, MERKLE_HASH_BYTES) != 0)) {
            char text[UUID_TEXT_BYTES];
            call->conflict_id = e->event_id;
            call->status = fail(&call->why, ST_CONFLICT, "audit: event %s is on the log with other content",
                                uuid_format(&e->event_id, text));
            return ST_OK;
        }
    }
    for (size_t k = 0; k < call->count; k++) {
        struct audit_event *e = call->events[k];
        struct audit_stamp *stamp = &call->stamps[k];
        const struct known *known = ledger_slot(ledger, &e->event_id);
        struct head *head = heads_find(heads, &stamp->tenant_id);
        stamp->seq = known->is_used ? known->seq : (int64_t)head->range.size;
        if (known->is_used)
            continue;
        stamp->recorded_at_us = heads->locked_at_us;
        struct audit_stamp full = *stamp;
        if (full.occurred_at_us == 0)
            full.occurred_at_us = full.recorded_at_us;
        enum status st = audit_event_stamp(e, &full, why);
        if (st != ST_OK)
            return st;
        heads_append(heads, head, &e->leaf);
        ledger_put(ledger, &e->event_id, &stamp->tenant_id, stamp->seq, e->content_digest);
        placed[(*placed_count)++] = e;
    }
    return ST_OK;
}

/* Parameters of audit.append(), in its order. */
enum column {
    C_EVENT, C_TENANT, C_SEQ, C_OCCURRED, C_RECORDED, C_KIND, C_ACTION, C_OUTCOME, C_ACTOR, C_SESSION, C_JOB,
    C_REQUEST, C_RESOURCE, C_FIRST, C_LAST, C_TICKET, C_CONTENT, C_BYTES, C_LEAF, C_DOCUMENT, C_DOCUMENT_ROW, COLUMNS
};
static const enum array_type TYPES[COLUMNS] = {
    [C_EVENT] = ARRAY_UUID, [C_TENANT] = ARRAY_UUID, [C_SEQ] = ARRAY_BIGINT, [C_OCCURRED] = ARRAY_TIMESTAMPTZ,
    [C_RECORDED] = ARRAY_TIMESTAMPTZ, [C_KIND] = ARRAY_TEXT, [C_ACTION] = ARRAY_TEXT, [C_OUTCOME] = ARRAY_TEXT,
    [C_ACTOR] = ARRAY_UUID, [C_SESSION] = ARRAY_UUID, [C_JOB] = ARRAY_UUID, [C_REQUEST] = ARRAY_UUID,
    [C_RESOURCE] = ARRAY_UUID, [C_FIRST] = ARRAY_BIGINT, [C_LAST] = ARRAY_BIGINT, [C_TICKET] = ARRAY_BYTEA,
    [C_CONTENT] = ARRAY_BYTEA, [C_BYTES] = ARRAY_BYTEA, [C_LEAF] = ARRAY_BYTEA, [C_DOCUMENT] = ARRAY_UUID,
    [C_DOCUMENT_ROW] = ARRAY_BIGINT,
};
struct columns { struct array of[COLUMNS]; };

static void columns_init(struct columns *c) {
    for (int i = 0; i < COLUMNS; i++)
        array_init(&c->of[i], TYPES[i]);
}

static void columns_end(struct columns *c) {
    for (int i = 0; i < COLUMNS; i++)
        array_end(&c->of[i]);
}

static void add_row(struct columns *columns, const struct audit_event *e) {
    struct array *c = columns->of;
    const struct audit_stamp *s = &e->stamp;
    array_add(&c[C_EVENT], e->event_id.bytes, UUID_BYTES);
    array_add(&c[C_TENANT], s->tenant_id.bytes, UUID_BYTES);        /* nil is a value here */
    array_add_i64(&c[C_SEQ], s->seq);
    array_add_micros(&c[C_OCCURRED], s->occurred_at_us);
    array_add_micros(&c[C_RECORDED], s->recorded_at_us);
    array_add_text(&c[C_KIND], audit_kind_text(audit_action_kind(e->action)));
    array_add_text(&c[C_ACTION], audit_action_name(e->action));
    array_add_text(&c[C_OUTCOME], audit_outcome_text(e->outcome));
    array_add_uuid(&c[C_ACTOR], &s->actor_id);
    array_add_uuid(&c[C_SESSION], &s->session_id);
    array_add_uuid(&c[C_JOB], &s->job_id);
    array_add_uuid(&c[C_REQUEST], &e->request_id);
    array_add_uuid(&c[C_RESOURCE], &e->resource_id);
    array_add_i64(&c[C_FIRST], c[C_DOCUMENT].count + 1);
    for (size_t i = 0; i < e->document_count; i++) {
        array_add(&c[C_DOCUMENT], e->document_ids[i].bytes, UUID_BYTES);
        array_add_i64(&c[C_DOCUMENT_ROW], c[C_EVENT].count);
    }
    array_add_i64(&c[C_LAST], c[C_DOCUMENT].count);
    array_add(&c[C_TICKET], e->has_ticket ? e->ticket_digest : NULL, MERKLE_HASH_BYTES);
    array_add(&c[C_CONTENT], e->content_digest, MERKLE_HASH_BYTES);
    array_add(&c[C_BYTES], e->bytes.data, e->bytes.len);
    array_add(&c[C_LEAF], e->leaf.bytes, MERKLE_HASH_BYTES);
}

static int by_id(const void *a, const void *b) {
    return memcmp((*(struct audit_event *const *)a)->event_id.bytes, (*(struct audit_event *const *)b)->event_id.bytes, UUID_BYTES);
}

/* Rows, heads, nodes: in one round trip, with COMMIT behind them when it is ours. */
static enum status put(struct plain_tx *tx, struct heads *heads, struct audit_event *placed[], size_t count, bool commits,
                       struct why *why) {
    static const struct sql APPEND = { "append",
        "SELECT audit.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)", COLUMNS };
    CLEANUP(columns_end) struct columns columns;
    CLEANUP(heads_moves_end) struct heads_moves moves;
    struct db_param params[COLUMNS];
    struct db_step steps[1 + HEADS_STEPS_MAX] = { { &APPEND, params } };
    columns_init(&columns);
    heads_moves_init(&moves);
    if (count == 0)
        return commits ? plain_tx_commit(tx, why) : ST_OK;
    qsort(placed, count, sizeof(struct audit_event *), by_id);      /* as the index of ids has them */
    for (size_t i = 0; i < count; i++)
        add_row(&columns, placed[i]);
    for (int i = 0; i < COLUMNS; i++)
        params[i] = array_param(&columns.of[i]);
    size_t n = 1 + heads_steps(heads, &moves, params[C_EVENT], steps + 1);
    return commits ? plain_tx_commit_with(tx, steps, n, why) : plain_tx_run_steps(tx, steps, n, NULL, why);
}

static void free_places(struct audit_event ***placed_p) {
    free(*placed_p);
}

/* Lock heads and find repeats, in tx or, when it is not open yet, in the round trip that opens it; then place, hash, put. */
static enum status append(struct plain_tx *tx, struct db_pool *pool, struct batch_call *calls[], size_t count, int64_t deadline_ms,
                          batch_hook *before_commit, struct why *why) {
    static const struct sql FIND = { "find_events",
        "SELECT event_id, tenant_id, seq, content_digest FROM audit.find_events($1::uuid[])", 1 };
    size_t placed_count = 0, refused = 0;
    CLEANUP(heads_end) struct heads heads = { 0 };
    CLEANUP(ledger_end) struct ledger ledger = { 0 };
    CLEANUP(array_end) struct array ids = { 0 };
    CLEANUP(free_places) struct audit_event **placed = xalloc((events_of(calls, count) + 1) * sizeof(struct audit_event *));
    CLEANUP(pgrows_destroy) PGresult *locked = NULL;
    CLEANUP(pgrows_destroy) PGresult *repeats = NULL;

    heads_collect(&heads, calls, count);
    if (heads.count == 0)
        return ST_OK;       /* every call was refused */
    collect_ids(calls, count, &ids);
    ledger_init(&ledger, ids.count);
    const struct db_param tenants = array_param(&heads.tenants), wanted = array_param(&ids);
    /* the second sees what whoever held the locks before has committed */
    const struct db_step steps[] = { { &HEADS_LOCK, &tenants }, { &FIND, &wanted } };
    PGresult *rows[2] = { NULL };
    enum status st = tx->conn ? plain_tx_run_steps(tx, steps, 2, rows, why) : plain_tx_begin_with(tx, pool, steps, 2, rows, deadline_ms, why);
    locked = rows[0];
    repeats = rows[1];
    if (st == ST_OK)
        st = heads_read(&heads, locked, why);
    if (st == ST_OK)
        st = read_repeats(repeats, &ledger, why);
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        if (calls[i]->status == ST_OK)
            st = place(calls[i], &heads, &ledger, placed, &placed_count, why);
        refused += calls[i]->status != ST_OK;
    }
    if (st == ST_OK && before_commit && refused < count)
        st = before_commit(why);
    return st == ST_OK && refused < count ? put(tx, &heads, placed, placed_count, before_commit != NULL, why) : st;
}

enum status batch_append(struct plain_tx *tx, struct batch_call *calls[], size_t count, struct why *why) {
    return append(tx, NULL, calls, count, 0, NULL, why);
}

enum status batch_append_commit(struct plain_tx *tx, struct batch_call *calls[], size_t count, batch_hook *before_commit, struct why *why) {
    return append(tx, NULL, calls, count, 0, before_commit, why);
}

static enum status before_commit(struct why *why) {
    return fault_status(FAULT_AUDIT_BEFORE_COMMIT, why);
}

static enum status attempt(struct db_pool *pool, struct claims_memory *memory, struct batch_call *calls[], size_t count,
                           int64_t deadline_ms, struct why *why) {
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    for (size_t i = 0; i < count; i++)
        calls[i]->status = ST_OK;
    enum status st = claims_fill(memory, pool, calls, count, deadline_ms, why);
    if (st == ST_OK)
        st = append(&tx, pool, calls, count, deadline_ms, before_commit, why);
    return st == ST_OK ? fault_status(FAULT_AUDIT_COMMITTED, why) : st;
}

/* Another writer took the same event id at the same moment, a deadlock, a connection that was lost, even
 * a COMMIT whose answer was: all are resolved by asking again, for what is on the log is found there. */
static enum status attempt_repeatedly(struct db_pool *pool, struct claims_memory *memory, struct batch_call *calls[], size_t count,
                                      int64_t deadline_ms, struct why *why) {
    enum status st = ST_INTERNAL;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        *why = (struct why){ 0 };
        st = attempt(pool, memory, calls, count, deadline_ms, why);
        if ((st != ST_CONFLICT && st != ST_UNAVAILABLE) || clock_mono_ms() >= deadline_ms)
            break;
    }
    return st;
}

enum status batch_commit(struct db_pool *pool, struct claims_memory *memory, struct batch_call *calls[], size_t count,
                         int64_t deadline_ms, struct why *why) {
    enum status st = attempt_repeatedly(pool, memory, calls, count, deadline_ms, why);
    if (st == ST_OK)
        return ST_OK;
    bool is_content = st != ST_UNAVAILABLE && st != ST_TIMEOUT;
    for (size_t i = 0; i < count; i++) {
        struct batch_call *call = calls[i];
        if (is_content && count > 1)
            st = attempt_repeatedly(pool, memory, &call, 1, deadline_ms, &call->why);
        if (st != ST_OK && call->status == ST_OK) {
            if (!is_content || count == 1)
                call->why = *why;
            call->status = st;
        }
    }
    return is_content && count > 1 ? ST_OK : st;
}
