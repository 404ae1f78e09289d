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
    bool is_known;              /* the first answer is there */
    enum status last;
};

static enum status tell(struct spend *s, const struct account_cost costs[], size_t count, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(REPLY_CAP_BYTES);
    CLEANUP(bus_client_destroy) struct bus_client *client = bus_client_new(s->rt->bus);
    Audit__AddModelCostsRequest req = AUDIT__ADD_MODEL_COSTS_REQUEST__INIT;
    ProtobufCMessage *reply_p = NULL;
    req.costs = arena_alloc(mem, (count + 1) * sizeof *req.costs);
    for (; req.n_costs < count; req.n_costs++) {
        Audit__ModelCost *cost = req.costs[req.n_costs] = arena_alloc(mem, sizeof *cost);
        audit__model_cost__init(cost);
        cost->tenant_id = wire_id(mem, &costs[req.n_costs].tenant);
        cost->cost = costs[req.n_costs].cost;
    }
    struct call call = { .mem = mem, .bus = client, .request_id = uuid_v7(), .ticket = "", .deadline_ms = deadline_ms };
    enum status st = bus_ask(&call, "audit.AddModelCosts", &req.base, &audit__add_model_costs_reply__descriptor, &reply_p);
    *why = call.why;
    if (st != ST_OK)
        return st;
    const Audit__AddModelCostsReply *reply = (const void *)reply_p;
    for (size_t i = 0; i < reply->n_sums; i++) {
        const Audit__ModelSum *sum = reply->sums[i];
        struct uuid tenant;
        if (uuid_from_bytes(sum->tenant_id.data, sum->tenant_id.len, &tenant))
            accounts_learn(s->accounts, &tenant, (const int64_t[]){ sum->day, sum->month }, clock_unix_us());
    }
    return ST_OK;
}

/* First what there is of all tenants; then what has come to it. */
static void turn(struct spend *s, int64_t deadline_ms) {
    struct account_cost *costs = xalloc(COSTS_MAX * sizeof *costs);
    struct why why = { 0 };
    size_t count = s->is_known ? accounts_take(s->accounts, costs, COSTS_MAX) : 0;
    enum status st = s->is_known && count == 0 ? ST_OK : tell(s, costs, count, deadline_ms, &why);
    if (st != ST_OK)
        accounts_give_back(s->accounts, costs, count);
    else if (!s->is_known)
        accounts_know(s->accounts);
    if (st != ST_OK && s->last == ST_OK)
        log_event(LOG_WARN, "spend_not_told", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
    s->is_known |= st == ST_OK;
    s->last = st;
    free(costs);
}

static void *run(void *arg) {
    struct spend *s = arg;
    do
        turn(s, clock_mono_ms() + ASK_MS);
    while (worker_rests(&s->worker, s->is_known ? EVERY_MS : AGAIN_MS));
    return NULL;
}

struct spend *spend_new(const struct runtime *rt, struct accounts *accounts) {
    struct spend *s = xalloc(sizeof *s);
    *s = (struct spend){ .rt = rt, .accounts = accounts };
    accounts_await(accounts);
    worker_start(&s->worker, run, s);
    return s;
}

void spend_end(struct spend *s, int64_t deadline_ms) {
    if (worker_stop_by(&s->worker, deadline_ms) && s->is_known)
        turn(s, deadline_ms);
}

void spend_destroy(struct spend **spend_p) {
    struct spend *s = *spend_p;
    if (!s)
        return;
    worker_stop(&s->worker);
    free(s);
    *spend_p = NULL;
}
