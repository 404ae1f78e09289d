#include "obs/listener.h"

#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/arena.h"
#include "core/str.h"
#include "obs/json_text.h"

enum { REQUEST_BYTES = 8 << 10, STACK_BYTES = 256 << 10, ADDRESS_BYTES = 128, ANSWER_BYTES = 8 << 20 };

struct health_report { struct buffer json; bool is_ready; bool has_rows; };

struct listener {
    struct listener_source source;
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;           /* collect and ready run one at a time */
};

void health_report_note(struct health_report *report, const char *name, const char *text) {
    char name_json[96], text_json[512];
    (void)json_text_put(name_json, sizeof name_json, name);
    (void)json_text_put(text_json, sizeof text_json, text);
    (void)buffer_printf(&report->json, "%s%s:%s", report->has_rows ? "," : "", name_json, text_json);
    report->has_rows = true;
}

void health_report_add(struct health_report *report, const char *name, enum status st, const char *why) {
    health_report_note(report, name, st == ST_OK ? "ok" : why);
    report->is_ready = report->is_ready && st == ST_OK;
}

struct answer { unsigned http; const char *type; struct buffer body; };

static void answer_end(struct answer *a) {
    buffer_end(&a->body);
}

static void on_live(struct listener *l, struct answer *a) {
    (void)l;
    (void)buffer_add_str(&a->body, "{\"status\":\"live\"}\n");
}

static void on_ready(struct listener *l, struct answer *a) {
    struct health_report report = { .is_ready = true };
    (void)pthread_mutex_lock(&l->lock);
    l->source.ready(l->source.ctx, &report);
    (void)pthread_mutex_unlock(&l->lock);
    a->http = report.is_ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    (void)buffer_printf(&a->body, "{\"status\":\"%s\",\"checks\":{%s}}\n", report.is_ready ? "ready" : "not ready",
                        report.json.data ? report.json.data : "");
    buffer_end(&report.json);
}

static void on_metrics(struct listener *l, struct answer *a) {
    a->type = "text/plain; version=0.0.4; charset=utf-8";
    (void)pthread_mutex_lock(&l->lock);
    if (l->source.collect)
        l->source.collect(l->source.ctx);
    (void)pthread_mutex_unlock(&l->lock);
    metrics_print(l->source.metrics, &a->body);
}

static const struct { const char *path; void (*handle)(struct listener *l, struct answer *a); } PAGES[] = {
    { "/metrics", on_metrics },
    { "/health/live", on_live },
    { "/health/ready", on_ready },
};

static void find_answer(struct listener *l, const char *method, const char *path, struct answer *a) {
    if (!str_equal(method, MHD_HTTP_METHOD_GET) && !str_equal(method, MHD_HTTP_METHOD_HEAD)) {
        a->http = MHD_HTTP_METHOD_NOT_ALLOWED;
        return;
    }
    for (size_t i = 0; i < sizeof PAGES / sizeof *PAGES; i++)
        if (str_equal(path, PAGES[i].path)) {
            PAGES[i].handle(l, a);
            return;
        }
    a->http = MHD_HTTP_NOT_FOUND;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *body, size_t *body_len, void **request) {
    (void)version;
    (void)body;
    struct listener *l = ctx;
    if (!*request) {                /* microhttpd calls once for the headers, again for the body and its end */
        *request = l;
        return MHD_YES;
    }
    if (*body_len > 0) {
        *body_len = 0;
        return MHD_YES;
    }
    CLEANUP(answer_end) struct answer a = { MHD_HTTP_OK, "application/json", { .limit_bytes = ANSWER_BYTES } };
    find_answer(l, method, path, &a);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(a.body.len, a.body.len ? a.body.data : "", MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, a.type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result queued = MHD_queue_response(connection, a.http, response);
    MHD_destroy_response(response);
    return queued;
}

/* Split "host:port" or "[host]:port" and make a socket address of it. */
static enum status parse_address(const char *text, struct sockaddr_storage *ret_address, struct why *why) {
    char host[ADDRESS_BYTES];
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool is_bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
    if (len == 0 || len >= sizeof host || !colon[1])
        return fail(why, ST_INVALID, "the metrics address is not host:port");
    memcpy(host, text + is_bracketed, len - 2 * is_bracketed);
    host[len - 2 * is_bracketed] = '\0';
    struct addrinfo hints = { .ai_family = is_bracketed ? AF_INET6 : AF_INET, .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return fail(why, ST_INVALID, "the metrics address is not a numeric host:port");
    memcpy(ret_address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return ST_OK;
}

enum status listener_start(const char *address, const struct listener_source *source, struct listener **ret_listener,
                           struct why *why) {
    struct sockaddr_storage at = { 0 };
    enum status st = parse_address(address, &at, why);
    if (st != ST_OK)
        return st;
    struct listener *l = xalloc(sizeof *l);
    l->source = *source;
    (void)pthread_mutex_init(&l->lock, NULL);
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                     (at.ss_family == AF_INET6 ? MHD_USE_DUAL_STACK : 0);
    l->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, l, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)LISTENER_CONNECTIONS,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)LISTENER_IDLE_S,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES,
                                 MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_END);
    if (!l->daemon) {
        listener_stop(&l);
        return fail(why, ST_UNAVAILABLE, "the metrics listener cannot bind %s", address);
    }
    *ret_listener = l;
    return ST_OK;
}

unsigned listener_port(const struct listener *listener) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}

void listener_stop(struct listener **listener_p) {
    struct listener *l = *listener_p;
    if (!l)
        return;
    if (l->daemon)
        MHD_stop_daemon(l->daemon);
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
    *listener_p = NULL;
}
