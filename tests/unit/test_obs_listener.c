#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "obs/listener.h"

struct fake { _Atomic bool is_ready; struct metrics *metrics; };

static void collect(void *ctx) {
    struct fake *f = ctx;
    gauge_set(metrics_gauge(f->metrics, "depth", "Depth.", ""), 7);
}

static void ready(void *ctx, struct health_report *report) {
    struct fake *f = ctx;
    health_report_add(report, "database", ST_OK, "");
    health_report_add(report, "peer \"query\"", f->is_ready ? ST_OK : ST_UNAVAILABLE, "no replica");
}

static struct fake fake;
static struct listener *listener;

static void start(const char *address) {
    struct why why = { 0 };
    fake.metrics = metrics_new();
    fake.is_ready = true;
    struct listener_source source = { &fake, fake.metrics, collect, ready };
    cr_assert_eq(listener_start(address, &source, &listener, &why), ST_OK, "%s", why.text);
}

static void start_v4(void) { start("127.0.0.1:0"); }

static void stop(void) {
    listener_stop(&listener);
    metrics_destroy(&fake.metrics);
}

TestSuite(listener, .init = start_v4, .fini = stop, .timeout = 20);

static void ask(const char *request, char *out, size_t size) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)listener_port(listener)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    size_t len = 0;
    for (ssize_t n; len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    out[len] = '\0';
    close(fd);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

Test(listener, metrics_are_collected_and_printed) {
    char answer[4096];
    ask(GET("/metrics"), answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 200"), "%s", answer);
    cr_expect(strstr(answer, "\ndepth 7\n"), "%s", answer);
}

Test(listener, ready_names_every_check) {
    char answer[4096];
    ask(GET("/health/ready"), answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 200"), "%s", answer);
    cr_expect(strstr(answer, "{\"status\":\"ready\",\"checks\":{\"database\":\"ok\",\"peer \\\"query\\\"\":\"ok\"}}"), "%s", answer);
    fake.is_ready = false;
    ask(GET("/health/ready"), answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 503"), "%s", answer);
    cr_expect(strstr(answer, "\"peer \\\"query\\\"\":\"no replica\""), "%s", answer);
}

Test(listener, live_says_so_and_other_paths_do_not_exist) {
    char answer[4096];
    ask(GET("/health/live"), answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 200"), "%s", answer);
    ask(GET("/health"), answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 404"), "%s", answer);
    ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 405"), "%s", answer);
}

Test(listener_address, both_families_are_served, .fini = stop, .timeout = 20) {
    start("[::]:0");
    char answer[4096];
    ask(GET("/health/live"), answer, sizeof answer);
    cr_expect(strstr(answer, "HTTP/1.1 200"), "%s", answer);
}

Test(listener_address, bad_addresses_are_refused) {
    static const char *const BAD[] = { "", "9100", ":9100", "localhost:9100", "127.0.0.1:", "[::1]", "127.0.0.1:http" };
    struct listener_source source = { NULL, NULL, NULL, ready };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct why why = { 0 };
        struct listener *l = NULL;
        cr_expect_eq(listener_start(BAD[i], &source, &l, &why), ST_INVALID, "%s", BAD[i]);
    }
}
