#include "aws/aws.h"

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/refresher.h"
#include "aws/tenants.h"
#include "aws/xml.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "http/backoff.h"
#include "json/reader.h"

#define CLOCK_TRUST_US (INT64_C(240) * 1000000)      /* AWS accepts five minutes */

/* What repetitions after failures may cost until something succeeds again, all threads together: a service that is
 * away is asked little more often than without repetition. Throttles are not counted; who sends much paces itself. */
enum { BUDGET_FULL = 500, BUDGET_REPEAT = 5, BUDGET_SUCCESS = 1 };

struct aws {
    char *region;
    struct http_client *http;
    struct credentials_provider credentials;
    struct refresher *refresher;        /* made by aws_open */
    struct tenants *tenants;            /* NULL: requests for tenants are signed as all others */
    struct metrics *metrics;
    atomic_int budget;
    atomic_llong clock_ahead_us;        /* add to our clock to get AWS's */
};

struct aws *aws_new(const struct aws_options *options) {
    struct aws *aws = xalloc(sizeof *aws);
    aws->region = xstrdup(options->region);
    aws->credentials = options->credentials;
    aws->metrics = options->metrics;
    atomic_init(&aws->budget, BUDGET_FULL);
    aws->http = http_client_new(&(struct http_options){ .allow_plain = options->allow_plain, .proxy = options->proxy });
    return aws;
}

static enum status open_from(const struct aws_settings *settings, bool is_production, bool renews, struct metrics *metrics,
                             struct aws **ret_aws, struct why *why) {
    CLEANUP(refresher_destroy) struct refresher *refresher = NULL;
    enum status st = refresher_start(settings, is_production, renews, metrics, &refresher, why);
    if (st != ST_OK)
        return st;
    struct aws *aws = aws_new(&(struct aws_options){
        .region = settings->region, .credentials = refresher_provider(refresher), .allow_plain = !is_production,
        .proxy = settings->proxy, .metrics = metrics });
    aws->refresher = refresher;
    if (settings->tenant_role_arn && *settings->tenant_role_arn)
        aws->tenants = tenants_new(aws, settings->sts_endpoint, settings->tenant_role_arn, settings->role_session_name);
    refresher = NULL;
    *ret_aws = aws;
    return ST_OK;
}

enum status aws_open(const struct aws_settings *settings, bool is_production, struct metrics *metrics, struct aws **ret_aws,
                     struct why *why) {
    return open_from(settings, is_production, true, metrics, ret_aws, why);
}

enum status aws_open_briefly(const struct aws_settings *settings, bool is_production, struct aws **ret_aws, struct why *why) {
    return open_from(settings, is_production, false, NULL, ret_aws, why);
}

void aws_destroy(struct aws **aws_p) {
    struct aws *aws = *aws_p;
    if (!aws)
        return;
    http_client_destroy(&aws->http);
    tenants_destroy(&aws->tenants);
    refresher_destroy(&aws->refresher);
    free(aws->region);
    free(aws);
    *aws_p = NULL;
}

const char *aws_region(const struct aws *aws) {
    return aws->region;
}

char *aws_endpoint(const struct aws *aws, struct arena *mem, const char *endpoint, const char *host) {
    if (!endpoint || !*endpoint)
        return arena_printf(mem, "https://%s.%s.amazonaws.com", host, aws->region);
    size_t len = strlen(endpoint);
    while (len > 0 && endpoint[len - 1] == '/')
        len--;
    return arena_strndup(mem, endpoint, len);
}

void aws_reply_end(struct aws_reply *reply) {
    http_response_end(&reply->http);
}

/* The headers that every request has, and the caller's, as sigv4 wants them. */
static size_t gather_headers(struct arena *mem, const struct aws_request *request, const struct credentials *c,
                             const char *time, const char *payload, struct sigv4_pair out[AWS_PAIRS_MAX + 4]) {
    size_t n = 0;
    const char *host = strstr(request->endpoint, "://");
    out[n++] = (struct sigv4_pair){ "host", host ? host + 3 : request->endpoint };
    out[n++] = (struct sigv4_pair){ "x-amz-date", arena_strdup(mem, time) };
    out[n++] = (struct sigv4_pair){ "x-amz-content-sha256", payload };
    if (c->session_token)
        out[n++] = (struct sigv4_pair){ "x-amz-security-token", secret_text(c->session_token) };
    for (size_t i = 0; i < AWS_PAIRS_MAX && request->headers[i].name; i++)
        out[n++] = request->headers[i];
    return n;
}

/* Stands between the answer and the caller's sink, to know whether it was used and what it said. */
struct tap {
    const struct aws_request *request;
    const struct credentials *as;
    bool was_used;
    enum status status;
};

static enum status look(void *ctx, struct why *why) {
    struct tap *tap = ctx;
    tap->status = tap->request->watch(tap->request->watch_ctx, why);
    tap->was_used = tap->was_used || tap->status != ST_OK;
    return tap->status;
}

static enum status pour(void *ctx, const void *data, size_t len, struct why *why) {
    struct tap *tap = ctx;
    tap->was_used = true;
    tap->status = tap->request->sink(tap->request->sink_ctx, data, len, why);
    return tap->status;
}

/* One attempt: sign with the present time and credentials, and send. */
static enum status attempt(struct aws *aws, const struct aws_request *request, const char *payload, struct tap *tap,
                           struct aws_reply *reply, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const struct credentials *c = tap->as;
    struct sigv4_scope scope = { .region = aws->region, .service = request->service };
    (void)sigv4_time(clock_unix_us() + atomic_load(&aws->clock_ahead_us), scope.time);
    struct sigv4_pair headers[AWS_PAIRS_MAX + 4];
    size_t n_headers = gather_headers(mem, request, c, scope.time, payload, headers), n_query = 0;
    while (n_query < AWS_PAIRS_MAX && request->query[n_query].name)
        n_query++;
    struct sigv4_request to_sign = {
        .method = request->method, .path = request->path,
        .path_rule = str_equal(request->service, "s3") ? SIGV4_PATH_AS_SENT : SIGV4_PATH_ENCODED,
        .query = request->query, .n_query = n_query, .headers = headers, .n_headers = n_headers, .payload = payload };
    const char *lines[AWS_PAIRS_MAX + 6];
    size_t n = 0;
    for (; n < n_headers; n++)
        lines[n] = arena_printf(mem, "%s: %s", headers[n].name, headers[n].value);
    lines[n++] = arena_printf(mem, "Authorization: %s", sigv4_authorization(mem, c, &scope, &to_sign));
    lines[n] = NULL;
    const char *query = sigv4_query(mem, request->query, n_query);
    int64_t now_ms = clock_mono_ms();
    bool is_capped = request->attempt_ms > 0 && now_ms + request->attempt_ms < request->deadline_ms;
    struct http_request sent = {
        .method = request->method, .operation = arena_printf(mem, "%s.%s", request->service, request->operation), .headers = lines,
        .body = request->body, .body_len = request->body_len,
        .url = arena_printf(mem, "%s%s%s%s", request->endpoint, request->path, *query ? "?" : "", query),
        .max_bytes = request->max_bytes, .deadline_ms = is_capped ? now_ms + request->attempt_ms : request->deadline_ms,
        .stall_ms = request->stall_ms, .is_once = request->attempts <= 1, .sink = request->sink ? pour : NULL, .sink_ctx = tap,
        .watch = request->watch ? look : NULL, .watch_ctx = tap };
    enum status st = http_send(aws->http, &sent, &reply->http, why);
    if (st == ST_TIMEOUT && is_capped)      /* the attempt's time is over, not the caller's */
        st = fail(why, ST_UNAVAILABLE, "no answer within %lld ms", (long long)request->attempt_ms);
    return st;
}

/* AWS's error code: from the header, the JSON __type or the XML <Code>; "" when there is none. */
static void find_error(struct aws_reply *reply) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(json_destroy) json_t *json = NULL;
    struct why unused = { 0 };
    const struct buffer *body = &reply->http.body;
    const char *code = http_response_header(&reply->http, "x-amzn-errortype");
    char *from_xml = NULL;
    bool may_be_json = !code && body->len > 0 && body->data[0] == '{';
    if (may_be_json && json_parse(body->data, body->len, HTTP_ERROR_BODY_MAX_BYTES, &json, &unused) == ST_OK)
        (void)!json_get_text(json, "__type", JSON_OPTIONAL, 256, &code, &unused);
    if (!code && xml_text(mem, body->data, body->len, "Code", &from_xml))
        code = from_xml;
    if (!code)
        code = "";
    const char *hash = strrchr(code, '#');      /* "com.amazonaws.kms#DisabledException", "Code:http://..." */
    code = hash ? hash + 1 : code;
    size_t len = 0;     /* codes are words; anything else is not repeated into logs */
    while (len + 1 < sizeof reply->error && ((code[len] >= 'A' && code[len] <= 'Z') || (code[len] >= 'a' && code[len] <= 'z') ||
                                             (code[len] >= '0' && code[len] <= '9') || code[len] == '.'))
        len++;
    memcpy(reply->error, code, len);
    reply->error[len] = '\0';
}

/* A refused signature may be a clock's fault, and not every service says so: when AWS's Date header and the
 * time that we signed with are far apart, take AWS's. True when the clock was the trouble. */
static bool correct_clock(struct aws *aws, const struct aws_reply *reply) {
    const char *date = http_response_header(&reply->http, "date");
    time_t theirs = date ? curl_getdate(date, NULL) : -1;
    int64_t ahead_us = (int64_t)theirs * 1000000 - clock_unix_us();
    int64_t wrong_us = ahead_us - atomic_load(&aws->clock_ahead_us);
    if (theirs <= 0 || (wrong_us < CLOCK_TRUST_US && wrong_us > -CLOCK_TRUST_US))
        return false;
    atomic_store(&aws->clock_ahead_us, ahead_us);
    return true;
}

static void count(const struct aws *aws, const struct aws_request *request, const char *outcome, int64_t us) {
    char labels[160];
    if (!aws->metrics)
        return;
    (void)snprintf(labels, sizeof labels, "service=\"%s\",operation=\"%s\",outcome=\"%s\"", request->service, request->operation, outcome);
    counter_add(metrics_counter(aws->metrics, "cordon_aws_attempts_total", "Requests sent to AWS, repetitions included.", labels), 1);
    (void)snprintf(labels, sizeof labels, "service=\"%s\",operation=\"%s\"", request->service, request->operation);
    histogram_observe_us(metrics_histogram(aws->metrics, "cordon_aws_attempt_seconds", "Time of one attempt.", labels), us);
}

/* ST_OK when the answer is a success; else its kind is in reply and *why says it. */
static enum status judge(struct aws *aws, const struct aws_request *request, struct aws_reply *reply, struct why *why) {
    bool is_2xx = reply->http.status / 100 == 2;
    bool hides_error = is_2xx && request->may_fail_with_200 && reply->http.body.data && strstr(reply->http.body.data, "<Error>");
    if (is_2xx && !hides_error)
        return ST_OK;
    find_error(reply);
    reply->kind = aws_error_kind(reply->error, hides_error ? 500 : reply->http.status);
    if ((reply->kind == AWS_REFUSED || reply->kind == AWS_CLOCK) && correct_clock(aws, reply))
        reply->kind = AWS_CLOCK;
    const char *id = http_response_header(&reply->http, "x-amzn-requestid");
    id = id ? id : http_response_header(&reply->http, "x-amz-request-id");
    return fail_as(why, aws_public_error(request->service, reply->kind), "%s %s: %d %s, request %.48s", request->service,
                   request->operation, reply->http.status, *reply->error ? reply->error : "without a code", id ? id : "-");
}

static const char *outcome_name(enum status st, const struct aws_reply *reply) {
    static const char *const KINDS[] = {
        [AWS_THROTTLED] = "throttled", [AWS_TRANSIENT] = "transient", [AWS_CLOCK] = "clock", [AWS_EXPIRED] = "expired", [AWS_REFUSED] = "refused",
        [AWS_MISSING] = "missing", [AWS_EXISTS] = "exists", [AWS_KEY_DISABLED] = "key_disabled", [AWS_OURS] = "ours",
    };
    return st == ST_OK ? "ok" : reply->http.status == 0 ? "unreachable" : KINDS[reply->kind];
}

/* A failure below HTTP, in the words of the service. */
static enum status unreachable(const struct aws_request *request, enum status st, struct why *why) {
    if (st != ST_UNAVAILABLE)
        return st;
    struct why below = *why;
    return fail_as(why, aws_public_error(request->service, AWS_TRANSIENT), "%s %s: %.180s", request->service, request->operation,
                   below.text);
}

/* Seconds that the answer asks us to wait, in ms; at most 10 s are believed. */
static int64_t asked_wait_ms(const struct aws_reply *reply) {
    const char *text = http_response_header(&reply->http, "retry-after");
    int64_t seconds = 0;
    return text && str_to_i64(text, 0, 10, &seconds) ? seconds * 1000 : 0;
}

/* Whose signature the request gets: the tenant's session, where there are such, else the process's. */
static enum status sign_as(struct aws *aws, const struct aws_request *request, struct credentials **ret_credentials, struct why *why) {
    if (aws->tenants && !uuid_is_nil(&request->tenant))
        return tenants_get(aws->tenants, &request->tenant, request->deadline_ms, ret_credentials, why);
    return aws->credentials.get(aws->credentials.ctx, ret_credentials, why);
}

/* AWS calls them expired. True when the next attempt will have others. */
static bool reject(struct aws *aws, const struct aws_request *request, const struct credentials *c) {
    if (aws->tenants && !uuid_is_nil(&request->tenant))
        tenants_reject(aws->tenants, c);
    else if (aws->credentials.reject)
        aws->credentials.reject(aws->credentials.ctx, c);
    else
        return false;
    return true;
}

static void budget_earn(struct aws *aws) {
    int has = atomic_load(&aws->budget);
    while (has < BUDGET_FULL && !atomic_compare_exchange_weak(&aws->budget, &has, has + BUDGET_SUCCESS))
        continue;
}

static bool budget_spend(struct aws *aws) {
    int has = atomic_load(&aws->budget);
    while (has >= BUDGET_REPEAT)
        if (atomic_compare_exchange_weak(&aws->budget, &has, has - BUDGET_REPEAT))
            return true;
    return false;
}

enum status aws_send(struct aws *aws, const struct aws_request *request, struct aws_reply *reply, struct why *why) {
    char payload[SHA256_HEX_BYTES];
    if (request->body_sha256)
        (void)hex_encode(request->body_sha256, SHA256_BYTES, payload);
    else
        (void)sha256_hex(request->body_len ? request->body : "", request->body_len, payload);
    struct backoff backoff = { .base_ms = 100, .cap_ms = 3000, .deadline_ms = request->deadline_ms, .attempts = request->attempts };
    enum status cause = ST_OK;      /* why the last attempt failed that had the time to */
    struct why cause_why = { 0 };
    for (;;) {
        int64_t from_us = clock_mono_us();
        reply->error[0] = '\0';
        reply->kind = AWS_TRANSIENT;
        reply->http.status = 0;
        CLEANUP(credentials_release) struct credentials *c = NULL;
        enum status st = sign_as(aws, request, &c, why);
        bool is_signed = st == ST_OK;       /* else whoever gives credentials has been asked often enough */
        struct tap tap = { .request = request, .as = c };
        if (is_signed)
            st = attempt(aws, request, payload, &tap, reply, why);
        bool was_answered = st == ST_OK;
        if (was_answered)
            st = judge(aws, request, reply, why);
        else if (tap.status == ST_OK)
            st = unreachable(request, st, why);
        count(aws, request, outcome_name(st, reply), clock_mono_us() - from_us);
        if (st == ST_TIMEOUT && cause != ST_OK) {       /* the time went by over failures: they are the reason */
            *why = cause_why;
            return cause;
        }
        if (st != ST_OK && st != ST_TIMEOUT) {
            cause = st;
            cause_why = *why;
        }
        if (st != ST_OK && was_answered)
            why->retry_after_ms = (int)asked_wait_ms(reply);
        bool is_renewed = was_answered && st != ST_OK && reply->kind == AWS_EXPIRED && reject(aws, request, c);
        bool is_worth_it = st != ST_OK && is_signed && !tap.was_used &&
                           (was_answered ? aws_kind_is_retryable(reply->kind) || is_renewed : status_is_retryable(st) && st != ST_TIMEOUT);
        if (st == ST_OK)
            budget_earn(aws);
        is_worth_it = is_worth_it && !(request->is_paced && was_answered && reply->kind == AWS_THROTTLED);
        bool is_paid = is_worth_it && ((was_answered && reply->kind == AWS_THROTTLED) || budget_spend(aws));
        if (!is_paid || !backoff_wait(&backoff, was_answered ? asked_wait_ms(reply) : 0))
            return st;
    }
}
