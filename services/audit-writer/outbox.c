#include "outbox.h"

#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/worker.h"
#include "db/listen.h"
#include "obs/log.h"

enum {
    DRAIN_EVENTS = 256,
    DRAIN_MAX_MS = 5000,
    LOOK_EVERY_MS = 1000,
    RETRY_EVERY_MS = 3000,      /* while it fails */
    PARTITIONS_EVERY_MS = 3600 * 1000,
    TELL_MAX = 16,
};

struct outbox {
    struct db_pool *pool;
    struct db_listener *listener;
    struct signer *signer;
    struct batch_memory *memory;
    struct worker worker;
    int64_t partitions_at_ms;
    struct counter *moved, *failures;
    struct gauge *refused;
    int64_t refused_count;
};

/* ---- one batch ---- */

enum {
    D_EVENT, D_TENANT, D_OCCURRED, D_ACTION, D_ACTOR, D_SESSION, D_JOB, D_REQUEST, D_RESOURCE, D_DOCUMENTS, D_DETAIL
};

static size_t read_documents(const PGresult *rows, int row, struct uuid out[AUDIT_DOCUMENTS_MAX]) {
    const char *text;
    size_t len, count = 0;
    while (count < AUDIT_DOCUMENTS_MAX && db_text_item(rows, row, D_DOCUMENTS, (int)count, &text, &len) &&
           uuid_parse(text, len, &out[count]))
        count++;
    return count;
}

/* A detail that a trigger wrote against the rules must not block the rest: the event says so instead. */
static enum status read_record(const PGresult *rows, int row, struct audit_event **ret_event,
                               struct audit_stamp *ret_stamp, struct why *why) {
    struct uuid documents[AUDIT_DOCUMENTS_MAX];
    struct audit_record record = {
        .event_id = db_uuid(rows, row, D_EVENT), .action = audit_action_find(db_text(rows, row, D_ACTION)),
        .outcome = AUDIT_SUCCESS, .document_ids = documents, .document_count = read_documents(rows, row, documents),
        .resource_id = db_uuid(rows, row, D_RESOURCE), .detail_json = db_text(rows, row, D_DETAIL) };
    struct audit_origin origin = { .reported_by = "database", .request_id = db_uuid(rows, row, D_REQUEST) };
    *ret_stamp = (struct audit_stamp){ .tenant_id = db_uuid(rows, row, D_TENANT), .actor_id = db_uuid(rows, row, D_ACTOR),
        .session_id = db_uuid(rows, row, D_SESSION), .job_id = db_uuid(rows, row, D_JOB),
        .occurred_at_us = db_micros(rows, row, D_OCCURRED) };
    if (audit_event_new(&record, &origin, ret_event, why) == ST_OK)
        return ST_OK;
    log_event(LOG_ERROR, "audit_outbox_detail", LOG_TEXT("action", db_text(rows, row, D_ACTION)),
              LOG_TEXT("why", why->text));
    record.detail_json = "{\"detail_refused\":true}";
    return audit_event_new(&record, &origin, ret_event, why);
}

struct drained { struct audit_event **events; struct audit_stamp *stamps; size_t count; };

static void drained_end(struct drained *d) {
    for (size_t i = 0; i < d->count; i++)
        audit_event_destroy(&d->events[i]);
    free(d->events);
    free(d->stamps);
    *d = (struct drained){ 0 };
}

static enum status take(struct plain_tx *tx, struct db_pool *pool, int n, bool leaves_out, struct drained *d, struct why *why) {
    static const struct sql DRAIN = { "drain",
        "SELECT event_id, tenant_id, occurred_at, action, actor_id, session_id, job_id, request_id, resource_id, document_ids, detail"
        " FROM audit.drain($1, $2)", 2 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_INT(n), DB_BOOL(leaves_out) };
    enum status st = plain_tx_begin_with(tx, pool, &(struct db_step){ &DRAIN, params }, 1, &rows, clock_mono_ms() + DRAIN_MAX_MS, why);
    if (st != ST_OK)
        return st;
    size_t count = (size_t)db_count(rows);
    d->events = xalloc((count + 1) * sizeof *d->events);
    d->stamps = xalloc((count + 1) * sizeof *d->stamps);
    for (; st == ST_OK && d->count < count; d->count++)
        st = read_record(rows, (int)d->count, &d->events[d->count], &d->stamps[d->count], why);
    return st;
}

static enum status before_commit(struct why *why) {
    return fault_status(FAULT_OUTBOX_BEFORE_COMMIT, why);
}

static enum status drain(struct db_pool *pool, struct batch_memory *memory, int n, bool leaves_out, size_t *ret_moved, bool *ret_guessed,
                         struct why *why) {
    CLEANUP(drained_end) struct drained d = { 0 };
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    enum status st = fault_status(FAULT_OUTBOX_BEFORE_DRAIN, why);
    if (st == ST_OK)
        st = take(&tx, pool, n, leaves_out, &d, why);
    if (st != ST_OK)
        return st;
    if (d.count > 0) {
        fault_point(FAULT_OUTBOX_TAKEN);
        struct batch_call call = { .events = d.events, .count = d.count, .stamps = d.stamps };
        st = batch_append_commit(&tx, memory, (struct batch_call *[]){ &call }, 1, before_commit, ret_guessed, why);
        if (st == ST_OK && call.status != ST_OK) {
            *why = call.why;
            st = call.status;
        }
        if (st == ST_OK)
            st = fault_status(FAULT_OUTBOX_COMMITTED, why);
    }
    if (st == ST_OK)
        *ret_moved = d.count;
    return st;
}

enum status outbox_make_partitions(struct db_pool *pool, struct why *why) {
    static const struct sql MAKE = { "make_partitions", "SELECT audit.make_partitions()", 0 };
    return db_run(pool, &MAKE, NULL, clock_mono_ms() + DRAIN_MAX_MS, NULL, why);
}

enum status outbox_drain(struct db_pool *pool, struct batch_memory *memory, int n, size_t *ret_moved, struct why *why) {
    bool guessed = false;
    enum status st = drain(pool, memory, n, false, ret_moved, &guessed, why);
    return st != ST_OK && guessed ? drain(pool, NULL, n, false, ret_moved, &guessed, why) : st;
}

enum status outbox_drain_others(struct db_pool *pool, int n, size_t *ret_moved, struct why *why) {
    bool guessed = false;
    return drain(pool, NULL, n, true, ret_moved, &guessed, why);
}

enum status outbox_tell_refused(struct db_pool *pool, int64_t *count, struct why *why) {
    static const struct sql REFUSED = { "refused_records", "SELECT tenant_id, pg_catalog.to_char(month, 'YYYY-MM'), records FROM audit.refused_records()", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(pool, &REFUSED, NULL, clock_mono_ms() + DRAIN_MAX_MS, &rows, why);
    if (st != ST_OK)
        return st;
    int64_t before = *count;
    *count = 0;
    for (int i = 0; i < db_count(rows); i++)
        *count += db_i64(rows, i, 2);
    for (int i = 0; *count != before && i < db_count(rows) && i < TELL_MAX; i++) {
        struct uuid tenant = db_uuid(rows, i, 0);
        char text[UUID_TEXT_BYTES];
        log_event(LOG_ERROR, "audit_outbox_refused", LOG_TEXT("tenant", uuid_format(&tenant, text)), LOG_TEXT("month", db_text(rows, i, 1)),
                  LOG_NUMBER("records", db_i64(rows, i, 2)), LOG_TEXT("why", "the log takes no events of that month"));
    }
    return ST_OK;
}

/* ---- the thread ---- */

/* Drain until there is nothing left. False: it failed, and was logged. Tenants with a record that the log will never take
 * wait, and the others do not. */
static bool drain_all(struct outbox *o) {
    size_t moved = 0;
    bool leaves_out = false;
    do {
        struct why why = { 0 }, unused = { 0 };
        enum status st = signer_permits(o->signer, &why);
        if (st == ST_OK)
            st = leaves_out ? outbox_drain_others(o->pool, DRAIN_EVENTS, &moved, &why) : outbox_drain(o->pool, o->memory, DRAIN_EVENTS, &moved, &why);
        if (st == ST_OK) {
            counter_add(o->moved, moved);
            continue;
        }
        counter_add(o->failures, 1);
        log_event(LOG_WARN, "audit_outbox_waits", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
        if (leaves_out || status_is_retryable(st) || outbox_tell_refused(o->pool, &o->refused_count, &unused) != ST_OK || o->refused_count == 0)
            return false;
        leaves_out = true;
        moved = DRAIN_EVENTS;
    } while (moved == DRAIN_EVENTS && !worker_is_stopping(&o->worker));
    o->refused_count = leaves_out ? o->refused_count : 0;
    gauge_set(o->refused, (double)o->refused_count);
    return !leaves_out;
}

static void keep_partitions(struct outbox *o) {
    struct why why = { 0 };
    if (clock_mono_ms() < o->partitions_at_ms)
        return;
    o->partitions_at_ms = clock_mono_ms() + PARTITIONS_EVERY_MS;
    enum status st = outbox_make_partitions(o->pool, &why);
    if (st != ST_OK)
        log_event(LOG_ERROR, "audit_partitions", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
}

static void *run(void *arg) {
    struct outbox *o = arg;
    int wait_ms = 0;
    while (worker_rests_unless(&o->worker, db_listener_fd(o->listener), wait_ms)) {
        bool is_woken = false;          /* or time has passed: we look either way */
        struct why ignored = { 0 };     /* not listening only means that we look every second */
        if (db_listener_turn(o->listener, clock_mono_ms() + LOOK_EVERY_MS, &is_woken, &ignored) != ST_OK)
            is_woken = false;
        keep_partitions(o);
        wait_ms = drain_all(o) ? LOOK_EVERY_MS : RETRY_EVERY_MS;
    }
    return NULL;
}

enum status outbox_new(struct db_pool *pool, const struct db_options *options, struct metrics *metrics,
                       struct outbox **ret_outbox, struct why *why) {
    struct outbox *o = xalloc(sizeof *o);
    o->pool = pool;
    o->moved = metrics_counter(metrics, "cordon_audit_outbox_events_total",
                               "Records moved from the outbox onto the log.", "");
    o->failures = metrics_counter(metrics, "cordon_audit_outbox_failures_total",
                                  "Batches of the outbox that failed and wait.", "");
    o->refused = metrics_gauge(metrics, "cordon_audit_outbox_refused_records",
                               "Records of months that the log does not take; their tenants' later ones wait behind them.", "");
    o->partitions_at_ms = clock_mono_ms() + PARTITIONS_EVERY_MS;    /* open() has made them once */
    enum status st = db_listener_new(options, "audit_outbox", &o->listener, why);
    if (st != ST_OK) {
        outbox_destroy(&o);
        return st;
    }
    *ret_outbox = o;
    return ST_OK;
}

void outbox_start(struct outbox *o, struct signer *signer, struct batch_memory *memory) {
    o->memory = memory;
    o->signer = signer;
    worker_start(&o->worker, run, o);
}

void outbox_stop(struct outbox *o) {
    worker_stop(&o->worker);
}

void outbox_destroy(struct outbox **outbox_p) {
    struct outbox *o = *outbox_p;
    if (!o)
        return;
    outbox_stop(o);
    db_listener_destroy(&o->listener);
    free(o);
    *outbox_p = NULL;
}
