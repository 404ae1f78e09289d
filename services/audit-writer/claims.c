#include "claims.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "core/arena.h"
#include "core/clock.h"

/* With one place for each digest, two tickets of 64 would nearly always push each other out, and most batches would ask. */
enum { KEEP_MS = 250, RENEW_MS = KEEP_MS / 2, SETS = 256, WAYS = 8 };

struct kept { uint8_t digest[MERKLE_HASH_BYTES]; int64_t until_ms; struct audit_stamp stamp; };
struct claims_memory { pthread_mutex_t lock; struct kept sets[SETS][WAYS]; };

struct claims_memory *claims_memory_new(void) {
    struct claims_memory *m = xalloc(sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void claims_memory_destroy(struct claims_memory **memory_p) {
    struct claims_memory *m = *memory_p;
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
    *memory_p = NULL;
}

/* Tickets are told apart by their digests: comparing those in a time that depends on them reveals nothing of a ticket. */
static const uint8_t *digest_of(const struct batch_call *call) {
    return call->events[0]->ticket_digest;
}

/* Where it is kept; or where it is to be, in place of what is the oldest there. */
static struct kept *slot_of(struct claims_memory *m, const uint8_t *digest) {
    struct kept *set = m->sets[digest[0] % SETS], *oldest = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (memcmp(set[i].digest, digest, sizeof set[i].digest) == 0)
            return &set[i];
        if (set[i].until_ms < oldest->until_ms)
            oldest = &set[i];
    }
    return oldest;
}

static void stamp_all(struct batch_call *call, const struct audit_stamp *stamp) {
    for (size_t k = 0; k < call->count; k++)
        call->stamps[k] = *stamp;
}

static bool recall(struct claims_memory *m, struct batch_call *call, int64_t until_ms) {
    const struct kept *kept = slot_of(m, digest_of(call));
    bool is_kept = kept->until_ms > until_ms && memcmp(kept->digest, digest_of(call), sizeof kept->digest) == 0;
    if (is_kept)
        stamp_all(call, &kept->stamp);
    return is_kept;
}

static void keep(struct claims_memory *m, const uint8_t *digest, const struct audit_stamp *stamp, int64_t asked_at_ms) {
    struct kept *kept = slot_of(m, digest);
    memcpy(kept->digest, digest, sizeof kept->digest);
    kept->stamp = *stamp;
    kept->until_ms = asked_at_ms + KEEP_MS;
}

static int by_digest(const void *a, const void *b) {
    return memcmp(digest_of(*(struct batch_call *const *)a), digest_of(*(struct batch_call *const *)b), MERKLE_HASH_BYTES);
}

/* What one row says, to all calls with that ticket. */
static void answer(const PGresult *rows, int row, struct claims_memory *m, struct batch_call *same[], size_t count, int64_t asked_at_ms) {
    enum { TENANT, USER, SESSION, JOB, GRANT, REFUSED };
    struct audit_stamp stamp = { .tenant_id = db_uuid(rows, row, TENANT), .actor_id = db_uuid(rows, row, USER),
        .session_id = db_uuid(rows, row, SESSION), .job_id = db_uuid(rows, row, JOB), .grant_id = db_uuid(rows, row, GRANT) };
    bool is_refused = !db_is_null(rows, row, REFUSED);
    if (m && !is_refused)
        keep(m, digest_of(same[0]), &stamp, asked_at_ms);
    for (size_t i = 0; i < count; i++)
        if (is_refused)
            same[i]->status = fail(&same[i]->why, ST_UNAUTHENTICATED, "%s", db_text(rows, row, REFUSED));
        else
            stamp_all(same[i], &stamp);
}

/* Each ticket once; calls are in the order of their digests. */
static enum status ask(struct claims_memory *m, struct db_pool *pool, struct batch_call *calls[], size_t count, int64_t deadline_ms,
                       struct why *why) {
    static const struct sql CLAIMS = { "claims",
        "SELECT tenant_id, user_id, session_id, job_id, grant_id, refused FROM audit.claims($1::text[]) ORDER BY ordinal", 1 };
    CLEANUP(array_end) struct array tickets;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    array_init(&tickets, ARRAY_TEXT);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || by_digest(&calls[i - 1], &calls[i]) != 0)
            array_add_text(&tickets, calls[i]->ticket);
    int64_t asked_at_ms = clock_mono_ms();
    const struct db_param param = array_param(&tickets);
    enum status st = db_run(pool, &CLAIMS, &param, deadline_ms, &rows, why);
    if (st != ST_OK)
        return st;
    if ((uint32_t)db_count(rows) != tickets.count)
        return fail(why, ST_INTERNAL, "audit: claims of %d tickets of %u", db_count(rows), tickets.count);
    if (m)
        pthread_mutex_lock(&m->lock);
    for (size_t i = 0, next, row = 0; i < count; i = next, row++) {
        for (next = i + 1; next < count && by_digest(&calls[i], &calls[next]) == 0;)
            next++;
        answer(rows, (int)row, m, calls + i, next - i, asked_at_ms);
    }
    if (m)
        pthread_mutex_unlock(&m->lock);
    return ST_OK;
}

static void free_calls(struct batch_call ***calls_p) {
    free(*calls_p);
}

/* Stamp those whose ticket is kept until then, and list the others. */
static size_t list_unknown(struct claims_memory *m, struct batch_call *calls[], size_t count, int64_t until_ms, struct batch_call *unknown[]) {
    size_t unknown_count = 0;
    if (m)
        pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < count; i++)
        if (calls[i]->ticket && !(m && recall(m, calls[i], until_ms)))
            unknown[unknown_count++] = calls[i];
    if (m)
        pthread_mutex_unlock(&m->lock);
    return unknown_count;
}

enum status claims_fill(struct claims_memory *memory, struct db_pool *pool, struct batch_call *calls[], size_t count,
                        int64_t deadline_ms, struct why *why) {
    CLEANUP(free_calls) struct batch_call **unknown = xalloc((count + 1) * sizeof(struct batch_call *));
    int64_t now_ms = clock_mono_ms();
    size_t unknown_count = list_unknown(memory, calls, count, now_ms, unknown);
    if (unknown_count > 0)      /* to ask costs more than a ticket: then for those too that would have to be asked for soon */
        unknown_count = list_unknown(memory, calls, count, now_ms + RENEW_MS, unknown);
    if (unknown_count == 0)
        return ST_OK;
    qsort(unknown, unknown_count, sizeof(struct batch_call *), by_digest);
    return ask(memory, pool, unknown, unknown_count, deadline_ms, why);
}
