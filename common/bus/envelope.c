#include "bus/envelope.h"

#include <stdlib.h>
#include <string.h>

/* Of the wire format, as far as an Envelope needs it; a field of another kind is left to protobuf-c. */
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, BODY_TAG = 12 << 3 | WIRE_BYTES,
       TAG_MAX_BYTES = 5, LENGTH_MAX_BYTES = 5, VARINT_MAX_BYTES = 10 };      /* protobuf-c refuses longer ones, and so must we */

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

static bool read_varint(const uint8_t **at, const uint8_t *end, unsigned max_bytes, uint64_t *ret_value) {
    uint64_t value = 0;
    for (unsigned n = 0; n < max_bytes && *at < end; n++) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << 7 * n;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* The body of a frame in which nothing stands behind it, as in DATA and PART: where its field begins; NULL when it is not
 * so. Whether the rest of the frame is good, protobuf-c says. */
static const uint8_t *find_last_body(const uint8_t *data, size_t len, ProtobufCBinaryData *ret_body) {
    const uint8_t *end = data + len;
    for (const uint8_t *at = data; at < end;) {
        const uint8_t *field = at;
        uint64_t tag, skip = 0;
        if (!read_varint(&at, end, TAG_MAX_BYTES, &tag))
            return NULL;
        unsigned type = tag & 7, most = type == WIRE_VARINT ? VARINT_MAX_BYTES : LENGTH_MAX_BYTES;
        if (type != WIRE_FIXED64 && !read_varint(&at, end, most, &skip))
            return NULL;
        if (type == WIRE_VARINT)
            continue;
        if (type == WIRE_FIXED64)
            skip = 8;
        else if (type != WIRE_BYTES)
            return NULL;
        if (skip > (uint64_t)(end - at))
            return NULL;
        if (tag == BODY_TAG && skip == (uint64_t)(end - at)) {
            *ret_body = (ProtobufCBinaryData){ skip, (uint8_t *)at };
            return field;
        }
        at += skip;
    }
    return NULL;
}

Bus__Envelope *envelope_open(struct arena *mem, const void *data, size_t len) {
    if (len > BUS_FRAME_MAX_BYTES)
        return NULL;
    ProtobufCBinaryData body = { 0 };
    const uint8_t *field = find_last_body(data, len, &body);
    Bus__Envelope *e = bus__envelope__unpack(arena_wire(mem), field ? (size_t)(field - (const uint8_t *)data) : len, data);
    if (e && field)
        e->body = body;         /* not copied: a stream is all body */
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
