#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <pthread.h>
#include <string.h>

#include "obs/trace.h"

TestSuite(trace, .timeout = 20);

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

struct traceparent_case { char text[80]; bool is_good; };

ParameterizedTestParameters(trace, only_a_traceparent_as_it_is_written_is_believed) {
    static struct traceparent_case cases[] = {
        { "00-" TRACE "-" PARENT "-01", true },
        { "00-" TRACE "-" PARENT "-00", true },
        { "00-" TRACE "-" PARENT "-ff", true },             /* unknown flags are none of ours */
        { "cc-" TRACE "-" PARENT "-01", true },             /* a later version may say more ... */
        { "cc-" TRACE "-" PARENT "-01-what-comes", true },
        { "cc-" TRACE "-" PARENT "-01.what", false },       /* ... behind a dash */
        { "ff-" TRACE "-" PARENT "-01", false },
        { "00-" TRACE "-" PARENT "-01-", false },
        { "00-" TRACE "-" PARENT "-01 ", false },
        { "00-" TRACE "-" PARENT "-1", false },
        { "00-" TRACE "-" PARENT, false },
        { "00-0AF7651916cd43dd8448eb211c80319c-" PARENT "-01", false },
        { "00-00000000000000000000000000000000-" PARENT "-01", false },
        { "00-" TRACE "-0000000000000000-01", false },
        { "00_" TRACE "-" PARENT "-01", false },
        { "00-" TRACE "-" PARENT "-0g", false },
        { "0x-" TRACE "-" PARENT "-01", false },
        { "", false },
    };
    return cr_make_param_array(struct traceparent_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct traceparent_case *c, trace, only_a_traceparent_as_it_is_written_is_believed) {
    struct trace_context context = { .flags = 7 };
    cr_expect_eq(trace_parse(c->text, &context), c->is_good, "%s", c->text);
    if (!c->is_good)
        cr_expect_eq(context.flags, 7, "untouched");
}

Test(trace, a_context_is_written_as_it_was_read) {
    struct trace_context context;
    char text[TRACEPARENT_BYTES];
    cr_assert(trace_parse("00-" TRACE "-" PARENT "-01", &context));
    cr_expect_str_eq(trace_format(&context, text), "00-" TRACE "-" PARENT "-01");
    cr_assert(trace_parse("00-" TRACE "-" PARENT "-fe", &context));
    cr_expect_str_eq(trace_format(&context, text), "00-" TRACE "-" PARENT "-00", "flags that Level 1 does not know are not passed on");
}

struct kept { unsigned count; struct span spans[8]; };

static void keep(void *ctx, const struct span *span) {
    struct kept *k = ctx;
    k->spans[k->count++] = *span;
}

static void open_keeping(struct kept *k, const char *sampler, const char *argument) {
    struct trace_export to = { .emit = keep, .ctx = k };
    cr_assert(trace_sampler_from_text(sampler, argument, &to.sampler));
    trace_open(&to);
}

Test(trace, a_span_is_the_child_of_the_scope_and_the_scope_of_its_caller) {
    struct kept k = { 0 };
    struct trace_scope request, stage;
    struct span call;
    struct uuid id = uuid_v7();
    open_keeping(&k, "parentbased_always_on", "");
    trace_begin(&request, SPAN_SERVER, "POST /x", "00-" TRACE "-" PARENT "-01");
    trace_request(&id);
    trace_begin(&stage, SPAN_INTERNAL, "stage", NULL);
    span_begin(&call, "kms.Decrypt");
    span_number(&call, "http.response.status_code", 200);
    span_end(&call, ST_OK);
    span_end(&call, ST_OK);
    trace_end(&stage, ST_OK);
    trace_end(&request, ST_TIMEOUT);
    cr_assert_eq(k.count, 3);
    struct trace_context caller;
    cr_assert(trace_parse("00-" TRACE "-" PARENT "-01", &caller));
    const struct span *c = &k.spans[0], *s = &k.spans[1], *r = &k.spans[2];
    cr_expect_eq(memcmp(r->parent_id, caller.span_id, SPAN_ID_BYTES), 0);
    cr_expect_eq(memcmp(s->parent_id, r->context.span_id, SPAN_ID_BYTES), 0);
    cr_expect_eq(memcmp(c->parent_id, s->context.span_id, SPAN_ID_BYTES), 0);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(memcmp(k.spans[i].context.trace_id, caller.trace_id, TRACE_ID_BYTES), 0);
        cr_expect(uuid_equal(&k.spans[i].request_id, &id), "what the outer scope knows, the inner one knows");
    }
    cr_expect_eq(r->status, ST_TIMEOUT);
    cr_expect_eq(c->kind, SPAN_CLIENT);
    cr_expect_eq(c->attributes[0].number, 200);
    cr_expect_null(trace_current());
}

Test(trace, time_of_calls_and_of_callees_is_counted_under_the_hops_of_the_scope) {
    struct trace_scope request, stage;
    struct span call;
    char text[TRACE_TIMING_BYTES];
    trace_begin(&request, SPAN_SERVER, "x", "");
    trace_begin(&stage, SPAN_INTERNAL, "stage", NULL);
    span_begin(&call, "db.find_document");
    call.began_us -= 5000;
    span_end(&call, ST_OK);
    trace_add_hops((uint32_t[]){ 99, 0, 0, 7000, 0, 0, 0, 1000, 0, 0, 0, 0, 5, 6 }, 14);
    trace_end(&stage, ST_OK);
    uint32_t us[HOP_COUNT];
    cr_expect_eq(trace_hops(us), HOP_DB + 1);
    cr_expect_eq(us[HOP_NONE], 0);
    cr_expect_eq(us[HOP_QUERY], 7000);
    cr_expect(us[HOP_DB] >= 6000 && us[HOP_DB] < 1000000);
    trace_timing(&request, text);
    cr_expect(strstr(text, "total;dur=") == text && strstr(text, ", query;dur=7.0, db;dur="), "%s", text);
    trace_end(&request, ST_OK);
}

Test(trace, a_reply_cannot_count_for_more_than_an_hour_nor_overrun_the_header) {
    struct trace_scope request;
    char text[TRACE_TIMING_BYTES];
    uint32_t us[HOP_COUNT];
    trace_begin(&request, SPAN_SERVER, "x", "");
    for (unsigned i = 0; i < HOP_COUNT; i++)
        us[i] = UINT32_MAX;
    for (unsigned i = 0; i < 100; i++)
        trace_add_hops(us, HOP_COUNT);
    trace_timing(&request, text);
    cr_expect(strstr(text, "idp;dur="), "%s", text);
    cr_expect_eq(trace_hops(us), HOP_COUNT);
    cr_expect_eq(us[HOP_DB], 3600u * 1000000u);
    trace_end(&request, ST_OK);
}

Test(trace, without_a_scope_a_span_is_measured_and_forgotten) {
    struct kept k = { 0 };
    struct span call;
    open_keeping(&k, "always_on", "");
    span_begin(&call, "kms.Decrypt");
    span_text(&call, "a", "b");
    span_end(&call, ST_OK);
    cr_expect_eq(k.count, 0);
}

static bool records(const char *sampler, const char *argument, const char *traceparent) {
    struct kept k = { 0 };
    struct trace_scope scope;
    open_keeping(&k, sampler, argument);
    trace_begin(&scope, SPAN_SERVER, "x", traceparent);
    bool says_so = scope.span.context.flags;
    trace_end(&scope, ST_OK);
    cr_expect_eq(says_so, k.count == 1, "what is passed on says what is recorded");
    return k.count == 1;
}

Test(trace, samplers_do_what_their_names_say) {
    const char *yes = "00-" TRACE "-" PARENT "-01", *no = "00-" TRACE "-" PARENT "-00";
    cr_expect(records("parentbased_always_on", "", "") && records("parentbased_always_on", "", yes));
    cr_expect(!records("parentbased_always_on", "", no) && records("always_on", "", no));
    cr_expect(!records("always_off", "", yes) && !records("parentbased_always_off", "", "") && records("parentbased_always_off", "", yes));
    cr_expect(!records("traceidratio", "0", yes) && records("traceidratio", "1", no));
    cr_expect(records("parentbased_traceidratio", "0", yes) && !records("parentbased_traceidratio", "0", ""));
    struct trace_sampler sampler;
    cr_expect(!trace_sampler_from_text("sometimes", "", &sampler) && !trace_sampler_from_text("traceidratio", "1.5", &sampler));
    cr_expect(!trace_sampler_from_text("traceidratio", "nan", &sampler) && !trace_sampler_from_text("traceidratio", "0.5x", &sampler));
    unsigned count = 0;
    for (int i = 0; i < 2000; i++)
        count += records("traceidratio", "0.25", "");
    cr_expect(count > 350 && count < 650, "%u of 2000 at a quarter", count);
}

Test(trace, without_an_exporter_a_caller_s_decision_is_passed_on) {
    struct trace_scope scope;
    trace_begin(&scope, SPAN_SERVER, "x", "00-" TRACE "-" PARENT "-01");
    cr_expect_eq(scope.span.context.flags, TRACE_SAMPLED);
    trace_end(&scope, ST_OK);
    trace_begin(&scope, SPAN_SERVER, "x", "");
    cr_expect_eq(scope.span.context.flags, 0);
    trace_end(&scope, ST_OK);
}

struct helper { struct trace_scope *of; struct span seen; };

static void *help(void *arg) {
    struct helper *h = arg;
    struct trace_scope scope;
    trace_adopt(&scope, h->of);
    span_begin(&h->seen, "bedrock.InvokeModel");
    h->seen.began_us -= 3000;
    span_end(&h->seen, ST_OK);
    trace_return(&scope, h->of);
    cr_expect_null(trace_current());
    return NULL;
}

Test(trace, a_helping_thread_s_calls_are_the_scope_s_own) {
    struct trace_scope request;
    struct helper h = { .of = &request };
    pthread_t thread;
    struct uuid id = uuid_v7();
    trace_begin(&request, SPAN_SERVER, "x", "");
    trace_request(&id);
    cr_assert_eq(pthread_create(&thread, NULL, help, &h), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_expect_eq(memcmp(h.seen.parent_id, request.span.context.span_id, SPAN_ID_BYTES), 0);
    cr_expect(uuid_equal(&h.seen.request_id, &id));
    cr_expect(request.hop_us[HOP_BEDROCK] >= 3000);
    trace_end(&request, ST_OK);
    h.of = NULL;
    cr_assert_eq(pthread_create(&thread, NULL, help, &h), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}
