#include "edge_fixture.h"

#define JSON "Content-Type: application/json\r\n"

static struct edge_node edge;
static struct buffer answer;

static void setup(void) { edge_start_node(&edge); }
static void teardown(void) {
    edge_stop_node(&edge);
    buffer_end(&answer);
}

TestSuite(edge_http, .init = setup, .fini = teardown, .timeout = 60);

/* Whoever is refused is told so even when the record is slow to come. */
static void wait_for_denial(unsigned number) {
    WAIT_FOR(atomic_load(&seen.denied) == number);
}

Test(edge_http, answers_questions_by_the_table) {
    int64_t began_ms = clock_mono_ms();
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON, "{\"question\":\"gait?\",\"top_k\":3}"), 200, "%s", answer.data);
    cr_expect(strstr(answer.data, "\"text\":\"gait?/3\""), "%s", answer.data);
    cr_expect(strstr(answer.data, "\"event_id\":\"" ID_TEXT "05\""));
    cr_expect(strstr(answer.data, "\r\nCache-Control: no-store\r\n"));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents?limit=5", "", ""), 200);
    cr_expect(strstr(answer.data, "\"created_at\":\"1970-01-01T00:00:00.000001Z\""));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "01", "", ""), 200);
    cr_expect(strstr(answer.data, "\"file_name\":\"a\\\"b\\n.txt\""));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "DELETE /api/v1/documents/" ID_TEXT "01", "", ""), 204);
    cr_expect_null(strstr(answer.data, "Content-Length"));
    cr_assert_eq(http_ask(&edge, &answer, "platform", "POST /api/v1/tenants", JSON, "{\"slug\":\"north-side\",\"name\":\"N\"}"), 201, "%s", answer.data);
    cr_expect(strstr(answer.data, "{\"tenant\":{\"id\":"));
    int64_t seconds = (clock_mono_ms() - began_ms) / 1000;
    cr_expect_geq(atomic_load(&seen.authenticated), 2);
    cr_expect_leq(atomic_load(&seen.authenticated), 2 + seconds, "one token is asked about once a second");
}

Test(edge_http, refuses_whom_it_must_and_puts_it_on_the_record) {
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/documents", "", ""), 401);
    cr_expect(strstr(answer.data, "\r\nWWW-Authenticate: Bearer"));
    cr_expect(strstr(answer.data, "application/problem+json") && strstr(answer.data, "\"code\":\"AUTH_001\""));
    wait_for_denial(1);
    cr_expect_str_eq(seen.denied_code, "AUTH_001");
    cr_expect_str_eq(seen.denied_path, "/api/v1/documents");
    cr_expect_eq(http_ask(&edge, &answer, "auditor", "GET /api/v1/documents/" ID_TEXT "01", "", ""), 403);
    wait_for_denial(2);
    cr_expect_str_eq(seen.denied_code, "AUTH_002");
    cr_expect_str_eq(seen.denied_path, "/api/v1/documents/{document_id}");
    cr_expect_eq(http_ask(&edge, &answer, "bad", "GET /api/v1/documents", "", ""), 401);
    cr_expect(strstr(answer.data, "AUTH_003"));
    cr_expect_eq(http_ask(&edge, &answer, "a b", "GET /api/v1/documents", "", ""), 401);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/documents", "Authorization: Basic YTpi\r\n", ""), 401);
    wait_for_denial(4);
}

Test(edge_http, what_a_process_behind_it_refuses_is_on_the_record_too) {
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "0f", "", ""), 403);
    wait_for_denial(1);
    cr_expect_str_eq(seen.denied_code, "AUTH_002");
    cr_expect_str_eq(seen.denied_path, "/api/v1/documents/{document_id}");
}

Test(edge_http, what_auth_refuses_is_recorded_by_auth) {
    cr_expect_eq(http_ask(&edge, &answer, "bad", "GET /api/v1/documents", "", ""), 401);
    cr_expect_eq(atomic_load(&seen.denied), 0);
}

Test(edge_http, every_route_with_a_token_refuses_without_one) {
    for (const char *const *line = (const char *const[]){ "POST /api/v1/documents", "GET /api/v1/audit/events", "GET /api/v1/jobs/x",
                                                           "POST /api/v1/query", "GET /api/v1/tenants", NULL }; *line; line++)
        cr_expect_eq(http_ask(&edge, &answer, NULL, *line, "", ""), 401, "%s", *line);
}

Test(edge_http, a_scope_that_wants_a_second_factor_says_so) {
    cr_expect_eq(http_ask(&edge, &answer, "one-factor", "GET /api/v1/documents/" ID_TEXT "01", "", ""), 401);
    cr_expect(strstr(answer.data, "\"code\":\"AUTH_007\""), "%s", answer.data);
    cr_expect(strstr(answer.data, "\r\nWWW-Authenticate: Bearer realm=\"cordon\", error=\"insufficient_user_authentication\"\r\n"), "%s", answer.data);
    wait_for_denial(1);
    cr_expect_str_eq(seen.denied_code, "AUTH_007");
    cr_expect_eq(http_ask(&edge, &answer, "one-factor", "GET /api/v1/audit/events", "", ""), 403, "another factor would not help");
    cr_expect(strstr(answer.data, "AUTH_002"), "%s", answer.data);
}

Test(edge_http, bad_requests_name_what_is_wrong) {
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON, "{\"question\":\"a\",\"x\":1}"), 400);
    cr_expect(strstr(answer.data, "\"code\":\"REQ_004\"") && strstr(answer.data, "'x' is not a member"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON, "{"), 400);
    cr_expect(strstr(answer.data, "REQ_003"));
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", "", "{}"), 415);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON, ""), 411);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search?a=b", JSON, "{}"), 400);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON "Content-Length: 70000\r\n", ""), 413);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents", "", "x"), 413);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents?nope=1", "", ""), 400);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/not-a-uuid", "", ""), 400);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/nowhere", "", ""), 404);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "PUT /api/v1/documents", "", ""), 405);
    cr_expect(strstr(answer.data, "\r\nAllow: POST, GET\r\n"));
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON, "{\"question\":\"busy\"}"), 503);
    cr_expect(strstr(answer.data, "\r\nRetry-After: 3\r\n"), "%s", answer.data);
}

/* The answer with the request's id blanked. */
static char *without_ids(const struct buffer *whole) {
    char *copy = strdup(http_body(whole));
    char *id = strstr(copy, "\"request_id\":\"");
    if (id)
        memset(id + 14, '-', 36);
    return copy;
}

Test(edge_http, another_tenants_id_and_an_absent_one_answer_alike) {
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "02", "", ""), 404);
    char *foreign = without_ids(&answer);
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "77", "", ""), 404);
    char *absent = without_ids(&answer);
    cr_expect_str_eq(foreign, absent);
    free(foreign);
    free(absent);
}

Test(edge_http, content_streams_with_a_harmless_name_and_type) {
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "01/content", "", ""), 200);
    cr_expect_eq(answer.len - (size_t)(http_body(&answer) - answer.data), CONTENT_BYTES);
    cr_expect(strstr(answer.data, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    cr_expect(strstr(answer.data, "\r\nContent-Security-Policy: sandbox;"));
    cr_expect(strstr(answer.data, "filename*=UTF-8''r%C3%A9sum%C3%A9%20%22x%22%0D%0AEvil%3A%201.txt\r\n"));
    cr_expect_null(strstr(answer.data, "\nEvil"));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "02/content", "", ""), 200);
    cr_expect(strstr(answer.data, "\r\nContent-Type: application/octet-stream\r\n"));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "09/content", "", ""), 404);
    cr_expect(strstr(answer.data, "application/problem+json"));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "03/content", "", ""), 200);
    cr_expect_lt(answer.len - (size_t)(http_body(&answer) - answer.data), CONTENT_BYTES, "a failure half way must not look whole");
}

#define CONTENT "/api/v1/documents/" ID_TEXT "01/content"
#define CONTENT_TAG "\"" ID_TEXT "01\""

static size_t body_len(void) {
    return answer.len - (size_t)(http_body(&answer) - answer.data);
}

Test(edge_http, content_comes_in_ranges) {
    static const struct { const char *range; int http_status; const char *says; size_t len; } CASES[] = {
        { "Range: bytes=10-19\r\n", 206, "\r\nContent-Range: bytes 10-19/700000\r\n", 10 },
        { "Range: bytes=699990-\r\n", 206, "\r\nContent-Range: bytes 699990-699999/700000\r\n", 10 },
        { "Range: bytes=-5\r\n", 206, "\r\nContent-Range: bytes 699995-699999/700000\r\n", 5 },
        { "Range: bytes=10-19\r\nIf-Range: " CONTENT_TAG "\r\n", 206, "\r\nContent-Length: 10\r\n", 10 },
        { "Range: bytes=10-19\r\nIf-Range: \"other\"\r\n", 200, "\r\nContent-Length: 700000\r\n", CONTENT_BYTES },
        { "Range: bytes=10-19\r\nIf-Range: W/" CONTENT_TAG "\r\n", 200, "\r\nContent-Length: 700000\r\n", CONTENT_BYTES },
        { "Range: bytes=0-1,5-6\r\n", 200, "\r\nAccept-Ranges: bytes\r\n", CONTENT_BYTES },
        { "Range: lines=1-2\r\n", 200, "\r\nETag: " CONTENT_TAG "\r\n", CONTENT_BYTES },
        { "Range: bytes=9-2\r\n", 200, "", CONTENT_BYTES },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET " CONTENT, CASES[i].range, ""), CASES[i].http_status, "%s", CASES[i].range);
        cr_expect(strstr(answer.data, CASES[i].says), "%s: %s", CASES[i].range, answer.data);
        cr_expect_eq(body_len(), CASES[i].len, "%s", CASES[i].range);
    }
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET " CONTENT, "Range: bytes=700000-\r\n", ""), 416);
    cr_expect(strstr(answer.data, "\r\nContent-Range: bytes */700000\r\n") && strstr(answer.data, "REQ_014"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET " CONTENT, "Range: bytes=0-1\r\nRange: bytes=2-3\r\n", ""), 400);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET " CONTENT "?wanted=1", "", ""), 400, "what the edge reads itself is no parameter");
}

Test(edge_http, content_heeds_conditions) {
    static const struct { const char *condition; int http_status; } CASES[] = {
        { "If-None-Match: " CONTENT_TAG "\r\n", 304 }, { "If-None-Match: W/" CONTENT_TAG "\r\n", 304 }, { "If-None-Match: *\r\n", 304 },
        { "If-None-Match: \"a\", " CONTENT_TAG "\r\nRange: bytes=0-1\r\n", 304 }, { "If-None-Match: \"a\"\r\n", 200 },
        { "If-Match: " CONTENT_TAG "\r\n", 200 }, { "If-Match: *\r\n", 200 }, { "If-Match: \"a\"\r\n", 412 },
        { "If-Match: W/" CONTENT_TAG "\r\n", 412 },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET " CONTENT, CASES[i].condition, ""), CASES[i].http_status, "%s", CASES[i].condition);
        cr_expect(CASES[i].http_status == 412 || strstr(answer.data, "\r\nETag: " CONTENT_TAG "\r\n"), "%s", CASES[i].condition);
        cr_expect(CASES[i].http_status != 304 || (body_len() == 0 && !strstr(answer.data, "Content-Disposition")), "%s", answer.data);
    }
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "09/content", "If-None-Match: *\r\n", ""), 404);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "GET /api/v1/documents/" ID_TEXT "09/content", "If-Match: \"a\"\r\n", ""), 404);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET " CONTENT, "If-None-Match: " CONTENT_TAG "\r\n", ""), 401);
}

Test(edge_http, head_is_get_without_its_body) {
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "HEAD " CONTENT, "Range: bytes=0-9\r\n", ""), 200);
    cr_expect(strstr(answer.data, "\r\nContent-Length: 700000\r\n") && strstr(answer.data, "\r\nContent-Disposition: ") &&
              strstr(answer.data, "\r\nETag: " CONTENT_TAG "\r\n"), "%s", answer.data);
    cr_expect_eq(body_len(), 0);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "HEAD " CONTENT, "If-None-Match: " CONTENT_TAG "\r\n", ""), 304);
    static const struct { const char *line; int http_status; } REFUSED[] = {
        { "HEAD /api/v1/documents/" ID_TEXT "09/content", 404 }, { "HEAD /api/v1/documents", 405 }, { "HEAD /nowhere", 404 } };
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        cr_expect_eq(http_ask(&edge, &answer, "clinician", REFUSED[i].line, "", ""), REFUSED[i].http_status, "%s", REFUSED[i].line);
        cr_expect_eq(body_len(), 0, "%s: %s", REFUSED[i].line, answer.data);
    }
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST " CONTENT, "Content-Length: 0\r\n", ""), 405);
    cr_expect(strstr(answer.data, "\r\nAllow: GET, HEAD\r\n"), "%s", answer.data);
}

Test(edge_http, health_documents_and_unknown_paths_need_no_token) {
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/live", "", ""), 200);
    cr_expect_str_eq(http_body(&answer), "{\"status\":\"live\"}");
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/ready", "", ""), 200);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /openapi.json", "", ""), 200);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /docs", "", ""), 200);
    cr_expect(strstr(answer.data, "script-src 'sha256-"));
    node_stop(&edge.query);
    edge.query.bus = NULL;
    WAIT_FOR(!bus_peer_is_up(edge.bus.bus, PEER_QUERY));
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/ready", "", ""), 503);
    cr_expect(strstr(answer.data, "{\"name\":\"query\",\"is_up\":false}"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health", "", ""), 200);
    cr_expect_eq(http_ask(&edge, &answer, NULL, "GET /nowhere", "", ""), 404);
}

Test(edge_http, only_listed_origins_may_read_answers) {
    cr_assert_eq(http_ask(&edge, &answer, NULL, "OPTIONS /api/v1/search", "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n", ""), 204);
    cr_expect(strstr(answer.data, "\r\nAccess-Control-Allow-Origin: https://app.example\r\n"));
    cr_expect(strstr(answer.data, "\r\nAccess-Control-Allow-Methods: POST\r\n"));
    cr_assert_eq(http_ask(&edge, &answer, NULL, "OPTIONS /api/v1/search", "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n", ""), 405);
    cr_expect_null(strstr(answer.data, "Access-Control"));
    cr_assert_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/health/live", "Origin: https://app.example\r\n", ""), 200);
    cr_expect(strstr(answer.data, "\r\nAccess-Control-Allow-Origin: https://app.example\r\n"));
}

#define TRACE_ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define TRACEPARENT "traceparent: 00-" TRACE_ID "-00f067aa0ba902b7-01\r\n"

Test(edge_http, a_client_s_trace_goes_on_and_of_two_none_does) {
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON TRACEPARENT, "{\"question\":\"gait?\"}"), 200);
    cr_expect_eq(strncmp(seen.traceparent, "00-" TRACE_ID "-", 36), 0, "%s", seen.traceparent);
    cr_expect_null(strstr(seen.traceparent, "00f067aa0ba902b7"), "the parent is now our call");
    cr_expect(str_ends_with(seen.traceparent, "-01"));
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON TRACEPARENT TRACEPARENT, "{\"question\":\"gait?\"}"), 200);
    cr_expect_eq(strlen(seen.traceparent), 55);
    cr_expect_null(strstr(seen.traceparent, TRACE_ID));
}

Test(edge_http, good_answers_say_where_their_time_went_and_refusals_do_not) {
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON "Origin: https://app.example\r\n", "{\"question\":\"gait?\"}"), 200);
    cr_expect(strstr(answer.data, "\r\nServer-Timing: total;dur="), "%s", answer.data);
    cr_expect(strstr(answer.data, ", query;dur="), "%s", answer.data);
    cr_expect(strstr(answer.data, "\r\nTiming-Allow-Origin: https://app.example\r\n"), "%s", answer.data);
    cr_assert_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", JSON, "{\"question\":\"busy\"}"), 503);
    cr_expect_null(strstr(answer.data, "Server-Timing"));
    cr_assert_eq(http_ask(&edge, &answer, NULL, "GET /api/v1/documents", "", ""), 401);
    cr_expect_null(strstr(answer.data, "Server-Timing"));
}

/* Shapes that some reader between a client and us could take otherwise: one refusal each, and no answer
 * to what could be smuggled behind it. */
struct shape { const char *bytes; size_t len; int status; };
#define SHAPE(text, status) { text, sizeof text - 1, status }
#define GET "GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\n"
#define POST "POST /api/v1/search HTTP/1.1\r\nHost: a\r\n" JSON

Test(edge_http, hostile_shapes_are_refused_or_harmless) {
    static const struct shape SHAPES[] = {
        SHAPE(GET "\r\n" GET "\r\n", 200),                                                      /* pipelined: one answer */
        SHAPE(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET "\r\n", 400),
        SHAPE(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        SHAPE(POST "Content-Length: 5abc\r\n\r\nabcde", 400),
        SHAPE(POST "Content-Length: 0x3\r\n\r\nabc", 400),
        SHAPE(POST "Content-Length: -1\r\n\r\n", 411),
        SHAPE(POST "Content-Length: 99999999999999999999\r\n\r\n", 400),
        SHAPE(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        SHAPE(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        SHAPE(POST "Transfer-Encoding:\x0b" "chunked\r\n\r\n0\r\n\r\n", 400),
        SHAPE(POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        SHAPE("POST /api/v1/search HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\n\r\n", 400),
        SHAPE(GET "Host: b\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tfolded\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\n folded\r\nContent-Length: 5\r\n\r\nhello", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\nHost: a\n\n", 400),                            /* bare LF */
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX: b\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", 200),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX:  b  \r\nY:c\r\n\r\n", 200),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\n\x80: b\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHo st: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\n: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/li\0ve HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/%68ealth/live HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        SHAPE("GET /api/v1/x/../health/live HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        SHAPE("GET //api/v1/health/live HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        SHAPE("GET /api/v1/health/live;x HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        SHAPE("GET http://evil/api/v1/health/live HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/0.9\r\nHost: a\r\n\r\n", 400),
        SHAPE("GET /api/v1/health/live HTTP/1.1x\r\nHost: a\r\n\r\n", 400),
        SHAPE("GET  /api/v1/health/live HTTP/1.1\r\nHost: a\r\n\r\n", 200),                            /* one meaning, one answer */
        SHAPE("GET /api/v1/health/live\r\nHost: a\r\n\r\n", 400),
        SHAPE("G\x01T /api/v1/health/live HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("TRACE /api/v1/health/live HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        SHAPE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        SHAPE(GET "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", 200),
        SHAPE(GET "Expect: nothing\r\n\r\n", 400),
        SHAPE("POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nAuthorization: Bearer clinician\r\nContent-Length: 1\r\n\r\nx", 400),
        SHAPE("POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        SHAPE("POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nTransfer-Encoding: chunked\r\n\r\n3;ext\r\nabc\r\n0\r\n\r\n", 400),
        SHAPE("POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX", 400),
        SHAPE("POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 400),
        SHAPE("POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\n", 400),
    };
    for (unsigned i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        int fd = http_connect(&edge);
        http_send(fd, SHAPES[i].bytes, SHAPES[i].len);
        shutdown(fd, SHUT_WR);
        int status = http_receive(fd, &answer);
        bool is_silent = status == 0 && SHAPES[i].status >= 400;        /* hanging up is a refusal too */
        cr_expect(status == SHAPES[i].status || is_silent, "shape %u: %d instead of %d: %.60s", i, status, SHAPES[i].status, SHAPES[i].bytes);
        if (status)
            cr_expect_null(strstr(answer.data + 8, "HTTP/1.1 "), "shape %u was answered twice", i);
        if (status >= 400)
            cr_expect(strstr(answer.data, "application/problem+json"), "shape %u: %s", i, answer.data);
    }
    cr_expect_eq(atomic_load(&seen.uploads), 0);
}

Test(edge_http, too_many_or_too_large_headers_are_refused) {
    CLEANUP(buffer_end) struct buffer request = { .limit_bytes = 0 };
    (void)buffer_add_str(&request, GET);
    for (int i = 0; i < 70; i++)
        (void)buffer_add_str(&request, "X: y\r\n");
    (void)buffer_add_str(&request, "\r\n");
    cr_expect_eq(http_raw(&edge, request.data, request.len, &answer), 431);
    buffer_clear(&request);
    (void)buffer_add_str(&request, GET "X: ");
    for (int i = 0; i < 50000; i++)
        (void)buffer_add_str(&request, "y");
    (void)buffer_add_str(&request, "\r\n\r\n");
    int status = http_raw(&edge, request.data, request.len, &answer);
    cr_expect(status == 431 || status == 400 || status == 0, "%d", status);
}
