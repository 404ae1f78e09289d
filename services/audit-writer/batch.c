#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "arrays.h"
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

/* Place of the call's ticket among the distinct ones, which it joins when it is new. Told by their
 * digests: comparing those in a time that depends on them reveals nothing of a ticket. */
static int distinct_ticket(const struct batch_call *seen[], size_t *count, const struct batch_call *call) {
    const uint8_t *wanted = call->events[0]->ticket_digest;
    for (size_t at = 0; at < *count; at++) {
        const uint8_t *digest = seen[at]->events[0]->ticket_digest;
        if (memcmp(digest, wanted, MERKLE_HASH_BYTES) == 0)
            return (int)at;
    }
    seen[(*count)++] = call;
    return (int)*count - 1;
}

static void free_seen(const struct batch_call ***seen_p) {
    free(*seen_p);
}

/* Ask the database whose tickets these are, each once: callers hold one for a second, and verifying it
 * is what a small event costs most. One that is refused fails its calls only. */
static enum status check_tickets(struct plain_tx *tx, struct batch_call *calls[], size_t count, struct why *why) {
    static const struct sql CLAIMS = { "claims",
        "SELECT tenant_id, user_id, session_id, job_id, refused, grant_id FROM audit.claims($1::text[]) ORDER BY ordinal", 1 };
    CLEANUP(free_seen) const struct batch_call **seen = xalloc((count + 1) * sizeof *seen);
    size_t ticket_count = 0;
    for (size_t i = 0; i < count; i++)
        if (calls[i]->ticket)
            (void)distinct_ticket(seen, &ticket_count, calls[i]);
    if (ticket_count == 0)
        return ST_OK;
    CLEANUP(array_end) struct array list;
    array_init(&list, ARRAY_TEXT);
    for (size_t i = 0; i < ticket_count; i++)
        array_add_text(&list, seen[i]->ticket);

    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = plain_tx_run(tx, &CLAIMS, (struct db_param[]){ array_param(&list) }, &rows, why);
    if (st != ST_OK)
        return st;
    if ((size_t)db_count(rows) != ticket_count)
        return fail(why, ST_INTERNAL, "audit: claims of %d tickets of %zu", db_count(rows), ticket_count);
    for (size_t i = 0; i < count; i++) {
        struct batch_call *call = calls[i];
        if (!call->ticket)
            continue;
        int row = distinct_ticket(seen, &ticket_count, call);
        if (!db_is_null(rows, row, 4))
            call->status = fail(&call->why, ST_UNAUTHENTICATED, "%s", db_text(rows, row, 4));
        for (size_t k = 0; call->status == ST_OK && k < call->count; k++)
            call->stamps[k] = (struct audit_stamp){
                .tenant_id = db_uuid(rows, row, 0), .actor_id = db_uuid(rows, row, 1),
                .session_id = db_uuid(rows, row, 2), .job_id = db_uuid(rows, row, 3), .grant_id = db_uuid(rows, row, 5) };
    }
    return ST_OK;
}

static enum status find_repeats(struct plain_tx *tx, struct batch_call *calls[], size_t count, struct ledger *ledger,
                                struct why *why) {
    static const struct sql FIND = { "find_events",
        "SELECT event_id, tenant_id, seq, content_digest FROM audit.find_events($1::uuid[])", 1 };
    CLEANUP(array_end) struct array ids;
    array_init(&ids, ARRAY_UUID);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; calls[i]->status == ST_OK && k < calls[i]->count; k++)
            array_add_uuid(&ids, &calls[i]->events[k]->event_id);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = plain_tx_run(tx, &FIND, (struct db_param[]){ array_param(&ids) }, &rows, why);
    for (int i = 0; st == ST_OK && i < db_count(rows); i++) {
        size_t len;
        struct uuid event_id = db_uuid(rows, i, 0), tenant_id = db_uuid(rows, i, 1);
        const uint8_t *digest = db_bytea(rows, i, 3, &len);
        if (len != MERKLE_HASH_BYTES)
            return fail(why, ST_INTERNAL, "audit: a digest of %zu bytes", len);
        ledger_put(ledger, &event_id, &tenant_id, db_i64(rows, i, 2), digest);
    }
    return st;
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

/* uuid[] as text: unnest cannot give rows that are arrays themselves. */
static void add_ids_text(struct array *a, const struct uuid *ids, size_t count) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    char id[UUID_TEXT_BYTES];
    buffer_add_str(&text, "{");
    for (size_t i = 0; i < count; i++) {
        buffer_add_str(&text, i ? "," : "");
        buffer_add_str(&text, uuid_format(&ids[i], id));
    }
    buffer_add_str(&text, "}");
    array_add_text(a, text.data);
}

enum column {
    C_EVENT, C_TENANT, C_SEQ, C_OCCURRED, C_RECORDED, C_KIND, C_ACTION, C_OUTCOME, C_ACTOR, C_SESSION, C_JOB,
    C_REQUEST, C_RESOURCE, C_DOCUMENTS, C_TICKET, C_CONTENT, C_BYTES, C_LEAF, COLUMNS
};

static void add_row(struct array c[COLUMNS], const struct audit_event *e) {
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
    add_ids_text(&c[C_DOCUMENTS], e->document_ids, e->document_count);
    array_add(&c[C_TICKET], e->has_ticket ? e->ticket_digest : NULL, MERKLE_HASH_BYTES);
    array_add(&c[C_CONTENT], e->content_digest, MERKLE_HASH_BYTES);
    array_add(&c[C_BYTES], e->bytes.data, e->bytes.len);
    array_add(&c[C_LEAF], e->leaf.bytes, MERKLE_HASH_BYTES);
}

static enum status insert(struct plain_tx *tx, struct heads *heads, struct audit_event *const placed[], size_t count,
                          struct why *why) {
    static const struct sql INSERT = { "insert_audit_logs",
        "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome,"
        " actor_id, session_id, job_id, request_id, resource_id, document_ids, ticket_digest, content_digest, event, leaf_hash)"
        " SELECT e, t, s, o, r, k, a, u, ac, se, jo, re, rs, d::uuid[], ti, co, b, l"
        " FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],"
        " $8::text[], $9::uuid[], $10::uuid[], $11::uuid[], $12::uuid[], $13::uuid[], $14::text[], $15::bytea[],"
        " $16::bytea[], $17::bytea[], $18::bytea[])"
        " AS x (e, t, s, o, r, k, a, u, ac, se, jo, re, rs, d, ti, co, b, l)", COLUMNS };
    static const enum array_type TYPES[COLUMNS] = {
        [C_EVENT] = ARRAY_UUID, [C_TENANT] = ARRAY_UUID, [C_SEQ] = ARRAY_BIGINT, [C_OCCURRED] = ARRAY_TIMESTAMPTZ,
        [C_RECORDED] = ARRAY_TIMESTAMPTZ, [C_KIND] = ARRAY_TEXT, [C_ACTION] = ARRAY_TEXT, [C_OUTCOME] = ARRAY_TEXT,
        [C_ACTOR] = ARRAY_UUID, [C_SESSION] = ARRAY_UUID, [C_JOB] = ARRAY_UUID, [C_REQUEST] = ARRAY_UUID,
        [C_RESOURCE] = ARRAY_UUID, [C_DOCUMENTS] = ARRAY_TEXT, [C_TICKET] = ARRAY_BYTEA, [C_CONTENT] = ARRAY_BYTEA,
        [C_BYTES] = ARRAY_BYTEA, [C_LEAF] = ARRAY_BYTEA,
    };
    struct array columns[COLUMNS];
    struct db_param params[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        array_init(&columns[i], TYPES[i]);
    for (size_t i = 0; i < count; i++)
        add_row(columns, placed[i]);
    for (int i = 0; i < COLUMNS; i++)
        params[i] = array_param(&columns[i]);
    enum status st = plain_tx_run(tx, &INSERT, params, NULL, why);
    if (st == ST_OK)
        st = heads_advance(heads, tx, params[C_EVENT], why);
    for (int i = 0; i < COLUMNS; i++)
        array_end(&columns[i]);
    return st;
}

static void free_places(struct audit_event ***placed_p) {
    free(*placed_p);
}

enum status batch_append(struct plain_tx *tx, struct batch_call *calls[], size_t count, struct why *why) {
    size_t events = events_of(calls, count), placed_count = 0;
    CLEANUP(heads_end) struct heads heads = { 0 };
    CLEANUP(ledger_end) struct ledger ledger;
    CLEANUP(free_places) struct audit_event **placed = xalloc((events + 1) * sizeof(struct audit_event *));
    ledger_init(&ledger, events);

    enum status st = heads_lock(&heads, tx, calls, count, why);
    if (st != ST_OK || heads.count == 0)
        return st;
    /* under the locks: whoever held them before has committed */
    st = find_repeats(tx, calls, count, &ledger, why);
    for (size_t i = 0; st == ST_OK && i < count; i++)
        if (calls[i]->status == ST_OK)
            st = place(calls[i], &heads, &ledger, placed, &placed_count, why);
    return st == ST_OK && placed_count > 0 ? insert(tx, &heads, placed, placed_count, why) : st;
}

static enum status attempt(struct db_pool *pool, struct batch_call *calls[], size_t count, int64_t deadline_ms,
                           struct why *why) {
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    for (size_t i = 0; i < count; i++)
        calls[i]->status = ST_OK;
    enum status st = plain_tx_begin(&tx, pool, deadline_ms, why);
    if (st == ST_OK)
        st = check_tickets(&tx, calls, count, why);
    if (st == ST_OK)
        st = batch_append(&tx, calls, count, why);
    if (st == ST_OK)
        st = fault_status(FAULT_AUDIT_BEFORE_COMMIT, why);
    if (st == ST_OK)
        st = plain_tx_commit(&tx, why);
    return st == ST_OK ? fault_status(FAULT_AUDIT_COMMITTED, why) : st;
}

/* Another writer took the same event id at the same moment, a deadlock, a connection that was lost, even
 * a COMMIT whose answer was: all are resolved by asking again, for what is on the log is found there. */
static enum status attempt_repeatedly(struct db_pool *pool, struct batch_call *calls[], size_t count,
                                      int64_t deadline_ms, struct why *why) {
    enum status st = ST_INTERNAL;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        *why = (struct why){ 0 };
        st = attempt(pool, calls, count, deadline_ms, why);
        if ((st != ST_CONFLICT && st != ST_UNAVAILABLE) || clock_mono_ms() >= deadline_ms)
            break;
    }
    return st;
}

enum status batch_commit(struct db_pool *pool, struct batch_call *calls[], size_t count, int64_t deadline_ms,
                         struct why *why) {
    enum status st = attempt_repeatedly(pool, calls, count, deadline_ms, why);
    if (st == ST_OK)
        return ST_OK;
    bool is_content = st != ST_UNAVAILABLE && st != ST_TIMEOUT;
    for (size_t i = 0; i < count; i++) {
        struct batch_call *call = calls[i];
        if (is_content && count > 1)
            st = attempt_repeatedly(pool, &call, 1, deadline_ms, &call->why);
        if (st != ST_OK && call->status == ST_OK) {
            if (!is_content || count == 1)
                call->why = *why;
            call->status = st;
        }
    }
    return is_content && count > 1 ? ST_OK : st;
}
