#include "preflight.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "aws/bedrock_control.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/worker.h"

enum { ASK_MS = 20000, AGAIN_MS = 3000, KEEP_MS = 600000 };

struct preflight {
    struct preflight_options options;
    struct worker worker;
    atomic_bool is_otherwise;               /* than declared */
    pthread_mutex_t lock;                   /* guards status and why */
    enum status status;
    struct why why;
};

/* Is name one of a list with commas between? */
static bool is_listed(const char *list, const char *name) {
    size_t len = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, ",")) {
        at += *at == ',';
        if (strcspn(at, ",") == len && strncmp(at, name, len) == 0)
            return true;
    }
    return false;
}

static enum status check_profile(const struct preflight_options *o, const char *model, struct arena *mem, int64_t deadline_ms, struct why *why) {
    const char **regions = NULL;
    if (!*model || !bedrock_is_profile(model))
        return ST_OK;
    enum status st = bedrock_profile_regions(o->aws, o->control_endpoint, model, deadline_ms, mem, &regions, why);
    for (size_t i = 0; st == ST_OK && regions[i]; i++)
        if (!is_listed(o->regions, regions[i]))
            return fail(why, ST_FORBIDDEN, "the inference profile %.80s may send to %.40s, which CORDON_MODEL_REGIONS does not declare", model, regions[i]);
    return st;
}

enum status preflight_account(const struct preflight_options *o, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *const models[] = { o->embed_model, o->old_embed_model, o->chat_model };
    const char **places = NULL;
    if (!o->control_endpoint)
        return ST_OK;
    enum status st = bedrock_log_places(o->aws, o->control_endpoint, deadline_ms, mem, &places, why);
    for (size_t i = 0; st == ST_OK && places[i]; i++)
        if (!is_listed(o->log_places, places[i]))
            return fail(why, ST_FORBIDDEN, "Bedrock logs invocations to %.100s, which CORDON_BEDROCK_LOG_PLACES does not declare", places[i]);
    for (size_t i = 0; st == ST_OK && i < sizeof models / sizeof *models; i++)
        st = check_profile(o, models[i], mem, deadline_ms, why);
    return st;
}

static enum status ask_embed(struct preflight *p, const char *model, struct why *why) {
    float vector[BEDROCK_DIMENSIONS];
    uint32_t tokens = 0;
    struct embed_request embed = { model, "ready", false };
    return *model ? bedrock_embed(p->options.bedrock, &embed, clock_mono_ms() + ASK_MS, vector, &tokens, why) : ST_OK;
}

static enum status ask_models(struct preflight *p, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const struct preflight_options *o = &p->options;
    struct converse_reply reply;
    struct converse_request converse = { o->chat_model, "Answer with the word ready.", "Are you ready?", 8, o->guardrail_id, o->guardrail_version };
    enum status st = ask_embed(p, o->embed_model, why);
    if (st == ST_OK || st == ST_LIMITED)        /* a model that throttles is there */
        st = ask_embed(p, o->old_embed_model, why);
    if (st == ST_OK || st == ST_LIMITED)
        st = bedrock_converse(o->bedrock, &converse, clock_mono_ms() + ASK_MS, mem, &reply, why);
    return st == ST_LIMITED || (st != ST_OK && why->code == ERR_MODEL_GUARDED) ? ST_OK : st;
}

static void *watch(void *arg) {
    struct preflight *p = arg;
    enum status st;
    do {
        struct why why = { 0 };
        st = preflight_account(&p->options, clock_mono_ms() + ASK_MS, &why);
        if (st == ST_OK || st == ST_FORBIDDEN)
            atomic_store(&p->is_otherwise, st == ST_FORBIDDEN);
        if (st == ST_OK)
            st = ask_models(p, &why);
        (void)pthread_mutex_lock(&p->lock);
        p->status = st;
        p->why = why;
        (void)pthread_mutex_unlock(&p->lock);
    } while (worker_rests(&p->worker, st == ST_OK ? KEEP_MS : AGAIN_MS));
    return NULL;
}

struct preflight *preflight_new(const struct preflight_options *options) {
    struct preflight *p = xalloc(sizeof *p);
    p->options = *options;
    p->status = fail_as(&p->why, ERR_MODEL_UNAVAILABLE, "the models were not asked yet");
    pthread_mutex_init(&p->lock, NULL);
    worker_start(&p->worker, watch, p);
    return p;
}

void preflight_destroy(struct preflight **preflight_p) {
    struct preflight *p = *preflight_p;
    if (!p)
        return;
    worker_stop(&p->worker);
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
    if (!atomic_load(&p->is_otherwise))
        return ST_OK;
    why->retry_after_ms = AGAIN_MS;
    return fail_as(why, ERR_MODEL_UNAVAILABLE, "the account's logging or profiles are not as declared: nothing is sent");
}
