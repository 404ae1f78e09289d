/* What the models cost tenants: added up for embedding-worker, all replicas together, by day and month. */
#include <criterion/criterion.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "core/wire.h"
#include "rig.h"

TestSuite(audit_spend, .init = rig_open, .fini = rig_close, .timeout = 60);

static struct uuid id(const char *text) {
    struct uuid uuid;
    cr_assert(uuid_parse(text, strlen(text), &uuid));
    return uuid;
}

static enum status ask(enum peer peer, Audit__AddModelCostsRequest *req, struct arena *mem, const Audit__AddModelCostsReply **ret_reply) {
    struct audit_writer writer = { .db = rig_pool() };
    struct call call = { .mem = mem, .ticket = "", .peer = peer, .deadline_ms = clock_mono_ms() + 10000 };
    uint8_t packed[256];
    ProtobufCBinaryData body = { audit__add_model_costs_request__pack(req, packed), packed };
    ProtobufCMessage *reply = NULL;
    enum status st = service_dispatch(&AUDIT_WRITER, &writer, &call, "audit.AddModelCosts", body, &reply);
    *ret_reply = (const void *)reply;
    return st;
}

/* ret_sums: "day/month" of each tenant, as they come. */
static enum status tell(enum peer peer, const struct uuid *teller, int64_t telling, const char *tenant, int64_t cost, char ret_sums[128]) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 16);
    Audit__AddModelCostsRequest req = AUDIT__ADD_MODEL_COSTS_REQUEST__INIT;
    Audit__ModelCost one = AUDIT__MODEL_COST__INIT, *costs[] = { &one };
    const Audit__AddModelCostsReply *reply = NULL;
    struct uuid who = id(tenant ? tenant : PG_TENANT_A);
    one.tenant_id = wire_id(mem, &who);
    one.cost = cost;
    req.costs = costs;
    req.n_costs = tenant ? 1 : 0;
    req.teller_id = wire_id(mem, teller);
    req.telling = telling;
    enum status st = ask(peer, &req, mem, &reply);
    ret_sums[0] = '\0';
    for (size_t i = 0, used = 0; st == ST_OK && i < reply->n_sums; i++)
        used += (size_t)snprintf(ret_sums + used, 128 - used, "%s%lld/%lld", i ? " " : "", (long long)reply->sums[i]->day, (long long)reply->sums[i]->month);
    return st;
}

/* tenant NULL: no costs. Each time by another. */
static enum status add(enum peer peer, const char *tenant, int64_t cost, char ret_sums[128]) {
    struct uuid teller = uuid_v7();
    return tell(peer, &teller, 1, tenant, cost, ret_sums);
}

Test(audit_spend, is_added_up_by_tenant_day_and_month_and_told_at_a_start) {
    char sums[128];
    pg_ask(pg_admin(), "INSERT INTO audit.model_spend (day, tenant_id, cost) SELECT d::date, '" PG_TENANT_A "', 5 FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) t, "
                       "LATERAL (VALUES (date_trunc('month', today) - interval '1 day'), (today - 500)) v (d)");
    cr_assert_eq(add(PEER_EMBEDDING_WORKER, NULL, 0, sums), ST_OK);
    cr_expect_str_eq(sums, "", "an earlier month's is not this one's");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.model_spend"), "1", "what is older than 400 days is gone");
    cr_assert_eq(add(PEER_EMBEDDING_WORKER, PG_TENANT_A, 100, sums), ST_OK);
    cr_expect_str_eq(sums, "100/100");
    cr_assert_eq(add(PEER_EMBEDDING_WORKER, PG_TENANT_A, 20, sums), ST_OK);
    cr_expect_str_eq(sums, "120/120", "as another replica would add");
    cr_assert_eq(add(PEER_EMBEDDING_WORKER, PG_TENANT_B, INT64_MAX, sums), ST_OK);
    cr_assert_eq(add(PEER_EMBEDDING_WORKER, PG_TENANT_B, INT64_MAX, sums), ST_OK, "more than fits is the most that does");
    cr_expect_str_eq(sums, "9223372036854775807/9223372036854775807");
    pg_ask(pg_admin(), "DELETE FROM audit.model_spend WHERE tenant_id = '" PG_TENANT_B "'");
    cr_assert_eq(add(PEER_EMBEDDING_WORKER, NULL, 0, sums), ST_OK);
    cr_expect_str_eq(sums, "120/120", "as a process that starts is told");
}

Test(audit_spend, is_taken_from_embedding_worker_alone_and_never_negative) {
    const enum peer others[] = { PEER_EDGE, PEER_AUTH, PEER_INGEST_WORKER, PEER_QUERY, PEER_AUDIT_WRITER, PEER_NONE };
    char sums[128];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_eq(add(others[i], PG_TENANT_A, 1, sums), ST_FORBIDDEN, "%s", peer_name(others[i]));
    cr_expect_eq(add(PEER_EMBEDDING_WORKER, PG_TENANT_A, -1, sums), ST_INVALID);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.model_spend"), "0");
}

Test(audit_spend, is_added_once_however_often_it_is_told) {
    struct uuid one = uuid_v7(), other = uuid_v7();
    char sums[128];
    cr_assert_eq(tell(PEER_EMBEDDING_WORKER, &one, 1, PG_TENANT_A, 10, sums), ST_OK);
    cr_assert_eq(tell(PEER_EMBEDDING_WORKER, &one, 1, PG_TENANT_A, 10, sums), ST_OK, "its answer was lost");
    cr_expect_str_eq(sums, "10/10");
    cr_assert_eq(tell(PEER_EMBEDDING_WORKER, &one, 2, PG_TENANT_A, 5, sums), ST_OK);
    cr_assert_eq(tell(PEER_EMBEDDING_WORKER, &one, 1, PG_TENANT_A, 10, sums), ST_OK, "late");
    cr_expect_str_eq(sums, "15/15");
    cr_assert_eq(tell(PEER_EMBEDDING_WORKER, &other, 1, PG_TENANT_A, 1, sums), ST_OK);
    cr_expect_str_eq(sums, "16/16");
    cr_expect_eq(tell(PEER_EMBEDDING_WORKER, &one, 0, PG_TENANT_A, 1, sums), ST_INVALID, "who does not count");
}

Test(audit_spend, of_all_tenants_is_told_page_by_page) {
    enum { TENANTS = 5000 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 24);
    pg_ask(pg_admin(), "INSERT INTO audit.model_spend (day, tenant_id, cost) SELECT (now() AT TIME ZONE 'UTC')::date, gen_random_uuid(), 5 FROM generate_series(2, %d)", TENANTS);
    pg_ask(pg_admin(), "INSERT INTO audit.model_spend (day, tenant_id, cost) VALUES ((now() AT TIME ZONE 'UTC')::date, '" NIL_TENANT "', 5)");
    size_t seen = 0, pages = 0;
    const Audit__AddModelCostsReply *reply = NULL;
    Audit__AddModelCostsRequest req = AUDIT__ADD_MODEL_COSTS_REQUEST__INIT;
    do {
        cr_assert_eq(ask(PEER_EMBEDDING_WORKER, &req, mem, &reply), ST_OK);
        for (size_t i = 0; i < reply->n_sums; i++) {
            cr_assert(req.after_tenant_id.len == 0 || memcmp(req.after_tenant_id.data, reply->sums[i]->tenant_id.data, UUID_BYTES) < 0);
            req.after_tenant_id = reply->sums[i]->tenant_id;
        }
        seen += reply->n_sums;
        pages++;
    } while (reply->n_sums > 0);
    cr_expect_eq(seen, TENANTS);
    cr_expect_eq(pages, 3);
}
