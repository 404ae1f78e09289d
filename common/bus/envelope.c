#include "bus/envelope.h"

#include <stdlib.h>
#include <string.h>

size_t envelope_cap_bytes(size_t len) {
    return 2 * len + (4 << 10);
}

static bool is_sized(const Bus__Envelope *e) {
    bool is_part = e->kind == BUS__KIND__DATA || e->kind == BUS__KIND__PART;
    return strlen(e->method) <= ENVELOPE_METHOD_MAX_BYTES && strlen(e->ticket) <= ENVELOPE_TICKET_MAX_BYTES &&
           strlen(e->traceparent) <= ENVELOPE_TRACEPARENT_MAX_BYTES && strlen(e->code) <= ENVELOPE_METHOD_MAX_BYTES &&
           e->n_hop_us <= ENVELOPE_HOPS_MAX &&
           (!is_part || e->body.len <= BUS_PART_MAX_BYTES);
}

Bus__Envelope *envelope_open(struct arena *mem, const void *data, size_t len) {
    if (len > BUS_FRAME_MAX_BYTES)
        return NULL;
    Bus__Envelope *e = bus__envelope__unpack(arena_wire(mem), len, data);
    if (!e || e->kind < BUS__KIND__CALL || e->kind > BUS__KIND__GOAWAY || !is_sized(e))
        return NULL;
    return e;
}

static bool is_method(const char *text) {
    const char *dot = strchr(text, '.');
    if (!dot || dot == text || !dot[1])
        return false;
    for (const char *c = text; *c; c++)
        if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9') && c != dot)
            return false;
    return true;
}

const char *envelope_call_fault(const Bus__Envelope *call) {
    struct uuid id;
    if (call->version != BUS_VERSION)
        return "unknown envelope version";
    if (!is_method(call->method))
        return "no method";
    if (!uuid_from_bytes(call->request_id.data, call->request_id.len, &id))
        return "request id is not of 16 bytes";
    return NULL;
}

void envelope_pack(const Bus__Envelope *e, zmq_msg_t *ret_frame) {
    if (zmq_msg_init_size(ret_frame, bus__envelope__get_packed_size(e)) != 0)
        abort();        /* out of memory */
    (void)bus__envelope__pack(e, zmq_msg_data(ret_frame));
}
