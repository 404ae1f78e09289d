#include "auth_cache.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

enum { BUCKETS = 256, WAYS = 8, MARGIN_US = 5000000 };

struct entry {
    uint8_t key[32];
    int64_t asked_ms;
    struct pass pass;               /* ticket: the entry's own */
    size_t ticket_bytes;            /* with its NUL; 0: the entry is free */
};

struct bucket { pthread_mutex_t lock; struct entry entries[WAYS]; };
struct auth_cache { struct bucket buckets[BUCKETS]; };

struct auth_cache *auth_cache_new(void) {
    struct auth_cache *cache = xalloc(sizeof *cache);
    for (int i = 0; i < BUCKETS; i++)
        (void)pthread_mutex_init(&cache->buckets[i].lock, NULL);
    return cache;
}

static void forget(struct entry *e) {
    if (e->ticket_bytes)
        OPENSSL_cleanse((char *)e->pass.ticket, e->ticket_bytes);
    free((char *)e->pass.ticket);
    *e = (struct entry){ 0 };
}

void auth_cache_destroy(struct auth_cache **cache_p) {
    struct auth_cache *cache = *cache_p;
    if (!cache)
        return;
    for (int i = 0; i < BUCKETS; i++) {
        for (int k = 0; k < WAYS; k++)
            forget(&cache->buckets[i].entries[k]);
        (void)pthread_mutex_destroy(&cache->buckets[i].lock);
    }
    free(cache);
    *cache_p = NULL;
}

static void forget_old(struct bucket *bucket, int64_t now_ms) {
    for (int k = 0; k < WAYS; k++)
        if (bucket->entries[k].ticket_bytes && now_ms - bucket->entries[k].asked_ms >= AUTH_CACHE_MS)
            forget(&bucket->entries[k]);
}

static struct entry *find(struct bucket *bucket, const uint8_t key[32]) {
    for (int k = 0; k < WAYS; k++)
        if (bucket->entries[k].ticket_bytes && CRYPTO_memcmp(bucket->entries[k].key, key, 32) == 0)
            return &bucket->entries[k];
    return NULL;
}

bool auth_cache_find(struct auth_cache *cache, const uint8_t key[32], int64_t asked_ms, struct arena *mem, struct pass *ret_pass) {
    struct bucket *bucket = &cache->buckets[key[0]];
    (void)pthread_mutex_lock(&bucket->lock);
    forget_old(bucket, asked_ms);
    struct entry *e = find(bucket, key);
    bool is_good = e && e->pass.expires_at_us - clock_unix_us() > MARGIN_US;
    if (is_good) {
        *ret_pass = e->pass;
        ret_pass->ticket = arena_strdup(mem, e->pass.ticket);
    }
    (void)pthread_mutex_unlock(&bucket->lock);
    return is_good;
}

void auth_cache_keep(struct auth_cache *cache, const uint8_t key[32], int64_t asked_ms, const struct pass *pass) {
    struct bucket *bucket = &cache->buckets[key[0]];
    size_t size = strlen(pass->ticket) + 1;
    if (size > AUTH_TICKET_MAX_BYTES)
        return;
    (void)pthread_mutex_lock(&bucket->lock);
    struct entry *e = find(bucket, key);
    if (!e) {                       /* a free one, else the oldest */
        e = &bucket->entries[0];
        for (int k = 1; k < WAYS && e->ticket_bytes; k++)
            if (!bucket->entries[k].ticket_bytes || bucket->entries[k].asked_ms < e->asked_ms)
                e = &bucket->entries[k];
    }
    if (!e->ticket_bytes || e->asked_ms <= asked_ms) {
        forget(e);
        memcpy(e->key, key, 32);
        e->asked_ms = asked_ms;
        e->pass = *pass;
        e->pass.ticket = xstrdup(pass->ticket);
        e->ticket_bytes = size;
    }
    (void)pthread_mutex_unlock(&bucket->lock);
}

void auth_cache_key(const char *token, uint8_t ret_key[32]) {
    if (EVP_Digest(token, strlen(token), ret_key, NULL, EVP_sha256(), NULL) != 1)
        abort();
}
