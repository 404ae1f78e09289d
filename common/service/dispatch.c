#include "core/clock.h"
#include "core/str.h"
#include "service/service.h"

static const struct route *find_route(const struct service *svc, const char *method) {
    for (const struct route *r = svc->routes; r && r->method; r++)
        if (str_equal(r->method, method))
            return r;
    return NULL;
}

enum status service_dispatch(const struct service *svc, void *self, struct call *call, const char *method,
                             ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    const struct route *r = find_route(svc, method);
    if (!r)
        return fail(&call->why, ST_NOT_FOUND, "no such method");
    call->method = r->method;
    if (!(r->peers & call->peer))
        return fail(&call->why, ST_FORBIDDEN, "%s: %s may not call it", r->method, peer_name(call->peer));
    if (clock_mono_ms() >= call->deadline_ms)
        return fail(&call->why, ST_TIMEOUT, "%s: no time left", r->method);
    ProtobufCMessage *req = protobuf_c_message_unpack(r->req, arena_wire(call->mem), body.len, body.data);
    if (!req)
        return fail(&call->why, ST_INVALID, "%s: the body does not decode", r->method);
    ProtobufCMessage *reply = arena_alloc(call->mem, r->reply->sizeof_message);
    r->reply->message_init(reply);
    enum status st = r->handle(self, call, req, reply);
    if (st == ST_OK)
        *ret_reply = reply;
    return st;
}
