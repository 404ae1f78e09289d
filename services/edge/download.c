#include "answer.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "query.pb-c.h"
#include "rest/header.h"

/* What a browser may be told a document is; everything else is bytes. Never a type that runs. */
static const char *safe_type(const char *content_type) {
    static const struct { const char *stored, *sent; } TYPES[] = {
        { "application/pdf", "application/pdf" },
        { "text/markdown", "text/markdown; charset=utf-8" },
        { "text/plain", "text/plain; charset=utf-8" },
    };
    for (unsigned i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (str_equal(TYPES[i].stored, content_type))
            return TYPES[i].sent;
    return "application/octet-stream";
}

/* The first part is a ContentHead. None at all: the reply says why. */
static enum status read_head(struct exchange *x, struct bus_stream *stream, const Query__ContentHead **ret_head) {
    const void *data = NULL;
    size_t len = 0;
    ProtobufCMessage *reply = NULL;
    enum status st = bus_stream_read(stream, &data, &len);
    if (st == ST_OK && !data) {
        st = bus_stream_finish(stream, x->route->reply, &reply);
        return st == ST_OK ? fail(&x->call.why, ST_INTERNAL, "content: a reply without a head") : st;
    }
    if (st != ST_OK)
        return st;
    Query__ContentHead *head = query__content_head__unpack(arena_wire(x->call.mem), len, data);
    if (!head || head->bytes < 0)
        return fail(&x->call.why, ST_INTERNAL, "content: the head does not decode");
    *ret_head = head;
    return ST_OK;
}

/* The head has gone out, so a failure can only be told by breaking off before the announced length. */
static enum status send_content(struct exchange *x, struct bus_stream *stream, int64_t bytes) {
    ProtobufCMessage *reply = NULL;
    enum status st = ST_OK;
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        st = bus_stream_read(stream, &data, &len);
        if (st != ST_OK || !data)
            break;
        bytes -= (int64_t)len;
        if (bytes < 0)
            return fail(&x->call.why, ST_INTERNAL, "content: longer than its head says");
        if (!answer_bytes(x, data, len))
            return fail(&x->call.why, ST_UNAVAILABLE, "content: the client has gone");
    }
    if (st == ST_OK)
        st = bus_stream_finish(stream, x->route->reply, &reply);
    if (st == ST_OK && bytes != 0)
        st = fail(&x->call.why, ST_INTERNAL, "content: shorter than its head says");
    return st;
}

enum status serve_content(struct exchange *x) {
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    const Query__ContentHead *content = NULL;
    enum status st = exchange_fill(x, NULL);
    if (st != ST_OK)
        return st;
    x->call.deadline_ms = clock_mono_ms() + x->route->budget_ms;
    st = bus_stream_open(&x->call, x->route->method, x->fill.msg, &stream);
    if (st == ST_OK)
        st = read_head(x, stream, &content);
    if (st != ST_OK)
        return st;
    struct answer_head head = {
        .http_status = x->route->success,
        .content_type = safe_type(content->content_type),
        .length_bytes = content->bytes,
        .policy = "sandbox; default-src 'none'; frame-ancestors 'none'",
        .disposition = disposition_print(x->call.mem, content->file_name),
    };
    if (!answer_begin(x, &head))
        return fail(&x->call.why, ST_UNAVAILABLE, "content: the client has gone");
    fault_point(FAULT_EDGE_CONTENT_BEGUN);
    return send_content(x, stream, content->bytes);
}
