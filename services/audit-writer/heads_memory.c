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
    pthread_mutex_t lock;
    bool has_clock;
    int64_t ahead_us;           /* the database's clock less ours, or a little less than that: its answer took time */
    struct left slots[SLOTS];   /* one place for each tenant; who comes later has it */
};

struct heads_memory *heads_memory_new(void) {
    struct heads_memory *m = xalloc(sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void heads_memory_destroy(struct heads_memory **memory_p) {
    struct heads_memory *m = *memory_p;
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
    *memory_p = NULL;
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
    pthread_mutex_unlock(&m->lock);
    return is_known;
}

/* Whoever was answered sooner knows it better. */
static void read_clock(struct heads_memory *m, int64_t ahead_us) {
    if (m->has_clock && ahead_us < m->ahead_us)
        ahead_us = m->ahead_us - (m->ahead_us - ahead_us) / 8;
    m->ahead_us = ahead_us;
    m->has_clock = true;
}

void heads_keep(struct heads_memory *m, const struct heads *h, int64_t at_us, int64_t mono_us) {
    int64_t now_ms = clock_mono_ms();
    pthread_mutex_lock(&m->lock);
    if (at_us)
        read_clock(m, at_us - mono_us);
    for (size_t i = 0; i < h->count; i++) {
        const struct head *head = &h->items[i];
        struct left *left = slot_of(m, &head->tenant_id);
        bool is_same = uuid_equal(&left->tenant_id, &head->tenant_id);
        *left = (struct left){ .tenant_id = head->tenant_id, .recorded_at_us = h->recorded_at_us, .range = head->range,
                               .shy_until_ms = is_same ? left->shy_until_ms : 0 };
        left->is_known = left->shy_until_ms <= now_ms;
    }
    pthread_mutex_unlock(&m->lock);
}

void heads_forget(struct heads_memory *m, const struct heads *h) {
    int64_t until_ms = clock_mono_ms() + SHY_MS;
    pthread_mutex_lock(&m->lock);
    m->has_clock = false;
    for (size_t i = 0; i < h->count; i++) {
        const struct head *head = &h->items[i];
        struct left *left = slot_of(m, &head->tenant_id);
        if (uuid_equal(&left->tenant_id, &head->tenant_id) && left->range.size == head->old_size)
            *left = (struct left){ .tenant_id = head->tenant_id, .shy_until_ms = until_ms };
    }
    pthread_mutex_unlock(&m->lock);
}
