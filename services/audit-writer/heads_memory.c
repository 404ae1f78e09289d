#include "heads_memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"

enum { SLOTS = 1024, SHY_MS = 1000 };

struct left {
    struct uuid tenant_id;
    bool is_known;
    int64_t shy_until_ms, recorded_at_us;
    struct merkle_range range;
};
struct heads_memory {
    pthread_rwlock_t sky;       /* whoever guesses reads, whoever locks writes */
    pthread_mutex_t lock;
    uint32_t turn;              /* the last one; they begin somewhere, so that two processes seldom have the same */
    bool has_clock;
    int64_t ahead_us;           /* the database's clock less ours, or a little less than that: its answer took time */
    struct left slots[SLOTS];   /* one place for each tenant; who comes later has it */
};

struct heads_memory *heads_memory_new(void) {
    struct heads_memory *m = xalloc(sizeof *m);
    struct uuid random = uuid_v7();
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);     /* or it would wait as long as others come */
    pthread_rwlock_init(&m->sky, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&m->lock, NULL);
    memcpy(&m->turn, random.bytes + UUID_BYTES - sizeof m->turn, sizeof m->turn);
    return m;
}

void heads_memory_destroy(struct heads_memory **memory_p) {
    struct heads_memory *m = *memory_p;
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    pthread_rwlock_destroy(&m->sky);
    free(m);
    *memory_p = NULL;
}

void heads_take_off(struct heads_memory *m) {
    pthread_rwlock_rdlock(&m->sky);
}

void heads_take_off_alone(struct heads_memory *m) {
    pthread_rwlock_wrlock(&m->sky);
}

void heads_land(struct heads_memory **m) {
    if (*m)
        pthread_rwlock_unlock(&(*m)->sky);
    *m = NULL;
}

/* The tenant's, or another's in its place. The last bytes of a UUIDv7 are random. */
static struct left *slot_of(struct heads_memory *m, const struct uuid *tenant_id) {
    uint32_t hash;
    memcpy(&hash, tenant_id->bytes + UUID_BYTES - sizeof hash, sizeof hash);
    return &m->slots[hash % SLOTS];
}

bool heads_recall(struct heads_memory *m, struct heads *h) {
    pthread_mutex_lock(&m->lock);
    bool is_known = m->has_clock && h->count > 0;
    h->recorded_at_us = clock_mono_us() + m->ahead_us;
    for (size_t i = 0; is_known && i < h->count; i++) {
        struct head *head = &h->items[i];
        const struct left *left = slot_of(m, &head->tenant_id);
        is_known = left->is_known && uuid_equal(&left->tenant_id, &head->tenant_id);
        if (!is_known)
            break;
        head_set(head, &left->range);
        if (h->recorded_at_us < left->recorded_at_us)
            h->recorded_at_us = left->recorded_at_us;       /* times of a tree do not go back */
    }
    if (!is_known)
        pthread_mutex_unlock(&m->lock);
    return is_known;
}

/* Called under the lock. */
static void set(struct heads_memory *m, const struct heads *h) {
    int64_t now_ms = clock_mono_ms();
    for (size_t i = 0; i < h->count; i++) {
        const struct head *head = &h->items[i];
        struct left *left = slot_of(m, &head->tenant_id);
        bool is_same = uuid_equal(&left->tenant_id, &head->tenant_id);
        *left = (struct left){ .tenant_id = head->tenant_id, .recorded_at_us = h->recorded_at_us, .range = head->range,
                               .shy_until_ms = is_same ? left->shy_until_ms : 0 };
        left->is_known = left->shy_until_ms <= now_ms;
    }
}

void heads_advance(struct heads_memory *m, const struct heads *h, struct heads_turn *ret_turn) {
    set(m, h);
    ret_turn->after = (int32_t)m->turn++;
    ret_turn->own = (int32_t)m->turn;
    pthread_mutex_unlock(&m->lock);
}

void heads_stay(struct heads_memory *m) {
    pthread_mutex_unlock(&m->lock);
}

/* Whoever was answered sooner knows it better. */
void heads_read_clock(struct heads_memory *m, int64_t at_us, int64_t mono_us) {
    int64_t ahead_us = at_us - mono_us;
    pthread_mutex_lock(&m->lock);
    if (m->has_clock && ahead_us < m->ahead_us)
        ahead_us = m->ahead_us - (m->ahead_us - ahead_us) / 8;
    m->ahead_us = ahead_us;
    m->has_clock = true;
    pthread_mutex_unlock(&m->lock);
}

void heads_keep(struct heads_memory *m, const struct heads *h) {
    pthread_mutex_lock(&m->lock);
    set(m, h);
    pthread_mutex_unlock(&m->lock);
}

void heads_forget(struct heads_memory *m, const struct heads *h) {
    int64_t until_ms = clock_mono_ms() + SHY_MS;
    pthread_mutex_lock(&m->lock);
    m->has_clock = false;
    for (size_t i = 0; i < h->count; i++) {
        const struct head *head = &h->items[i];
        struct left *left = slot_of(m, &head->tenant_id);
        if (uuid_equal(&left->tenant_id, &head->tenant_id))
            *left = (struct left){ .tenant_id = head->tenant_id, .shy_until_ms = until_ms };
    }
    pthread_mutex_unlock(&m->lock);
}
