/* envelope — one ZeroMQ frame, one bus.Envelope, with the checks that every frame gets before anybody
 * believes it. Pure functions; a frame from a peer may hold anything. */
#ifndef CORDON_BUS_ENVELOPE_H
#define CORDON_BUS_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>

#include "bus/bus.h"
#include "envelope.pb-c.h"

enum {
    ENVELOPE_METHOD_MAX_BYTES = 64,
    ENVELOPE_TICKET_MAX_BYTES = 8 << 10,
    ENVELOPE_TRACEPARENT_MAX_BYTES = 64,
    ENVELOPE_BODY_MAX_BYTES = BUS_FRAME_MAX_BYTES - (16 << 10),     /* CALL and REPLY: room for the other fields */
    ENVELOPE_BUDGET_MAX_MS = 60 * 60 * 1000,
    ENVELOPE_HOPS_MAX = 32,
};

/* Room that opening a frame of len bytes may take: its copy, and a little for unknown fields. */
size_t envelope_cap_bytes(size_t len);

/* Unpack and check sizes and kind; NULL when the frame is no envelope. The version is not checked: a
 * callee answers a wrong one. Lives in mem, which needs a wire cap of envelope_cap_bytes; its body may lie in data. */
Bus__Envelope *envelope_open(struct arena *mem, const void *data, size_t len);

/* What makes a CALL acceptable beyond envelope_open: version, method, request id. NULL, or what is wrong. */
const char *envelope_call_fault(const Bus__Envelope *call);

/* Pack into a fresh frame; ret_frame must not hold one. */
void envelope_pack(const Bus__Envelope *e, zmq_msg_t *ret_frame);

#endif
