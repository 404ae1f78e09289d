#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "claims.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/fault.h"
#include "heads.h"
#include "heads_memory.h"

enum { ATTEMPTS_MAX = 3, EVENT_ROOM_BYTES = 1024, COLUMN_ROOM_BYTES = 48 };

struct batch_memory { struct claims_memory *claims; struct heads_memory *heads; };

struct batch_memory *batch_memory_new(void) {
    struct batch_memory *m = xalloc(sizeof *m);
    m->claims = claims_memory_new();
    m->heads = heads_memory_new();
    return m;
}

void batch_memory_destroy(struct batch_memory **memory_p) {
    struct batch_memory *m = *memory_p;
    if (!m)
        return;
    claims_memory_destroy(&m->claims);
    heads_memory_destroy(&m->heads);
    free(m);
    *memory_p = NULL;
}

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
        stamp->recorded_at_us = heads->recorded_at_us;
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

/* What one attempt is made of: where it starts, what it found, what it puts where. */
struct work {
    struct heads heads;
    struct ledger ledger;
    struct audit_event **placed;        /* those that are new, in the order of heads and places once put_step has run */
    size_t placed_count, refused;
};

static void work_init(struct work *w, struct batch_call *calls[], size_t count) {
    size_t events = events_of(calls, count);
    *w = (struct work){ .placed = xalloc((events + 1) * sizeof *w->placed) };
    heads_collect(&w->heads, calls, count);
    ledger_init(&w->ledger, events);
}

static void work_end(struct work *w) {
    heads_end(&w->heads);
    ledger_end(&w->ledger);
    free(w->placed);
}

static enum status place_all(struct work *w, struct batch_call *calls[], size_t count, struct why *why) {
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < count; i++) {
        if (calls[i]->status == ST_OK)
            st = place(calls[i], &w->heads, &w->ledger, w->placed, &w->placed_count, why);
        w->refused += calls[i]->status != ST_OK;
    }
    return st;
}

/* ---- audit.put() ---- */

/* Its parameters about rows, in its order, behind those of heads and the time, before the two about turns. */
enum column {
    C_EVENT, C_OCCURRED, C_KIND, C_ACTION, C_OUTCOME, C_ACTOR, C_SESSION, C_JOB, C_REQUEST, C_RESOURCE, C_FIRST, C_LAST, C_TICKET,
    C_CONTENT, C_BYTES, C_LEAF, C_DOCUMENT, C_DOCUMENT_ROW, COLUMNS
};
static const enum array_type TYPES[COLUMNS] = {
    [C_EVENT] = ARRAY_UUID, [C_OCCURRED] = ARRAY_TIMESTAMPTZ, [C_KIND] = ARRAY_TEXT, [C_ACTION] = ARRAY_TEXT, [C_OUTCOME] = ARRAY_TEXT,
    [C_ACTOR] = ARRAY_UUID, [C_SESSION] = ARRAY_UUID, [C_JOB] = ARRAY_UUID, [C_REQUEST] = ARRAY_UUID, [C_RESOURCE] = ARRAY_UUID,
    [C_FIRST] = ARRAY_BIGINT, [C_LAST] = ARRAY_BIGINT, [C_TICKET] = ARRAY_BYTEA, [C_CONTENT] = ARRAY_BYTEA, [C_BYTES] = ARRAY_BYTEA,
    [C_LEAF] = ARRAY_BYTEA, [C_DOCUMENT] = ARRAY_UUID, [C_DOCUMENT_ROW] = ARRAY_BIGINT,
};

enum { PUT_PARAMS = HEAD_COLUMNS + 1 + COLUMNS + 2 };
static const struct sql PUT = { "put_batch",
    "SELECT audit.put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, "
    "$27, $28, $29, $30, $31)", PUT_PARAMS };

struct put {
    struct array of[COLUMNS];
    struct db_param params[PUT_PARAMS];
    char recorded[CLOCK_TEXT_BYTES], own[DB_INT_TEXT_BYTES], after[DB_INT_TEXT_BYTES];
};

static void put_end(struct put *p) {
    for (int i = 0; i < COLUMNS; i++)
        array_end(&p->of[i]);
}

static bool is_named_before(const struct audit_event *e, size_t document) {
    for (size_t i = 0; i < document; i++)
        if (uuid_equal(&e->document_ids[i], &e->document_ids[document]))
            return true;
    return false;
}

static void add_row(struct array c[COLUMNS], const struct audit_event *e) {
    const struct audit_stamp *s = &e->stamp;
    array_add(&c[C_EVENT], e->event_id.bytes, UUID_BYTES);
    array_add_micros(&c[C_OCCURRED], s->occurred_at_us);
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
        if (is_named_before(e, i))
            array_add(&c[C_DOCUMENT_ROW], NULL, 0);
        else
            array_add_i64(&c[C_DOCUMENT_ROW], c[C_EVENT].count);
    }
    array_add_i64(&c[C_LAST], c[C_DOCUMENT].count);
    array_add(&c[C_TICKET], e->has_ticket ? e->ticket_digest : NULL, MERKLE_HASH_BYTES);
    array_add(&c[C_CONTENT], e->content_digest, MERKLE_HASH_BYTES);
    array_add(&c[C_BYTES], e->bytes.data, e->bytes.len);
    array_add(&c[C_LEAF], e->leaf.bytes, MERKLE_HASH_BYTES);
}

static int by_place(const void *a, const void *b) {
    const struct audit_stamp *x = &(*(struct audit_event *const *)a)->stamp, *y = &(*(struct audit_event *const *)b)->stamp;
    int order = memcmp(x->tenant_id.bytes, y->tenant_id.bytes, UUID_BYTES);
    return order ? order : (x->seq > y->seq) - (x->seq < y->seq);
}

/* The statement that puts what is placed. turn: or NULL. */
static struct db_step put_step(struct put *p, struct work *w, const struct heads_turn *turn) {
    for (int i = 0; i < COLUMNS; i++) {
        array_init(&p->of[i], TYPES[i]);
        array_reserve(&p->of[i], w->placed_count * (i == C_BYTES ? EVENT_ROOM_BYTES : COLUMN_ROOM_BYTES));
    }
    qsort(w->placed, w->placed_count, sizeof *w->placed, by_place);
    for (size_t i = 0; i < w->placed_count; i++)
        add_row(p->of, w->placed[i]);
    heads_params(&w->heads, p->params);
    p->params[HEAD_COLUMNS] = DB_TEXT(clock_format(w->heads.recorded_at_us, p->recorded));
    for (int i = 0; i < COLUMNS; i++)
        p->params[HEAD_COLUMNS + 1 + i] = array_param(&p->of[i]);
    p->params[PUT_PARAMS - 2] = turn ? db_int_param(p->own, turn->own) : DB_NULL;
    p->params[PUT_PARAMS - 1] = turn ? db_int_param(p->after, turn->after) : DB_NULL;
    return (struct db_step){ &PUT, p->params };
}

static enum status put(struct plain_tx *tx, struct work *w, bool commits, struct why *why) {
    CLEANUP(put_end) struct put p = { 0 };
    if (w->placed_count == 0)
        return commits ? plain_tx_commit(tx, why) : ST_OK;
    struct db_step step = put_step(&p, w, NULL);
    return commits ? plain_tx_commit_with(tx, &step, 1, why) : plain_tx_run_steps(tx, &step, 1, NULL, why);
}

/* ---- how ---- */

/* Lock heads and find repeats, in tx or, when it is not open yet, in the round trip that opens it; then place, hash, put. */
static enum status append(struct plain_tx *tx, struct db_pool *pool, struct heads_memory *memory, struct batch_call *calls[], size_t count,
                          int64_t deadline_ms, batch_hook *before_commit, struct why *why) {
    static const struct sql FIND = { "find_events",
        "SELECT event_id, tenant_id, seq, content_digest FROM audit.find_events($1::uuid[])", 1 };
    CLEANUP(work_end) struct work w;
    CLEANUP(heads_land) struct heads_memory *alone = memory;
    CLEANUP(array_end) struct array ids = { 0 };
    CLEANUP(pgrows_destroy) PGresult *locked = NULL;
    CLEANUP(pgrows_destroy) PGresult *repeats = NULL;

    if (alone)
        heads_take_off_alone(alone);
    work_init(&w, calls, count);
    if (w.heads.count == 0)
        return ST_OK;       /* every call was refused */
    collect_ids(calls, count, &ids);
    const struct db_param tenants = array_param(&w.heads.tenants), wanted = array_param(&ids);
    /* the second sees what whoever held the locks before has committed */
    const struct db_step steps[] = { { &HEADS_LOCK, &tenants }, { &FIND, &wanted } };
    PGresult *rows[2] = { NULL };
    enum status st = tx->conn ? plain_tx_run_steps(tx, steps, 2, rows, why) : plain_tx_begin_with(tx, pool, steps, 2, rows, deadline_ms, why);
    int64_t answered_us = clock_mono_us();
    locked = rows[0];
    repeats = rows[1];
    if (st == ST_OK)
        st = heads_read(&w.heads, locked, why);
    if (st == ST_OK && memory)
        heads_read_clock(memory, w.heads.recorded_at_us, answered_us);
    if (st == ST_OK)
        st = read_repeats(repeats, &w.ledger, why);
    if (st == ST_OK)
        st = place_all(&w, calls, count, why);
    if (st != ST_OK || w.refused == count)
        return st;
    if (before_commit)
        st = before_commit(why);
    if (st == ST_OK)
        st = put(tx, &w, before_commit != NULL, why);
    if (st == ST_OK && memory)
        heads_keep(memory, &w.heads);
    return st;
}

/* Place and hash on heads as they were left; those who come after build on that. *ret_is_known false: they are not known. */
static enum status place_on_memory(struct work *w, struct heads_memory *memory, struct batch_call *calls[], size_t count, bool *ret_is_known,
                                   struct heads_turn *ret_turn, struct why *why) {
    *ret_is_known = heads_recall(memory, &w->heads);
    if (!*ret_is_known)
        return ST_OK;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; calls[i]->status == ST_OK && k < calls[i]->count; k++)
            if (w->heads.recorded_at_us < calls[i]->stamps[k].occurred_at_us)    /* that, too, was the database's clock */
                w->heads.recorded_at_us = calls[i]->stamps[k].occurred_at_us;
    enum status st = place_all(w, calls, count, why);
    if (st == ST_OK && w->refused < count)
        heads_advance(memory, &w->heads, ret_turn);
    else
        heads_stay(memory);
    return st;
}

/* Put, in tx when it is open and else in one round trip, what was so placed. *ret_is_known false: nothing was tried. */
static enum status append_at_once(struct plain_tx *tx, struct db_pool *pool, struct heads_memory *memory, struct batch_call *calls[],
                                  size_t count, int64_t deadline_ms, batch_hook *before_commit, bool *ret_is_known, struct why *why) {
    CLEANUP(work_end) struct work w;
    CLEANUP(heads_land) struct heads_memory *beside = memory;
    CLEANUP(put_end) struct put p = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct heads_turn turn;
    heads_take_off(beside);
    work_init(&w, calls, count);
    enum status st = place_on_memory(&w, memory, calls, count, ret_is_known, &turn, why);
    if (st != ST_OK || !*ret_is_known || w.refused == count)
        return st;
    struct db_step step = put_step(&p, &w, &turn);
    st = before_commit(why);
    if (st == ST_OK)
        st = tx->conn ? plain_tx_commit_with(tx, &step, 1, why) : db_run(pool, step.sql, step.params, deadline_ms, &rows, why);
    if (st == ST_TIMEOUT)
        st = fail(why, ST_UNAVAILABLE, "put_batch: no answer in time, outcome unknown");
    if (st != ST_OK)
        heads_forget(memory, &w.heads);
    else if (rows)
        heads_read_clock(memory, db_micros(rows, 0, 0), clock_mono_us());
    return st;
}

enum status batch_append(struct plain_tx *tx, struct batch_call *calls[], size_t count, struct why *why) {
    return append(tx, NULL, NULL, calls, count, 0, NULL, why);
}

enum status batch_append_commit(struct plain_tx *tx, struct batch_memory *memory, struct batch_call *calls[], size_t count,
                                batch_hook *before_commit, bool *ret_guessed, struct why *why) {
    enum status st = ST_OK;
    *ret_guessed = false;
    if (memory)
        st = append_at_once(tx, NULL, memory->heads, calls, count, 0, before_commit, ret_guessed, why);
    return *ret_guessed ? st : append(tx, NULL, memory ? memory->heads : NULL, calls, count, 0, before_commit, why);
}

static enum status before_commit(struct why *why) {
    return fault_status(FAULT_AUDIT_BEFORE_COMMIT, why);
}

static enum status attempt(struct db_pool *pool, struct batch_memory *memory, bool is_first, struct batch_call *calls[], size_t count,
                           int64_t deadline_ms, struct why *why) {
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    bool is_done = false;
    for (size_t i = 0; i < count; i++)
        calls[i]->status = ST_OK;
    enum status st = claims_fill(memory ? memory->claims : NULL, pool, calls, count, deadline_ms, why);
    if (st == ST_OK && memory && is_first)
        st = append_at_once(&tx, pool, memory->heads, calls, count, deadline_ms, before_commit, &is_done, why);
    if (st == ST_OK && !is_done)
        st = append(&tx, pool, memory ? memory->heads : NULL, calls, count, deadline_ms, before_commit, why);
    return st == ST_OK ? fault_status(FAULT_AUDIT_COMMITTED, why) : st;
}

/* Heads that were not where they were left, an event id that is taken, a deadlock, a connection that was lost, even a COMMIT
 * whose answer was: all are resolved by asking again under locks, for what is on the log is found there. */
static enum status attempt_repeatedly(struct db_pool *pool, struct batch_memory *memory, struct batch_call *calls[], size_t count,
                                      int64_t deadline_ms, struct why *why) {
    enum status st = ST_INTERNAL;
    bool is_in_doubt = false;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        *why = (struct why){ 0 };
        st = attempt(pool, memory, i == 0, calls, count, deadline_ms, why);
        if (st == ST_TIMEOUT && is_in_doubt)        /* ST_TIMEOUT promises that nothing is on the log */
            return fail(why, ST_UNAVAILABLE, "audit: no answer in time, and what an earlier attempt did is not known");
        is_in_doubt |= st == ST_UNAVAILABLE;
        if ((st != ST_CONFLICT && st != ST_UNAVAILABLE) || clock_mono_ms() >= deadline_ms)
            break;
    }
    return st;
}

enum status batch_commit(struct db_pool *pool, struct batch_memory *memory, struct batch_call *calls[], size_t count,
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
