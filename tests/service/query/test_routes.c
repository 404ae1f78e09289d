/* The table of routes agrees with proto/query.proto; every row asks for a scope and belongs to edge alone. */
#include "query.h"
#include "query.pb-c.h"
#include "support/routes.h"

Test(query_routes, every_rpc_is_routed) {
    assert_every_rpc_is_routed(&QUERY, &query__query__descriptor);
}

Test(query_routes, every_row_asks_for_a_scope_and_admits_edge_only) {
    for (const struct route *r = QUERY.routes; r->method; r++) {
        cr_expect_neq(r->scope, SCOPE_NONE, "%s", r->method);
        cr_expect_eq(r->peers, PEER_EDGE, "%s", r->method);
    }
}
