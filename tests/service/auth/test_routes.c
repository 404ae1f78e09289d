/* The table of routes agrees with proto/auth.proto, and nobody but edge may use it. */
#include "auth.h"
#include "auth.pb-c.h"
#include "support/routes.h"

Test(auth_routes, every_rpc_is_routed) {
    assert_every_rpc_is_routed(&AUTH, &auth__auth__descriptor);
}

Test(auth_routes, only_edge_may_call) {
    for (const struct route *r = AUTH.routes; r->method; r++)
        cr_expect_eq(r->peers, PEER_EDGE, "%s", r->method);
    cr_assert_eq(AUTH.calls, PEER_AUDIT_WRITER);
}

Test(auth_routes, every_setting_says_what_it_is) {
    for (const struct setting *s = AUTH.settings; s->name; s++)
        cr_expect_gt(strlen(s->help), 5, "%s", s->name);
}
