#include "otlp/otlp.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"
#include "http/client.h"
#include "otlp/encode.h"

enum { HEADERS_MAX = 8, ATTEMPTS = 2, WIRE_CAP_BYTES = 4 << 20, URL_BYTES = 600, NAME_BYTES = 80 };

struct otlp {
    pthread_mutex_t lock;                   /* of the queue and the two below it */
    pthread_cond_t changed;                 /* a batch is full, or the end has come */
    struct span queue[OTLP_QUEUE_SPANS];    /* a ring */
    size_t first, count;
    bool is_ending;
    int64_t end_ms;
    pthread_t thread;
    bool has_thread;
    /* The exporting thread's own. */
    struct http_client *http;
    char url[URL_BYTES], service_name[NAME_BYTES], instance_id[UUID_TEXT_BYTES];
    struct secret *headers[HEADERS_MAX];    /* "name: value" */
    unsigned header_count;
    struct span batch[OTLP_BATCH_SPANS];
    struct counter *exported, *dropped, *failed;
};

/* ---- settings ---- */

static bool is_here(const char *endpoint) {
    static const char *const HERE[] = { "http://127.0.0.1", "http://localhost", "http://[::1]" };
    for (unsigned i = 0; i < sizeof HERE / sizeof *HERE; i++) {
        size_t len = strlen(HERE[i]);
        if (strncmp(endpoint, HERE[i], len) == 0 && (endpoint[len] == ':' || endpoint[len] == '/' || !endpoint[len]))
            return true;
    }
    return false;
}

static enum status read_endpoint(struct otlp *o, const char *endpoint, bool is_production, struct why *why) {
    size_t len = strlen(endpoint);
    while (len > 0 && endpoint[len - 1] == '/')
        len--;
    bool is_good = str_starts_with(endpoint, "https://") || is_here(endpoint) || (!is_production && str_starts_with(endpoint, "http://"));
    if (!is_good || memchr(endpoint, '@', len))
        return fail(why, ST_INVALID, "OTEL_EXPORTER_OTLP_ENDPOINT: needs https://host:port without a user, or http on this machine");
    (void)snprintf(o->url, sizeof o->url, "%.*s/v1/traces", (int)len, endpoint);
    return ST_OK;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* name=value of len bytes as "name: value", the value percent-decoded; false when it is no header. */
static bool read_header(const char *text, size_t len, char *out) {
    const char *equals = memchr(text, '=', len);
    if (!equals || equals == text)
        return false;
    for (const char *c = text; c < equals; c++) {
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
            return false;
        *out++ = *c;
    }
    *out++ = ':';
    *out++ = ' ';
    for (const char *c = equals + 1, *end = text + len; c < end; c++) {
        int high = *c == '%' && end - c > 2 ? hex_digit(c[1]) : -1, low = high < 0 ? -1 : hex_digit(c[2]);
        char plain = (char)(low < 0 ? *c : high << 4 | low);
        if ((unsigned char)plain < 0x20 || plain == 0x7f || (*c == '%' && low < 0))
            return false;
        *out++ = plain;
        c += low < 0 ? 0 : 2;
    }
    *out = '\0';
    return true;
}

static enum status read_headers(struct otlp *o, const struct secret *headers, struct why *why) {
    const char *text = secret_text(headers);
    while (*text) {
        size_t len = strcspn(text, ",");
        struct secret *line = secret_new(text, len + 1);        /* ": " is longer than "=" */
        bool is_good = o->header_count < HEADERS_MAX && read_header(text, len, (char *)line->bytes);
        if (!is_good) {
            secret_destroy(&line);
            return fail(why, ST_INVALID, "OTEL_EXPORTER_OTLP_HEADERS: needs at most %d of name=value,name=value", HEADERS_MAX);
        }
        o->headers[o->header_count++] = line;
        text += len;
        text += *text == ',';
    }
    return ST_OK;
}

/* ---- the queue ---- */

/* What a span holds, without the attributes that it does not have. */
static void copy_span(struct span *to, const struct span *from) {
    memcpy(to, from, offsetof(struct span, attributes));
    memcpy(to->attributes, from->attributes, from->attribute_count * sizeof *from->attributes);
}

static void on_span(void *ctx, const struct span *span) {
    struct otlp *o = ctx;
    (void)pthread_mutex_lock(&o->lock);
    bool has_room = o->count < OTLP_QUEUE_SPANS;
    if (has_room)
        copy_span(&o->queue[(o->first + o->count++) % OTLP_QUEUE_SPANS], span);
    bool is_due = o->count == OTLP_BATCH_SPANS;
    (void)pthread_mutex_unlock(&o->lock);
    if (!has_room)
        counter_add(o->dropped, 1);
    if (is_due)
        (void)pthread_cond_signal(&o->changed);
}

/* Wait for a batch or its time; returns how many were taken. *ret_end_ms: INT64_MAX, or when everything is to be over. */
static size_t take_batch(struct otlp *o, int64_t *ret_end_ms) {
    int64_t until_ms = clock_mono_ms() + OTLP_BATCH_MS;
    struct timespec until = { .tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000 };
    size_t taken = 0;
    (void)pthread_mutex_lock(&o->lock);
    while (o->count < OTLP_BATCH_SPANS && !o->is_ending && pthread_cond_timedwait(&o->changed, &o->lock, &until) == 0)
        ;
    for (; taken < OTLP_BATCH_SPANS && o->count > 0; taken++, o->count--) {
        copy_span(&o->batch[taken], &o->queue[o->first]);
        o->first = (o->first + 1) % OTLP_QUEUE_SPANS;
    }
    *ret_end_ms = o->is_ending ? o->end_ms : INT64_MAX;
    (void)pthread_mutex_unlock(&o->lock);
    return taken;
}

/* ---- sending ---- */

static void send_batch(struct otlp *o, size_t count, int64_t end_ms) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(WIRE_CAP_BYTES);
    CLEANUP(http_response_end) struct http_response response = { 0 };
    struct otlp_resource resource = { o->service_name, CORDON_VERSION, o->instance_id };
    const char *lines[HEADERS_MAX + 2] = { "Content-Type: application/x-protobuf" };
    struct why unsaid = { 0 };              /* told by the counters: a collector's trouble is not the log's */
    int64_t deadline_ms = clock_mono_ms() + OTLP_SEND_MS;
    for (unsigned i = 0; i < o->header_count; i++)
        lines[i + 1] = secret_text(o->headers[i]);
    struct http_request request = { .method = "POST", .url = o->url, .headers = lines,
                                    .deadline_ms = deadline_ms < end_ms ? deadline_ms : end_ms };
    request.body = otlp_encode(mem, &resource, o->batch, count, &request.body_len);
    enum status st = http_send_idempotent(o->http, &request, ATTEMPTS, &response, &unsaid);
    bool is_taken = st == ST_OK && response.status / 100 == 2;
    int64_t rejected = is_taken ? otlp_rejected(mem, response.body.data, response.body.len) : (int64_t)count;
    if (rejected > (int64_t)count)
        rejected = (int64_t)count;
    counter_add(o->failed, (uint64_t)rejected);
    counter_add(o->exported, count - (uint64_t)rejected);
}

static void *run(void *arg) {
    struct otlp *o = arg;
    for (;;) {
        int64_t end_ms;
        size_t count = take_batch(o, &end_ms);
        if (count > 0 && clock_mono_ms() < end_ms)
            send_batch(o, count, end_ms);
        else if (count > 0)
            counter_add(o->dropped, count);
        else if (end_ms != INT64_MAX)
            return NULL;
    }
}

/* ---- life ---- */

/* There also where no collector is set. */
static struct counter *make_counter(struct metrics *m, const char *labels) {
    return metrics_counter(m, "cordon_otlp_spans_total", "Spans for the collector, by what became of them.", labels);
}

static void free_all(struct otlp **otlp_p) {
    struct otlp *o = *otlp_p;
    for (unsigned i = 0; i < o->header_count; i++)
        secret_destroy(&o->headers[i]);
    http_client_destroy(&o->http);
    (void)pthread_cond_destroy(&o->changed);
    (void)pthread_mutex_destroy(&o->lock);
    free(o);
    *otlp_p = NULL;
}

static struct otlp *make(const struct otlp_settings *s, const char *process, bool is_production) {
    struct otlp *o = xalloc(sizeof *o);
    pthread_condattr_t monotonic;
    (void)pthread_mutex_init(&o->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&o->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)snprintf(o->service_name, sizeof o->service_name, "%s%s", *s->service_name ? "" : "cordon-", *s->service_name ? s->service_name : process);
    struct uuid instance = uuid_v7();
    (void)uuid_format(&instance, o->instance_id);
    o->http = http_client_new(&(struct http_options){ .allow_plain = !is_production || is_here(s->endpoint) });
    return o;
}

enum status otlp_start(const struct otlp_settings *settings, const char *process, bool is_production, struct metrics *metrics,
                       struct otlp **ret_otlp, struct why *why) {
    struct trace_export to = { .emit = on_span };
    if (!trace_sampler_from_text(settings->sampler, settings->sampler_argument, &to.sampler))
        return fail(why, ST_INVALID, "OTEL_TRACES_SAMPLER: unknown, or OTEL_TRACES_SAMPLER_ARG is not within 0 and 1");
    struct counter *exported = make_counter(metrics, "outcome=\"exported\""), *dropped = make_counter(metrics, "outcome=\"dropped\""),
                   *failed = make_counter(metrics, "outcome=\"failed\"");
    if (!*settings->endpoint)
        return ST_OK;
    struct otlp *o = make(settings, process, is_production);
    enum status st = read_endpoint(o, settings->endpoint, is_production, why);
    if (st == ST_OK)
        st = read_headers(o, settings->headers, why);
    o->exported = exported;
    o->dropped = dropped;
    o->failed = failed;
    o->has_thread = st == ST_OK && pthread_create(&o->thread, NULL, run, o) == 0;
    if (st == ST_OK && !o->has_thread)
        st = fail(why, ST_UNAVAILABLE, "no thread for the exporter of spans");
    if (st != ST_OK) {
        free_all(&o);
        return st;
    }
    to.ctx = o;
    trace_open(&to);
    *ret_otlp = o;
    return ST_OK;
}

void otlp_stop(struct otlp **otlp_p, int64_t deadline_ms) {
    struct otlp *o = *otlp_p;
    if (!o)
        return;
    trace_open(&(struct trace_export){ 0 });
    (void)pthread_mutex_lock(&o->lock);
    o->is_ending = true;
    o->end_ms = deadline_ms;
    (void)pthread_cond_signal(&o->changed);
    (void)pthread_mutex_unlock(&o->lock);
    (void)pthread_join(o->thread, NULL);
    free_all(otlp_p);
}
