#include "signer.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/worker.h"
#include "obs/log.h"

enum { TURN_EVERY_MS = 1000 };

struct signer {
    struct db_pool *pool;
    const struct note_key *key;
    struct anchor anchor;
    struct countersigner kms;
    struct checkpoint_pace pace;
    struct worker worker;
    int64_t checked_at_ms;
    pthread_mutex_t lock;       /* of the four below */
    pthread_cond_t looked;
    bool has_looked;            /* once at least, whatever was seen */
    bool is_permitted;
    struct why refusal;
    struct gauge *behind, *anchored_at;
    struct counter *signatures, *countersigned, *failures;
};

struct signer *signer_new(struct db_pool *pool, const struct note_key *key, const struct anchor *anchor,
                          const struct countersigner *kms, const struct checkpoint_pace *pace, struct metrics *metrics) {
    struct signer *s = xalloc(sizeof *s);
    s->pool = pool;
    s->key = key;
    s->anchor = *anchor;
    s->kms = kms ? *kms : (struct countersigner){ 0 };
    s->pace = *pace;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->looked, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->lock, NULL);
    s->is_permitted = s->has_looked = !key;
    (void)!fail(&s->refusal, ST_UNAVAILABLE, "audit: not compared with the anchor yet");
    s->behind = metrics_gauge(metrics, "cordon_audit_behind_anchor",
                              "1 while the log ends before a signed head, or has another: nothing is appended. Alarm on 1.", "");
    s->anchored_at = metrics_gauge(metrics, "cordon_audit_anchored_timestamp_seconds",
                                   "When database and anchor were last seen to agree, since the epoch.", "");
    s->signatures = metrics_counter(metrics, "cordon_audit_checkpoints_total", "Heads of trees signed by this process.", "");
    s->countersigned = metrics_counter(metrics, "cordon_audit_countersigned_total", "Heads of trees signed by the key in KMS, by this process.", "");
    s->failures = metrics_counter(metrics, "cordon_audit_checkpoint_failures_total",
                                  "Looks at database or anchor that failed and are repeated.", "");
    return s;
}

static void decide(struct signer *s, bool is_permitted, const struct why *why) {
    pthread_mutex_lock(&s->lock);
    s->is_permitted = is_permitted;
    if (!is_permitted)
        (void)!fail_as(&s->refusal, ERR_AUDIT_BEHIND, "%s", why->text);
    pthread_mutex_unlock(&s->lock);
}

/* Whoever waits for the first look waits no more. */
static void end_wait(struct signer *s) {
    pthread_mutex_lock(&s->lock);
    s->has_looked = true;
    pthread_cond_broadcast(&s->looked);
    pthread_mutex_unlock(&s->lock);
}

enum status signer_permits(struct signer *s, struct why *why) {
    return signer_permits_by(s, 0, why);
}

enum status signer_permits_by(struct signer *s, int64_t deadline_ms, struct why *why) {
    struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000 };
    pthread_mutex_lock(&s->lock);
    while (!s->has_looked && pthread_cond_timedwait(&s->looked, &s->lock, &until) == 0)
        continue;
    bool is_permitted = s->is_permitted;
    if (!is_permitted)
        *why = s->refusal;
    pthread_mutex_unlock(&s->lock);
    return is_permitted ? ST_OK : ST_UNAVAILABLE;
}

/* A failure to look changes nothing: what was permitted stays so, and what was not as well. */
static void report(struct signer *s, enum status st, int64_t ahead, struct why *why) {
    if (st == ST_CONFLICT) {
        gauge_set(s->behind, 1);
        if (signer_permits(s, &(struct why){ 0 }) == ST_OK || ahead > 0)
            log_event(LOG_ERROR, "audit_behind_anchor", LOG_TEXT("why", why->text), LOG_NUMBER("anchored", ahead));
        decide(s, false, why);
    } else if (st == ST_OK) {
        gauge_set(s->behind, 0);
        gauge_set(s->anchored_at, (double)(clock_unix_us() / 1000000));
        decide(s, true, why);
    } else {
        counter_add(s->failures, 1);
        log_event(LOG_WARN, "audit_anchor_waits", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why->text));
    }
}

/* Does the database have all that was signed, and the bucket all that the database has? */
static enum status compare(struct signer *s, int64_t *ret_ahead, struct why *why) {
    enum status st = checkpoint_intact(s->pool, why);
    return st == ST_OK && s->anchor.s3 ? anchor_check(&s->anchor, s->pool, ret_ahead, why) : st;
}

/* Compared before signing too: a database that was put back behind our back must not sign its other future. */
void signer_turn(struct signer *s) {
    struct why why = { 0 };
    size_t count = 0;
    int64_t ahead = 0;
    bool is_due = false, was_permitted = signer_permits(s, &(struct why){ 0 }) == ST_OK;
    enum status st = checkpoint_is_due(s->pool, &s->pace, &is_due, &why);
    if (st == ST_OK && was_permitted && !is_due && clock_mono_ms() - s->checked_at_ms < s->pace.wait_ms)
        return;
    if (st == ST_OK)
        st = compare(s, &ahead, &why);
    if (st == ST_OK && is_due)
        st = checkpoint_sign(s->pool, s->key, &s->pace, &count, &why);
    counter_add(s->signatures, count);
    if (st == ST_OK && count > 0)
        st = compare(s, &ahead, &why);
    if (st == ST_OK)
        s->checked_at_ms = clock_mono_ms();
    report(s, st, ahead, &why);
    end_wait(s);
}

/* The second signature comes when it comes: its absence stops nothing. */
static void countersign_turn(struct signer *s) {
    struct why why = { 0 };
    size_t count = 0;
    enum status st = s->kms.kms ? countersign(&s->kms, s->pool, &count, &why) : ST_OK;
    counter_add(s->countersigned, count);
    if (st == ST_OK)
        return;
    counter_add(s->failures, 1);
    log_event(LOG_WARN, "audit_countersignature_waits", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
}

static void *run(void *arg) {
    struct signer *s = arg;
    do {
        signer_turn(s);
        countersign_turn(s);
    } while (worker_rests(&s->worker, TURN_EVERY_MS));
    return NULL;
}

void signer_start(struct signer *s) {
    if (!s->key)
        return;
    worker_start(&s->worker, run, s);
}

void signer_stop(struct signer *s) {
    end_wait(s);
    worker_stop(&s->worker);
}

void signer_destroy(struct signer **signer_p) {
    struct signer *s = *signer_p;
    if (!s)
        return;
    signer_stop(s);
    countersigner_end(&s->kms);
    pthread_cond_destroy(&s->looked);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *signer_p = NULL;
}
