#include "spend.h"

#include <stdlib.h>

#include "audit.pb-c.h"
#include "core/clock.h"
#include "core/wire.h"
#include "core/worker.h"
#include "obs/log.h"

enum { ASK_MS = 3000, EVERY_MS = 5000, AGAIN_MS = 500, COSTS_MAX = 1024, REPLY_CAP_BYTES = 8 << 20 };

struct spend {
    const struct runtime *rt;
    struct accounts *accounts;
    struct worker worker;
    bool is_known;              /* what all tenants have cost was told here */
    enum status last;
    struct uuid teller;         /* this run of the process */
    int64_t telling;            /* number of what is in hand: the same costs each time, until it is answered */
    struct account_cost costs[COSTS_MAX];
    size_t count;               /* in hand */
};

static enum status ask(struct spend *s, Audit__AddModelCostsRequest *req, struct arena *mem, int64_t deadline_ms,
                       const Audit__AddModelCostsReply **ret_reply, struct why *why) {
    CLEANUP(bus_client_destroy) struct bus_client *client = bus_client_new(s->rt->bus);
    ProtobufCMessage *reply_p = NULL;
    struct call call = { .mem = mem, .bus = client, .request_id = uuid_v7(), .ticket = "", .deadline_ms = deadline_ms };
    enum status st = bus_ask(&call, "audit.AddModelCosts", &req->base, &audit__add_model_costs_reply__descriptor, &reply_p);
    *why = call.why;
    if (st != ST_OK)
        return st;
    const Audit__AddModelCostsReply *reply = *ret_reply = (const void *)reply_p;
    for (size_t i = 0; i < reply->n_sums; i++) {
        const Audit__ModelSum *sum = reply->sums[i];
        struct uuid tenant;
        if (uuid_from_bytes(sum->tenant_id.data, sum->tenant_id.len, &tenant))
            accounts_learn(s->accounts, &tenant, (const int64_t[]){ sum->day, sum->month }, clock_unix_us());
    }
    return ST_OK;
}

/* What all tenants have cost, page by page. */
static enum status learn(struct spend *s, int64_t deadline_ms, struct why *why) {
    ProtobufCBinaryData after = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(REPLY_CAP_BYTES);
    for (;;) {
        Audit__AddModelCostsRequest req = AUDIT__ADD_MODEL_COSTS_REQUEST__INIT;
        const Audit__AddModelCostsReply *reply = NULL;
        CLEANUP(arena_destroy) struct arena *page = arena_new(REPLY_CAP_BYTES);
        req.after_tenant_id = after;
        enum status st = ask(s, &req, page, deadline_ms, &reply, why);
        if (st != ST_OK || reply->n_sums == 0)
            return st;
        const ProtobufCBinaryData *last = &reply->sums[reply->n_sums - 1]->tenant_id;
        after = wire_bytes(mem, last->data, last->len);
    }
}

static enum status tell(struct spend *s, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(REPLY_CAP_BYTES);
    Audit__AddModelCostsRequest req = AUDIT__ADD_MODEL_COSTS_REQUEST__INIT;
    const Audit__AddModelCostsReply *reply = NULL;
    req.teller_id = wire_id(mem, &s->teller);
    req.telling = s->telling;
    req.costs = arena_alloc(mem, s->count * sizeof *req.costs);
    for (; req.n_costs < s->count; req.n_costs++) {
        Audit__ModelCost *cost = req.costs[req.n_costs] = arena_alloc(mem, sizeof *cost);
        audit__model_cost__init(cost);
        cost->tenant_id = wire_id(mem, &s->costs[req.n_costs].tenant);
        cost->cost = s->costs[req.n_costs].cost;
    }
    enum status st = ask(s, &req, mem, deadline_ms, &reply, why);
    s->count = st == ST_OK ? 0 : s->count;
    return st;
}

/* First what there is of all tenants; then what has come to it. True: something was told, and there may be more. */
static bool turn(struct spend *s, int64_t deadline_ms) {
    struct why why = { 0 };
    if (s->is_known && s->count == 0) {
        s->count = accounts_take(s->accounts, s->costs, COSTS_MAX);
        s->telling += s->count > 0;
    }
    bool has_costs = s->count > 0;
    enum status st = !s->is_known ? learn(s, deadline_ms, &why) : has_costs ? tell(s, deadline_ms, &why) : ST_OK;
    if (st != ST_OK && s->last == ST_OK)
        log_event(LOG_WARN, "spend_not_told", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
    if (st == ST_OK && !s->is_known) {
        accounts_know(s->accounts);
        s->is_known = true;
    }
    s->last = st;
    return st == ST_OK && has_costs;
}

static void *run(void *arg) {
    struct spend *s = arg;
    do
        (void)turn(s, clock_mono_ms() + ASK_MS);
    while (worker_rests(&s->worker, s->is_known ? EVERY_MS : AGAIN_MS));
    return NULL;
}

struct spend *spend_new(const struct runtime *rt, struct accounts *accounts) {
    struct spend *s = xalloc(sizeof *s);
    *s = (struct spend){ .rt = rt, .accounts = accounts, .teller = uuid_v7() };
    accounts_await(accounts);
    worker_start(&s->worker, run, s);
    return s;
}

void spend_end(struct spend *s, int64_t deadline_ms) {
    bool is_ours = worker_stop_by(&s->worker, deadline_ms) && s->is_known;
    while (is_ours && turn(s, deadline_ms))
        ;
}

void spend_destroy(struct spend **spend_p) {
    struct spend *s = *spend_p;
    if (!s)
        return;
    worker_stop(&s->worker);
    free(s);
    *spend_p = NULL;
}
