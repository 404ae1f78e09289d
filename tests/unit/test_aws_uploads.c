/* aws/s3 uploads whose parts go side by side, against a server on loopback that keeps parts waiting until enough are there. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aws/s3.h"
#include "core/cancel.h"
#include "core/clock.h"
#include "core/str.h"
#include "support/loopback.h"

enum { WAIT_MS = 5000, PART_BYTES = S3_PART_BYTES + 1000 };      /* sealed frames do not end where a part may */

static struct {
    int want_at_once;               /* parts that must be here before one is answered */
    int refused_part, hanging_part; /* 0: none */
    atomic_int parts, most_at_once, now, aborts, bytes_now, most_bytes;
    char completed[4096];
    bool is_aborted_before_parts;
} fake;

static struct loopback *server;
static struct aws *aws;
static struct credentials *credentials;
static struct s3 *s3;
static struct why why;

static void note_most(atomic_int *most, int now) {
    int was = atomic_load(most);
    while (was < now && !atomic_compare_exchange_weak(most, &was, now))
        continue;
}

static bool take_part(int number, size_t len, int fd) {
    char etag[32];
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    note_most(&fake.most_at_once, atomic_fetch_add(&fake.now, 1) + 1);
    note_most(&fake.most_bytes, atomic_fetch_add(&fake.bytes_now, (int)len) + (int)len);
    while (atomic_load(&fake.most_at_once) < fake.want_at_once && clock_mono_ms() < until_ms)
        (void)usleep(1000);
    while (number == fake.hanging_part && !atomic_load(&fake.aborts) && clock_mono_ms() < until_ms)
        (void)usleep(1000);
    atomic_fetch_sub(&fake.now, 1);
    atomic_fetch_sub(&fake.bytes_now, (int)len);
    if (number == fake.refused_part)
        return loopback_answer(fd, 403, "", "<Error><Code>AccessDenied</Code></Error>");
    atomic_fetch_add(&fake.parts, 1);
    (void)snprintf(etag, sizeof etag, "ETag: \"e%d\"\r\n", number);
    return loopback_answer(fd, 200, etag, "");
}

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    const char *part = strstr(request->target, "partNumber=");
    (void)ctx;
    if (part)
        return take_part(atoi(part + strlen("partNumber=")), request->body.len, fd);
    if (str_equal(request->method, "DELETE")) {
        fake.is_aborted_before_parts = atomic_load(&fake.now) > 0;
        atomic_fetch_add(&fake.aborts, 1);
        return loopback_answer(fd, 204, "", "");
    }
    if (strstr(request->target, "uploads="))
        return loopback_answer(fd, 200, "", "<R><UploadId>u</UploadId></R>");
    (void)snprintf(fake.completed, sizeof fake.completed, "%.4000s", request->body.data);
    return loopback_answer(fd, 200, "", "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>");
}

static void set_up(void) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("very-secret", 11);
    server = loopback_start(answer, NULL);
    credentials = credentials_new("AKIDTEST", key, NULL, 0);
    aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    s3 = s3_new(aws, loopback_url(server), "docs");
}

static void tear_down(void) {
    s3_destroy(&s3);
    aws_destroy(&aws);
    credentials_release(&credentials);
    loopback_stop(&server);
}

TestSuite(aws_uploads, .init = set_up, .fini = tear_down, .timeout = 60);

static int64_t soon(void) {
    return clock_mono_ms() + 20000;
}

/* n whole parts; the last answer. */
static enum status add_parts(struct s3_upload *upload, int n) {
    char *block = xalloc(PART_BYTES);
    enum status st = ST_OK;
    for (int i = 0; i < n && st == ST_OK; i++) {
        memset(block, 'a' + i, PART_BYTES);
        cr_assert(buffer_add(s3_upload_buffer(upload), block, PART_BYTES));
        st = s3_upload_flush(upload, soon(), &why);
    }
    free(block);
    return st;
}

Test(aws_uploads, parts_go_side_by_side_and_are_put_together_in_order) {
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    s3_send_aside(s3, S3_PARTS_ASIDE);
    fake.want_at_once = S3_PARTS_ASIDE + 1;        /* those aside, and the one that found no place there */
    cr_assert_eq(add_parts(upload, 7), ST_OK, "%s", why.text);
    cr_assert(buffer_add_str(s3_upload_buffer(upload), "rest"));
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_OK, "%s", why.text);
    cr_expect_eq(s3_upload_bytes(upload), 7LL * PART_BYTES + 4);
    cr_expect_eq(atomic_load(&fake.most_at_once), S3_PARTS_ASIDE + 1);
    for (int i = 1; i <= 8; i++) {
        char want[96];
        (void)snprintf(want, sizeof want, "<PartNumber>%d</PartNumber><ETag>&quot;e%d&quot;</ETag>", i, i);
        cr_expect(strstr(fake.completed, want), "%s", want);
    }
    s3_upload_destroy(&upload);
    cr_expect_eq(atomic_load(&fake.aborts), 0);
}

Test(aws_uploads, all_uploads_together_send_no_more_aside_than_may_be) {
    struct s3_upload *uploads[3];
    s3_send_aside(s3, 2);
    fake.want_at_once = 3;
    for (int i = 0; i < 3; i++) {
        uploads[i] = s3_upload_new(s3, "k", "application/octet-stream");
        cr_assert_eq(add_parts(uploads[i], 2), ST_OK, "%s", why.text);
    }
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(s3_upload_end(uploads[i], soon(), &why), ST_OK, "%s", why.text);
        s3_upload_destroy(&uploads[i]);
    }
    cr_expect_leq(atomic_load(&fake.most_bytes), 3 * PART_BYTES);
    cr_expect_eq(atomic_load(&fake.parts), 6);
}

Test(aws_uploads, nothing_goes_aside_unless_it_may) {
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    cr_assert_eq(add_parts(upload, 3), ST_OK, "%s", why.text);
    cr_assert_eq(s3_upload_end(upload, soon(), &why), ST_OK, "%s", why.text);
    cr_expect_eq(atomic_load(&fake.most_at_once), 1);
    s3_upload_destroy(&upload);
}

Test(aws_uploads, a_part_that_failed_aside_fails_the_upload_and_is_in_doubt) {
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    s3_send_aside(s3, 16);
    fake.refused_part = 1;
    enum status st = add_parts(upload, 1);
    if (st == ST_OK)
        st = s3_upload_end(upload, soon(), &why);
    cr_expect_eq(st, ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_STORE_UNAVAILABLE, "%s", why.text);
    cr_expect_eq(s3_upload_flush(upload, soon(), &why), ST_INTERNAL, "it is over");
    cr_expect_eq(s3_upload_abort(upload, soon(), &why), ST_UNAVAILABLE);
    s3_upload_destroy(&upload);
    cr_expect_eq(atomic_load(&fake.aborts), 1);
    upload = s3_upload_new(s3, "k2", "application/octet-stream");
    fake.refused_part = 0;
    fake.want_at_once = 5;
    cr_expect_eq(add_parts(upload, 6), ST_OK, "what was lent came back: %s", why.text);
    cr_expect_eq(s3_upload_end(upload, soon(), &why), ST_OK, "%s", why.text);
    s3_upload_destroy(&upload);
}

Test(aws_uploads, an_abort_comes_behind_the_parts_that_are_on_their_way) {
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    s3_send_aside(s3, 16);
    cr_assert_eq(add_parts(upload, 3), ST_OK, "%s", why.text);
    cr_expect_eq(s3_upload_abort(upload, soon(), &why), ST_OK, "%s", why.text);
    cr_expect_not(fake.is_aborted_before_parts);
    cr_expect_eq(atomic_load(&fake.parts), 3);
    s3_upload_destroy(&upload);
    cr_expect_eq(atomic_load(&fake.aborts), 1);
}

Test(aws_uploads, an_abort_that_cannot_wait_gives_up_what_is_on_its_way_and_says_so) {
    struct s3_upload *upload = s3_upload_new(s3, "k", "application/octet-stream");
    s3_send_aside(s3, 16);
    fake.hanging_part = 2;
    cr_assert_eq(add_parts(upload, 2), ST_OK, "%s", why.text);
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(s3_upload_abort(upload, clock_mono_ms() + 50, &why), ST_UNAVAILABLE, "a part may yet arrive");
    cr_expect_lt(clock_mono_ms() - began_ms, WAIT_MS - 1000);
    s3_upload_destroy(&upload);
}
