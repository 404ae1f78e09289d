/* What tenants have cost, on its way to audit-writer, which a node of the test plays over a real bus. */
#include <criterion/criterion.h>
#include <stdatomic.h>

#include "audit.pb-c.h"
#include "core/clock.h"
#include "core/wire.h"
#include "spend.h"
#include "unit/bus_fixture.h"

enum { NEVER_MS = 60000 };

static struct metrics *metrics;
static struct accounts *accounts;
static struct node writer, own;
static struct runtime rt;
enum { TENANTS = 3, PAGE = 2 };

static atomic_llong told;           /* costs of all calls */
static atomic_uint asked;           /* for pages */
static atomic_int refuses_count;    /* so many of the next tellings are told that it did not work */
static long long tellings[8], costs_of[8];
static struct uuid tellers[8], tenants[TENANTS];
static atomic_uint telling_count;

/* Each of the tenants has spent 5, a page of two at a time. */
static void add_page(const Audit__AddModelCostsRequest *req, Audit__AddModelCostsReply *reply, struct arena *mem) {
    reply->sums = arena_alloc(mem, TENANTS * sizeof *reply->sums);
    for (int i = 0; i < TENANTS && reply->n_sums < PAGE; i++) {
        if (req->after_tenant_id.len && memcmp(tenants[i].bytes, req->after_tenant_id.data, UUID_BYTES) <= 0)
            continue;
        Audit__ModelSum *sum = reply->sums[reply->n_sums++] = arena_alloc(mem, sizeof *sum);
        audit__model_sum__init(sum);
        sum->tenant_id = wire_id(mem, &tenants[i]);
        sum->day = sum->month = INT64_C(5) * 1000000;
    }
}

static enum status add_costs(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    const Audit__AddModelCostsRequest *req = audit__add_model_costs_request__unpack(arena_wire(call->mem), body.len, body.data);
    Audit__AddModelCostsReply *reply = arena_alloc(call->mem, sizeof *reply);
    audit__add_model_costs_reply__init(reply);
    *ret_reply = &reply->base;
    if (!req || req->n_costs == 0) {
        add_page(req, reply, call->mem);
        asked++;
        return ST_OK;
    }
    unsigned n = telling_count;
    for (size_t i = 0; i < req->n_costs; i++)
        costs_of[n] += req->costs[i]->cost;
    told += costs_of[n];
    tellings[n] = req->telling;
    cr_assert(uuid_from_bytes(req->teller_id.data, req->teller_id.len, &tellers[n]));
    telling_count++;
    return refuses_count-- > 0 ? fail(&call->why, ST_INTERNAL, "after it was added") : ST_OK;
}

static void set_up(void) {
    struct why why = { 0 };
    make_keys();
    for (int i = 0; i < TENANTS; i++)
        tenants[i] = (struct uuid){ .bytes = { (uint8_t)(i + 1) } };
    metrics = metrics_new();
    cr_assert_eq(accounts_new(&(struct accounts_options){ .prices = { 1, 1, 1 }, .day_budget = 5, .exceptions = "", .series_count = 1, .metrics = metrics }, &accounts, &why), ST_OK);
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
    WAIT_FOR(asked == 3);           /* of all tenants, at first; what comes now is for five seconds later */
    accounts_charge(accounts, &tenant, (uint64_t[USE_COUNT]){ 7, 0, 0 }, clock_unix_us());
    spend_end(spend, clock_mono_ms() + NEVER_MS);
    bus_halt(own.bus);
    spend_destroy(&spend);
    cr_expect_eq(told, 7);
}

Test(spend, all_pages_of_what_was_spent_are_read_before_budgets_are_granted) {
    struct why why = { 0 };
    struct uuid other = uuid_v7();
    struct spend *spend = spend_new(&rt, accounts);
    WAIT_FOR(accounts_admit(accounts, &other, clock_unix_us(), &why) == ST_OK);
    for (int i = 0; i < TENANTS; i++)
        cr_expect_eq(accounts_admit(accounts, &tenants[i], clock_unix_us(), &why), ST_LIMITED, "%d", i);
    cr_expect_eq(asked, 3, "the last one is empty");
    spend_destroy(&spend);
}

Test(spend, a_telling_whose_answer_was_lost_is_repeated_as_it_was_and_what_came_since_is_the_next) {
    struct uuid tenant = uuid_v7();
    struct spend *spend = spend_new(&rt, accounts);
    WAIT_FOR(asked == 3);
    refuses_count = 1;
    accounts_charge(accounts, &tenant, (uint64_t[USE_COUNT]){ 7, 0, 0 }, clock_unix_us());
    WAIT_FOR(telling_count == 1);
    accounts_charge(accounts, &tenant, (uint64_t[USE_COUNT]){ 2, 0, 0 }, clock_unix_us());
    spend_end(spend, clock_mono_ms() + NEVER_MS);
    spend_destroy(&spend);
    cr_assert_eq(telling_count, 3);
    cr_expect(tellings[0] == 1 && tellings[1] == 1 && tellings[2] == 2, "%lld %lld %lld", tellings[0], tellings[1], tellings[2]);
    cr_expect(costs_of[0] == 7 && costs_of[1] == 7 && costs_of[2] == 2, "%lld %lld %lld", costs_of[0], costs_of[1], costs_of[2]);
    cr_expect(uuid_equal(&tellers[0], &tellers[1]) && uuid_equal(&tellers[0], &tellers[2]));
}
