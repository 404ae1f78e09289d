#include "denials.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "crypto/digest.h"
#include "limit/limit.h"

enum { MINUTE_US = 60000000, PROBES = 8 };

struct kind {
    uint8_t sum[SHA256_BYTES];
    int64_t seen_ms;                    /* last; 0: free */
    int64_t held_since_ms;
    uint64_t held_count;
    struct denial last;                 /* while held_count; detail as it came */
};

struct denials {
    pthread_mutex_t lock;
    struct quota of_kind, of_all;
    struct limits *limits;
    struct kind kinds[DENIALS_KINDS];
    struct kind others;                 /* those for whose kind there was no room */
};

struct denials *denials_new(int64_t per_minute) {
    struct denials *d = xalloc(sizeof *d);
    (void)pthread_mutex_init(&d->lock, NULL);
    d->of_kind = (struct quota){ per_minute, MINUTE_US };
    d->of_all = (struct quota){ per_minute * DENIALS_ALL_KINDS_FACTOR, MINUTE_US };
    d->limits = limits_new(DENIALS_KINDS * 4);
    return d;
}

void denial_end(struct denial *denial) {
    free(denial->ticket);
    free(denial->detail);
    *denial = (struct denial){ 0 };
}

void denials_destroy(struct denials **denials_p) {
    struct denials *d = *denials_p;
    if (!d)
        return;
    for (int i = 0; i < DENIALS_KINDS; i++)
        denial_end(&d->kinds[i].last);
    denial_end(&d->others.last);
    limits_destroy(&d->limits);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
    *denials_p = NULL;
}

static void sum_kind(const struct call *call, const ProtobufCBinaryData *user_id, enum audit_action action, const char *detail,
                     uint8_t sum[SHA256_BYTES]) {
    CLEANUP(sha256_destroy) struct sha256 *digest = sha256_new();
    bool has_ticket = call->ticket[0];
    sha256_update(digest, &action, sizeof action);
    sha256_update(digest, &has_ticket, sizeof has_ticket);
    if (has_ticket && user_id)
        sha256_update(digest, user_id->data, user_id->len);
    sha256_update(digest, detail, strlen(detail));
    sha256_peek(digest, sum);
}

/* The kind's place, or a free one, or one that holds nothing back and was not seen for longest; else that of all others. */
static struct kind *place_of(struct denials *d, const uint8_t sum[SHA256_BYTES]) {
    uint32_t first;
    struct kind *best = NULL;
    memcpy(&first, sum, sizeof first);
    for (unsigned i = 0; i < PROBES; i++) {
        struct kind *k = &d->kinds[(first + i) % DENIALS_KINDS];
        if (k->seen_ms && memcmp(k->sum, sum, SHA256_BYTES) == 0)
            return k;
        if (!k->held_count && (!best || k->seen_ms < best->seen_ms))
            best = k;
    }
    if (!best)
        return &d->others;
    memcpy(best->sum, sum, SHA256_BYTES);
    return best;
}

static void hold(struct denials *d, struct kind *k, const struct call *call, enum audit_action action, const char *detail, int64_t now_ms) {
    bool is_other = k == &d->others;
    k->seen_ms = now_ms;
    if (!k->held_count++)
        k->held_since_ms = now_ms;
    denial_end(&k->last);
    k->last = (struct denial){ action, call->request_id, xstrdup(is_other ? "" : call->ticket), xstrdup(is_other ? "{}" : detail) };
}

bool denials_admit(struct denials *d, const struct call *call, const ProtobufCBinaryData *user_id, enum audit_action action,
                   const char *detail, int64_t now_ms) {
    uint8_t sum[SHA256_BYTES];
    sum_kind(call, user_id, action, detail, sum);
    struct limit_key kind_key = limit_key(0, 0, sum, sizeof sum), all_key = limit_key(1, 0, "", 0);
    (void)pthread_mutex_lock(&d->lock);
    bool is_admitted = limit_take(d->limits, &kind_key, &d->of_kind, now_ms * 1000).is_granted &&
                       (call->ticket[0] || limit_take(d->limits, &all_key, &d->of_all, now_ms * 1000).is_granted);
    if (!is_admitted)
        hold(d, place_of(d, sum), call, action, detail, now_ms);
    (void)pthread_mutex_unlock(&d->lock);
    return is_admitted;
}

static bool take(struct kind *k, bool is_end, int64_t now_ms, struct denial *ret_denial) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    if (!k->held_count || (!is_end && now_ms < k->held_since_ms + DENIALS_HOLD_MS))
        return false;
    size_t len = strlen(k->last.detail) - 1;            /* without its '}' */
    (void)buffer_printf(&out, "%.*s%s\"repeated\":%llu}", (int)len, k->last.detail, len > 1 ? "," : "", (unsigned long long)k->held_count);
    *ret_denial = k->last;
    free(ret_denial->detail);
    ret_denial->detail = xstrdup(out.data);
    k->last = (struct denial){ 0 };
    k->held_count = 0;
    return true;
}

bool denials_take(struct denials *d, bool is_end, int64_t now_ms, struct denial *ret_denial) {
    (void)pthread_mutex_lock(&d->lock);
    bool is_taken = take(&d->others, is_end, now_ms, ret_denial);
    for (int i = 0; i < DENIALS_KINDS && !is_taken; i++)
        is_taken = take(&d->kinds[i], is_end, now_ms, ret_denial);
    (void)pthread_mutex_unlock(&d->lock);
    return is_taken;
}
