/* Answers as streams of events. */
#include "edge_fixture.h"

#define EVENTS "Content-Type: application/json\r\nAccept: text/event-stream\r\n"

static struct edge_node edge;
static struct buffer answer;

static void setup(void) { edge_start_node(&edge); }
static void teardown(void) {
    edge_stop_node(&edge);
    buffer_end(&answer);
}

TestSuite(edge_events, .init = setup, .fini = teardown, .timeout = 60);

static int ask(const char *headers, const char *body) {
    return http_ask(&edge, &answer, "clinician", "POST /api/v1/query", headers, body);
}

Test(edge_events, each_event_is_a_block_with_its_number_and_whoever_is_between_keeps_nothing_back) {
    cr_assert_eq(ask(EVENTS, "{\"question\":\"q\"}"), 200, "%s", answer.data);
    cr_expect(strstr(answer.data, "\r\nContent-Type: text/event-stream\r\n") && strstr(answer.data, "\r\nTransfer-Encoding: chunked\r\n"));
    cr_expect(strstr(answer.data, "no-transform\r\n") && strstr(answer.data, "\r\nX-Accel-Buffering: no\r\n"));
    cr_expect(strstr(answer.data, "\r\nid: 1\nevent: token\ndata: {\"text\":\"two\\n\\nlines, data: \\\"x\\\" [1]\"}\n\n\r\n"), "%s", answer.data);
    cr_expect(strstr(answer.data, "\r\n: heartbeat\n\n\r\n"), "%s", answer.data);
    cr_expect(strstr(answer.data, "\r\nid: 2\nevent: token\ndata: {\"text\":\"end\"}\n\n\r\n0\r\n\r\n"), "%s", answer.data);
}

Test(edge_events, what_a_client_names_first_it_gets) {
    cr_assert_eq(ask("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n", "{\"question\":\"q\"}"), 200);
    cr_expect(strstr(answer.data, "\"answer\":\"whole\""), "%s", answer.data);
    cr_assert_eq(ask("Content-Type: application/json\r\nAccept: text/event-stream, application/json;q=0.5\r\n", "{\"question\":\"q\"}"), 200);
    cr_expect(strstr(answer.data, "id: 1\n"));
}

Test(edge_events, a_failure_before_the_first_event_is_a_problem_with_its_status) {
    cr_expect_eq(ask(EVENTS, "{\"question\":\"refused\"}"), 503);
    cr_expect(strstr(answer.data, "application/problem+json") && strstr(answer.data, "\"code\":\"AUDIT_001\""), "%s", answer.data);
    cr_expect_eq(ask(EVENTS, "{\"question\":\"\"}"), 400);
}

Test(edge_events, a_failure_behind_it_is_an_event_that_names_the_request) {
    char id[64] = "";
    cr_assert_eq(ask(EVENTS, "{\"question\":\"broken\"}"), 200);
    const char *error = strstr(answer.data, "event: error\ndata: {"), *head = strstr(answer.data, "X-Request-ID: ");
    cr_assert(error && head && sscanf(head, "X-Request-ID: %63s", id) == 1, "%s", answer.data);
    cr_expect(strstr(error, "\"code\":\"MODEL_003\"") && strstr(error, id), "%s", error);
    cr_expect(strstr(error, "\n\n\r\n0\r\n\r\n"), "the stream is closed properly: %s", error);
}

Test(edge_events, when_the_client_goes_the_call_is_given_up_though_nothing_is_written) {
    static const char REQUEST[] = "POST /api/v1/query HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\n" EVENTS
                                  "Content-Length: 21\r\n\r\n{\"question\":\"silent\"}";
    char piece[4096];
    int fd = http_connect(&edge);
    http_send(fd, REQUEST, sizeof REQUEST - 1);
    cr_assert_gt(recv(fd, piece, sizeof piece, 0), 0);
    close(fd);
    WAIT_FOR(atomic_load(&seen.left) == 1);
}

Test(edge_events, a_stream_is_taken_up_behind_the_last_event) {
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/query/" ID_TEXT "01", "Accept: text/event-stream\r\nLast-Event-ID: 41\r\n", ""), 200,
                 "%s", answer.data);
    cr_expect(strstr(answer.data, "id: 42\n"), "%s", answer.data);
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/query/" ID_TEXT "01?after=6", "Accept: text/event-stream\r\n", ""), 200);
    cr_expect(strstr(answer.data, "id: 7\n"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/query/" ID_TEXT "01", "Accept: text/event-stream\r\nLast-Event-ID: x\r\n", ""), 400);
}
