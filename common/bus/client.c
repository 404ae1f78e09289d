#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bus/envelope.h"
#include "bus/methods.h"
#include "bus/network.h"
#include "core/clock.h"
#include "obs/trace.h"

enum { RETRY_ADVICE_MS = 1000 };

/* A frame that came for a stream, until its thread looks at it. */
struct arrival {
    struct arrival *next;
    zmq_msg_t frame;                    /* e's body lies in it */
    struct arena *mem;
    Bus__Envelope *e;
};

struct bus_client {
    struct bus *bus;
    void *socket;
    uint32_t index, sequence;
    struct bus_stream *streams;         /* open ones of this thread */
};

struct bus_stream {
    struct bus_stream *next;
    struct bus_client *client;
    struct call *call;
    const char *method;
    uint64_t id;
    bool is_stream;
    unsigned data_credit;               /* DATA parts that the callee has room for */
    bool has_written_end;
    struct arrival *parts, **parts_end;
    unsigned part_count;                /* of parts; at most the window, or the callee does not keep to it */
    struct arrival *current;            /* the part that the reader holds */
    struct arrival *reply;
    bool has_failed;                    /* the network thread gave up: */
    struct note failure;
    struct span span;
};

/* ---- client ---- */

struct bus_client *bus_client_new(struct bus *bus) {
    struct bus_client *c = xalloc(sizeof *c);
    c->bus = bus;
    c->socket = note_socket(bus->zmq_context);
    c->index = atomic_fetch_add_explicit(&bus->next_client, 1, memory_order_relaxed);
    return c;
}

void bus_client_destroy(struct bus_client **client_p) {
    if (!*client_p)
        return;
    assert(!(*client_p)->streams);
    (void)zmq_close((*client_p)->socket);
    free(*client_p);
    *client_p = NULL;
}

static void arrival_free(struct arrival **a_p) {
    if (!*a_p)
        return;
    arena_destroy(&(*a_p)->mem);
    (void)zmq_msg_close(&(*a_p)->frame);
    free(*a_p);
    *a_p = NULL;
}

static struct bus_stream *find_stream(struct bus_client *c, uint64_t id) {
    struct bus_stream *s = c->streams;
    while (s && s->id != id)
        s = s->next;
    return s;
}

/* Keep what a frame says; takes it. The network thread has opened it once, so it opens. */
static void keep_frame(struct bus_stream *s, zmq_msg_t *frame) {
    size_t len = zmq_msg_size(frame);
    struct arrival *a = xalloc(sizeof *a);
    (void)zmq_msg_init(&a->frame);
    (void)zmq_msg_move(&a->frame, frame);
    a->mem = arena_new(envelope_cap_bytes(len));
    a->e = envelope_open(a->mem, zmq_msg_data(&a->frame), len);
    if (a->e && a->e->kind == BUS__KIND__REPLY && !s->reply) {
        s->reply = a;
    } else if (a->e && a->e->kind == BUS__KIND__PART && s->is_stream && s->part_count < BUS_WINDOW_PARTS) {
        *s->parts_end = a;
        s->parts_end = &a->next;
        s->part_count++;
    } else {
        if (a->e && a->e->kind == BUS__KIND__CREDIT)
            s->data_credit += a->e->credit < BUS_WINDOW_PARTS ? a->e->credit : BUS_WINDOW_PARTS;
        arrival_free(&a);
    }
}

/* Take one note if there is one, for whichever stream of this thread it is. */
static void receive(struct bus_client *c) {
    struct note note;
    zmq_msg_t frame;
    if (note_recv(c->socket, NULL, &note, &frame)) {
        struct bus_stream *s = find_stream(c, note.id);
        if (!s) {
            counter_add(c->bus->late, 1);
        } else if (note.kind == NOTE_FAILED) {
            s->failure = note;
            s->has_failed = true;
        } else {
            keep_frame(s, &frame);
        }
    }
    (void)zmq_msg_close(&frame);
}

static bool has_ended(const struct bus_stream *s) {
    return s->reply || s->has_failed;
}

/* Wait for the next thing to happen to s. ST_TIMEOUT: nothing did before the call's deadline. */
static enum status wait_event(struct bus_stream *s) {
    if (!note_wait(s->client->socket, s->call->deadline_ms))
        return fail(&s->call->why, ST_TIMEOUT, "%s: no reply in time", s->method);
    receive(s->client);
    return ST_OK;
}

/* The call is over, for whatever reason: its span ends, and what the callee said of its time is counted. Once. */
static void settle(struct bus_stream *s) {
    const Bus__Envelope *e = s->reply ? s->reply->e : NULL;
    bool is_late = clock_mono_ms() >= s->call->deadline_ms;
    if (!s->span.scope)
        return;
    if (e)
        trace_add_hops(e->hop_us, e->n_hop_us);
    span_end(&s->span, e ? status_is_known(e->status) ? (enum status)e->status : ST_INTERNAL
                         : s->has_failed ? s->failure.status : is_late ? ST_TIMEOUT : ST_UNAVAILABLE);
}

static enum status failure(const struct bus_stream *s) {
    struct why *why = &s->call->why;
    enum status st = fail(why, s->failure.status, "%s: %s", s->method, s->failure.text);
    why->retry_after_ms = st == ST_UNAVAILABLE ? RETRY_ADVICE_MS : 0;
    return st;
}

/* ---- opening ---- */

static void send_note(struct bus_stream *s, enum note_kind kind, Bus__Envelope *e) {
    struct note note = { .kind = kind, .id = s->id };
    if (kind == NOTE_ASK) {
        note.peer = peer_of_method(s->method);
        note.deadline_ms = s->call->deadline_ms;
        note.is_stream = s->is_stream;
        note.is_repeatable = method_is_repeatable(s->method);
    }
    zmq_msg_t frame;
    if (e) {
        e->version = BUS_VERSION;
        e->correlation_id = s->id;
        envelope_pack(e, &frame);
    }
    note_send(s->client->socket, NULL, &note, e ? &frame : NULL);
}

static enum status send_call(struct bus_stream *s, const ProtobufCMessage *req, int64_t left_ms) {
    struct call *call = s->call;
    char traceparent[TRACEPARENT_BYTES];
    size_t len = protobuf_c_message_get_packed_size(req);
    if (len > ENVELOPE_BODY_MAX_BYTES)
        return fail(&call->why, ST_INVALID, "%s: a request of %zu bytes is larger than a frame", s->method, len);
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.kind = BUS__KIND__CALL;
    e.method = (char *)s->method;
    e.request_id = (ProtobufCBinaryData){ UUID_BYTES, call->request_id.bytes };
    e.budget_ms = left_ms < ENVELOPE_BUDGET_MAX_MS ? (uint32_t)left_ms : (uint32_t)ENVELOPE_BUDGET_MAX_MS;
    e.ticket = (char *)(call->ticket ? call->ticket : "");
    e.attempt = 1;
    e.traceparent = (char *)(s->span.scope ? trace_format(&s->span.context, traceparent) : "");
    e.credit = s->is_stream ? BUS_WINDOW_PARTS : 0;
    e.body.len = len;
    e.body.data = arena_alloc(call->mem, len);
    (void)protobuf_c_message_pack(req, e.body.data);
    send_note(s, NOTE_ASK, &e);
    return ST_OK;
}

static enum status open_stream(struct call *call, const char *method, const ProtobufCMessage *req, bool is_stream,
                               struct bus_stream *s) {
    struct bus_client *c = call->bus;
    int64_t left_ms = call->deadline_ms - clock_mono_ms();
    if (left_ms <= 0)
        return fail(&call->why, ST_TIMEOUT, "%s: no time left", method);
    assert(peer_of_method(method) != PEER_NONE);
    *s = (struct bus_stream){ .client = c, .call = call, .method = method, .is_stream = is_stream,
                              .id = (uint64_t)c->index << 32 | ++c->sequence };
    s->parts_end = &s->parts;
    span_begin(&s->span, method);
    enum status st = send_call(s, req, left_ms);
    if (st != ST_OK) {
        span_end(&s->span, st);
        return st;
    }
    s->next = c->streams;
    c->streams = s;
    return ST_OK;
}

/* Leave the client's list and tell the network thread if it still keeps the call. */
static void close_stream(struct bus_stream *s) {
    struct bus_stream **place = &s->client->streams;
    while (*place && *place != s)
        place = &(*place)->next;
    if (!*place)
        return;
    *place = s->next;
    settle(s);
    if (!has_ended(s))
        send_note(s, NOTE_FORGET, NULL);
    for (struct arrival *a; (a = s->parts);) {
        s->parts = a->next;
        arrival_free(&a);
    }
    arrival_free(&s->current);
    arrival_free(&s->reply);
}

/* ---- replies ---- */

/* A peer's failure becomes ours. */
static enum status peer_failure(struct bus_stream *s, const Bus__Envelope *e) {
    struct why *why = &s->call->why;
    if (!status_is_known(e->status))
        return fail(why, ST_INTERNAL, "%s: the reply has an unknown status", s->method);
    enum status st = fail(why, (enum status)e->status, "%s: the peer said %s %s", s->method,
                          status_name((enum status)e->status), e->code);
    enum error_code code = error_from_text(e->code);
    if (error_status(code) == st)
        why->code = code;
    why->retry_after_ms = e->retry_after_ms < INT_MAX ? (int)e->retry_after_ms : INT_MAX;
    return st;
}

static enum status decode_reply(struct bus_stream *s, const ProtobufCMessageDescriptor *want,
                                ProtobufCMessage **ret_reply) {
    const Bus__Envelope *e = s->reply->e;
    if (e->status != ST_OK)
        return peer_failure(s, e);
    ProtobufCMessage *reply = protobuf_c_message_unpack(want, arena_wire(s->call->mem), e->body.len, e->body.data);
    if (!reply)
        return fail(&s->call->why, ST_INTERNAL, "%s: the reply does not decode", s->method);
    *ret_reply = reply;
    return ST_OK;
}

static void give_credit(struct bus_stream *s) {
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.kind = BUS__KIND__CREDIT;
    e.credit = 1;
    send_note(s, NOTE_PASS, &e);
}

static struct arrival *pop_part(struct bus_stream *s) {
    struct arrival *a = s->parts;
    s->parts = a->next;
    if (!s->parts)
        s->parts_end = &s->parts;
    s->part_count--;
    return a;
}

/* Throw the oldest part away, and make room for another. */
static void drop_part(struct bus_stream *s) {
    struct arrival *a = pop_part(s);
    arrival_free(&a);
    if (!has_ended(s))
        give_credit(s);
}

static enum status wait_reply(struct bus_stream *s, const ProtobufCMessageDescriptor *want,
                              ProtobufCMessage **ret_reply) {
    while (!has_ended(s)) {
        enum status st = wait_event(s);
        if (st != ST_OK)
            return st;
        while (s->parts)
            drop_part(s);       /* nobody reads them, and the callee must not wait for credit */
    }
    settle(s);
    return s->reply ? decode_reply(s, want, ret_reply) : failure(s);
}

/* ---- the interface ---- */

enum status bus_ask(struct call *call, const char *method, const ProtobufCMessage *req,
                    const ProtobufCMessageDescriptor *want, ProtobufCMessage **ret_reply) {
    struct bus_stream s;
    enum status st = open_stream(call, method, req, false, &s);
    if (st != ST_OK)
        return st;
    st = wait_reply(&s, want, ret_reply);
    close_stream(&s);
    return st;
}

enum status bus_stream_open(struct call *call, const char *method, const ProtobufCMessage *req,
                            struct bus_stream **ret_stream) {
    struct bus_stream *s = xalloc(sizeof *s);
    enum status st = open_stream(call, method, req, true, s);
    if (st != ST_OK) {
        free(s);
        return st;
    }
    *ret_stream = s;
    return ST_OK;
}

enum status bus_stream_write(struct bus_stream *s, const void *data, size_t len, bool is_end, const char *ticket) {
    assert(len <= BUS_PART_MAX_BYTES && !s->has_written_end);
    while (s->data_credit == 0 && !has_ended(s)) {
        enum status st = wait_event(s);
        if (st != ST_OK)
            return st;
    }
    s->has_written_end = is_end;
    if (s->reply)
        return ST_OK;
    if (s->has_failed)
        return failure(s);
    s->data_credit--;
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.kind = BUS__KIND__DATA;
    e.end = is_end;
    e.ticket = (char *)(ticket ? ticket : "");
    e.body = (ProtobufCBinaryData){ len, (uint8_t *)data };
    send_note(s, NOTE_PASS, &e);
    return ST_OK;
}

bool bus_stream_is_answered(const struct bus_stream *s) {
    return s->reply != NULL;
}

bool bus_stream_has_room(const struct bus_stream *s) {
    return s->data_credit > 0 && !has_ended(s);
}

/* As wait_event, but no longer than deadline_ms, nor when the call that this is for has lost its own caller. */
static enum status wait_part(struct bus_stream *s, int64_t deadline_ms) {
    struct call *call = s->call;
    if (deadline_ms > call->deadline_ms)
        deadline_ms = call->deadline_ms;
    if (!note_wait_either(s->client->socket, call_socket(call), deadline_ms))
        return fail(&call->why, ST_TIMEOUT, "%s: nothing came in time", s->method);
    receive(s->client);
    return call_is_cancelled(call) ? fail(&call->why, ST_UNAVAILABLE, "%s: the caller cancelled or is gone", s->method) : ST_OK;
}

enum status bus_stream_read(struct bus_stream *s, const void **ret_data, size_t *ret_len) {
    return bus_stream_read_until(s, s->call->deadline_ms, ret_data, ret_len);
}

enum status bus_stream_read_until(struct bus_stream *s, int64_t deadline_ms, const void **ret_data, size_t *ret_len) {
    if (s->current) {
        arrival_free(&s->current);
        if (!has_ended(s))
            give_credit(s);
    }
    while (!s->parts && !has_ended(s)) {
        enum status st = wait_part(s, deadline_ms);
        if (st != ST_OK)
            return st;
    }
    if (!s->parts && !s->reply)
        return failure(s);
    *ret_data = NULL;
    *ret_len = 0;
    if (!s->parts)
        return ST_OK;
    s->current = pop_part(s);
    const ProtobufCBinaryData *body = &s->current->e->body;
    *ret_data = body->data ? (const void *)body->data : "";
    *ret_len = body->len;
    return ST_OK;
}

enum status bus_stream_finish(struct bus_stream *s, const ProtobufCMessageDescriptor *want,
                              ProtobufCMessage **ret_reply) {
    while (s->parts)
        drop_part(s);
    return wait_reply(s, want, ret_reply);
}

void bus_stream_destroy(struct bus_stream **stream_p) {
    if (!*stream_p)
        return;
    close_stream(*stream_p);
    free(*stream_p);
    *stream_p = NULL;
}
