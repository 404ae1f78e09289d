/* routes — the walk over a service's table: every rpc of its proto file has exactly one row, of the same types. */
#ifndef CORDON_TESTS_SUPPORT_ROUTES_H
#define CORDON_TESTS_SUPPORT_ROUTES_H

#include <criterion/criterion.h>
#include <string.h>

#include "service/service.h"

static inline void assert_every_rpc_is_routed(const struct service *svc, const ProtobufCServiceDescriptor *rpcs) {
    unsigned rows = 0;
    for (const struct route *r = svc->routes; r->method; r++, rows++) {
        const char *dot = strchr(r->method, '.');
        cr_assert_not_null(dot, "%s names no package", r->method);
        const ProtobufCMethodDescriptor *rpc = protobuf_c_service_descriptor_get_method_by_name(rpcs, dot + 1);
        cr_assert_not_null(rpc, "%s is no rpc of %s", r->method, rpcs->name);
        cr_expect(strlen(rpcs->package) == (size_t)(dot - r->method) && strncmp(rpcs->package, r->method, strlen(rpcs->package)) == 0,
                  "%s is of another package than %s", r->method, rpcs->package);
        cr_expect_eq(r->req, rpc->input, "%s: request", r->method);
        cr_expect_eq(r->reply, rpc->output, "%s: reply", r->method);
        cr_expect(r->handle != NULL, "%s: no handler", r->method);
        cr_expect_eq(peer_of_method(r->method), svc->peer, "%s is routed to another process", r->method);
        cr_expect_neq(r->peers, 0u, "%s: nobody may call it", r->method);
        for (const struct route *other = svc->routes; other < r; other++)
            cr_expect_str_neq(other->method, r->method, "routed twice");
    }
    cr_assert_eq(rows, rpcs->n_methods, "%u rows for %u rpcs", rows, rpcs->n_methods);
}

#endif
