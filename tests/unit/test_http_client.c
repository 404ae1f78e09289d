/* http/client against a server on loopback: limits, deadlines, reuse, refusal of what is not safe. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/cancel.h"
#include "core/clock.h"
#include "core/str.h"
#include "http/backoff.h"
#include "http/client.h"
#include "support/loopback.h"

static atomic_uint died;

static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    (void)ctx;
    char value[64];
    if (str_equal(request->target, "/echo")) {
        struct buffer out = { 0 };
        (void)buffer_printf(&out, "%s|%s|%s|%u", request->method, loopback_header(request, "x-test", value, sizeof value),
                            request->body.data ? request->body.data : "", request->connection);
        (void)loopback_answer(fd, 200, "ETag: \"abc\"\r\nX-Empty:\r\n", out.data);
        buffer_end(&out);
        return true;
    }
    if (str_equal(request->target, "/flaky"))
        return loopback_answer(fd, request->number < 3 ? 503 : 200, "", "x");
    if (str_equal(request->target, "/redirect"))
        return loopback_answer(fd, 302, "Location: /echo\r\n", "");
    if (str_equal(request->target, "/bad"))
        return loopback_answer(fd, 404, "", "gone");
    if (str_equal(request->target, "/cut")) {
        loopback_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", 42);
        return false;
    }
    if (str_equal(request->target, "/big")) {
        char block[10001];
        memset(block, 'x', 10000);
        block[10000] = '\0';
        return loopback_answer(fd, 200, "", block);
    }
    if (str_equal(request->target, "/die")) {
        atomic_fetch_add(&died, 1);
        return false;
    }
    if (str_equal(request->target, "/hang"))
        sleep(5);
    return false;
}

static struct loopback *server;
static struct http_client *client;
static struct why why;
static struct http_response response;
static char url[128];

static void set_up(void) {
    server = loopback_start(answer, NULL);
    client = http_client_new(&(struct http_options){ .allow_plain = true });
}

static void tear_down(void) {
    http_response_end(&response);
    http_client_destroy(&client);
    loopback_stop(&server);
}

TestSuite(http_client, .init = set_up, .fini = tear_down, .timeout = 20);

static struct http_request request_of(const char *method, const char *target) {
    (void)snprintf(url, sizeof url, "%s%s", loopback_url(server), target);
    return (struct http_request){ .method = method, .url = url, .deadline_ms = clock_mono_ms() + 3000 };
}

Test(http_client, sends_methods_headers_and_bodies) {
    static const char *const METHODS[] = { "GET", "POST", "PUT", "DELETE", NULL };
    for (int i = 0; METHODS[i]; i++) {
        struct http_request request = request_of(METHODS[i], "/echo");
        request.headers = (const char *const[]){ "X-Test: yes", NULL };
        request.body = i == 0 ? NULL : "body";
        request.body_len = i == 0 ? 0 : 4;
        cr_assert_eq(http_send(client, &request, &response, &why), ST_OK, "%s", why.text);
        cr_assert_eq(response.status, 200);
        char want[64];
        (void)snprintf(want, sizeof want, "%s|yes|%s|1", METHODS[i], i == 0 ? "" : "body");
        cr_assert_str_eq(response.body.data, want);     /* and all over one connection */
        cr_assert_str_eq(http_response_header(&response, "etag"), "\"abc\"");
        cr_assert_str_eq(http_response_header(&response, "X-Empty"), "");
        cr_assert_null(http_response_header(&response, "x-absent"));
    }
}

Test(http_client, an_error_answer_is_an_answer) {
    struct http_request request = request_of("GET", "/bad");
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK);
    cr_assert_eq(response.status, 404);
    cr_assert_str_eq(response.body.data, "gone");
}

Test(http_client, redirects_are_not_followed) {
    struct http_request request = request_of("GET", "/redirect");
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK);
    cr_assert_eq(response.status, 302);
}

Test(http_client, a_cut_body_is_no_answer) {
    struct http_request request = request_of("GET", "/cut");
    cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
}

Test(http_client, an_answer_over_the_cap_is_refused) {
    struct http_request request = request_of("GET", "/big");
    request.max_bytes = 9999;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
    request.max_bytes = 10000;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK);
    cr_assert_eq(response.body.len, 10000);
}

Test(http_client, the_deadline_ends_a_silent_request) {
    struct http_request request = request_of("GET", "/hang");
    int64_t from = clock_mono_ms();
    request.deadline_ms = from + 300;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_TIMEOUT);
    cr_assert_lt(clock_mono_ms() - from, 4000);
    request.deadline_ms = clock_mono_ms() - 1;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_TIMEOUT);
}

/* What was sent first must not count as movement later. */
Test(http_client, a_server_that_swallows_a_body_and_says_nothing_stalls_too) {
    static char body[200000];
    struct http_request request = request_of("POST", "/hang");
    request.body = body;
    request.body_len = sizeof body;
    request.stall_ms = 1000;
    request.deadline_ms = clock_mono_ms() + 15000;
    int64_t from_ms = clock_mono_ms();
    cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE, "%s", why.text);
    cr_assert_lt(clock_mono_ms() - from_ms, 3500);
}

static enum status take_slowly(void *ctx, const void *data, size_t len, struct why *ret_why) {
    (void)ctx, (void)data, (void)len, (void)ret_why;
    usleep(1500000);
    return ST_OK;
}

Test(http_client, a_slow_sink_is_no_stall_of_the_server) {
    struct http_request request = request_of("GET", "/big");
    request.sink = take_slowly;
    request.stall_ms = 1000;
    request.deadline_ms = clock_mono_ms() + 15000;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK, "%s", why.text);
}

Test(http_client, a_stalled_request_is_given_up_before_the_deadline) {
    struct http_request request = request_of("GET", "/hang");
    int64_t from = clock_mono_ms();
    request.deadline_ms = from + 10000;
    request.stall_ms = 1000;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
    cr_assert_lt(clock_mono_ms() - from, 4500);
}

static enum status count_bytes(void *ctx, const void *data, size_t len, struct why *ret_why) {
    (void)data;
    size_t *sum = ctx;
    *sum += len;
    return *sum > 15000 ? fail(ret_why, ST_CONFLICT, "enough") : ST_OK;
}

Test(http_client, a_sink_takes_good_bodies_and_may_stop) {
    size_t sum = 0;
    struct http_request request = request_of("GET", "/big");
    request.sink = count_bytes;
    request.sink_ctx = &sum;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK);
    cr_assert_eq(sum, 10000);
    request.max_bytes = 9999;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
    request.max_bytes = 0;
    sum = 10000;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_CONFLICT);
    cr_assert_str_eq(why.text, "enough");
    request = request_of("GET", "/bad");
    request.sink = count_bytes;
    request.sink_ctx = &sum;
    sum = 0;
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK);
    cr_assert_eq(sum, 0, "an error's body is not given to the sink");
    cr_assert_str_eq(response.body.data, "gone");
}

Test(http_client, idempotent_requests_are_tried_again) {
    struct http_request request = request_of("GET", "/flaky");
    cr_assert_eq(http_send_idempotent(client, &request, 4, &response, &why), ST_OK);
    cr_assert_eq(response.status, 200);
}

Test(http_client, nobody_listening_is_unavailable_and_names_the_host_only) {
    struct http_request request = { .method = "GET", .url = "http://127.0.0.1:9/secret?token=abc", .deadline_ms = clock_mono_ms() + 2000 };
    cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
    cr_assert_not_null(strstr(why.text, "127.0.0.1:9"));
    cr_assert_null(strstr(why.text, "token"));
}

Test(http_client, plain_http_files_and_smuggled_lines_are_refused) {
    struct http_request request = request_of("GET", "/echo");
    CLEANUP(http_client_destroy) struct http_client *strict = http_client_new(&(struct http_options){ 0 });
    cr_assert_eq(http_send(strict, &request, &response, &why), ST_INTERNAL);
    request.url = "file:///etc/passwd";
    cr_assert_eq(http_send(client, &request, &response, &why), ST_INTERNAL);
    request = request_of("GET", "/echo HTTP/1.1\r\nX-A: b");
    cr_assert_eq(http_send(client, &request, &response, &why), ST_INTERNAL);
    request = request_of("GET", "/echo");
    request.headers = (const char *const[]){ "X-A: b\r\nX-C: d", NULL };
    cr_assert_eq(http_send(client, &request, &response, &why), ST_INTERNAL);
}

Test(http_client, the_machines_proxy_variables_are_not_used) {
    (void)setenv("http_proxy", "http://127.0.0.1:9", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
    struct http_request request = request_of("GET", "/echo");
    cr_assert_eq(http_send(client, &request, &response, &why), ST_OK, "%s", why.text);
}

static void *many_sends(void *arg) {
    size_t good = 0;
    for (int i = 0; i < 20; i++) {
        struct http_response mine = { 0 };
        struct why ours = { 0 };
        struct http_request request = { .method = "POST", .url = arg, .body = "x", .body_len = 1, .deadline_ms = clock_mono_ms() + 5000 };
        good += http_send(client, &request, &mine, &ours) == ST_OK && mine.status == 200;
        http_response_end(&mine);
    }
    return (void *)good;
}

Test(http_client, threads_share_a_client) {
    pthread_t threads[8];
    (void)request_of("POST", "/echo");
    for (int i = 0; i < 8; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, many_sends, url), 0);
    for (int i = 0; i < 8; i++) {
        void *good = NULL;
        cr_assert_eq(pthread_join(threads[i], &good), 0);
        cr_assert_eq((size_t)good, 20);
    }
}

Test(http_encode, keeps_only_unreserved_characters) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert(http_encode("aZ09-._~ /:+%\xc3\xa9", 15, true, &out));
    cr_assert_str_eq(out.data, "aZ09-._~%20/%3A%2B%25%C3%A9");
    buffer_clear(&out);
    cr_assert(http_encode("/", 1, false, &out));
    cr_assert_str_eq(out.data, "%2F");
}

static void *cancel_soon(void *fd) {
    usleep(200 * 1000);
    (void)eventfd_write(*(int *)fd, 1);
    return NULL;
}

Test(http_client, a_cancelled_thread_waits_no_longer, .init = set_up, .fini = tear_down) {
    int fd = eventfd(0, EFD_CLOEXEC);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, cancel_soon, &fd), 0);
    cancel_on(fd);
    int64_t from = clock_mono_ms();
    struct backoff backoff = { .base_ms = 4000, .cap_ms = 4000, .deadline_ms = from + 60000, .attempts = 9 };
    cr_expect_not(backoff_wait(&backoff, 3000));
    cr_expect_lt(clock_mono_ms() - from, 2000);
    (void)snprintf(url, sizeof url, "%s/hang", loopback_url(server));
    struct http_request request = { .method = "GET", .url = url, .deadline_ms = from + 60000 };
    cr_expect_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
    cr_expect_lt(clock_mono_ms() - from, 3000);
    cancel_on(-1);
    pthread_join(thread, NULL);
    close(fd);
}

Test(http_backoff, stops_at_the_count_and_at_the_deadline) {
    struct backoff few = { .base_ms = 1, .cap_ms = 4, .deadline_ms = clock_mono_ms() + 5000, .attempts = 3 };
    cr_assert(backoff_wait(&few, 0));
    cr_assert(backoff_wait(&few, 0));
    cr_assert_not(backoff_wait(&few, 0));
    struct backoff late = { .base_ms = 1, .cap_ms = 4, .deadline_ms = clock_mono_ms() + 100, .attempts = 9 };
    int64_t from = clock_mono_ms();
    cr_assert_not(backoff_wait(&late, 200));
    cr_assert_lt(clock_mono_ms() - from, 50, "it does not sleep in vain");
}

/* A kept connection that dies under a request makes curl send it again by itself. */
Test(http_client, what_is_to_be_sent_once_is_sent_once) {
    for (int i = 0; i < 2; i++) {
        struct http_request kept = request_of("GET", "/echo");
        cr_assert_eq(http_send(client, &kept, &response, &why), ST_OK);
        atomic_store(&died, 0);
        struct http_request request = request_of("POST", "/die");
        request.is_once = i == 1;
        cr_assert_eq(http_send(client, &request, &response, &why), ST_UNAVAILABLE);
        cr_assert_eq(atomic_load(&died), i == 1 ? 1 : 2, "once: %d", i);
    }
}
