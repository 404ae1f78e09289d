/* The exporter against a collector on loopback, which reads with the generated decoder; tests/e2e/test_traces.py
 * reads with OpenTelemetry's own. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "otlp.pb-c.h"
#include "otlp/otlp.h"
#include "support/loopback.h"

TestSuite(otlp, .timeout = 60);

struct collector {
    pthread_mutex_t lock;
    unsigned requests, spans;
    int status;
    bool is_silent;
    char path[64], authorization[64], type[64], first_name[64], service[64], status_text[32];
    char attributes[512];
    struct loopback *server;
};

static bool on_request(void *ctx, const struct loopback_request *r, int fd) {
    struct collector *c = ctx;
    Otlp__ExportTraceServiceRequest *m =
        otlp__export_trace_service_request__unpack(NULL, r->body.len, (const uint8_t *)r->body.data);
    pthread_mutex_lock(&c->lock);
    c->requests++;
    snprintf(c->path, sizeof c->path, "%.60s", r->target);
    loopback_header(r, "Authorization", c->authorization, sizeof c->authorization);
    loopback_header(r, "Content-Type", c->type, sizeof c->type);
    if (m) {
        Otlp__ScopeSpans *s = m->resource_spans[0]->scope_spans[0];
        if (!*c->first_name)
            snprintf(c->first_name, sizeof c->first_name, "%s", s->spans[0]->name);
        snprintf(c->service, sizeof c->service, "%s", m->resource_spans[0]->resource->attributes[0]->value->string_value);
        for (size_t i = 0; i < s->n_spans; i++, c->spans++)
            for (size_t k = 0; k < s->spans[i]->n_attributes && c->spans == 0; k++)
                snprintf(c->attributes + strlen(c->attributes), sizeof c->attributes - strlen(c->attributes), "%s ", s->spans[i]->attributes[k]->key);
        if (s->spans[0]->status)
            snprintf(c->status_text, sizeof c->status_text, "%u %s", s->spans[0]->status->code, s->spans[0]->status->message);
        otlp__export_trace_service_request__free_unpacked(m, NULL);
    }
    int status = c->status;
    bool is_silent = c->is_silent;
    pthread_mutex_unlock(&c->lock);
    if (is_silent) {
        sleep(3);
        return false;
    }
    return loopback_answer(fd, status ? status : 200, "", "");
}

static struct metrics *metrics;

static struct otlp *begin(struct collector *c, const char *headers) {
    struct otlp *o = NULL;
    struct why why = { 0 };
    pthread_mutex_init(&c->lock, NULL);
    c->server = loopback_start(on_request, c);
    metrics = metrics_new();
    struct secret *secret = *headers ? secret_new(headers, strlen(headers)) : NULL;
    struct otlp_settings s = { loopback_url(c->server), "", "parentbased_always_on", "", secret };
    cr_assert_eq(otlp_start(&s, "query", true, metrics, &o, &why), ST_OK, "%s", why.text);
    secret_destroy(&secret);
    return o;
}

static uint64_t counted(const char *outcome) {
    char labels[64];
    snprintf(labels, sizeof labels, "outcome=\"%s\"", outcome);
    return counter_value(metrics_counter(metrics, "cordon_otlp_spans_total", "", labels));
}

static void end(struct collector *c) {
    loopback_stop(&c->server);
    metrics_destroy(&metrics);
}

static void make_span(const char *name, enum status st) {
    struct trace_scope scope;
    trace_begin(&scope, SPAN_SERVER, name, "");
    struct uuid id = uuid_v7();
    trace_request(&id);
    trace_tenant(&id);
    span_text(&scope.span, "http.route", "/x");
    trace_end(&scope, st);
}

Test(otlp, spans_are_flushed_at_the_end_with_the_headers_that_were_given) {
    struct collector c = { 0 };
    struct otlp *o = begin(&c, "Authorization=Basic%20YTpi,x-tenant=a");
    make_span("GET /x", ST_TIMEOUT);
    otlp_stop(&o, clock_mono_ms() + 5000);
    cr_expect_null(o);
    cr_expect_eq(c.spans, 1);
    cr_expect_str_eq(c.path, "/v1/traces");
    cr_expect_str_eq(c.type, "application/x-protobuf");
    cr_expect_str_eq(c.authorization, "Basic YTpi");
    cr_expect_str_eq(c.first_name, "GET /x");
    cr_expect_str_eq(c.service, "cordon-query");
    cr_expect_str_eq(c.status_text, "2 ST_TIMEOUT");
    cr_expect_str_eq(c.attributes, "http.route cordon.request_id cordon.tenant_id cordon.status ");
    cr_expect_eq(counted("exported"), 1);
    end(&c);
}

Test(otlp, spans_are_sent_while_the_process_runs) {
    struct collector c = { 0 };
    struct otlp *o = begin(&c, "");
    make_span("x", ST_OK);
    for (int64_t until_ms = clock_mono_ms() + 10000; counted("exported") == 0 && clock_mono_ms() < until_ms;)
        usleep(20000);
    cr_expect_eq(counted("exported"), 1);
    otlp_stop(&o, clock_mono_ms() + 5000);
    end(&c);
}

Test(otlp, a_full_queue_drops_and_counts_and_never_waits) {
    struct collector c = { .is_silent = true };
    struct otlp *o = begin(&c, "");
    int64_t began_us = clock_mono_us();
    enum { MANY = 3 * OTLP_QUEUE_SPANS };
    for (int i = 0; i < MANY; i++)
        make_span("x", ST_OK);
    int64_t took_us = clock_mono_us() - began_us;
    cr_expect(took_us < 1000000, "%lld us", (long long)took_us);
    cr_expect_gt(counted("dropped"), 0);
    int64_t stop_ms = clock_mono_ms();
    otlp_stop(&o, stop_ms + 100);
    cr_expect_lt(clock_mono_ms() - stop_ms, OTLP_SEND_MS + 1500, "the end does not wait for a collector that is silent");
    cr_expect_eq(counted("exported"), 0);
    cr_expect_eq(counted("dropped") + counted("failed"), MANY, "every span is accounted for");
    end(&c);
}

Test(otlp, what_the_collector_refuses_is_counted_as_failed) {
    struct collector c = { .status = 400 };
    struct otlp *o = begin(&c, "");
    make_span("x", ST_OK);
    otlp_stop(&o, clock_mono_ms() + 5000);
    cr_expect_eq(counted("failed"), 1);
    cr_expect_eq(c.requests, 1, "and not repeated");
    end(&c);
}

static enum status start_with(const char *endpoint, const char *headers, const char *sampler, const char *argument, struct why *why) {
    struct otlp *o = NULL;
    struct metrics *m = metrics_new();
    struct secret *secret = secret_new(headers, strlen(headers));
    enum status st = otlp_start(&(struct otlp_settings){ endpoint, "", sampler, argument, secret }, "edge", true, m, &o, why);
    otlp_stop(&o, 0);
    secret_destroy(&secret);
    metrics_destroy(&m);
    return st;
}

Test(otlp, bad_settings_are_refused_by_name_and_never_by_value) {
    struct why why = { 0 };
    cr_expect_eq(start_with("", "", "always_on", "", &why), ST_OK, "no endpoint, no spans");
    cr_expect_eq(start_with("https://collector:4318/", "", "traceidratio", "0.5", &why), ST_OK, "%s", why.text);
    cr_expect_eq(start_with("http://127.0.0.1:4318", "", "always_on", "", &why), ST_OK, "%s", why.text);
    cr_expect_eq(start_with("http://collector:4318", "", "always_on", "", &why), ST_INVALID, "plain http leaves the machine");
    cr_expect_eq(start_with("http://127.0.0.1.example:4318", "", "always_on", "", &why), ST_INVALID);
    cr_expect_eq(start_with("https://user:pw@collector", "", "always_on", "", &why), ST_INVALID);
    cr_expect_eq(start_with("https://collector", "", "sometimes", "", &why), ST_INVALID);
    static const char *const BAD[] = { "hidden", "=hidden", "a b=hidden", "a=hidden%0d%0ab", "a=hidden%0", "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=hidden" };
    for (unsigned i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_expect_eq(start_with("https://collector", BAD[i], "always_on", "", &why), ST_INVALID, "%s", BAD[i]);
        cr_expect_null(strstr(why.text, "hidden"));
        cr_expect(strstr(why.text, "OTEL_EXPORTER_OTLP_HEADERS"), "%s", why.text);
    }
}
