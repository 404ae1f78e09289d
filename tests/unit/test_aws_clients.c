/* aws clients against a server on loopback that plays AWS: what is sent, what is repeated, what failures become. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "aws/bedrock.h"
#include "aws/kms.h"
#include "aws/s3.h"
#include "aws/sts.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "support/loopback.h"

/* What AWS says next, and what it was asked. */
struct script { int status; const char *headers, *body; bool cuts; int delay_ms; };
struct fake {
    struct script steps[8];         /* one per request; the last with a status repeats */
    atomic_uint asked;
    pthread_mutex_t lock;           /* between the server's threads: each connection has one */
    char log[4096];                 /* "METHOD target\n" */
    char last_body[8192], last_header[9][512];
    size_t last_body_len;
};

static const char *const HEADERS[9] = { "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token",
                                        "x-amz-target", "x-amz-checksum-sha256", "range", "content-type",
                                        "if-match" };

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    struct fake *fake = ctx;
    unsigned step = atomic_fetch_add(&fake->asked, 1);
    while (step > 0 && (step >= 8 || !fake->steps[step].status))
        step--;
    const struct script *s = &fake->steps[step];
    (void)pthread_mutex_lock(&fake->lock);
    size_t used = strlen(fake->log);
    (void)snprintf(fake->log + used, sizeof fake->log - used, "%s %s\n", request->method, request->target);
    for (int i = 0; i < 9; i++)
        (void)loopback_header(request, HEADERS[i], fake->last_header[i], sizeof fake->last_header[i]);
    fake->last_body_len = request->body.len;
    (void)snprintf(fake->last_body, sizeof fake->last_body, "%.8000s", request->body.data ? request->body.data : "");
    (void)pthread_mutex_unlock(&fake->lock);
    usleep((useconds_t)s->delay_ms * 1000);
    if (s->cuts) {
        loopback_write(fd, s->body, strlen(s->body));
        return false;
    }
    if (str_equal(request->method, "HEAD")) {
        char head[256];
        (void)snprintf(head, sizeof head, "HTTP/1.1 %d X\r\n%s\r\n", s->status, s->headers ? s->headers : "");
        loopback_write(fd, head, strlen(head));
        return true;
    }
    return loopback_answer(fd, s->status, s->headers ? s->headers : "", s->body ? s->body : "");
}

static struct fake fake;
static struct loopback *server;
static struct aws *aws;
static struct credentials *credentials;
static struct arena *mem;
static struct why why;

static void set_up(void) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("very-secret", 11), *token = secret_new("session", 7);
    server = loopback_start(answer, &fake);
    credentials = credentials_new("AKIDTEST", key, token, 0);
    aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    mem = arena_new(0);
    secret_destroy(&token);
}

static void tear_down(void) {
    aws_destroy(&aws);
    credentials_release(&credentials);
    loopback_stop(&server);
    arena_destroy(&mem);
}

TestSuite(aws_clients, .init = set_up, .fini = tear_down, .timeout = 30);

static enum status collect(void *ctx, const void *data, size_t len, struct why *ret_why) {
    (void)ret_why;
    return buffer_add(ctx, data, len) ? ST_OK : ST_INTERNAL;
}

static int64_t soon(void) {
    return clock_mono_ms() + 4000;
}

/* ---- sending ---- */

Test(aws_clients, requests_are_signed_and_carry_the_token) {
    fake.steps[0] = (struct script){ .status = 200, .headers = "ETag: \"e\"\r\n" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "tenants/t/d:1", "application/octet-stream", NULL, "hello", 5, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_str_eq(fake.log, "PUT /docs/tenants/t/d%3A1\n");
    cr_assert_str_eq(fake.last_body, "hello");
    cr_assert(str_starts_with(fake.last_header[0], "AWS4-HMAC-SHA256 Credential=AKIDTEST/"));
    cr_assert_not_null(strstr(fake.last_header[0], "SignedHeaders=content-type;host;x-amz-checksum-sha256;x-amz-content-sha256;"
                                                   "x-amz-date;x-amz-security-token,"));
    cr_assert_str_eq(fake.last_header[2], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    cr_assert_str_eq(fake.last_header[3], "session");
    cr_assert_str_eq(fake.last_header[5], "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
    s3_destroy(&s3);
}

Test(aws_clients, passing_trouble_is_repeated) {
    fake.steps[0] = (struct script){ .status = 503, .body = "<Error><Code>SlowDown</Code></Error>" };
    fake.steps[1] = (struct script){ .status = 500, .body = "" };
    fake.steps[2] = (struct script){ .status = 200, .body = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", .cuts = true };
    fake.steps[3] = (struct script){ .status = 200, .headers = "ETag: \"e\"\r\n" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "x", 1, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(fake.asked, 4);
    s3_destroy(&s3);
}

static unsigned asked_for_one_get(struct s3 *s3, int64_t budget_ms) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    unsigned before = atomic_load(&fake.asked);
    (void)!s3_get(s3, "k", 0, 0, collect, &out, clock_mono_ms() + budget_ms, &why);
    return atomic_load(&fake.asked) - before;
}

Test(aws_clients, repetition_has_a_budget_that_successes_refill) {
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    fake.steps[0] = (struct script){ .status = 500 };
    for (int i = 0; i < 150; i++)
        (void)asked_for_one_get(s3, 20);        /* most have no time to repeat, and pay for the intent */
    cr_assert_eq(asked_for_one_get(s3, 3000), 1, "spent");
    fake.steps[0] = (struct script){ .status = 200, .body = "x" };
    for (int i = 0; i < 5; i++)
        cr_assert_eq(asked_for_one_get(s3, 3000), 1);
    fake.steps[0] = (struct script){ .status = 500 };
    cr_assert_eq(asked_for_one_get(s3, 3000), 2, "earned again: one");
    fake.steps[0] = (struct script){ .status = 503, .body = "<Error><Code>SlowDown</Code></Error>" };
    cr_assert_eq(asked_for_one_get(s3, 5000), 4, "throttles are not counted");
    s3_destroy(&s3);
}

Test(aws_clients, refusals_are_not_repeated_and_say_no_more_than_codes) {
    fake.steps[0] = (struct script){ .status = 403, .headers = "x-amz-request-id: R1\r\n", .body = "<Error><Code>AccessDenied</Code><Message>Jane Doe</Message></Error>" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "x", 1, soon(), &why), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_STORE_UNAVAILABLE);
    cr_assert_str_eq(why.text, "s3 PutObject: 403 AccessDenied, request R1");
    cr_assert_eq(fake.asked, 1);
    s3_destroy(&s3);
}

Test(aws_clients, an_error_code_that_is_no_word_is_not_repeated_in_why) {
    fake.steps[0] = (struct script){ .status = 400, .body = "<Error><Code>Jane Doe 1950</Code></Error>" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "x", 1, soon(), &why), ST_INTERNAL);
    cr_assert_null(strstr(why.text, "Doe"));
    s3_destroy(&s3);
}

Test(aws_clients, a_clock_that_is_off_is_corrected_by_the_answer) {
    char date[64];
    time_t ahead = time(NULL) + 1200;
    struct tm tm;
    (void)strftime(date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime_r(&ahead, &tm));
    fake.steps[0] = (struct script){ .status = 403, .headers = date, .body = "<Error><Code>RequestTimeTooSkewed</Code></Error>" };
    fake.steps[1] = (struct script){ .status = 200, .headers = "ETag: \"e\"\r\n" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "x", 1, soon(), &why), ST_OK, "%s", why.text);
    char earliest[SIGV4_TIME_BYTES];
    (void)sigv4_time(((int64_t)ahead - 5) * 1000000, earliest);
    cr_assert_geq(strcmp(fake.last_header[1], earliest), 0, "%s", fake.last_header[1]);
    s3_destroy(&s3);
}

Test(aws_clients, nobody_there_is_the_services_own_error) {
    struct kms *kms = kms_new(aws, "http://127.0.0.1:9");
    enum kms_key_state state;
    cr_assert_eq(kms_describe_key(kms, "k", clock_mono_ms() + 300, &state, &why), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_KMS_UNAVAILABLE);
    kms_destroy(&kms);
}

Test(aws_clients, time_that_went_by_over_refusals_ends_with_the_refusal) {
    fake.steps[0] = (struct script){ .status = 503, .headers = "Retry-After: 1\r\n", .body = "<Error><Code>SlowDown</Code></Error>" };
    fake.steps[1] = (struct script){ .status = 200, .delay_ms = 2000 };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "x", 1, clock_mono_ms() + 1500, &why), ST_UNAVAILABLE);
    cr_assert_not_null(strstr(why.text, "SlowDown"), "%s", why.text);
    cr_assert_eq(fake.asked, 2);
    s3_destroy(&s3);
}

/* ---- S3 ---- */

Test(aws_clients, objects_stream_by_range) {
    fake.steps[0] = (struct script){ .status = 206, .body = "part" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(s3_get(s3, "k", 10, 4, collect, &out, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_str_eq(out.data, "part");
    cr_assert_str_eq(fake.last_header[6], "bytes=10-13");
    cr_assert_eq(s3_get(s3, "k", 10, 0, collect, &out, soon(), &why), ST_OK);
    cr_assert_str_eq(fake.last_header[6], "bytes=10-");
    s3_destroy(&s3);
}

static const char CUT[] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 99\r\n\r\n";

Test(aws_clients, a_stream_that_breaks_off_is_taken_up_where_it_ended) {
    char half[128];
    (void)snprintf(half, sizeof half, "%shalf", CUT);
    fake.steps[0] = (struct script){ .status = 200, .body = half, .cuts = true };
    fake.steps[1] = (struct script){ .status = 206, .headers = "ETag: \"e\"\r\n", .body = " and half" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(s3_get(s3, "k", 0, 0, collect, &out, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_str_eq(out.data, "half and half");
    cr_assert_str_eq(fake.last_header[6], "bytes=4-");
    cr_assert_str_eq(fake.last_header[8], "\"e\"");
    s3_destroy(&s3);
}

Test(aws_clients, a_range_that_breaks_off_asks_for_its_rest_only) {
    char half[128];
    (void)snprintf(half, sizeof half, "%shalf", CUT);
    fake.steps[0] = (struct script){ .status = 206, .body = half, .cuts = true };
    fake.steps[1] = (struct script){ .status = 206, .headers = "ETag: \"e\"\r\n", .body = "more" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(s3_get(s3, "k", 100, 8, collect, &out, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_str_eq(fake.last_header[6], "bytes=104-107");
    s3_destroy(&s3);
}

Test(aws_clients, a_stream_that_breaks_off_again_and_again_ends) {
    char half[128];
    (void)snprintf(half, sizeof half, "%shalf", CUT);
    fake.steps[0] = (struct script){ .status = 200, .body = half, .cuts = true };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(s3_get(s3, "k", 0, 0, collect, &out, soon(), &why), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_STORE_UNAVAILABLE);
    cr_assert_eq(fake.asked, 4);
    s3_destroy(&s3);
}

static enum status refuse(void *ctx, const void *data, size_t len, struct why *ret_why) {
    (void)ctx, (void)data, (void)len;
    return fail(ret_why, ST_CONFLICT, "not wanted");
}

Test(aws_clients, what_a_sink_says_comes_back) {
    fake.steps[0] = (struct script){ .status = 200, .body = "x" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_get(s3, "k", 0, 0, refuse, NULL, soon(), &why), ST_CONFLICT);
    cr_assert_str_eq(why.text, "not wanted");
    cr_assert_eq(fake.asked, 1);
    s3_destroy(&s3);
}

Test(aws_clients, missing_objects) {
    fake.steps[0] = (struct script){ .status = 404, .body = "<Error><Code>NoSuchKey</Code></Error>" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_head head;
    cr_assert_eq(s3_get(s3, "k", 0, 0, refuse, NULL, soon(), &why), ST_NOT_FOUND);
    cr_assert_eq(s3_head(s3, "k", soon(), &head, &why), ST_NOT_FOUND);
    cr_assert_eq(s3_delete(s3, "k", soon(), &why), ST_OK);
    s3_destroy(&s3);
}

Test(aws_clients, a_small_upload_is_one_put) {
    fake.steps[0] = (struct script){ .status = 200, .headers = "ETag: \"e\"\r\n" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    cr_assert(buffer_add_str(s3_upload_buffer(upload), "hello"));
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_OK);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_OK);
    cr_assert_eq(s3_upload_bytes(upload), 5);
    s3_upload_destroy(&upload);
    cr_assert_str_eq(fake.log, "PUT /docs/k\n");
    s3_destroy(&s3);
}

static void check_put_fails(const char *headers, const char *body, unsigned want_asked) {
    fake.steps[0] = (struct script){ .status = 200, .headers = headers, .body = body };
    atomic_store(&fake.asked, 0);
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_assert_eq(s3_put(s3, "k", "text/plain", NULL, "hello", 5, soon(), &why), ST_UNAVAILABLE, "%s", headers);
    cr_assert_eq(why.code, ERR_STORE_UNAVAILABLE);
    cr_assert_eq(fake.asked, want_asked);
    s3_destroy(&s3);
}

Test(aws_clients, an_object_is_stored_when_the_answer_says_so_and_not_before) {
    check_put_fails("", "", 1);
    check_put_fails("ETag: \"e\"\r\nx-amz-checksum-sha256: AAAA\r\n", "", 1);
    check_put_fails("", "<Error><Code>InternalError</Code></Error>", 4);
}

static void fill(struct s3_upload *upload, size_t bytes) {
    char *block = xalloc(bytes);
    cr_assert(buffer_add(s3_upload_buffer(upload), block, bytes));
    free(block);
}

Test(aws_clients, a_large_upload_goes_in_parts) {
    fake.steps[0] = (struct script){ .status = 200, .body = "<R><UploadId>u/1</UploadId></R>" };
    fake.steps[1] = (struct script){ .status = 200, .headers = "ETag: \"e1\"\r\n" };
    fake.steps[2] = (struct script){ .status = 200, .headers = "ETag: \"e2\"\r\n" };
    fake.steps[3] = (struct script){ .status = 200, .body = "<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    fill(upload, S3_PART_BYTES + 1);
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_OK, "%s", why.text);
    fill(upload, 10);
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_OK);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(s3_upload_bytes(upload), S3_PART_BYTES + 11);
    s3_upload_destroy(&upload);
    cr_assert_str_eq(fake.log, "POST /docs/k?uploads=\nPUT /docs/k?partNumber=1&uploadId=u%2F1\n"
                               "PUT /docs/k?partNumber=2&uploadId=u%2F1\nPOST /docs/k?uploadId=u%2F1\n");
    cr_assert_not_null(strstr(fake.last_body, "<Part><PartNumber>2</PartNumber><ETag>&quot;e2&quot;</ETag><ChecksumSHA256>"));
    s3_destroy(&s3);
}

Test(aws_clients, an_upload_that_fails_is_aborted) {
    fake.steps[0] = (struct script){ .status = 200, .body = "<R><UploadId>u1</UploadId></R>" };
    fake.steps[1] = (struct script){ .status = 403, .body = "<Error><Code>AccessDenied</Code></Error>" };
    fake.steps[2] = (struct script){ .status = 204 };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    fill(upload, S3_PART_BYTES);
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_UNAVAILABLE);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_INTERNAL, "it is over");
    s3_upload_destroy(&upload);
    cr_assert_not_null(strstr(fake.log, "DELETE /docs/k?uploadId=u1\n"));
    s3_destroy(&s3);
}

Test(aws_clients, an_abort_says_whether_anything_may_be_left) {
    static const struct { int part, abort; enum status want; } CASES[] = {
        { 200, 204, ST_OK }, { 200, 404, ST_OK }, { 200, 403, ST_UNAVAILABLE }, { 403, 204, ST_UNAVAILABLE } };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    cr_expect_eq(s3_upload_abort(NULL, soon(), &why), ST_OK);
    for (unsigned i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        fake.asked = 0;
        fake.steps[0] = (struct script){ .status = 200, .body = "<R><UploadId>u1</UploadId></R>" };
        fake.steps[1] = (struct script){ .status = CASES[i].part, .headers = "ETag: \"e\"\r\n" };
        fake.steps[2] = (struct script){ .status = CASES[i].abort };
        struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
        cr_expect_eq(s3_upload_abort(upload, soon(), &why), ST_OK, "nothing was begun");
        fill(upload, S3_PART_BYTES);
        cr_expect_eq(s3_upload_flush(upload, soon(), &why) == ST_OK, CASES[i].part == 200);
        cr_expect_eq(s3_upload_abort(upload, soon(), &why), CASES[i].want, "%u", i);
        s3_upload_destroy(&upload);
        cr_expect_eq(fake.asked, 3, "aborted once");
    }
    s3_destroy(&s3);
}

Test(aws_clients, parts_grow_so_that_ten_thousand_are_enough) {
    int64_t total = 0;
    for (unsigned n = 0; n < S3_PARTS_MAX; n++)
        total += (int64_t)s3_part_bytes(n);
    cr_expect_eq(total, S3_UPLOAD_MAX_BYTES);
    cr_expect_geq(total, (1LL << 38) + (1LL << 38) / 100, "the largest CORDON_MAX_UPLOAD_BYTES, sealed");
    cr_expect_eq(s3_part_bytes(0), S3_PART_BYTES);
    cr_expect_leq(s3_part_bytes(S3_PARTS_MAX - 1), 96 << 20);
}

#define LISTED(key, id, begun) "<Upload><Key>" key "</Key><UploadId>" id "</UploadId><Owner><ID>o</ID></Owner><Initiated>" begun "</Initiated></Upload>"

Test(aws_clients, forgotten_uploads_are_found_page_by_page_and_aborted) {
    fake.steps[0] = (struct script){ .status = 200, .body = "<R><IsTruncated>true</IsTruncated><NextKeyMarker>t/b</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker>"
        LISTED("t/a", "u1", "2001-01-01T00:00:00.000Z") LISTED("t/b", "u2", "2001-01-02T00:00:01.000Z") "</R>" };
    fake.steps[1] = (struct script){ .status = 204 };
    fake.steps[2] = (struct script){ .status = 200, .body = "<R><IsTruncated>false</IsTruncated>"
        LISTED("t/c", "u3", "2001-01-02T00:00:00.000Z") LISTED("t/d", "u4", "") LISTED("other", "u5", "2001-01-01T00:00:00.000Z")
        LISTED("t/&amp;", "u6", "2001-01-01T23:59:59.999Z") "</R>" };
    fake.steps[3] = (struct script){ .status = 404, .body = "<Error><Code>NoSuchUpload</Code></Error>" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    unsigned count = 0;
    cr_assert_eq(s3_abort_uploads(s3, "t/", 978393600000000, soon(), &count, &why), ST_OK, "%s", why.text);      /* 2001-01-02 */
    cr_expect_eq(count, 2);
    cr_expect_str_eq(fake.log, "GET /docs?prefix=t%2F&uploads=\nDELETE /docs/t/a?uploadId=u1\n"
                               "GET /docs?key-marker=t%2Fb&prefix=t%2F&upload-id-marker=u2&uploads=\nDELETE /docs/t/%26?uploadId=u6\n");
    s3_destroy(&s3);
}

Test(aws_clients, an_error_inside_a_200_is_an_error) {
    fake.steps[0] = (struct script){ .status = 200, .body = "<R><UploadId>u1</UploadId></R>" };
    fake.steps[1] = (struct script){ .status = 200, .headers = "ETag: \"e1\"\r\n" };
    fake.steps[2] = (struct script){ .status = 200, .body = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>" };
    fake.steps[3] = (struct script){ .status = 200, .body = "<Error><Code>InvalidPart</Code></Error>" };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    fill(upload, S3_PART_BYTES);
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_OK);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_INTERNAL);
    cr_assert_not_null(strstr(why.text, "InvalidPart"));
    s3_upload_destroy(&upload);
    s3_destroy(&s3);
}

Test(aws_clients, a_completion_whose_answer_was_lost_is_found_by_looking) {
    char length[64];
    (void)snprintf(length, sizeof length, "ETag: \"e-1\"\r\nContent-Length: %d\r\n", S3_PART_BYTES);
    fake.steps[0] = (struct script){ .status = 200, .body = "<R><UploadId>u1</UploadId></R>" };
    fake.steps[1] = (struct script){ .status = 200, .headers = "ETag: \"e1\"\r\n" };
    fake.steps[2] = (struct script){ .status = 200, .body = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", .cuts = true };
    fake.steps[3] = (struct script){ .status = 404, .body = "<Error><Code>NoSuchUpload</Code></Error>" };
    fake.steps[4] = (struct script){ .status = 200, .headers = length };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    fill(upload, S3_PART_BYTES);
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_OK);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_OK, "%s", why.text);
    s3_upload_destroy(&upload);
    cr_assert_null(strstr(fake.log, "DELETE"));
    s3_destroy(&s3);
}

Test(aws_clients, a_completion_that_names_no_etag_is_looked_after) {
    fake.steps[0] = (struct script){ .status = 200, .body = "<R><UploadId>u1</UploadId></R>" };
    fake.steps[1] = (struct script){ .status = 200, .headers = "ETag: \"e1\"\r\n" };
    fake.steps[2] = (struct script){ .status = 200 };
    fake.steps[3] = (struct script){ .status = 404 };
    struct s3 *s3 = s3_new(aws, loopback_url(server), "docs");
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    fill(upload, S3_PART_BYTES);
    cr_assert_eq(s3_upload_flush(upload, soon(), &why), ST_OK);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_UNAVAILABLE);
    cr_assert_not_null(strstr(fake.log, "HEAD /docs/k\n"));
    s3_upload_destroy(&upload);
    s3_destroy(&s3);
}

/* ---- KMS, STS ---- */

Test(aws_clients, a_tenant_key_is_decrypted_under_its_context) {
    fake.steps[0] = (struct script){ .status = 200, .body = "{\"KeyId\":\"k\",\"Plaintext\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"}" };
    struct kms *kms = kms_new(aws, loopback_url(server));
    struct uuid tenant;
    cr_assert(uuid_parse("01890a5d-ac96-774b-bcce-b302099a8057", 36, &tenant));
    struct tenant_key_blob blob = { TENANT_KEY_SEARCH, 1, "arn:key", { (uint8_t *)"blob", 4 } };
    CLEANUP(secret_destroy) struct secret *key = NULL;
    struct key_unwrapper unwrapper = kms_unwrapper(kms);
    cr_assert_eq(unwrapper.decrypt(unwrapper.ctx, &blob, &tenant, soon(), &key, &why), ST_OK, "%s", why.text);
    cr_assert_eq(key->len, 32);
    cr_assert_str_eq(fake.last_header[4], "TrentService.Decrypt");
    cr_assert_str_eq(fake.last_body, "{\"CiphertextBlob\":\"YmxvYg==\",\"KeyId\":\"arn:key\",\"EncryptionContext\":"
                                     "{\"tenant_id\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\"purpose\":\"search\"}}");
    kms_destroy(&kms);
}

static void check_kms_error(const char *body, enum error_code want, unsigned want_asked) {
    fake.steps[0] = (struct script){ .status = 400, .body = body };
    fake.asked = 0;
    struct kms *kms = kms_new(aws, loopback_url(server));
    struct uuid tenant = uuid_v7();
    struct tenant_key_blob blob = { TENANT_KEY_DATA, 1, "arn:key", { (uint8_t *)"blob", 4 } };
    struct secret *key = NULL;
    cr_assert_eq(kms_decrypt_tenant_key(kms, &blob, &tenant, soon(), &key, &why), error_status(want), "%s", body);
    cr_assert_eq(why.code, want, "%s", why.text);
    cr_assert_eq(fake.asked, want_asked);
    cr_assert_null(key);
    kms_destroy(&kms);
}

Test(aws_clients, kms_failures_have_public_codes) {
    check_kms_error("{\"__type\":\"DisabledException\"}", ERR_KMS_DISABLED, 1);
    check_kms_error("{\"__type\":\"com.amazonaws.kms#KMSInvalidStateException\",\"message\":\"pending deletion\"}", ERR_KMS_DISABLED, 1);
    check_kms_error("{\"__type\":\"NotFoundException\"}", ERR_KMS_DISABLED, 1);
    check_kms_error("{\"__type\":\"AccessDeniedException\"}", ERR_KMS_UNAVAILABLE, 1);
    check_kms_error("{\"__type\":\"InvalidCiphertextException\"}", ERR_INTERNAL, 1);
    check_kms_error("{\"__type\":\"ThrottlingException\"}", ERR_KMS_UNAVAILABLE, 4);
    check_kms_error("not json", ERR_INTERNAL, 1);
}

Test(aws_clients, keys_are_made_with_tags_and_aliases) {
    fake.steps[0] = (struct script){ .status = 200, .body = "{\"KeyMetadata\":{\"Arn\":\"arn:aws:kms:us-east-1:1:key/x\",\"KeyState\":\"Enabled\"}}" };
    struct kms *kms = kms_new(aws, loopback_url(server));
    char *arn = NULL;
    const struct sigv4_pair tags[] = { { "cordon", "tenant" }, { "tenant_id", "t" }, { NULL, NULL } };
    cr_assert_eq(kms_create_key(kms, "tenant t", tags, soon(), mem, &arn, &why), ST_OK, "%s", why.text);
    cr_assert_str_eq(arn, "arn:aws:kms:us-east-1:1:key/x");
    cr_assert_not_null(strstr(fake.last_body, "\"Tags\":[{\"TagKey\":\"cordon\",\"TagValue\":\"tenant\"},"));
    enum kms_key_state state = KMS_KEY_OTHER;
    cr_assert_eq(kms_describe_key(kms, arn, soon(), &state, &why), ST_OK);
    cr_assert_eq(state, KMS_KEY_ENABLED);
    fake.steps[0] = (struct script){ .status = 400, .body = "{\"__type\":\"AlreadyExistsException\"}" };
    cr_assert_eq(kms_create_alias(kms, "alias/cordon/t", arn, soon(), &why), ST_CONFLICT);
    fake.steps[0] = (struct script){ .status = 200, .body = "{\"CiphertextBlob\":\"YmxvYg==\"}" };
    struct uuid tenant = uuid_v7();
    struct blob wrapped;
    cr_assert_eq(kms_generate_tenant_key(kms, arn, &tenant, TENANT_KEY_DATA, soon(), mem, &wrapped, &why), ST_OK);
    cr_assert_eq(wrapped.len, 4);
    cr_assert_str_eq(fake.last_header[4], "TrentService.GenerateDataKeyWithoutPlaintext");
    kms_destroy(&kms);
}

Test(aws_clients, another_identity_is_refused) {
    fake.steps[0] = (struct script){ .status = 200, .body = "<GetCallerIdentityResponse><Arn>arn:aws:iam::123456789012:user/cordon-query</Arn></GetCallerIdentityResponse>" };
    cr_assert_eq(sts_assert(aws, loopback_url(server), "cordon-query", soon(), &why), ST_OK, "%s", why.text);
    cr_assert_eq(sts_assert(aws, loopback_url(server), "cordon-edge", soon(), &why), ST_FORBIDDEN);
}

/* ---- Bedrock ---- */

static const char *vector_answer(size_t dimensions, double value) {
    struct buffer out = { 0 };
    (void)buffer_add_str(&out, "{\"embedding\":[");
    for (size_t i = 0; i < dimensions; i++)
        (void)buffer_printf(&out, "%s%.9f", i ? "," : "", value);
    (void)buffer_add_str(&out, "],\"inputTextTokenCount\":7}");
    char *text = arena_strdup(mem, out.data);
    buffer_end(&out);
    return text;
}

Test(aws_clients, a_text_is_embedded) {
    fake.steps[0] = (struct script){ .status = 200, .body = vector_answer(1024, 1.0 / 32) };
    struct bedrock *bedrock = bedrock_new(aws, loopback_url(server));
    float vector[BEDROCK_DIMENSIONS];
    uint32_t tokens = 0;
    cr_assert_eq(bedrock_embed(bedrock, &(struct embed_request){ "amazon.titan-embed-text-v2:0", "a \"b\"", false }, soon(), vector, &tokens, &why), ST_OK, "%s", why.text);
    cr_assert_eq(tokens, 7);
    cr_assert_float_eq(vector[1023], 1.0f / 32, 1e-6f);
    cr_assert_str_eq(fake.log, "POST /model/amazon.titan-embed-text-v2%3A0/invoke\n");
    cr_assert_str_eq(fake.last_body, "{\"inputText\":\"a \\\"b\\\"\",\"dimensions\":1024,\"normalize\":true}");
    bedrock_destroy(&bedrock);
}

Test(aws_clients, vectors_of_another_shape_are_refused) {
    struct bedrock *bedrock = bedrock_new(aws, loopback_url(server));
    const char *bad[] = { vector_answer(1023, 1.0 / 32), vector_answer(1025, 1.0 / 32), vector_answer(1024, 1.0), vector_answer(1024, 0),
                          "{\"embedding\":\"x\"}", "{}", "[]", "nothing" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        float vector[BEDROCK_DIMENSIONS];
        uint32_t tokens = 0;
        fake.steps[0] = (struct script){ .status = 200, .body = bad[i] };
        cr_assert_eq(bedrock_embed(bedrock, &(struct embed_request){ "m", "x", false }, soon(), vector, &tokens, &why), ST_UNAVAILABLE, "%.40s", bad[i]);
        cr_assert_eq(why.code, ERR_MODEL_UNAVAILABLE);
    }
    bedrock_destroy(&bedrock);
}

Test(aws_clients, a_throttled_model_is_limited_and_says_when_to_come_back) {
    fake.steps[0] = (struct script){ .status = 429, .headers = "x-amzn-errortype: ThrottlingException:http://internal/\r\nretry-after: 2\r\n", .body = "{\"message\":\"slow\"}" };
    struct bedrock *bedrock = bedrock_new(aws, loopback_url(server));
    float vector[BEDROCK_DIMENSIONS];
    uint32_t tokens = 0;
    int64_t from = clock_mono_ms();
    cr_assert_eq(bedrock_embed(bedrock, &(struct embed_request){ "m", "x", false }, from + 1000, vector, &tokens, &why), ST_LIMITED);
    cr_assert_eq(why.code, ERR_MODEL_LIMITED);
    cr_assert_not_null(strstr(why.text, "ThrottlingException"));
    cr_assert_eq(fake.asked, 1, "who asks much paces itself");
    cr_assert_eq(why.retry_after_ms, 2000);
    bedrock_destroy(&bedrock);
}

/* Converse without a stream, which only asks whether the model is there (services/embedding-worker/preflight.c): its row of docs/failures.md. */
Test(aws_clients, an_answer_that_is_none_says_whether_the_model_is_away_or_throttles) {
    static const struct { const char *kind; struct script step; enum status st; enum error_code code; } KINDS[] = {
        { "throttle",  { .status = 429, .headers = "x-amzn-errortype: ThrottlingException\r\n", .body = "{}" }, ST_LIMITED, ERR_MODEL_LIMITED },
        { "error429",  { .status = 429, .body = "" }, ST_LIMITED, ERR_MODEL_LIMITED },
        { "error500",  { .status = 500, .headers = "x-amzn-errortype: InternalServerException\r\n", .body = "{}" }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "error503",  { .status = 503, .headers = "x-amzn-errortype: ServiceUnavailableException\r\n", .body = "{}" }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "reset",     { .status = 200, .body = "", .cuts = true }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "cut",       { .status = 200, .body = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"output\":", .cuts = true }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "ok_error",  { .status = 200, .body = "{\"__type\":\"InternalServerException\",\"message\":\"x\"}" }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "ok_empty",  { .status = 200, .body = "" }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "expired",   { .status = 403, .headers = "x-amzn-errortype: ExpiredTokenException\r\n", .body = "{}" }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
        { "denied",    { .status = 403, .headers = "x-amzn-errortype: AccessDeniedException\r\n", .body = "{}" }, ST_UNAVAILABLE, ERR_MODEL_UNAVAILABLE },
    };
    struct bedrock *bedrock = bedrock_new(aws, loopback_url(server));
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        struct converse_reply reply;
        fake.steps[0] = KINDS[i].step;
        cr_expect_eq(bedrock_converse(bedrock, &(struct converse_request){ "claude", "s", "u", 9, NULL, NULL }, soon(), mem, &reply, &why), KINDS[i].st,
                     "%s: %s", KINDS[i].kind, why.text);
        cr_expect_eq(why.code, KINDS[i].code, "%s", KINDS[i].kind);
    }
    bedrock_destroy(&bedrock);
}

Test(aws_clients, a_model_answers) {
    fake.steps[0] = (struct script){ .status = 200, .body =
        "{\"output\":{\"message\":{\"role\":\"assistant\",\"content\":[{\"text\":\"Take \"},{\"reasoningContent\":{}},{\"text\":\"5 mg [1].\"}]}},"
        "\"stopReason\":\"end_turn\",\"usage\":{\"inputTokens\":12,\"outputTokens\":5,\"totalTokens\":17}}" };
    struct bedrock *bedrock = bedrock_new(aws, loopback_url(server));
    struct converse_reply reply;
    cr_assert_eq(bedrock_converse(bedrock, &(struct converse_request){ "claude", "be brief", "how much?", 99, NULL, NULL }, soon(), mem, &reply, &why),
                 ST_OK, "%s", why.text);
    cr_assert_str_eq(reply.text, "Take 5 mg [1].");
    cr_assert_str_eq(reply.stop_reason, "end_turn");
    cr_assert_eq(reply.input_tokens, 12);
    cr_assert_eq(reply.output_tokens, 5);
    cr_assert_str_eq(fake.last_body, "{\"system\":[{\"text\":\"be brief\"}],\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"how much?\"}]}],"
                                     "\"inferenceConfig\":{\"maxTokens\":99,\"temperature\":0}}");
    fake.steps[0] = (struct script){ .status = 200, .body = "{\"output\":{}}" };
    cr_assert_eq(bedrock_converse(bedrock, &(struct converse_request){ "claude", "s", "u", 99, NULL, NULL }, soon(), mem, &reply, &why), ST_UNAVAILABLE);
    cr_assert_eq(bedrock_converse(bedrock, &(struct converse_request){ "claude", "s", "u", 0, NULL, NULL }, soon(), mem, &reply, &why), ST_INTERNAL);
    bedrock_destroy(&bedrock);
}
