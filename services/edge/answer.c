#include "answer.h"

#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/str.h"
#include "edge.pb-c.h"
#include "json/writer.h"
#include "obs/trace.h"
#include "rest/print.h"

enum { HEAD_MAX_BYTES = 8 << 10, BODY_MAX_BYTES = 8 << 20, WRITE_BYTES = 64 << 10, WRITE_PATIENCE_MS = 30000 };

static const char *reason(int http_status) {
    static const struct { int http_status; const char *text; } REASONS[] = {
        { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" }, { 206, "Partial Content" }, { 303, "See Other" }, { 304, "Not Modified" }, { 400, "Bad Request" },
        { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" },
        { 408, "Request Timeout" }, { 409, "Conflict" }, { 411, "Length Required" }, { 412, "Precondition Failed" }, { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" }, { 421, "Misdirected Request" }, { 422, "Unprocessable Content" }, { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" }, { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
    };
    for (unsigned i = 0; i < sizeof REASONS / sizeof *REASONS; i++)
        if (REASONS[i].http_status == http_status)
            return REASONS[i].text;
    return "Answer";
}

static void print_date(struct buffer *out) {
    static const char *const DAYS[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const MONTHS[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t now = (time_t)(clock_unix_us() / 1000000);
    struct tm tm;
    (void)gmtime_r(&now, &tm);          /* not strftime: its names follow the locale */
    (void)buffer_printf(out, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", DAYS[tm.tm_wday], tm.tm_mday, MONTHS[tm.tm_mon],
                        tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Where a good answer's time went. A refusal's would tell more about what was refused than its text may. */
static void print_timing(struct buffer *out, const struct answer_head *head) {
    const struct trace_scope *scope = trace_current();
    char timing[TRACE_TIMING_BYTES];
    if (scope && head->http_status < 400 && !head->is_preflight)
        (void)buffer_printf(out, "Server-Timing: %s\r\n", trace_timing(scope, timing));
}

void answer_print_head(struct buffer *out, const struct answer_head *head, const struct uuid *request_id, const char *origin,
                       bool is_production) {
    char id[UUID_TEXT_BYTES];
    (void)buffer_printf(out, "HTTP/1.1 %d %s\r\n", head->http_status, reason(head->http_status));
    print_date(out);
    (void)buffer_printf(out, "X-Request-ID: %s\r\nConnection: close\r\n", uuid_format(request_id, id));
    if (head->content_type)
        (void)buffer_printf(out, "Content-Type: %s\r\n", head->content_type);
    if (head->length_bytes < 0)
        (void)buffer_add_str(out, "Transfer-Encoding: chunked\r\n");
    else if (head->content_type || (head->http_status != 204 && head->http_status != 304))
        (void)buffer_printf(out, "Content-Length: %lld\r\n", (long long)head->length_bytes);
    (void)buffer_printf(out, "Cache-Control: %s\r\n", head->cache ? head->cache : "no-store");
    (void)buffer_printf(out, "Content-Security-Policy: %s\r\n",
                        head->policy ? head->policy : "default-src 'none'; frame-ancestors 'none'");
    (void)buffer_add_str(out, "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n"
                              "Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"
                              "Permissions-Policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n");
    if (is_production)
        (void)buffer_add_str(out, "Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n");
    if (head->is_live)                  /* nginx, and others that took it over */
        (void)buffer_add_str(out, "X-Accel-Buffering: no\r\n");
    if (head->disposition)
        (void)buffer_printf(out, "Content-Disposition: %s\r\n", head->disposition);
    if (head->etag)
        (void)buffer_printf(out, "ETag: %s\r\nAccept-Ranges: bytes\r\n", head->etag);
    if (head->range)
        (void)buffer_printf(out, "Content-Range: %s\r\n", head->range);
    if (head->location)
        (void)buffer_printf(out, "Location: %s\r\n", head->location);
    if (head->cookies)
        (void)buffer_add_str(out, head->cookies);
    if (head->allow)
        (void)buffer_printf(out, "Allow: %s\r\n", head->allow);
    if (head->http_status == 401)       /* RFC 6750, 3; RFC 9470, 3 */
        (void)buffer_printf(out, "WWW-Authenticate: Bearer realm=\"cordon\"%s\r\n",
                            head->wants_mfa ? ", error=\"insufficient_user_authentication\"" : "");
    if (head->retry_after_ms > 0)
        (void)buffer_printf(out, "Retry-After: %d\r\n", (head->retry_after_ms + 999) / 1000);
    if (head->quotas)
        quotas_print(head->quotas, out);
    if (origin)
        (void)buffer_printf(out, "Access-Control-Allow-Origin: %s\r\n"
                            "Access-Control-Expose-Headers: X-Request-ID, Retry-After, RateLimit, RateLimit-Policy, Content-Disposition, "
                            "ETag, Accept-Ranges, Content-Range\r\n"
                            "Timing-Allow-Origin: %s\r\n", origin, origin);
    if (head->is_preflight)
        (void)buffer_printf(out, "Access-Control-Allow-Methods: %s\r\nAccess-Control-Max-Age: 600\r\nAccess-Control-Allow-Headers: "
                            "Authorization, Content-Type, Content-Disposition, Content-Digest, Repr-Digest, Idempotency-Key, If-Match, If-None-Match, If-Range, Last-Event-ID, Range, Cordon-Metadata, "
                            "Cordon-Mrn, Cordon-Document-Id, Cordon-Priority\r\n", head->allow);
    print_timing(out, head);
    (void)buffer_add_str(out, "Vary: Origin\r\n\r\n");
}

/* One write under watch. */
static bool send_bytes(struct exchange *x, const char *data, size_t len) {
    while (len && !x->is_broken) {
        size_t n = len < WRITE_BYTES ? len : WRITE_BYTES;
        x->vigil.is_writing = true;
        patience_begin(x->edge->patience, &x->vigil, clock_mono_ms() + WRITE_PATIENCE_MS);
        int written = mg_write(x->conn, data, n);
        bool is_cut = patience_end(x->edge->patience, &x->vigil);
        x->is_broken = written != (int)n || is_cut;
        data += n;
        len -= n;
    }
    return !x->is_broken;
}

bool answer_begin(struct exchange *x, const struct answer_head *head) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = HEAD_MAX_BYTES };
    struct answer_head whole = *head;
    whole.quotas = &x->quotas;
    whole.cookies = x->cookies;
    answer_print_head(&out, &whole, &x->call.request_id, x->origin, x->edge->rt->is_production);
    x->http_status = head->http_status;
    if (out.is_overfull)
        x->is_broken = true;            /* half a head must not be sent */
    return send_bytes(x, out.data, out.len);
}

bool answer_bytes(struct exchange *x, const void *data, size_t len) {
    return send_bytes(x, data, len);
}

bool answer_chunk(struct exchange *x, const void *data, size_t len) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    (void)buffer_printf(&out, "%zx\r\n", len);
    (void)buffer_add(&out, data, len);
    (void)buffer_add_str(&out, "\r\n");
    return send_bytes(x, out.data, out.len);
}

enum status answer_whole(struct exchange *x, const struct answer_head *head, const void *data, size_t len) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    struct answer_head whole = *head;
    whole.length_bytes = (int64_t)len;
    whole.quotas = &x->quotas;
    whole.cookies = x->cookies;
    answer_print_head(&out, &whole, &x->call.request_id, x->origin, x->edge->rt->is_production);
    x->http_status = head->http_status;
    if (!exchange_is_head(x))
        (void)buffer_add(&out, data, len);
    (void)send_bytes(x, out.data, out.len);
    return ST_OK;
}

enum status answer_message(struct exchange *x, int http_status, const ProtobufCMessage *msg) {
    CLEANUP(buffer_end) struct buffer body = { .limit_bytes = BODY_MAX_BYTES };
    struct json_writer w;
    json_begin(&w, &body);
    if (!print_message(msg, &w) || !json_finish(&w))
        return fail(&x->call.why, ST_INTERNAL, "%s cannot be printed", msg->descriptor->name);
    struct answer_head head = { .http_status = http_status, .content_type = "application/json" };
    return answer_whole(x, &head, body.data, body.len);
}

bool problem_print(enum error_code code, int http_status, const char *detail, const struct uuid *request_id, struct buffer *out) {
    Edge__Problem problem = EDGE__PROBLEM__INIT;
    char type[64];
    (void)snprintf(type, sizeof type, "urn:cordon:error:%s", error_text_code(code));
    problem.type = type;
    problem.title = (char *)error_public_text(code);
    problem.status = (uint32_t)http_status;
    problem.code = (char *)error_text_code(code);
    problem.detail = (char *)(*detail ? detail : error_public_text(code));
    problem.request_id = (ProtobufCBinaryData){ UUID_BYTES, (uint8_t *)request_id->bytes };
    struct json_writer w;
    json_begin(&w, out);
    return print_message(&problem.base, &w) && json_finish(&w);
}

void answer_problem(struct exchange *x) {
    CLEANUP(buffer_end) struct buffer body = { .limit_bytes = 0 };
    const struct why *why = &x->call.why;
    char verbs[64] = "";
    int http_status = error_http(why->code);
    struct answer_head head = { .http_status = http_status, .content_type = "application/problem+json",
                                .wants_mfa = why->code == ERR_AUTH_MFA, .range = x->unsatisfied_range,
                                .retry_after_ms = why->retry_after_ms };
    if (http_status == 405) {
        route_verbs(x->match.other->path, verbs, sizeof verbs);
        head.allow = verbs;
    }
    if ((http_status == 503 || http_status == 429) && !head.retry_after_ms)
        head.retry_after_ms = 1000;
    (void)problem_print(why->code, http_status, x->detail, &x->call.request_id, &body);
    (void)answer_whole(x, &head, body.data, body.len);
}

void answer_continue(struct exchange *x) {
    static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (x->framing.wants_continue)
        (void)send_bytes(x, CONTINUE, sizeof CONTINUE - 1);
    x->framing.wants_continue = false;
}
