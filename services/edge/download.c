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

/* An original is what it is for as long as its id stands for it, so the id is its entity tag, and a strong one. */
static const char *etag_of(const struct exchange *x) {
    const struct route_param *id = &x->match.params[0];
    struct uuid document;
    char text[UUID_TEXT_BYTES];
    return uuid_parse(id->text, id->text_len, &document) ? arena_printf(x->call.mem, "\"%s\"", uuid_format(&document, text)) : "\"\"";
}

/* What the client's conditions and its range leave to be sent, in the order of RFC 9110, 13.2.2. */
static void read_wanted(const struct exchange *x, const char *etag, Query__ContentWanted *wanted) {
    const struct framing *f = &x->framing;
    struct byte_range range;
    if (f->if_match && !etag_matches(f->if_match, etag, true)) {
        wanted->part = QUERY__CONTENT_PART__CONTENT_REFUSED;
    } else if (f->if_none_match && etag_matches(f->if_none_match, etag, false)) {
        wanted->part = QUERY__CONTENT_PART__CONTENT_UNCHANGED;
    } else if (exchange_is_head(x)) {
        wanted->part = QUERY__CONTENT_PART__CONTENT_HEAD;
    } else if (f->range && (!f->if_range || str_equal(f->if_range, etag)) && byte_range_parse(f->range, &range)) {
        wanted->part = QUERY__CONTENT_PART__CONTENT_RANGE;
        wanted->from = range.from;
        wanted->length = range.length;
    }
}

/* The two requests that are answered here have it in the same place by another descriptor. */
static void put_wanted(struct exchange *x, Query__ContentWanted *wanted) {
    if (x->route->req == &query__get_content_request__descriptor)
        ((Query__GetContentRequest *)x->fill.msg)->wanted = wanted;
    else
        ((Query__GetEvidenceContentRequest *)x->fill.msg)->wanted = wanted;
}

/* What is known of the original, as the head of the answer that is due. ST_INVALID: REQ_014, REQ_015. */
static enum status make_head(struct exchange *x, const Query__ContentWanted *wanted, const Query__ContentHead *content,
                             struct answer_head *head) {
    if (wanted->part == QUERY__CONTENT_PART__CONTENT_REFUSED)
        return fail_as(&x->call.why, ERR_REQ_PRECONDITION, "content: another is wanted");
    if (wanted->part == QUERY__CONTENT_PART__CONTENT_UNCHANGED) {
        head->http_status = 304;
        return ST_OK;
    }
    if (content->length <= 0 || content->from < 0 || content->length > content->bytes - content->from) {
        x->unsatisfied_range = arena_printf(x->call.mem, "bytes */%lld", (long long)content->bytes);
        return fail_as(&x->call.why, ERR_REQ_RANGE, "content: nothing is there");
    }
    if (wanted->part == QUERY__CONTENT_PART__CONTENT_RANGE) {
        head->http_status = 206;
        head->range = arena_printf(x->call.mem, "bytes %lld-%lld/%lld", (long long)content->from,
                                   (long long)(content->from + content->length - 1), (long long)content->bytes);
    }
    head->content_type = safe_type(content->content_type);
    head->length_bytes = content->length;
    head->policy = "sandbox; default-src 'none'; frame-ancestors 'none'";
    head->disposition = disposition_print(x->call.mem, content->file_name);
    return ST_OK;
}

enum status serve_content(struct exchange *x) {
    CLEANUP(bus_stream_destroy) struct bus_stream *stream = NULL;
    const Query__ContentHead *content = NULL;
    Query__ContentWanted wanted = QUERY__CONTENT_WANTED__INIT;
    enum status st = exchange_fill(x, NULL);
    if (st != ST_OK)
        return st;
    struct answer_head head = { .http_status = x->route->success, .etag = etag_of(x) };
    read_wanted(x, head.etag, &wanted);
    put_wanted(x, &wanted);
    x->call.deadline_ms = clock_mono_ms() + x->route->budget_ms;
    st = bus_stream_open(&x->call, x->route->method, x->fill.msg, &stream);
    if (st == ST_OK)
        st = read_head(x, stream, &content);
    if (st == ST_OK)
        st = make_head(x, &wanted, content, &head);
    if (st != ST_OK)
        return st;
    if (!answer_begin(x, &head))
        return fail(&x->call.why, ST_UNAVAILABLE, "content: the client has gone");
    fault_point(FAULT_EDGE_CONTENT_BEGUN);
    bool is_sent = wanted.part == QUERY__CONTENT_PART__CONTENT_WHOLE || wanted.part == QUERY__CONTENT_PART__CONTENT_RANGE;
    return send_content(x, stream, is_sent ? content->length : 0);
}
