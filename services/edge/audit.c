#include "admit.h"
#include "answer.h"
#include "core/clock.h"
#include "core/str.h"
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

/* ---- exports ---- */

static const struct export_type { const char *method, *format, *content_type, *disposition; } TYPES[] = {
    { "query.ExportAudit",        "fhir", "application/fhir+json", "attachment; filename=\"audit-log.fhir.json\"" },
    { "query.ExportAudit",        "ocsf", "application/jsonl",     "attachment; filename=\"audit-log.ocsf.jsonl\"" },
    { "query.ExportAudit",        "",     "application/jsonl",     "attachment; filename=\"audit-log.jsonl\"" },
    { "query.ExportDisclosures",  "",     "text/csv; charset=utf-8", "attachment; filename=\"disclosures.csv\"" },
};

/* The row of the format that was asked for; the last one of a method is its own. */
static const struct export_type *export_type(const struct exchange *x) {
    const char *format = str_equal(x->route->method, "query.ExportAudit") ? ((const Query__ExportAuditRequest *)x->fill.msg)->format : "";
    const struct export_type *found = NULL;
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (str_equal(TYPES[i].method, x->route->method) && (!found || !str_equal(found->format, format)))
            found = &TYPES[i];
    return found;
}

const char *export_content_type(const struct http_route *route) {
    const char *type = NULL;
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (str_equal(TYPES[i].method, route->method))
            type = TYPES[i].content_type;
    return type;
}

/* The head goes out with the first part. A failure behind it can only be told by breaking off before the last chunk. */
static enum status send_parts(struct exchange *x, struct bus_stream *stream) {
    const struct export_type *type = export_type(x);
    struct answer_head head = { .http_status = x->route->success, .content_type = type->content_type, .length_bytes = -1,
                                .disposition = type->disposition };
    int64_t renewed_ms = clock_mono_ms();
    bool is_begun = false;
    for (;;) {
        const void *data = NULL;
        size_t len = 0;
        ProtobufCMessage *reply = NULL;
        enum status st = bus_stream_read(stream, &data, &len);
        if (st == ST_OK && !data)
            st = bus_stream_finish(stream, x->route->reply, &reply);
        else if (st == ST_OK)
            st = admit_renew(x, stream, &renewed_ms);
        if (st != ST_OK)
            return st;
        if (!is_begun && !answer_begin(x, &head))
            return fail(&x->call.why, ST_UNAVAILABLE, "export: the client has gone");
        is_begun = true;
        if (!data)
            return answer_chunk(x, "", 0) ? ST_OK : fail(&x->call.why, ST_UNAVAILABLE, "export: the client has gone");
        if (len > 0 && !answer_chunk(x, data, len))
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
