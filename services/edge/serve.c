#include "serve.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "admit.h"
#include "answer.h"
#include "body.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "cors.h"
#include "exchange.h"
#include "obs/log.h"
#include "obs/trace.h"
#include "red.h"

enum { HEADER_MAX_BYTES = 32 << 10, PAGE_BYTES = 4096 };
enum { IDLE_MS = 15000, HEAD_MS = 10000, ADMISSION_MS = 10000, DRAIN_STEP_US = 10000, SILENT_MS = 500, SHED_RETRY_MS = 1000 };

/* What a listener thread keeps for its life. */
struct worker {
    struct bus_client *bus;     /* lent for the present connection; NULL: it asked nobody */
    struct vigil head;          /* over the head of the present connection's request */
    bool is_answered;           /* it, by us */
    void *stack;                /* its lowest byte; NULL: not known */
};

struct bus_client *edge_bus(const struct mg_connection *conn) {
    struct worker *worker = mg_get_thread_pointer(conn);
    struct edge *edge = mg_get_user_context_data(conn);
    if (!worker->bus)
        worker->bus = clients_borrow(&edge->clients);
    return worker->bus;
}

static void *worker_begin(const struct mg_context *ctx, int thread_type) {
    (void)ctx;
    struct worker *worker = thread_type == 1 ? xalloc(sizeof *worker) : NULL;
    pthread_attr_t attr;
    void *low = NULL;
    size_t size = 0;
    if (worker && pthread_getattr_np(pthread_self(), &attr) == 0) {
        if (pthread_attr_getstack(&attr, &low, &size) == 0)
            worker->stack = low;
        (void)pthread_attr_destroy(&attr);
    }
    return worker;
}

/* A thread that has served a connection gives back what of its stack it used for that: the next connection goes to the one
 * that waits longest, so every thread gets its turn, and each would keep some 50 KB. What is below this frame, but for a
 * page, is used by nobody. */
static void give_back_stack(const struct worker *worker) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), top = (here & ~(uintptr_t)(PAGE_BYTES - 1)) - PAGE_BYTES, low = (uintptr_t)worker->stack;
    if (low && top > low)
        (void)madvise(worker->stack, top - low, MADV_DONTNEED);
}

static void worker_end(const struct mg_context *ctx, int thread_type, void *arg) {
    (void)ctx;
    (void)thread_type;
    free(arg);
}

/* The client's address is there from the beginning, but civetweb gives it out only with the request. Where it stands in
 * a connection is the same for all, and known since the first request. NULL: there was none yet. */
static const struct mg_request_info *early_info(struct edge *edge, const struct mg_connection *conn) {
    ptrdiff_t offset = atomic_load(&edge->info_offset);
    return offset ? (const void *)((const char *)conn + offset) : NULL;
}

/* A connection got a thread: its head must come in time, as a whole. */
static int connection_begin(const struct mg_connection *conn, void **conn_data) {
    (void)conn_data;
    struct edge *edge = mg_get_user_context_data(conn);
    struct worker *worker = mg_get_thread_pointer(conn);
    const struct mg_request_info *in = early_info(edge, conn);
    worker->is_answered = false;
    patience_hurry(edge->patience, doors_count_connection(&edge->doors, 1));
    if (in) {
        worker->head = (struct vigil){ .address = in->remote_addr, .port = in->remote_port };
        patience_begin(edge->patience, &worker->head, clock_mono_ms() + HEAD_MS);
    }
    return 0;
}

static int on_library_error(struct mg_connection *conn, int http_status, const char *message);

/* Some request lines (an asterisk) civetweb takes in and then hangs up on without a word or a callback but this one. */
static void connection_end(const struct mg_connection *conn) {
    struct edge *edge = mg_get_user_context_data(conn);
    struct worker *worker = mg_get_thread_pointer(conn);
    const struct mg_request_info *in = mg_get_request_info(conn);
    (void)patience_end(edge->patience, &worker->head);
    if (!worker->is_answered && in && in->request_method)
        (void)on_library_error((struct mg_connection *)conn, 400, "");
    patience_hurry(edge->patience, doors_count_connection(&edge->doors, -1));
    clients_give_back(&edge->clients, &worker->bus);
    give_back_stack(worker);
}

/* ---- one request ---- */

enum status exchange_enter(struct exchange *x) {
    if (x->is_inside)
        return ST_OK;
    x->is_inside = doors_enter(&x->edge->doors, x->route->rate);
    if (x->is_inside)
        return ST_OK;
    x->call.why.retry_after_ms = SHED_RETRY_MS;
    return fail_as(&x->call.why, ERR_BUSY, "as many requests of this kind are served as may be");
}

bool exchange_is_head(const struct exchange *x) {
    return str_equal(x->in->request_method, "HEAD");
}

static enum status find_route(struct exchange *x) {
    if (!x->match.other)
        return fail(&x->call.why, ST_NOT_FOUND, "no such path");
    if (!x->match.route)
        return fail_as(&x->call.why, ERR_REQ_METHOD, "%s does not answer this verb", x->match.other->path);
    x->route = x->match.route;
    if (x->route->body == BODY_NONE && guard_has_body(&x->framing))
        return fail_as(&x->call.why, ERR_REQ_BODY_TOO_LARGE, "a body where none is wanted");
    return ST_OK;
}

/* A browser asks first: may a page of this origin send that verb here? */
static bool is_preflight(const struct exchange *x) {
    return x->origin && x->framing.request_method && str_equal(x->in->request_method, "OPTIONS");
}

static enum status serve_preflight(struct exchange *x) {
    char verbs[64];
    struct route_match match = route_match(x->framing.request_method, x->in->local_uri_raw);
    if (!match.other)
        return fail(&x->call.why, ST_NOT_FOUND, "no such path");
    route_verbs(match.other->path, verbs, sizeof verbs);
    return answer_whole(x, &(struct answer_head){ .http_status = 204, .allow = verbs, .is_preflight = true }, "", 0);
}

/* One meaning, and a sender who has not asked too often: for what is malformed too, and for paths that are not there. */
static enum status check_request(struct exchange *x) {
    const struct edge *edge = x->edge;
    enum status st = guard_check(x->in, &x->framing, &x->call.why);
    if (st == ST_OK && !guard_is_verbatim(x->in))
        st = fail_as(&x->call.why, ERR_REQ_MALFORMED, "guard: lines that were skipped or bent");
    if (st == ST_OK)
        x->match = route_match(x->in->request_method, x->in->local_uri_raw);
    if (x->match.route && x->match.route->rate == RATE_NONE)
        return ST_OK;                       /* whoever balances load asks by address, and as often as it likes */
    if (st == ST_OK && !guard_allows_host(edge->settings->allowed_hosts, x->framing.host))
        st = fail_as(&x->call.why, ERR_REQ_HOST, "guard: another host");
    struct why limited = { 0 };
    if (quotas_take_address(&x->edge->quotas, &x->sender, &x->quotas, &limited) == ST_OK)
        return st;
    x->call.why = limited;
    return ST_LIMITED;
}

static enum status serve_request(struct exchange *x) {
    sender_find(&x->edge->proxies, x->in, &x->sender);
    enum status st = check_request(x);
    if (st != ST_OK)
        return st;
    x->origin = cors_allows(x->edge->settings->allowed_origins, x->framing.origin) ? x->framing.origin : NULL;
    if (is_preflight(x))
        return serve_preflight(x);
    st = find_route(x);
    if (st == ST_OK && x->route->body != BODY_JSON)         /* those enter once their body is here */
        st = exchange_enter(x);
    if (st == ST_OK)
        st = admit(x);
    if (st == ST_OK)
        st = fault_status(FAULT_EDGE_ADMITTED, &x->call.why);
    if (st == ST_OK)
        st = x->route->handle(x);
    if (watch_end(x->edge->watch, &x->watched))
        st = fail_as(&x->call.why, ERR_AUTH_SESSION, "its session ended while it was served");
    admit_record_refusal(x, st);
    return st;
}

static void write_log(const struct exchange *x, const struct trace_scope *scope, enum status st, int64_t elapsed_us) {
    char timing[TRACE_TIMING_BYTES];
    bool is_slow = elapsed_us / 1000 > x->edge->settings->slow_ms;
    if (st == ST_OK && !is_slow)
        return;
    enum log_level level = st == ST_OK || x->http_status < 500 ? LOG_INFO : LOG_WARN;
    log_event(level, st == ST_OK ? "slow_request" : "refused", LOG_TEXT("method", x->route ? x->route->verb : ""),
              LOG_TEXT("route", x->route ? x->route->path : ""),
              LOG_NUMBER("http", x->http_status), LOG_TEXT("code", st == ST_OK ? "" : error_text_code(x->call.why.code)),
              LOG_TEXT("why", st == ST_OK ? "" : x->call.why.text), LOG_NUMBER("ms", elapsed_us / 1000),
              LOG_TEXT("timing", trace_timing(scope, timing)));
}

/* The one traceparent that came; of two nobody knows which is true. */
static const char *traceparent_of(const struct mg_request_info *in) {
    const char *found = NULL;
    for (int i = 0; i < in->num_headers; i++) {
        if (!in->http_headers[i].name || strcasecmp(in->http_headers[i].name, "traceparent") != 0)
            continue;
        if (found)
            return "";
        found = in->http_headers[i].value;
    }
    return found ? found : "";
}

static void end_trace(const struct exchange *x, struct trace_scope *scope, enum status st) {
    struct span *span = &scope->span;
    (void)snprintf(span->name, sizeof span->name, "%s %s", x->route ? x->route->verb : "HTTP", x->route ? x->route->path : "refused");
    if (x->route)
        span_text(span, "http.route", x->route->path);
    span_text(span, "http.request.method", x->route ? x->route->verb : "_OTHER");
    span_number(span, "http.response.status_code", x->http_status);
    span_number(span, "http.request.body.size", x->body_read_bytes);
    trace_end(scope, x->http_status < 500 ? ST_OK : st);    /* a refusal is the client's failure, not the server's */
}

static int on_request(struct mg_connection *conn) {
    struct edge *edge = mg_get_user_context_data(conn);
    int64_t began_us = clock_mono_us();
    struct trace_scope scope;
    struct worker *worker = mg_get_thread_pointer(conn);
    worker->is_answered = true;
    (void)patience_end(edge->patience, &worker->head);
    mg_disable_connection_keep_alive(conn);     /* also keeps civetweb from reading the rest of the body */
    gauge_set(edge->in_flight_gauge, atomic_fetch_add(&edge->in_flight, 1) + 1);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(BUS_BODY_CAP_BYTES);
    struct exchange *x = arena_alloc(mem, sizeof *x);
    x->edge = edge;
    x->conn = conn;
    x->in = mg_get_request_info(conn);
    atomic_store(&edge->info_offset, (const char *)x->in - (const char *)conn);
    x->framing.length_bytes = -1;
    x->vigil.address = x->in->remote_addr;
    x->vigil.port = x->in->remote_port;
    x->vigil.server_port = x->in->server_port;
    x->call = (struct call){ .mem = mem, .request_id = uuid_v7(), .method = "", .ticket = "", .traceparent = "", .attempt = 1,
                             .deadline_ms = clock_mono_ms() + ADMISSION_MS };
    trace_begin(&scope, SPAN_SERVER, "HTTP", traceparent_of(x->in));
    trace_request(&x->call.request_id);
    enum status st = serve_request(x);
    if (st != ST_OK && !x->http_status) {
        answer_problem(x);
        body_discard(x);
    }
    if (x->is_inside)
        doors_leave(&edge->doors, x->route->rate);
    int64_t elapsed_us = clock_mono_us() - began_us;
    red_count(edge->red, x->route, x->http_status, elapsed_us);
    if (x->route && x->route->body == BODY_UPLOAD)
        red_count_upload(edge->red, x->body_read_bytes);
    write_log(x, &scope, st, elapsed_us);
    end_trace(x, &scope, st);
    int http_status = x->http_status;
    gauge_set(edge->in_flight_gauge, atomic_fetch_sub(&edge->in_flight, 1) - 1);
    return http_status;
}

/* ---- what civetweb refuses before on_request sees it ---- */

static enum error_code code_of(int http_status) {
    switch (http_status) {
    case 404:
        return ERR_NOT_FOUND;
    case 405:
        return ERR_REQ_METHOD;
    case 408:
        return ERR_REQ_TOO_SLOW;
    case 411:
        return ERR_REQ_LENGTH_REQUIRED;
    case 413:                   /* civetweb's word for a head that is too large */
    case 414:
    case 431:
        return ERR_REQ_HEADERS;
    case 500:
        return ERR_INTERNAL;
    case 503:
        return ERR_BUSY;
    default:
        return ERR_REQ_MALFORMED;
    }
}

static int on_library_error(struct mg_connection *conn, int http_status, const char *message) {
    (void)message;              /* may quote the request */
    struct edge *edge = mg_get_user_context_data(conn);
    ((struct worker *)mg_get_thread_pointer(conn))->is_answered = true;
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    CLEANUP(buffer_end) struct buffer body = { .limit_bytes = 0 };
    struct uuid request_id = uuid_v7();
    enum error_code code = code_of(http_status);
    struct answer_head head = { .http_status = error_http(code), .content_type = "application/problem+json" };
    mg_disable_connection_keep_alive(conn);
    (void)problem_print(code, head.http_status, "", &request_id, &body);
    head.length_bytes = (int64_t)body.len;
    answer_print_head(&out, &head, &request_id, NULL, edge->rt->is_production);
    (void)buffer_add(&out, body.data, body.len);
    (void)mg_write(conn, out.data, out.len);
    red_count(edge->red, NULL, head.http_status, 0);
    return 0;
}

/* Civetweb's own notes are about sockets and may quote requests: the error codes say enough. */
static int on_library_note(const struct mg_connection *conn, const char *message) {
    (void)conn;
    (void)message;
    return 1;
}

/* ---- the listener ---- */

enum status serve_start(struct edge *edge, struct why *why) {
    char listen[80], threads[16], idle[16], head[16];
    (void)snprintf(listen, sizeof listen, "%s:%d", edge->settings->http_host, (int)edge->settings->port);
    (void)snprintf(threads, sizeof threads, "%d", (int)edge->settings->threads);
    (void)snprintf(idle, sizeof idle, "%d", IDLE_MS);
    (void)snprintf(head, sizeof head, "%d", HEADER_MAX_BYTES);
    const char *options[] = {
        "listening_ports", listen, "num_threads", threads, "request_timeout_ms", idle, "max_request_size", head,
        "enable_keep_alive", "no", "decode_url", "no", "tcp_nodelay", "1", "connection_queue", "512", "listen_backlog", "1024",
        "access_control_allow_origin", "", "access_control_allow_methods", "", "access_control_allow_headers", "",
        "enable_directory_listing", "no", "allow_sendfile_call", "no", NULL,
    };
    const struct mg_callbacks callbacks = {
        .begin_request = on_request, .http_error = on_library_error, .log_message = on_library_note,
        .log_access = on_library_note, .init_thread = worker_begin, .exit_thread = worker_end,
        .init_connection = connection_begin, .connection_close = connection_end,
    };
    (void)mg_init_library(0);
    clients_open(&edge->clients, edge->rt->bus, (size_t)edge->settings->threads);
    edge->http = mg_start(&callbacks, edge, options);
    if (!edge->http) {
        clients_close(&edge->clients);
        return fail(why, ST_UNAVAILABLE, "cannot listen on %s", listen);
    }
    return ST_OK;
}

/* A connection whose request has not come half a second after the last one could begin is not waited for. */
void serve_wait(struct edge *edge, int64_t deadline_ms) {
    int64_t silent_ms = clock_mono_ms() + SILENT_MS;
    for (int64_t now_ms; (now_ms = clock_mono_ms()) < deadline_ms; (void)usleep(DRAIN_STEP_US)) {
        bool is_busy = atomic_load(&edge->in_flight) > 0;
        if (!is_busy && (atomic_load(&edge->doors.connections) == 0 || now_ms >= silent_ms))
            return;
    }
}

void serve_stop(struct edge *edge, int64_t deadline_ms) {
    if (!edge->http)
        return;
    doors_close(&edge->doors);
    while (atomic_load(&edge->in_flight) > 0 && clock_mono_ms() < deadline_ms)
        (void)usleep(DRAIN_STEP_US);
    doors_cut_all(&edge->doors);
    mg_stop(edge->http);
    edge->http = NULL;
    clients_close(&edge->clients);
    (void)mg_exit_library();
}
