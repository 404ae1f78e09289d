/* events — answers as text/event-stream (docs/streaming.md). The head goes out with the first event, so whatever fails
 * before is an ordinary problem document; what fails later is the event `error`, and then nothing more. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "admit.h"
#include "answer.h"
#include "core/clock.h"
#include "core/str.h"
#include "exchange.h"
#include "json/writer.h"
#include "query.pb-c.h"
#include "rest/print.h"

enum { STREAM_MS = 180000, HEARTBEAT_MS = 10000, LOOK_MS = 500, EVENT_MAX_BYTES = 1 << 20 };

static const char EVENT_STREAM[] = "text/event-stream", HEARTBEAT[] = ": heartbeat\n\n";

/* A stream to a client. */
struct events {
    struct exchange *x;
    struct bus_stream *stream;
    int64_t renewed_ms, sent_ms;
    int socket;                 /* the client's; -1: not found, so that only a write tells that it has gone */
    bool is_begun;
};

static void events_end(struct events *e) {
    bus_stream_destroy(&e->stream);
}

/* Does the client prefer a stream? What it names first, of the two. */
static bool wants_events(const struct exchange *x) {
    const char *accept = mg_get_header(x->conn, "Accept");
    const char *events = accept ? strcasestr(accept, EVENT_STREAM) : NULL, *json = accept ? strcasestr(accept, "application/json") : NULL;
    return events && (!json || events < json);
}

static enum status gone(struct events *e) {
    return fail(&e->x->call.why, ST_UNAVAILABLE, "events: the client has gone");
}

static enum status begin(struct events *e) {
    struct answer_head head = { .http_status = e->x->route->success, .content_type = EVENT_STREAM, .length_bytes = -1,
                                .cache = "no-store, no-transform", .is_live = true };
    e->is_begun = true;
    return answer_begin(e->x, &head) ? ST_OK : gone(e);
}

static enum status send_text(struct events *e, const char *text, size_t len) {
    e->sent_ms = clock_mono_ms();
    return answer_chunk(e->x, text, len) ? ST_OK : gone(e);
}

/* Which member is there says what the event is called. */
static const ProtobufCMessage *member_of(const Query__AnswerEvent *event, const char **ret_name) {
    const struct { const char *name; const void *message; } MEMBERS[] = {
        { "sources", event->sources }, { "token", event->token }, { "citation", event->citation }, { "usage", event->usage },
        { "done", event->done } };
    for (size_t i = 0; i < sizeof MEMBERS / sizeof *MEMBERS; i++) {
        *ret_name = MEMBERS[i].name;
        if (MEMBERS[i].message)
            return MEMBERS[i].message;
    }
    return NULL;
}

static enum status send_event(struct events *e, const void *data, size_t len) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(BUS_BODY_CAP_BYTES);
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = EVENT_MAX_BYTES };
    struct why *why = &e->x->call.why;
    const char *name = NULL;
    const Query__AnswerEvent *event = query__answer_event__unpack(arena_wire(mem), len, data);
    const ProtobufCMessage *member = event ? member_of(event, &name) : NULL;
    enum status st = event ? ST_OK : fail(why, ST_INTERNAL, "events: a part does not decode");
    if (st == ST_OK && !e->is_begun)
        st = begin(e);
    if (st != ST_OK)
        return st;
    if (!member)                /* it is heard, and nothing is there yet */
        return send_text(e, HEARTBEAT, sizeof HEARTBEAT - 1);
    struct json_writer w;
    (void)buffer_printf(&out, "id: %u\nevent: %s\ndata: ", event->number, name);
    json_begin(&w, &out);
    if (!print_message(member, &w) || !json_finish(&w) || !buffer_add_str(&out, "\n\n"))
        return fail(why, ST_INTERNAL, "events: %s cannot be printed", name);
    return send_text(e, out.data, out.len);
}

/* Nothing came for a moment: is everybody still there? */
static enum status look(struct events *e) {
    struct pollfd client = { e->socket, POLLRDHUP, 0 };
    if (admit_is_revoked(e->x) || (e->socket >= 0 && poll(&client, 1, 0) > 0))
        return gone(e);
    if (e->is_begun && clock_mono_ms() - e->sent_ms >= HEARTBEAT_MS)
        return send_text(e, HEARTBEAT, sizeof HEARTBEAT - 1);
    return ST_OK;
}

static enum status pass_events(struct events *e) {
    struct call *call = &e->x->call;
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        enum status st = bus_stream_read_until(e->stream, clock_mono_ms() + LOOK_MS, &data, &len);
        bool is_quiet = st == ST_TIMEOUT && clock_mono_ms() < call->deadline_ms;
        if (st == ST_OK && !data)
            return ST_OK;
        if (is_quiet)
            st = look(e);
        else if (st == ST_OK)
            st = send_event(e, data, len);
        if (st == ST_OK)
            st = admit_renew(e->x, e->stream, &e->renewed_ms);
        if (st != ST_OK)
            return st;
    }
}

/* The last event of a stream that failed. Whoever has gone hears nothing. */
static void send_error(const struct events *e) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct exchange *x = e->x;
    (void)buffer_add_str(&out, "event: error\ndata: ");
    (void)problem_print(x->call.why.code, error_http(x->call.why.code), x->detail, &x->call.request_id, &out);
    (void)buffer_add_str(&out, "\n\n");
    (void)answer_chunk(x, out.data, out.len);
}

static enum status stream_answer(struct exchange *x) {
    CLEANUP(events_end) struct events e = { .x = x, .renewed_ms = clock_mono_ms(), .socket = patience_socket(&x->vigil) };
    ProtobufCMessage *reply = NULL;
    x->call.deadline_ms = clock_mono_ms() + STREAM_MS;
    enum status st = bus_stream_open(&x->call, x->route->method, x->fill.msg, &e.stream);
    if (st == ST_OK)
        st = pass_events(&e);
    if (st == ST_OK)
        st = bus_stream_finish(e.stream, x->route->reply, &reply);
    if (st == ST_OK && !e.is_begun)
        st = fail(&x->call.why, ST_INTERNAL, "events: a reply without any");
    if (!e.is_begun)
        return st;
    if (st != ST_OK)
        send_error(&e);
    (void)answer_chunk(x, "", 0);
    return st;
}

/* Of a stream that is taken up again: the last event that the client has. */
static enum status take_last_event(struct exchange *x) {
    const char *last = mg_get_header(x->conn, "Last-Event-ID");
    int64_t number = 0;
    if (!last || x->route->req != &query__get_answer_request__descriptor)
        return ST_OK;
    if (!str_to_i64(last, 0, UINT32_MAX, &number))
        return fail_as(&x->call.why, ERR_REQ_FIELD, "Last-Event-ID");
    ((Query__GetAnswerRequest *)x->fill.msg)->after = (uint32_t)number;
    return ST_OK;
}

enum status serve_answer(struct exchange *x) {
    enum status st = exchange_read(x);
    if (st == ST_OK)
        st = take_last_event(x);
    if (st != ST_OK)
        return st;
    return wants_events(x) ? stream_answer(x) : exchange_ask(x);
}
