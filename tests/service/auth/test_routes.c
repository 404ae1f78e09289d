/* The table of routes agrees with proto/auth.proto, and nobody but edge may use it. */
#include <criterion/criterion.h>
#include <string.h>

#include "auth.h"
#include "auth.pb-c.h"

Test(auth_routes, every_rpc_is_routed) {
    const ProtobufCServiceDescriptor *d = &auth__auth__descriptor;
    unsigned rows = 0;
    for (const struct route *r = AUTH.routes; r->method; r++, rows++) {
        const ProtobufCMethodDescriptor *rpc = protobuf_c_service_descriptor_get_method_by_name(d, strchr(r->method, '.') + 1);
        cr_assert_not_null(rpc, "%s is no rpc", r->method);
        cr_expect_eq(r->req, rpc->input, "%s", r->method);
        cr_expect_eq(r->reply, rpc->output, "%s", r->method);
        cr_expect_not_null((void *)r->handle);
        cr_expect_eq(peer_of_method(r->method), PEER_AUTH);
    }
    cr_assert_eq(rows, d->n_methods);
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
