/* The table of routes agrees with proto/ingest.proto; every row asks for a scope and belongs to edge alone. */
#include "ingest.h"
#include "ingest.pb-c.h"
#include "support/routes.h"

Test(ingest_routes, every_rpc_is_routed) {
    assert_every_rpc_is_routed(&INGEST_WORKER, &ingest__ingest__descriptor);
}

Test(ingest_routes, every_row_asks_for_a_scope_and_admits_edge_only) {
    for (const struct route *r = INGEST_WORKER.routes; r->method; r++) {
        cr_expect_neq(r->scope, SCOPE_NONE, "%s", r->method);
        cr_expect_eq(r->peers, PEER_EDGE, "%s", r->method);
    }
}
