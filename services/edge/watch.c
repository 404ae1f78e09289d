#include "watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "auth.pb-c.h"
#include "core/clock.h"
#include "core/wire.h"
#include "core/worker.h"
#include "obs/log.h"
#include "patience.h"

enum { ASK_MS = 3000, ASKED_AT_ONCE = 2048 /* more than there are threads */, CUTS_AT_ONCE = 256 };

struct watch {
    struct bus *bus;
    struct counter *cut;
    struct worker worker;
    pthread_mutex_t lock;           /* guards the list */
    struct watched *head;
};

/* ---- the list ---- */

void watch_begin(struct watch *watch, struct watched *w) {
    w->since_ms = clock_mono_ms();
    w->is_open = true;
    w->previous = NULL;
    (void)pthread_mutex_lock(&watch->lock);
    w->next = watch->head;
    if (watch->head)
        watch->head->previous = w;
    watch->head = w;
    (void)pthread_mutex_unlock(&watch->lock);
}

bool watch_end(struct watch *watch, struct watched *w) {
    if (!w->is_open)
        return false;
    (void)pthread_mutex_lock(&watch->lock);
    if (w->previous)
        w->previous->next = w->next;
    else
        watch->head = w->next;
    if (w->next)
        w->next->previous = w->previous;
    w->is_open = false;
    (void)pthread_mutex_unlock(&watch->lock);
    return atomic_load(&w->is_ended);
}

/* ---- its thread ---- */

/* Sessions whose requests have lasted a while, each once as far as neighbours go; the oldest requests are at the end. */
static size_t gather(struct watch *watch, struct arena *mem, Auth__CheckSessionsRequest *req) {
    int64_t now_ms = clock_mono_ms();
    req->tenant_ids = arena_alloc(mem, ASKED_AT_ONCE * sizeof *req->tenant_ids);
    req->session_ids = arena_alloc(mem, ASKED_AT_ONCE * sizeof *req->session_ids);
    (void)pthread_mutex_lock(&watch->lock);
    for (const struct watched *w = watch->head; w && req->n_session_ids < ASKED_AT_ONCE; w = w->next) {
        if (now_ms - w->since_ms < WATCH_PAUSE_MS || atomic_load(&w->is_ended))
            continue;
        req->tenant_ids[req->n_tenant_ids++] = wire_id(mem, &w->tenant_id);
        req->session_ids[req->n_session_ids++] = wire_id(mem, &w->session_id);
    }
    (void)pthread_mutex_unlock(&watch->lock);
    return req->n_session_ids;
}

static bool is_among(const Auth__CheckSessionsReply *reply, const struct uuid *id) {
    for (size_t i = 0; i < reply->n_ended_ids; i++)
        if (reply->ended_ids[i].len == UUID_BYTES && memcmp(reply->ended_ids[i].data, id->bytes, UUID_BYTES) == 0)
            return true;
    return false;
}

/* Shut those whose sessions are in reply; all when it is NULL. Under the lock, so that none of them can be closed meanwhile. */
static void end_those(struct watch *watch, const Auth__CheckSessionsReply *reply) {
    struct patience_cut cuts[CUTS_AT_ONCE];
    unsigned count = 0;
    (void)pthread_mutex_lock(&watch->lock);
    for (struct watched *w = watch->head; w && count < CUTS_AT_ONCE; w = w->next)
        if (!atomic_load(&w->is_ended) && (!reply || is_among(reply, &w->session_id))) {
            atomic_store(&w->is_ended, true);
            count += patience_cut_init(&cuts[count], w->address, w->port);
        }
    if (count)
        patience_cut_all(cuts, count);
    (void)pthread_mutex_unlock(&watch->lock);
    counter_add(watch->cut, count);
}

/* True: auth has answered, or nobody needed it to. */
static bool look(struct watch *watch, struct bus_client *client, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(BUS_BODY_CAP_BYTES);
    Auth__CheckSessionsRequest req = AUTH__CHECK_SESSIONS_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    if (!gather(watch, mem, &req))
        return true;
    struct call call = { .mem = mem, .bus = client, .request_id = uuid_v7(), .method = "", .ticket = "", .traceparent = "", .attempt = 1,
                         .deadline_ms = clock_mono_ms() + ASK_MS };
    if (bus_ask(&call, "auth.CheckSessions", &req.base, &auth__check_sessions_reply__descriptor, &reply) != ST_OK) {
        *why = call.why;
        return false;
    }
    end_those(watch, (const void *)reply);
    return true;
}

static void *run(void *arg) {
    struct watch *watch = arg;
    struct bus_client *client = bus_client_new(watch->bus);
    int64_t told_ms = clock_mono_ms();
    do {
        struct why why = { 0 };
        if (look(watch, client, &why)) {
            told_ms = clock_mono_ms();
        } else if (clock_mono_ms() - told_ms > WATCH_BLIND_MS) {
            log_event(LOG_WARN, "watch_blind", LOG_TEXT("effect", "auth does not say whose sessions have ended: all that is under way is cut"),
                      LOG_TEXT("why", why.text));
            end_those(watch, NULL);
        }
    } while (worker_rests(&watch->worker, WATCH_PAUSE_MS));
    bus_client_destroy(&client);
    return NULL;
}

struct watch *watch_new(struct bus *bus, struct metrics *metrics) {
    struct watch *watch = xalloc(sizeof *watch);
    watch->bus = bus;
    watch->cut = metrics_counter(metrics, "cordon_edge_requests_cut_total", "Requests under way that were cut because their session had ended.", "");
    (void)pthread_mutex_init(&watch->lock, NULL);
    worker_start(&watch->worker, run, watch);
    return watch;
}

void watch_destroy(struct watch **watch_p) {
    struct watch *watch = *watch_p;
    if (!watch)
        return;
    worker_stop(&watch->worker);
    (void)pthread_mutex_destroy(&watch->lock);
    free(watch);
    *watch_p = NULL;
}
