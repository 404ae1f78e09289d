/* announce — a process without a database says that it has started to one that has, until that has put it on the record; and once,
 * that it ends. */
#include <stdlib.h>

#include "audit.pb-c.h"
#include "core/clock.h"
#include "core/wire.h"
#include "core/worker.h"
#include "service/skeleton.h"

enum { ASK_MS = 3000, AGAIN_MS = 1000, REPLY_CAP_BYTES = 4096 };

struct announce {
    const struct runtime *rt;
    const char *method;
    atomic_bool is_recorded;
    struct worker worker;
};

static enum status say(struct announce *a, bool has_ended, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(REPLY_CAP_BYTES);
    CLEANUP(bus_client_destroy) struct bus_client *client = bus_client_new(a->rt->bus);
    Audit__RecordStartRequest req = AUDIT__RECORD_START_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.instance_id = wire_id(mem, &a->rt->instance_id);
    req.ended = has_ended;
    req.version = (char *)a->rt->version;
    req.settings_sha256 = (char *)a->rt->settings_sha256;
    req.settings_changed = (char *)a->rt->settings_changed;
    struct call call = { .mem = mem, .bus = client, .request_id = a->rt->instance_id, .ticket = "", .deadline_ms = deadline_ms };
    enum status st = bus_ask(&call, a->method, &req.base, &audit__record_start_reply__descriptor, &reply);
    *why = call.why;
    return st;
}

static void *run(void *arg) {
    struct announce *a = arg;
    enum status last = ST_OK;
    do {
        struct why why = { 0 };
        enum status st = say(a, false, clock_mono_ms() + ASK_MS, &why);
        atomic_store(&a->is_recorded, st == ST_OK);
        if (st != ST_OK && st != last)
            log_event(LOG_WARN, "start_not_recorded", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
        last = st;
    } while (!atomic_load(&a->is_recorded) && worker_rests_unless(&a->worker, runtime_stop_fd(a->rt), AGAIN_MS) && !runtime_is_stopping(a->rt));
    return NULL;
}

struct announce *announce_new(const struct runtime *rt, const char *method) {
    struct announce *a = xalloc(sizeof *a);
    *a = (struct announce){ .rt = rt, .method = method };
    worker_start(&a->worker, run, a);
    return a;
}

bool announce_is_recorded(const struct announce *a) {
    return !a || atomic_load(&a->is_recorded);
}

enum status announce_end(struct announce *a, int64_t deadline_ms, struct why *why) {
    return a && atomic_load(&a->is_recorded) ? say(a, true, deadline_ms, why) : ST_OK;
}

void announce_destroy(struct announce **announce_p) {
    if (!*announce_p)
        return;
    worker_stop(&(*announce_p)->worker);
    free(*announce_p);
    *announce_p = NULL;
}
