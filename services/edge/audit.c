#include "answer.h"
#include "core/clock.h"
#include "query.pb-c.h"

/* ---- tiles ---- */

/* A whole tile never changes; one that still fills does, but under another name. */
enum status serve_tile(struct exchange *x) {
    ProtobufCMessage *reply = NULL;
    enum status st = exchange_fill(x, NULL);
    if (st != ST_OK)
        return st;
    x->call.deadline_ms = clock_mono_ms() + x->route->budget_ms;
    st = bus_ask(&x->call, x->route->method, x->fill.msg, x->route->reply, &reply);
    if (st != ST_OK)
        return st;
    const Query__GetAuditTileReply *tile = (const void *)reply;
    struct answer_head head = { .http_status = x->route->success, .content_type = "application/octet-stream",
                                .cache = "private, max-age=31536000, immutable" };
    return answer_whole(x, &head, tile->data.data, tile->data.len);
}

/* ---- export ---- */

static bool send_chunk(struct exchange *x, const void *data, size_t len) {
    char size[24];
    int digits = snprintf(size, sizeof size, "%zx\r\n", len);
    return answer_bytes(x, size, (size_t)digits) && answer_bytes(x, data, len) && answer_bytes(x, "\r\n", 2);
}

/* The head goes out with the first part. A failure behind it can only be told by breaking off before the last chunk. */
static enum status send_parts(struct exchange *x, struct bus_stream *stream) {
    struct answer_head head = { .http_status = x->route->success, .content_type = "application/jsonl", .length_bytes = -1,
                                .disposition = "attachment; filename=\"audit-log.jsonl\"" };
    bool is_begun = false;
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        ProtobufCMessage *reply = NULL;
        enum status st = bus_stream_read(stream, &data, &len);
        if (st == ST_OK && !data)
            st = bus_stream_finish(stream, x->route->reply, &reply);
        if (st != ST_OK)
            return st;
        if (!is_begun && !answer_begin(x, &head))
            return fail(&x->call.why, ST_UNAVAILABLE, "export: the client has gone");
        is_begun = true;
        if (!data)
            return answer_bytes(x, "0\r\n\r\n", 5) ? ST_OK : fail(&x->call.why, ST_UNAVAILABLE, "export: the client has gone");
        if (len > 0 && !send_chunk(x, data, len))
            return fail(&x->call.why, ST_UNAVAILABLE, "export: the client has gone");
    }
}

enum status serve_export(struct exchange *x) {
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    enum status st = exchange_fill(x, NULL);
    if (st != ST_OK)
        return st;
    x->call.deadline_ms = clock_mono_ms() + x->route->budget_ms;
    st = bus_stream_open(&x->call, x->route->method, x->fill.msg, &stream);
    return st == ST_OK ? send_parts(x, stream) : st;
}
