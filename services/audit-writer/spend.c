/* spend — sums of what the models cost tenants, kept for embedding-worker, which has no database (ADR 0029). */
#include <inttypes.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "core/buffer.h"
#include "core/wire.h"
#include "db/plain_tx.h"

enum { COSTS_MAX = 1024 };

enum status on_add_model_costs(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ADD = { "add_model_spend", "SELECT tenant_id, day_cost, month_cost FROM audit.add_model_spend($1::uuid[], $2::bigint[])", 2 };
    enum { TENANT, DAY, MONTH };
    const Audit__AddModelCostsRequest *req = (const void *)in;
    Audit__AddModelCostsReply *reply = (void *)out;
    struct audit_writer *writer = self;
    CLEANUP(buffer_end) struct buffer costs = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct uuid *tenants = arena_alloc(call->mem, (req->n_costs + 1) * sizeof *tenants);
    bool is_good = req->n_costs <= COSTS_MAX && buffer_add_str(&costs, "{");
    for (size_t i = 0; is_good && i < req->n_costs; i++)
        is_good = uuid_from_bytes(req->costs[i]->tenant_id.data, req->costs[i]->tenant_id.len, &tenants[i]) && req->costs[i]->cost >= 0 &&
                  buffer_printf(&costs, "%s%" PRId64, i ? "," : "", req->costs[i]->cost);
    if (!is_good || !buffer_add_str(&costs, "}"))
        return fail(&call->why, ST_INVALID, "costs: not up to %d of a tenant each", COSTS_MAX);
    enum status st = db_run(writer->db, &ADD, (struct db_param[]){ DB_TEXT(uuid_array(call->mem, tenants, req->n_costs)), DB_TEXT(costs.data) },
                            call->deadline_ms, &rows, &call->why);
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
