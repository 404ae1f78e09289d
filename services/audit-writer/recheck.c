#include "recheck.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "audit/merkle.h"
#include "batch.h"
#include "checkpoint.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "obs/log.h"

enum { TURN_EVERY_MS = 1000, PASS_EVERY_MS = 3600 * 1000, OBJECTS_A_TURN = 10, LEAVES_MAX = 4096, ASK_MS = 10000, LINE_MAX_BYTES = 8192 };

/* One tenant's log, as far as this pass has read it. */
struct tree { struct uuid tenant_id; struct merkle_range range; bool is_damaged, is_reported; };
/* One signed head of the object in hand. */
struct signed_head { struct uuid tenant_id; uint64_t size; struct merkle_hash root; };

struct recheck {
    struct db_pool *pool;
    struct anchor anchor;
    int64_t events_s;
    int64_t number;                     /* of the object in hand, or the last one that was */
    struct signed_head *heads;
    size_t head_count, head_at;
    struct tree *trees;                 /* in the order that they were met in */
    size_t tree_count, tree_room;
    int stop_fd;
    bool is_running;
    pthread_t thread;
    struct gauge *damaged, *checked_at;
    struct counter *events, *failures;
};

struct recheck *recheck_new(struct db_pool *pool, const struct anchor *anchor, int64_t events_s, struct metrics *metrics) {
    struct recheck *r = xalloc(sizeof *r);
    r->pool = pool;
    r->anchor = *anchor;
    r->events_s = events_s;
    r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->stop_fd < 0)
        abort();
    r->damaged = metrics_gauge(metrics, "cordon_audit_damaged_logs", "Logs that are not what was signed of them. Alarm on any.", "");
    r->checked_at = metrics_gauge(metrics, "cordon_audit_rechecked_timestamp_seconds",
                                  "When all that is signed was last read again to the end, since the epoch.", "");
    r->events = metrics_counter(metrics, "cordon_audit_rechecked_events_total", "Events read again and compared with signed heads.", "");
    r->failures = metrics_counter(metrics, "cordon_audit_recheck_failures_total", "Turns of the check that failed and are repeated.", "");
    return r;
}

/* ---- what was signed ---- */

/* "<family>[/<tenant>]\n<size>\n<root>\n": a tenant's head, or the platform's. */
static bool read_note(const struct recheck *r, const char *note, struct signed_head *ret_head) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *family = note_origin(r->anchor.key, "", mem), *size = strchr(note, '\n'), *root = size ? strchr(size + 1, '\n') : NULL,
               *end = root ? strchr(root + 1, '\n') : NULL;
    size_t len = strlen(family), got = 0;
    struct signed_head head = { 0 };
    uint8_t *bytes = NULL;
    if (!end || !note_is_signed(r->anchor.key, note, mem) || strncmp(note, family, len) != 0)
        return false;
    if (note[len] == '/' ? !uuid_parse(note + len + 1, (size_t)(size - note) - len - 1, &head.tenant_id) : note[len] != '\n')
        return false;
    head.size = strtoull(size + 1, NULL, 10);
    if (!base64_decode(mem, root + 1, (size_t)(end - root) - 1, &bytes, &got) || got != sizeof head.root.bytes)
        return false;
    memcpy(head.root.bytes, bytes, got);
    *ret_head = head;
    return true;
}

static enum status read_object(struct recheck *r, int64_t number, struct why *why) {
    CLEANUP(buffer_end) struct buffer object = { 0 };
    enum status st = anchor_read(&r->anchor, number, &object, why);
    if (st != ST_OK)
        return st;
    size_t lines = 0;
    for (size_t i = 0; i < object.len; i++)
        lines += object.data[i] == '\n';
    free(r->heads);
    r->heads = xalloc((lines + 1) * sizeof *r->heads);
    r->head_count = r->head_at = 0;
    for (char *line = object.data, *end; st == ST_OK && (end = strchr(line, '\n')); line = end + 1) {
        CLEANUP(json_destroy) json_t *object_line = NULL;
        const char *note = "";
        if (json_parse(line, (size_t)(end - line), LINE_MAX_BYTES, &object_line, why) != ST_OK ||
            json_get_text(object_line, "note", JSON_REQUIRED, LINE_MAX_BYTES, &note, why) != ST_OK ||
            !read_note(r, note, &r->heads[r->head_count++]))
            st = fail(why, ST_UNAVAILABLE, "the anchor's checkpoint %" PRId64 " has a line that our key did not sign", number);
    }
    if (st != ST_OK)
        r->head_count = 0;
    return st;
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

/* On the platform's log, once until it is found whole again. bad_seq < 0: not known where. */
static enum status report(struct recheck *r, struct tree *tree, int64_t bad_seq, struct why *why) {
    char tenant[UUID_TEXT_BYTES], detail[96];
    struct audit_event *event = NULL;
    tree->is_damaged = true;
    if (tree->is_reported)
        return ST_OK;
    log_event(LOG_ERROR, "audit_damaged", LOG_TEXT("tenant_id", uuid_format(&tree->tenant_id, tenant)), LOG_NUMBER("checkpoint", r->number),
              LOG_NUMBER("seq", bad_seq));
    gauge_set(r->damaged, 1);
    (void)snprintf(detail, sizeof detail, bad_seq < 0 ? "{\"number\":%" PRId64 "}" : "{\"number\":%" PRId64 ",\"seq\":%" PRId64 "}", r->number, bad_seq);
    struct audit_record record = { .event_id = uuid_v7(), .action = AUDIT_DAMAGE, .outcome = AUDIT_FAILURE, .resource_id = tree->tenant_id,
                                   .detail_json = detail };
    enum status st = audit_event_new(&record, &(struct audit_origin){ .reported_by = "audit-writer" }, &event, why);
    struct audit_stamp stamp = { 0 };
    struct batch_call call = { .events = &event, .count = 1, .stamps = &stamp };
    if (st == ST_OK)
        st = batch_commit(r->pool, NULL, (struct batch_call *[]){ &call }, 1, clock_mono_ms() + ASK_MS, why);
    audit_event_destroy(&event);
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

/* ---- one pass ---- */

static void end_pass(struct recheck *r) {
    size_t damaged = 0;
    for (size_t i = 0; i < r->tree_count; i++) {
        struct tree *tree = &r->trees[i];
        damaged += tree->is_damaged;
        *tree = (struct tree){ .tenant_id = tree->tenant_id, .is_reported = tree->is_reported && tree->is_damaged };
    }
    gauge_set(r->damaged, (double)damaged);
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
    if (st == ST_OK && !db_bool(rows, 0, 0))
        st = read_object(r, r->number + 1, why);
    r->number += st == ST_OK;
    return st;
}

enum status recheck_turn(struct recheck *r, bool *ret_is_done, struct why *why) {
    int64_t budget = r->events_s;
    enum status st = ST_OK;
    *ret_is_done = false;
    for (int objects = 0; st == ST_OK && budget > 0 && objects < OBJECTS_A_TURN;) {
        bool is_done = false;
        if (r->head_at == r->head_count) {
            st = next_object(r, ret_is_done, why);
            objects++;
            if (st == ST_OK && *ret_is_done) {
                end_pass(r);
                return ST_OK;
            }
            continue;
        }
        st = compare(r, &r->heads[r->head_at], &budget, &is_done, why);
        r->head_at += st == ST_OK && is_done;
    }
    return st;
}

static void *run(void *arg) {
    struct recheck *r = arg;
    struct pollfd stop = { .fd = r->stop_fd, .events = POLLIN };
    bool is_done = false;
    while (poll(&stop, 1, is_done ? PASS_EVERY_MS : TURN_EVERY_MS) == 0) {
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
    if (pthread_create(&r->thread, NULL, run, r) != 0)
        abort();
    r->is_running = true;
}

void recheck_stop(struct recheck *r) {
    if (!r->is_running)
        return;
    eventfd_write(r->stop_fd, 1);
    pthread_join(r->thread, NULL);
    r->is_running = false;
}

void recheck_destroy(struct recheck **recheck_p) {
    struct recheck *r = *recheck_p;
    if (!r)
        return;
    recheck_stop(r);
    close(r->stop_fd);
    free(r->heads);
    free(r->trees);
    free(r);
    *recheck_p = NULL;
}
