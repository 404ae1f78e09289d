/* spend — sums of what the models cost tenants, kept for embedding-worker, which has no database (ADR 0029). */
#include <inttypes.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "core/buffer.h"
#include "core/wire.h"
#include "db/plain_tx.h"

enum { COSTS_MAX = 1024, SUMS_MAX = 4096 };

static enum status add(struct audit_writer *writer, struct call *call, const Audit__AddModelCostsRequest *req, PGresult **ret_rows) {
    static const struct sql ADD = { "add_model_spend",
        "SELECT tenant_id, day_cost, month_cost FROM audit.add_model_spend($1, $2, $3::uuid[], $4::bigint[])", 4 };
    CLEANUP(buffer_end) struct buffer costs = { 0 };
    struct uuid teller, *tenants = arena_alloc(call->mem, req->n_costs * sizeof *tenants);
    bool is_good = req->n_costs <= COSTS_MAX && req->telling > 0 && uuid_from_bytes(req->teller_id.data, req->teller_id.len, &teller) &&
                   buffer_add_str(&costs, "{");
    for (size_t i = 0; is_good && i < req->n_costs; i++)
        is_good = uuid_from_bytes(req->costs[i]->tenant_id.data, req->costs[i]->tenant_id.len, &tenants[i]) && req->costs[i]->cost >= 0 &&
                  buffer_printf(&costs, "%s%" PRId64, i ? "," : "", req->costs[i]->cost);
    if (!is_good || !buffer_add_str(&costs, "}"))
        return fail(&call->why, ST_INVALID, "costs: not up to %d of a tenant each, by a teller who counts", COSTS_MAX);
    const struct db_param params[] = { DB_UUID(&teller), DB_INT(req->telling), DB_TEXT(uuid_array(call->mem, tenants, req->n_costs)), DB_TEXT(costs.data) };
    return db_run(writer->db, &ADD, params, call->deadline_ms, ret_rows, &call->why);
}

static enum status page(struct audit_writer *writer, struct call *call, const Audit__AddModelCostsRequest *req, PGresult **ret_rows) {
    static const struct sql PAGE = { "model_spend_page", "SELECT tenant_id, day_cost, month_cost FROM audit.model_spend_page($1, $2)", 2 };
    struct uuid after;
    if (req->after_tenant_id.len > 0 && !uuid_from_bytes(req->after_tenant_id.data, req->after_tenant_id.len, &after))
        return fail(&call->why, ST_INVALID, "after_tenant_id");
    return db_run(writer->db, &PAGE, (struct db_param[]){ req->after_tenant_id.len > 0 ? DB_UUID(&after) : DB_NULL, DB_INT(SUMS_MAX) },
                  call->deadline_ms, ret_rows, &call->why);
}

enum status on_add_model_costs(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    enum { TENANT, DAY, MONTH };
    const Audit__AddModelCostsRequest *req = (const void *)in;
    Audit__AddModelCostsReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = (req->n_costs > 0 ? add : page)(self, call, req, &rows);
    if (st != ST_OK)
        return st;
    reply->sums = arena_alloc(call->mem, ((size_t)db_count(rows) + 1) * sizeof *reply->sums);
    for (int i = 0; i < db_count(rows); i++) {
        Audit__ModelSum *sum = arena_alloc(call->mem, sizeof *sum);
        audit__model_sum__init(sum);
        struct uuid tenant = db_uuid(rows, i, TENANT);
        sum->tenant_id = wire_id(call->mem, &tenant);
        sum->day = db_i64(rows, i, DAY);
        sum->month = db_i64(rows, i, MONTH);
        reply->sums[reply->n_sums++] = sum;
    }
    return ST_OK;
}
