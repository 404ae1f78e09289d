#include "preflight.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"

enum { ASK_MS = 20000, AGAIN_MS = 3000, KEEP_MS = 600000, NAP_MS = 200 };

struct preflight {
    struct bedrock *bedrock;
    const char *embed_model, *chat_model;
    const struct runtime *runtime;
    pthread_t thread;
    atomic_bool is_closing;
    pthread_mutex_t lock;           /* guards status and why */
    enum status status;
    struct why why;
};

static enum status ask_models(struct preflight *p, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    float vector[BEDROCK_DIMENSIONS];
    uint32_t tokens = 0;
    struct converse_reply reply;
    struct embed_request embed = { p->embed_model, "ready", false };
    struct converse_request converse = { p->chat_model, "Answer with the word ready.", "Are you ready?", 8, NULL, NULL };
    enum status st = bedrock_embed(p->bedrock, &embed, clock_mono_ms() + ASK_MS, vector, &tokens, why);
    return st == ST_OK ? bedrock_converse(p->bedrock, &converse, clock_mono_ms() + ASK_MS, mem, &reply, why) : st;
}

/* True when the thread shall end. */
static bool rest(struct preflight *p, int64_t ms) {
    int64_t until_ms = clock_mono_ms() + ms;
    while (!atomic_load(&p->is_closing) && clock_mono_ms() < until_ms)
        if (runtime_wait_stop(p->runtime, NAP_MS))
            return true;
    return atomic_load(&p->is_closing);
}

static void *watch(void *arg) {
    struct preflight *p = arg;
    enum status st;
    do {
        struct why why = { 0 };
        st = ask_models(p, &why);
        st = st == ST_LIMITED ? ST_OK : st;     /* a model that throttles is there */
        (void)pthread_mutex_lock(&p->lock);
        p->status = st;
        p->why = why;
        (void)pthread_mutex_unlock(&p->lock);
    } while (!rest(p, st == ST_OK ? KEEP_MS : AGAIN_MS));
    return NULL;
}

struct preflight *preflight_new(struct bedrock *bedrock, const char *embed_model, const char *chat_model, const struct runtime *rt) {
    struct preflight *p = xalloc(sizeof *p);
    p->bedrock = bedrock;
    p->embed_model = embed_model;
    p->chat_model = chat_model;
    p->runtime = rt;
    p->status = fail_as(&p->why, ERR_MODEL_UNAVAILABLE, "the models were not asked yet");
    if (pthread_mutex_init(&p->lock, NULL) != 0 || pthread_create(&p->thread, NULL, watch, p) != 0)
        abort();
    return p;
}

void preflight_destroy(struct preflight **preflight_p) {
    struct preflight *p = *preflight_p;
    if (!p)
        return;
    atomic_store(&p->is_closing, true);
    (void)pthread_join(p->thread, NULL);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
    *preflight_p = NULL;
}

enum status preflight_status(struct preflight *p, struct why *why) {
    (void)pthread_mutex_lock(&p->lock);
    enum status st = p->status;
    if (st != ST_OK)
        *why = p->why;
    (void)pthread_mutex_unlock(&p->lock);
    return st;
}

enum status preflight_may_send(struct preflight *p, struct why *why) {
    (void)p;
    (void)why;
    return ST_OK;
}
