#include "edge.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth_cache.h"
#include "core/clock.h"
#include "core/str.h"
#include "openapi.h"
#include "patience.h"
#include "red.h"
#include "serve.h"
#include "watch.h"

enum { LAST_ANSWERS_MS = 300 };

#define OFF(member) offsetof(struct edge_settings, member)
static const struct setting SETTINGS[] = {
    /* name                       type      default       min   max          unit     offset                   help */
    { "PORT",                     SET_INT,  "8080",       1,    65535,       "",      OFF(port),               "Port of the public HTTP listener." },
    { "CORDON_HTTP_HOST",         SET_TEXT, "127.0.0.1",  7,    15,          "",      OFF(http_host),          "IPv4 address that it binds; 0.0.0.0 behind a load balancer." },
    { "CORDON_HTTP_THREADS",      SET_INT,  "1280",       4,    8000,        "",      OFF(threads),            "Connections served at once, the slow ones included; each costs about 50 KB, and 150 KB while it is answered." },
    { "CORDON_MAX_UPLOAD_BYTES",  SET_INT,  "104857600",  1,    1LL << 38,   "bytes", OFF(max_upload_bytes),   "Largest document that is accepted." },
    { "CORDON_UPLOAD_MS",         SET_INT,  "900000",     1000, 43200000,    "ms",    OFF(upload_ms),          "Longest time for one upload; less than the day after which the janitor takes it for forgotten." },
    { "CORDON_BODY_MIN_RATE",     SET_INT,  "8192",       1,    1 << 30,     "bytes/s", OFF(body_min_rate),    "Slowest body that is waited for." },
    { "CORDON_SLOW_REQUEST_MS",   SET_INT,  "5000",       1,    3600000,     "ms",    OFF(slow_ms),            "Requests that take longer are logged although they succeed." },
    { "CORDON_ALLOWED_HOSTS",     SET_TEXT, "",           0,    4096,        "",      OFF(allowed_hosts),      "Comma list of names that requests may be for, without ports; others get 421. Empty: any." },
    { "CORDON_TRUSTED_PROXIES",   SET_TEXT, "",           0,    4096,        "",      OFF(trusted_proxies),    "Comma list of networks (CIDR) whose word about a client's address is taken." },
    { "CORDON_CLIENT_ADDRESS_HEADER", SET_TEXT, "x-forwarded-for", 1, 32,    "",      OFF(address_header),     "The one header in which they say it: x-forwarded-for, x-real-ip or forwarded." },
    { "CORDON_RATE_ADDRESS",      SET_INT,  "6000",       0,    1000000,     "1/min", OFF(rate_address),       "Requests from one address (IPv6: one /64); 0: no limit." },
    { "CORDON_RATE_USER",         SET_TEXT, "read=1200,write=300,upload=600,download=600,model=120,admin=300", 0, 256, "1/min", OFF(rate_user), "Requests of one user by class (docs/front-door.md); a class that is not named has no limit." },
    { "CORDON_RATE_TENANT",       SET_TEXT, "read=12000,write=3000,upload=3000,download=6000,model=1200,admin=1200", 0, 256, "1/min", OFF(rate_tenant), "Requests of one tenant by class." },
    { "CORDON_EDGE_REPLICAS",     SET_INT,  "1",          1,    1000,        "",      OFF(replicas),           "How many edges share these limits: each grants its part." },
    { "CORDON_LOGIN_FAILURES",    SET_INT,  "20",         0,    1000000,     "",      OFF(login_failures),     "Refused credentials from one address before it is locked out; 0: never." },
    { "CORDON_LOCKOUT_MAX_S",     SET_INT,  "300",        1,    86400,       "s",     OFF(lockout_max_s),      "Longest lock-out; the first lasts a second, each one twice the one before." },
    { "ALLOWED_ORIGINS",          SET_TEXT, "",           0,    4096,        "",      OFF(allowed_origins),    "Comma list of origins whose pages may read answers." },
    { 0 }
};

static void edge_close(void **self_p) {
    struct edge *edge = *self_p;
    if (!edge)
        return;
    serve_stop(edge, clock_mono_ms() + LAST_ANSWERS_MS);
    doors_end(&edge->doors);
    quotas_close(&edge->quotas);
    watch_destroy(&edge->watch);
    patience_destroy(&edge->patience);
    auth_cache_destroy(&edge->tickets);
    red_destroy(&edge->red);
    buffer_end(&edge->openapi);
    buffer_end(&edge->docs_page);
    buffer_end(&edge->docs_policy);
    free(edge);
    *self_p = NULL;
}

static enum status edge_open(void **self_p, const void *settings, struct runtime *rt, struct why *why) {
    struct edge *edge = *self_p = xalloc(sizeof *edge);
    edge->settings = settings;
    edge->rt = rt;
    edge->tickets = auth_cache_new();
    edge->patience = patience_new();
    edge->red = red_new(rt->metrics);
    edge->denials_lost = metrics_counter(rt->metrics, "cordon_edge_denials_lost_total",
                                         "Refusals of the edge that could not be put on the record.", "");
    doors_init(&edge->doors, rt->metrics, (int)edge->settings->port, (unsigned)edge->settings->threads);
    gauge_set(metrics_gauge(rt->metrics, "cordon_http_threads", "Requests that can be served at once.", ""), (double)edge->settings->threads);
    edge->in_flight_gauge = metrics_gauge(rt->metrics, "cordon_http_in_flight", "Requests being served.", "");
    enum status st = quotas_open(&edge->quotas, edge->settings, rt->metrics, why);
    if (st == ST_OK)
        st = proxies_read(edge->settings->trusted_proxies, edge->settings->address_header, &edge->proxies, why);
    if (st == ST_OK && !openapi_print(&edge->openapi))
        st = fail(why, ST_INTERNAL, "the API's document cannot be printed");
    if (st == ST_OK)
        docs_page_print(&edge->docs_page, &edge->docs_policy);
    return st;
}

static enum status edge_start(void *self, struct runtime *rt, struct why *why) {
    struct edge *edge = self;
    edge->watch = watch_new(rt->bus, rt->metrics);
    return serve_start(edge, why);
}

static void edge_drain(void *self, int64_t deadline_ms) {
    struct edge *edge = self;
    atomic_store(&edge->is_draining, true);
    doors_close(&edge->doors);
    serve_wait(edge, deadline_ms);          /* what is not done by then is told 503, as the bus halts, and cut in close() */
}

static void edge_needs(const void *settings, struct needs *needs) {
    const struct edge_settings *s = settings;
    needs_port(needs, s->port);
}

const struct service EDGE = {
    .name = "edge",
    .peer = PEER_EDGE,
    .about = "the only process that speaks to clients: HTTP in, bus calls out",
    .calls = PEER_AUTH | PEER_INGEST_WORKER | PEER_QUERY,
    .start_method = "auth.RecordStart",
    .settings = SETTINGS,
    .settings_size = sizeof(struct edge_settings),
    .needs = edge_needs,
    .open = edge_open,
    .start = edge_start,
    .drain = edge_drain,
    .close = edge_close,
};

static int print_openapi(void) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    if (!openapi_print(&out))
        return EXIT_FAILURE;
    return puts(out.data) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_endpoints(void) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    endpoints_print(&out);
    return fputs(out.data, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_error_codes(void) {
    (void)puts("# Error codes\n\n"
               "Every failure is `application/problem+json` (RFC 9457) with a `code` from this list and the `request_id` that\n"
               "names the request in logs and in the audit record. Codes never change their meaning.\n\n"
               "| code | HTTP | meaning | may the same request succeed later? |\n|---|---|---|---|");
    for (int code = ERR_NONE + 1; code < ERROR_CODE_COUNT; code++)
        (void)printf("| `%s` | %d | %s | %s |\n", error_text_code((enum error_code)code), error_http((enum error_code)code),
                     error_public_text((enum error_code)code),
                     status_is_retryable(error_status((enum error_code)code)) ? "yes, after `Retry-After`" : "no");
    return ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

bool edge_print(int argc, char **argv, int *ret_exit) {
    if (argc == 2 && str_equal(argv[1], "--openapi"))
        *ret_exit = print_openapi();
    else if (argc == 2 && str_equal(argv[1], "--endpoints-markdown"))
        *ret_exit = print_endpoints();
    else if (argc == 2 && str_equal(argv[1], "--error-codes-markdown"))
        *ret_exit = print_error_codes();
    else
        return false;
    return true;
}
