/* What tenants have cost, on its way to audit-writer, which a node of the test plays over a real bus. */
#include <criterion/criterion.h>
#include <stdatomic.h>

#include "audit.pb-c.h"
#include "core/clock.h"
#include "spend.h"
#include "unit/bus_fixture.h"

enum { NEVER_MS = 60000 };

static struct metrics *metrics;
static struct accounts *accounts;
static struct node writer, own;
static struct runtime rt;
static atomic_llong told;           /* costs of all calls */
static atomic_uint asked;

static enum status add_costs(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    const Audit__AddModelCostsRequest *req = audit__add_model_costs_request__unpack(arena_wire(call->mem), body.len, body.data);
    Audit__AddModelCostsReply *reply = arena_alloc(call->mem, sizeof *reply);
    audit__add_model_costs_reply__init(reply);
    for (size_t i = 0; req && i < req->n_costs; i++)
        told += req->costs[i]->cost;
    asked++;
    *ret_reply = &reply->base;
    return ST_OK;
}

static void set_up(void) {
    struct why why = { 0 };
    make_keys();
    metrics = metrics_new();
    cr_assert_eq(accounts_new(&(struct accounts_options){ .prices = { 1, 1, 1 }, .exceptions = "", .series_count = 1, .metrics = metrics }, &accounts, &why), ST_OK);
    callee_init(&writer, PEER_AUDIT_WRITER, 0, 1, add_costs, NULL);
    writer.opt.callers = PEER_EMBEDDING_WORKER;
    node_start(&writer);
    node_init(&own, PEER_EMBEDDING_WORKER);
    own.opt.endpoints[peer_index(PEER_AUDIT_WRITER)] = writer.listen;
    node_start(&own);
    rt = (struct runtime){ .process = "embedding-worker", .bus = own.bus, .metrics = metrics };
}

static void tear_down(void) {
    node_stop(&own);
    node_stop(&writer);
    accounts_destroy(&accounts);
    metrics_destroy(&metrics);
}

TestSuite(spend, .init = set_up, .fini = tear_down, .timeout = 60);

/* As the skeleton ends a process: drain, then the bus is halted, then close. */
Test(spend, what_was_spent_last_is_told_before_the_bus_is_halted) {
    struct uuid tenant = uuid_v7();
    struct spend *spend = spend_new(&rt, accounts);
    WAIT_FOR(asked == 1);           /* of all tenants, at first; what comes now is for five seconds later */
    accounts_charge(accounts, &tenant, (uint64_t[USE_COUNT]){ 7, 0, 0 }, clock_unix_us());
    spend_end(spend, clock_mono_ms() + NEVER_MS);
    bus_halt(own.bus);
    spend_destroy(&spend);
    cr_expect_eq(told, 7);
}
