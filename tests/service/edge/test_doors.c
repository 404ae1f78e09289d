/* Who is let in when many come, and what happens to those inside when the doors close. */
#include "edge_fixture.h"

static struct edge_node edge;
static struct buffer answer;

static void setup(void) { edge_start_node(&edge); }
static void teardown(void) {
    edge_stop_node(&edge);
    buffer_end(&answer);
}

TestSuite(edge_doors, .init = setup, .fini = teardown, .timeout = 60);

Test(edge_doors, each_kind_has_its_share_and_leaves_the_others_theirs) {
    struct doors doors = { 0 };
    doors_init(&doors, edge.rt.metrics, 1, 160);
    for (unsigned i = 0; i < 40; i++)
        cr_assert(doors_enter(&doors, RATE_UPLOAD));
    cr_expect_not(doors_enter(&doors, RATE_UPLOAD));
    cr_expect_eq(metric(&edge.bus, "cordon_http_shed_total{class=\"upload\"} "), 1);
    cr_expect(doors_enter(&doors, RATE_MODEL));
    cr_expect(doors_enter(&doors, RATE_NONE));
    doors_leave(&doors, RATE_UPLOAD);
    cr_expect(doors_enter(&doors, RATE_UPLOAD));
    doors_end(&doors);
}

static int send_half(const char *line, const char *headers, const char *body) {
    struct buffer request = { 0 };
    int fd = http_connect(&edge);
    (void)buffer_printf(&request, "%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nContent-Length: %zu\r\n%s\r\n",
                        line, 2 * strlen(body), headers);
    (void)buffer_add_str(&request, body);
    http_send(fd, request.data, request.len);
    buffer_end(&request);
    return fd;
}

Test(edge_doors, a_full_class_is_told_when_to_come_again) {
    int uploads[4];
    for (unsigned i = 0; i < 4; i++)
        uploads[i] = send_half("POST /api/v1/documents", "Content-Type: text/plain\r\n", "half");
    WAIT_FOR(metric(&edge.bus, "cordon_http_class_in_flight{class=\"upload\"} ") == 4);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/documents", "Content-Type: text/plain\r\n", "text"), 503);
    cr_expect(strstr(answer.data, "\r\nRetry-After: 1\r\n"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents", "", ""), 200);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/live", "", ""), 200);
    for (unsigned i = 0; i < 4; i++)
        http_send(uploads[i], "half", 4);
    for (unsigned i = 0; i < 4; i++)
        cr_expect_eq(http_receive(uploads[i], &answer), 202, "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/documents", "Content-Type: text/plain\r\n", "text"), 202);
}

static void *drip(void *arg) {
    int fd = *(int *)arg;
    while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)     /* until we are cut */
        usleep(100 * 1000);
    return NULL;
}

/* All threads are taken by heads that come byte by byte: without an end to that the ninth client would wait for ever. */
Test(edge_doors, heads_that_trickle_are_cut_when_they_take_the_threads) {
    int fds[8];
    pthread_t threads[8];
    cr_assert_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/live", "", ""), 200);
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = http_connect(&edge);
        http_send(fds[i], "GET /", 5);
        cr_assert_eq(pthread_create(&threads[i], NULL, drip, &fds[i]), 0);
    }
    WAIT_FOR(metric(&edge.bus, "cordon_http_connections ") == 8);
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/live", "", ""), 200);
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
    for (unsigned i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        close(fds[i]);
    }
}

static void *drain(void *arg) {
    (void)arg;
    EDGE.drain(edge.self, clock_mono_ms() + PATIENCE_MS);
    return NULL;
}

static int try_connect(void) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)edge.settings.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), result = connect(fd, (struct sockaddr *)&at, sizeof at);
    close(fd);
    return result;
}

Test(edge_doors, a_drain_refuses_new_connections_and_finishes_what_is_inside) {
    pthread_t thread;
    int upload = send_half("POST /api/v1/documents", "Content-Type: text/plain\r\n", "half");
    WAIT_FOR(metric(&edge.bus, "cordon_http_class_in_flight{class=\"upload\"} ") == 1);
    cr_assert_eq(pthread_create(&thread, NULL, drain, NULL), 0);
    WAIT_FOR(try_connect() != 0);
    http_send(upload, "half", 4);
    cr_expect_eq(http_receive(upload, &answer), 202, "%s", answer.data);
    int64_t began_ms = clock_mono_ms();
    pthread_join(thread, NULL);
    cr_expect_lt(clock_mono_ms() - began_ms, PATIENCE_MS / 2, "nothing is inside any more");
    began_ms = clock_mono_ms();
    EDGE.close(&edge.self);
    cr_expect_lt(clock_mono_ms() - began_ms, 5000, "the listener took its time to end");
    cr_assert_eq(EDGE.open(&edge.self, &edge.settings, &edge.rt, &(struct why){ 0 }), ST_OK);
}
