#include "limit/limit.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "crypto/digest.h"

enum { WAYS = 8, SEED_BYTES = 16 };

struct entry {
    uint64_t tag;
    int64_t until_us;               /* when nothing would be lost by forgetting it; 0: free */
    int64_t locked_until_us;
    unsigned failures;
};

struct place { pthread_mutex_t lock; struct entry entries[WAYS]; };

struct limits {
    uint8_t seed[SEED_BYTES];
    unsigned place_count;
    struct place places[];
};

struct limits *limits_new(unsigned entry_count) {
    unsigned count = entry_count / WAYS + 1;
    struct limits *limits = xalloc(sizeof *limits + count * sizeof *limits->places);
    limits->place_count = count;
    if (RAND_bytes(limits->seed, SEED_BYTES) != 1)
        abort();
    for (unsigned i = 0; i < count; i++)
        (void)pthread_mutex_init(&limits->places[i].lock, NULL);
    return limits;
}

void limits_destroy(struct limits **limits_p) {
    struct limits *limits = *limits_p;
    if (!limits)
        return;
    for (unsigned i = 0; i < limits->place_count; i++)
        (void)pthread_mutex_destroy(&limits->places[i].lock);
    free(limits);
    *limits_p = NULL;
}

struct limit_key limit_key(uint8_t kind, uint8_t class, const void *bytes, size_t len) {
    struct limit_key key = { .bytes = { kind, class } };
    size_t room = sizeof key.bytes - 2;
    key.len = 2 + (len < room ? len : room);
    memcpy(key.bytes + 2, bytes, key.len - 2);
    return key;
}

/* The locked place of a key, and its entry there. When it has none: NULL, or, when it is to have one, a free one or the one
 * that would be forgotten first, emptied. */
static struct place *enter(struct limits *limits, const struct limit_key *key, int64_t now_us, bool makes, struct entry **ret_entry) {
    uint8_t input[SEED_BYTES + LIMIT_KEY_MAX_BYTES], sum[SHA256_BYTES];
    uint64_t tag;
    uint32_t where;
    memcpy(input, limits->seed, SEED_BYTES);
    memcpy(input + SEED_BYTES, key->bytes, key->len);
    sha256(input, SEED_BYTES + key->len, sum);
    memcpy(&tag, sum, sizeof tag);
    memcpy(&where, sum + sizeof tag, sizeof where);
    struct place *place = &limits->places[where % limits->place_count];
    (void)pthread_mutex_lock(&place->lock);
    struct entry *found = NULL, *first = place->entries;
    for (int i = 0; i < WAYS; i++) {
        struct entry *e = &place->entries[i];
        if (e->until_us > now_us && e->tag == tag)
            found = e;
        if (e->until_us < first->until_us)
            first = e;
    }
    if (!found && makes) {
        *first = (struct entry){ .tag = tag };
        found = first;
    }
    *ret_entry = found;
    return place;
}

static void leave(struct place *place) {
    (void)pthread_mutex_unlock(&place->lock);
}

/* The generic cell rate algorithm: until_us is when the bucket will be full, which says all about it. */
struct allowance limit_take(struct limits *limits, const struct limit_key *key, const struct quota *quota, int64_t now_us) {
    if (!quota->units)
        return (struct allowance){ .is_granted = true };
    struct entry *e;
    struct place *place = enter(limits, key, now_us, true, &e);
    int64_t each_us = quota->window_us / quota->units;
    int64_t full_us = (e->until_us > now_us ? e->until_us : now_us) + each_us, debt_us = full_us - now_us;
    bool is_granted = debt_us <= quota->window_us;
    if (is_granted)
        e->until_us = full_us;
    leave(place);
    if (!is_granted)
        return (struct allowance){ .whole_us = debt_us - each_us, .retry_us = debt_us - quota->window_us };
    return (struct allowance){ .is_granted = true, .remaining = (quota->window_us - debt_us) / each_us, .whole_us = debt_us };
}

int64_t lockout_left_us(struct limits *limits, const struct limit_key *key, int64_t now_us) {
    struct entry *e;
    struct place *place = enter(limits, key, now_us, false, &e);
    int64_t left_us = e ? e->locked_until_us - now_us : 0;
    leave(place);
    return left_us > 0 ? left_us : 0;
}

int64_t lockout_fail(struct limits *limits, const struct limit_key *key, const struct lockout_policy *policy, int64_t now_us) {
    struct entry *e;
    struct place *place = enter(limits, key, now_us, true, &e);
    int64_t lock_us = 0;
    if (e->locked_until_us <= now_us) {
        e->failures++;
        if (e->failures > policy->free_count) {
            lock_us = policy->first_us;
            for (unsigned i = policy->free_count + 1; i < e->failures && lock_us < policy->longest_us; i++)
                lock_us *= 2;
            lock_us = lock_us < policy->longest_us ? lock_us : policy->longest_us;
        }
        e->locked_until_us = now_us + lock_us;
        e->until_us = e->locked_until_us + policy->forget_us;
    }
    leave(place);
    return lock_us;
}

void limit_mark(struct limits *limits, const struct limit_key *key, int64_t until_us) {
    struct entry *e;
    struct place *place = enter(limits, key, 0, true, &e);
    if (e->until_us < until_us)
        e->until_us = until_us;
    leave(place);
}

bool limit_is_marked(struct limits *limits, const struct limit_key *key, int64_t now_us) {
    struct entry *e;
    struct place *place = enter(limits, key, now_us, false, &e);
    bool is_marked = e != NULL;
    leave(place);
    return is_marked;
}
