#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bus/envelope.h"
#include "bus/network.h"
#include "core/clock.h"
#include "obs/trace.h"

/* A DATA part that came, until the handler reads it. */
struct part {
    struct part *next;
    zmq_msg_t frame;                    /* e's body lies in it */
    struct arena *mem;
    Bus__Envelope *e;
};

/* The stream half of the call that a worker serves. */
struct incoming {
    void *socket;                       /* of the worker */
    uint64_t slot, id;
    bool is_stream;                     /* the caller opened it as one */
    bool is_cancelled;
    bool has_begun_reading, has_read_end;
    uint64_t part_credit;               /* PARTs that the caller has room for */
    struct part *parts, **parts_end;    /* bounded by the window */
    struct part *current;               /* what the handler reads */
    char *ticket;                       /* the latest fresh one; call->ticket points to it */
};

struct bus_worker {
    void *socket;
    struct bus_client *client;
    struct incoming incoming;
};

struct bus_worker *bus_worker_new(struct bus *bus) {
    struct bus_worker *w = xalloc(sizeof *w);
    w->socket = note_socket(bus->zmq_context);
    w->client = bus_client_new(bus);
    return w;
}

void bus_worker_destroy(struct bus_worker **worker_p) {
    if (!*worker_p)
        return;
    bus_client_destroy(&(*worker_p)->client);
    (void)zmq_close((*worker_p)->socket);
    free(*worker_p);
    *worker_p = NULL;
}

static void part_free(struct part **part_p) {
    if (!*part_p)
        return;
    arena_destroy(&(*part_p)->mem);
    (void)zmq_msg_close(&(*part_p)->frame);
    free(*part_p);
    *part_p = NULL;
}

static void incoming_end(struct incoming *in) {
    for (struct part *p; (p = in->parts);) {
        in->parts = p->next;
        part_free(&p);
    }
    part_free(&in->current);
    free(in->ticket);
    in->ticket = NULL;
}

/* The network thread has checked the CALL, so it opens. */
static void begin_call(struct bus_worker *w, const struct note *note, zmq_msg_t *frame, struct call *call,
                       ProtobufCBinaryData *ret_body) {
    size_t len = zmq_msg_size(frame);
    struct arena *mem = arena_new(envelope_cap_bytes(len) + BUS_BODY_CAP_BYTES);
    Bus__Envelope *e = envelope_open(mem, zmq_msg_data(frame), len);
    assert(e);
    w->incoming = (struct incoming){ .socket = w->socket, .slot = note->id, .id = e->correlation_id,
                                     .is_stream = e->credit > 0, .part_credit = e->credit };
    w->incoming.parts_end = &w->incoming.parts;
    *call = (struct call){ .mem = mem,
                           .bus = w->client,
                           .method = e->method,
                           .ticket = e->ticket,
                           .traceparent = e->traceparent,
                           .peer = note->peer,
                           .attempt = e->attempt,
                           .received_ms = clock_mono_ms(),
                           .deadline_ms = note->deadline_ms,
                           .incoming = &w->incoming };
    (void)uuid_from_bytes(e->request_id.data, e->request_id.len, &call->request_id);
    *ret_body = (ProtobufCBinaryData){ e->body.len, arena_memdup(mem, e->body.data, e->body.len) };
}

bool bus_worker_take(struct bus_worker *w, struct call *ret_call, ProtobufCBinaryData *ret_body) {
    note_send(w->socket, NULL, &(struct note){ .kind = NOTE_READY }, NULL);
    for (;;) {
        struct note note;
        zmq_msg_t frame;
        (void)note_wait(w->socket, INT64_MAX);
        bool has_note = note_recv(w->socket, NULL, &note, &frame);
        bool is_call = has_note && note.kind == NOTE_TAKE;
        if (is_call)
            begin_call(w, &note, &frame, ret_call, ret_body);
        (void)zmq_msg_close(&frame);
        if (is_call)
            return true;
        if (has_note && note.kind == NOTE_STOP)
            return false;
    }
}

static void send_envelope(const struct incoming *in, enum note_kind kind, Bus__Envelope *e) {
    e->version = BUS_VERSION;
    e->correlation_id = in->id;
    zmq_msg_t frame;
    envelope_pack(e, &frame);
    note_send(in->socket, NULL, &(struct note){ .kind = kind, .id = in->slot, .credit = e->credit }, &frame);
}

enum status bus_worker_reply(struct bus_worker *w, struct call *call, enum status st, const ProtobufCMessage *reply) {
    size_t len = st == ST_OK ? protobuf_c_message_get_packed_size(reply) : 0;
    if (len > ENVELOPE_BODY_MAX_BYTES) {
        st = fail(&call->why, ST_INTERNAL, "the reply of %zu bytes is larger than a frame", len);
        len = 0;
    }
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    uint32_t hop_us[HOP_COUNT];
    e.kind = BUS__KIND__REPLY;
    e.status = (uint32_t)st;
    e.n_hop_us = trace_hops(hop_us);
    e.hop_us = hop_us;
    if (st == ST_OK) {
        e.body.len = len;
        e.body.data = arena_alloc(call->mem, len);
        (void)protobuf_c_message_pack(reply, e.body.data);
    } else {
        /* A code that belongs to another status would say two things at once. */
        enum error_code code = error_status(call->why.code) == st ? call->why.code : status_error(st);
        e.code = (char *)error_text_code(code);
        e.retry_after_ms = call->why.retry_after_ms > 0 ? (uint32_t)call->why.retry_after_ms : 0;
    }
    send_envelope(&w->incoming, NOTE_DONE, &e);
    incoming_end(&w->incoming);
    return st;
}

/* ---- the stream half ---- */

static void keep_part(struct incoming *in, zmq_msg_t *frame) {
    size_t len = zmq_msg_size(frame);
    struct part *p = xalloc(sizeof *p);
    (void)zmq_msg_init(&p->frame);
    (void)zmq_msg_move(&p->frame, frame);
    p->mem = arena_new(envelope_cap_bytes(len));
    p->e = envelope_open(p->mem, zmq_msg_data(&p->frame), len);
    if (!p->e) {
        part_free(&p);
        return;
    }
    *in->parts_end = p;
    in->parts_end = &p->next;
}

/* Take one note if there is one; of an earlier call it means nothing. */
static bool receive(struct incoming *in) {
    struct note note;
    zmq_msg_t frame;
    bool has_note = note_recv(in->socket, NULL, &note, &frame);
    if (has_note && note.id == in->slot) {
        if (note.kind == NOTE_CANCELLED)
            in->is_cancelled = true;
        else if (note.kind == NOTE_CREDIT)
            in->part_credit += note.credit;
        else if (note.kind == NOTE_PASS)
            keep_part(in, &frame);
    }
    (void)zmq_msg_close(&frame);
    return has_note;
}

bool call_is_cancelled(struct call *call) {
    if (!call->incoming)
        return false;
    while (receive(call->incoming))
        ;
    return call->incoming->is_cancelled;
}

bool call_wait(struct call *call, int64_t deadline_ms) {
    assert(call->incoming);
    (void)note_wait(call->incoming->socket, deadline_ms);
    return !call_is_cancelled(call);
}

bool call_is_stream(const struct call *call) {
    return call->incoming && call->incoming->is_stream;
}

void *call_socket(const struct call *call) {
    return call->incoming ? call->incoming->socket : NULL;
}

static enum status wait_event(struct call *call) {
    if (!note_wait(call->incoming->socket, call->deadline_ms))
        return fail(&call->why, ST_TIMEOUT, "the stream stands still");
    (void)receive(call->incoming);
    return ST_OK;
}

static enum status cancelled(struct call *call) {
    return fail(&call->why, ST_UNAVAILABLE, "the caller cancelled or is gone");
}

static void give_credit(struct incoming *in, unsigned count) {
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.kind = BUS__KIND__CREDIT;
    e.credit = count;
    send_envelope(in, NOTE_CREDIT, &e);
}

static void renew_ticket(struct call *call, const char *ticket) {
    if (!*ticket)
        return;
    char *fresh = xstrdup(ticket);
    free(call->incoming->ticket);
    call->incoming->ticket = fresh;
    call->ticket = fresh;
}

/* Room for the first parts, or in place of the one that was read. */
static void give_room(struct incoming *in) {
    if (!in->has_begun_reading)
        give_credit(in, BUS_WINDOW_PARTS);
    else if (in->current)
        give_credit(in, 1);
    in->has_begun_reading = true;
    part_free(&in->current);
}

static void next_part(struct incoming *in) {
    in->current = in->parts;
    in->parts = in->current->next;
    if (!in->parts)
        in->parts_end = &in->parts;
}

void call_take_tickets(struct call *call) {
    struct incoming *in = call->incoming;
    if (!call_is_stream(call))
        return;
    give_room(in);
    while (receive(in))
        ;
    while (in->parts) {
        next_part(in);
        renew_ticket(call, in->current->e->ticket);
        give_room(in);
    }
}

enum status call_read(struct call *call, const void **ret_data, size_t *ret_len, bool *ret_end) {
    struct incoming *in = call->incoming;
    assert(in);
    if (!in->is_stream || in->has_read_end)
        return fail(&call->why, ST_INVALID, "%s: the call has no more DATA", call->method);
    give_room(in);
    while (!in->parts && !in->is_cancelled) {
        enum status st = wait_event(call);
        if (st != ST_OK)
            return st;
    }
    if (in->is_cancelled)
        return cancelled(call);
    next_part(in);
    const Bus__Envelope *e = in->current->e;
    renew_ticket(call, e->ticket);
    in->has_read_end = e->end;
    *ret_data = e->body.data ? (const void *)e->body.data : "";
    *ret_len = e->body.len;
    *ret_end = e->end;
    return ST_OK;
}

enum status call_write(struct call *call, const void *data, size_t len) {
    struct incoming *in = call->incoming;
    assert(in && len <= BUS_PART_MAX_BYTES);
    if (!in->is_stream)
        return fail(&call->why, ST_INVALID, "%s: the caller takes no stream", call->method);
    while (receive(in))
        ;
    while (in->part_credit == 0 && !in->is_cancelled) {
        enum status st = wait_event(call);
        if (st != ST_OK)
            return st;
    }
    if (in->is_cancelled)
        return cancelled(call);
    in->part_credit--;
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.kind = BUS__KIND__PART;
    e.body = (ProtobufCBinaryData){ len, (uint8_t *)data };
    send_envelope(in, NOTE_PART, &e);
    return ST_OK;
}
