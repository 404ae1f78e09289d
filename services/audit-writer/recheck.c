#include "recheck.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "archiver.h"
#include "audit/merkle.h"
#include "batch.h"
#include "checkpoint.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/worker.h"
#include "obs/log.h"

enum { TURN_EVERY_MS = 1000, PASS_EVERY_MS = 3600 * 1000, OBJECTS_A_TURN = 10, LEAVES_MAX = 4096, ASK_MS = 10000 };

/* One tenant's log, as far as this pass has read it. */
struct tree { struct uuid tenant_id; struct merkle_range range; bool is_damaged, is_reported; };

struct recheck {
    struct db_pool *pool;
    struct anchor anchor;
    int64_t events_s;
    int64_t number;                     /* of the object in hand, or the last one that was */
    struct signed_head *heads;          /* of the object in hand */
    size_t head_count, head_at;
    struct tree *trees;                 /* in the order that they were met in */
    size_t tree_count, tree_room;
    bool are_trees_read;                /* and the archived objects follow */
    struct archive_object at;           /* the last one that was read */
    bool is_month_whole, is_archive_reported;
    size_t damaged_objects;
    struct worker worker;
    struct gauge *damaged, *damaged_archives, *checked_at;
    struct counter *events, *failures;
};

struct recheck *recheck_new(struct db_pool *pool, const struct anchor *anchor, int64_t events_s, struct metrics *metrics) {
    struct recheck *r = xalloc(sizeof *r);
    r->pool = pool;
    r->anchor = *anchor;
    r->events_s = events_s;
    r->at.first = -1;
    r->is_month_whole = true;
    r->damaged = metrics_gauge(metrics, "cordon_audit_damaged_logs", "Logs that are not what was signed of them. Alarm on any.", "");
    r->damaged_archives = metrics_gauge(metrics, "cordon_audit_damaged_archives",
                                        "Archived objects that are missing or not what the log's hashes say. Alarm on any.", "");
    r->checked_at = metrics_gauge(metrics, "cordon_audit_rechecked_timestamp_seconds",
                                  "When all that is signed was last read again to the end, since the epoch.", "");
    r->events = metrics_counter(metrics, "cordon_audit_rechecked_events_total", "Events read again and compared with signed heads.", "");
    r->failures = metrics_counter(metrics, "cordon_audit_recheck_failures_total", "Turns of the check that failed and are repeated.", "");
    return r;
}

/* ---- what the database holds ---- */

static struct tree *tree_of(struct recheck *r, const struct uuid *tenant_id) {
    for (size_t i = 0; i < r->tree_count; i++)
        if (uuid_equal(&r->trees[i].tenant_id, tenant_id))
            return &r->trees[i];
    if (r->tree_count == r->tree_room) {
        struct tree *more = xalloc((r->tree_room = 2 * r->tree_room + 16) * sizeof *more);
        if (r->tree_count)
            memcpy(more, r->trees, r->tree_count * sizeof *more);
        free(r->trees);
        r->trees = more;
    }
    r->trees[r->tree_count] = (struct tree){ .tenant_id = *tenant_id };
    return &r->trees[r->tree_count++];
}

/* On the platform's log. */
static enum status record_damage(struct recheck *r, const struct uuid *tenant_id, const char *detail, struct why *why) {
    struct audit_event *event = NULL;
    struct audit_record record = { .event_id = uuid_v7(), .action = AUDIT_DAMAGE, .outcome = AUDIT_FAILURE, .resource_id = *tenant_id,
                                   .detail_json = detail };
    enum status st = audit_event_new(&record, &(struct audit_origin){ .reported_by = "audit-writer" }, &event, why);
    struct audit_stamp stamp = { 0 };
    struct batch_call call = { .events = &event, .count = 1, .stamps = &stamp };
    if (st == ST_OK)
        st = batch_commit(r->pool, NULL, (struct batch_call *[]){ &call }, 1, clock_mono_ms() + ASK_MS, why);
    audit_event_destroy(&event);
    return st;
}

/* Once until it is found whole again. bad_seq < 0: not known where. */
static enum status report(struct recheck *r, struct tree *tree, int64_t bad_seq, struct why *why) {
    char tenant[UUID_TEXT_BYTES], detail[96];
    tree->is_damaged = true;
    if (tree->is_reported)
        return ST_OK;
    log_event(LOG_ERROR, "audit_damaged", LOG_TEXT("tenant_id", uuid_format(&tree->tenant_id, tenant)), LOG_NUMBER("checkpoint", r->number),
              LOG_NUMBER("seq", bad_seq));
    gauge_set(r->damaged, 1);
    (void)snprintf(detail, sizeof detail, bad_seq < 0 ? "{\"number\":%" PRId64 "}" : "{\"number\":%" PRId64 ",\"seq\":%" PRId64 "}", r->number, bad_seq);
    enum status st = record_damage(r, &tree->tenant_id, detail, why);
    tree->is_reported = st == ST_OK;
    return st;
}

/* Read the next events of the tree, not beyond size. *budget: how many may still be read this turn. */
static enum status grow(struct recheck *r, struct tree *tree, uint64_t size, int64_t *budget, struct why *why) {
    static const struct sql LEAVES = { "leaves_now", "SELECT seq, leaf, is_as_stored FROM audit.leaves_now($1, $2, $3)", 3 };
    uint64_t want = size - tree->range.size, most = *budget < LEAVES_MAX ? (uint64_t)*budget : LEAVES_MAX;
    want = want > most ? most : want;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param params[] = { DB_UUID(&tree->tenant_id), DB_INT((int64_t)tree->range.size), DB_INT((int64_t)want) };
    enum status st = db_run(r->pool, &LEAVES, params, clock_mono_ms() + ASK_MS, &rows, why);
    if (st != ST_OK)
        return st;
    *budget -= (int64_t)want;
    counter_add(r->events, (uint64_t)db_count(rows));
    for (int i = 0; i < db_count(rows); i++) {
        struct merkle_hash leaf;
        size_t len;
        const uint8_t *bytes = db_bytea(rows, i, 1, &len);
        if (db_i64(rows, i, 0) != (int64_t)tree->range.size || len != sizeof leaf.bytes || !db_bool(rows, i, 2))
            return report(r, tree, (int64_t)tree->range.size, why);
        memcpy(leaf.bytes, bytes, len);
        merkle_append(&tree->range, &leaf);
    }
    return (uint64_t)db_count(rows) < want ? report(r, tree, (int64_t)tree->range.size, why) : ST_OK;
}

static enum status compare(struct recheck *r, const struct signed_head *head, int64_t *budget, bool *ret_is_done, struct why *why) {
    struct tree *tree = tree_of(r, &head->tenant_id);
    enum status st = ST_OK;
    while (st == ST_OK && *budget > 0 && !tree->is_damaged && tree->range.size < head->size)
        st = grow(r, tree, head->size, budget, why);
    *ret_is_done = tree->is_damaged || tree->range.size >= head->size;
    if (st != ST_OK || tree->is_damaged || !*ret_is_done)
        return st;
    struct merkle_hash root = merkle_root(&tree->range);
    bool is_same = tree->range.size == head->size && merkle_equal(&root, &head->root);
    return is_same ? ST_OK : report(r, tree, -1, why);
}

/* ---- what is archived ---- */

/* All objects of the month in hand were read: may its old table go? */
static enum status end_month(struct recheck *r, struct why *why) {
    static const struct sql VERIFIED = { "archive_verified", "SELECT audit.archive_verified(($1 || '-01')::date)", 1 };
    bool is_whole = *r->at.month && r->is_month_whole && r->at.is_detached;
    r->is_month_whole = true;
    return is_whole ? db_run(r->pool, &VERIFIED, &DB_TEXT(r->at.month), clock_mono_ms() + ASK_MS, NULL, why) : ST_OK;
}

static enum status report_object(struct recheck *r, const struct archive_object *o, struct why *why) {
    char tenant[UUID_TEXT_BYTES], detail[96];
    r->is_month_whole = false;
    gauge_set(r->damaged_archives, (double)++r->damaged_objects);
    log_event(LOG_ERROR, "audit_archive_damaged", LOG_TEXT("tenant_id", uuid_format(&o->tenant_id, tenant)), LOG_TEXT("month", o->month),
              LOG_NUMBER("first", o->first), LOG_TEXT("why", why->text));
    *why = (struct why){ 0 };
    if (r->is_archive_reported)
        return ST_OK;
    (void)snprintf(detail, sizeof detail, "{\"first\":%" PRId64 ",\"month\":\"%s\"}", o->first, o->month);
    enum status st = record_damage(r, &o->tenant_id, detail, why);
    r->is_archive_reported = st == ST_OK;
    return st;
}

/* The next object against the log's hashes, which were compared with what is signed; and the rows against it. *ret_is_done: there is none. */
static enum status check_object(struct recheck *r, int64_t *budget, bool *ret_is_done, struct why *why) {
    struct archive_object next;
    size_t count = 0;
    int64_t differs = -1;
    enum status st = archive_objects(r->pool, &r->at, false, &next, 1, &count, why);
    *ret_is_done = st == ST_OK && count == 0;
    if (st == ST_OK && (count == 0 || !str_equal(next.month, r->at.month)))
        st = end_month(r, why);
    if (st != ST_OK || *ret_is_done)
        return st;
    if (next.is_detached)           /* of one that is still being made the log has no hashes to compare with */
        st = archive_verify(&r->anchor, r->pool, &next, &differs, why);
    if (st == ST_CONFLICT)
        st = report_object(r, &next, why);
    if (st == ST_OK && differs >= 0) {
        r->is_month_whole = false;      /* the old table has the row as it was */
        st = report(r, tree_of(r, &next.tenant_id), differs, why);
    }
    if (st != ST_OK)
        return st;
    counter_add(r->events, (uint64_t)(next.last - next.first + 1));
    *budget -= next.last - next.first + 1;
    r->at = next;
    return ST_OK;
}

/* ---- one pass ---- */

static void end_pass(struct recheck *r) {
    size_t damaged = 0;
    for (size_t i = 0; i < r->tree_count; i++) {
        struct tree *tree = &r->trees[i];
        damaged += tree->is_damaged;
        *tree = (struct tree){ .tenant_id = tree->tenant_id, .is_reported = tree->is_reported && tree->is_damaged };
    }
    gauge_set(r->damaged, (double)damaged);
    gauge_set(r->damaged_archives, (double)r->damaged_objects);
    r->is_archive_reported = r->is_archive_reported && r->damaged_objects > 0;
    r->are_trees_read = false;
    r->at = (struct archive_object){ .first = -1 };
    r->damaged_objects = 0;
    gauge_set(r->checked_at, (double)(clock_unix_us() / 1000000));
    r->number = 0;
    r->head_count = r->head_at = 0;
}

/* Take the next number in hand that still counts. *ret_is_done: there is none. */
static enum status next_object(struct recheck *r, bool *ret_is_done, struct why *why) {
    static const struct sql GIVEN_UP = { "is_given_up", "SELECT audit.is_given_up($1)", 1 };
    struct anchor_state state = { 0 };
    enum status st = checkpoint_state(r->pool, &state, why);
    *ret_is_done = st == ST_OK && r->number >= state.anchored;
    if (st != ST_OK || *ret_is_done)
        return st;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    const struct db_param number = DB_INT(r->number + 1);
    st = db_run(r->pool, &GIVEN_UP, &number, clock_mono_ms() + ASK_MS, &rows, why);
    r->head_count = r->head_at = 0;
    if (st == ST_OK && !db_bool(rows, 0, 0)) {
        free(r->heads);
        r->heads = NULL;
        st = anchor_heads(&r->anchor, r->number + 1, &r->heads, &r->head_count, why);
    }
    r->number += st == ST_OK;
    return st;
}

enum status recheck_turn(struct recheck *r, bool *ret_is_done, struct why *why) {
    int64_t budget = r->events_s;
    enum status st = ST_OK;
    *ret_is_done = false;
    for (int objects = 0; st == ST_OK && budget > 0 && objects < OBJECTS_A_TURN;) {
        bool is_done = false;
        if (r->are_trees_read) {
            st = check_object(r, &budget, ret_is_done, why);
            objects++;
            if (st == ST_OK && *ret_is_done) {
                end_pass(r);
                return ST_OK;
            }
            continue;
        }
        if (r->head_at == r->head_count) {
            st = next_object(r, &r->are_trees_read, why);
            objects++;
            continue;
        }
        st = compare(r, &r->heads[r->head_at], &budget, &is_done, why);
        r->head_at += st == ST_OK && is_done;
    }
    return st;
}

static void *run(void *arg) {
    struct recheck *r = arg;
    bool is_done = false;
    while (worker_rests(&r->worker, is_done ? PASS_EVERY_MS : TURN_EVERY_MS)) {
        struct why why = { 0 };
        enum status st = recheck_turn(r, &is_done, &why);
        if (st != ST_OK) {
            counter_add(r->failures, 1);
            log_event(LOG_WARN, "audit_recheck_waits", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
        }
    }
    return NULL;
}

void recheck_start(struct recheck *r) {
    worker_start(&r->worker, run, r);
}

void recheck_stop(struct recheck *r) {
    worker_stop(&r->worker);
}

void recheck_destroy(struct recheck **recheck_p) {
    struct recheck *r = *recheck_p;
    if (!r)
        return;
    recheck_stop(r);
    free(r->heads);
    free(r->trees);
    free(r);
    *recheck_p = NULL;
}
