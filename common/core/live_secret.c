#include "core/live_secret.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/arena.h"

struct live_secret {
    pthread_mutex_t lock;
    struct secret *value;
    unsigned version;
    live_secret_look look;
    void *ctx;
};

struct live_secret *live_secret_new(const void *bytes, size_t len) {
    struct live_secret *s = xalloc(sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->value = secret_new(bytes, len);
    return s;
}

void live_secret_destroy(struct live_secret **secret_p) {
    struct live_secret *s = *secret_p;
    if (!s)
        return;
    secret_destroy(&s->value);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *secret_p = NULL;
}

struct secret *live_secret_copy(struct live_secret *s, unsigned *ret_version) {
    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    struct secret *copy = secret_new(s->value->bytes, s->value->len);
    *ret_version = s->version;
    pthread_mutex_unlock(&s->lock);
    return copy;
}

bool live_secret_refused(struct live_secret *s, unsigned version, int64_t deadline_ms) {
    if (!s)
        return false;
    pthread_mutex_lock(&s->lock);
    live_secret_look look = s->version == version ? s->look : NULL;
    void *ctx = s->ctx;
    pthread_mutex_unlock(&s->lock);
    if (look)
        look(ctx, s, version, deadline_ms);
    pthread_mutex_lock(&s->lock);
    bool is_another = s->version != version;
    pthread_mutex_unlock(&s->lock);
    return is_another;
}

bool live_secret_set(struct live_secret *s, const void *bytes, size_t len) {
    pthread_mutex_lock(&s->lock);
    bool is_another = !secret_equal(s->value, bytes, len);
    if (is_another) {
        secret_destroy(&s->value);
        s->value = secret_new(bytes, len);
        s->version++;
    }
    pthread_mutex_unlock(&s->lock);
    return is_another;
}

void live_secret_keep(struct live_secret *s, live_secret_look look, void *ctx) {
    pthread_mutex_lock(&s->lock);
    s->look = look;
    s->ctx = ctx;
    pthread_mutex_unlock(&s->lock);
}
