/* What is under way ends with its session. */
#include "edge_fixture.h"

#include "core/str.h"

TestSuite(edge_watch, .timeout = 60);

Test(edge_watch, an_upload_under_way_is_cut_when_its_session_ends) {
    struct edge_node n;
    struct buffer answer = { 0 };
    static const char HEAD[] = "POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 2000000\r\n\r\nso far";
    edge_start_node(&n);
    int fd = http_connect(&n);
    http_send(fd, HEAD, sizeof HEAD - 1);
    WAIT_FOR(atomic_load(&seen.checked) >= 2);          /* it is asked about, and goes on */
    int64_t began_ms = clock_mono_ms();
    atomic_store(&seen.is_over, true);
    cr_expect_neq(http_receive(fd, &answer), 202);      /* returns at the connection's end */
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
    WAIT_FOR(atomic_load(&seen.denied) == 1);
    cr_expect_str_eq(seen.denied_code, "AUTH_009");
    atomic_store(&seen.is_over, false);
    cr_expect_eq(http_ask(&n, &answer, "clinician", "GET /api/v1/documents", "", ""), 200, "others go on");
    buffer_end(&answer);
    edge_stop_node(&n);
}

Test(edge_watch, short_requests_are_over_before_anybody_asks) {
    struct edge_node n;
    struct buffer answer = { 0 };
    edge_start_node(&n);
    for (int i = 0; i < 20; i++)
        cr_expect_eq(http_ask(&n, &answer, "clinician", "GET /api/v1/documents", "", ""), 200);
    cr_expect_leq(atomic_load(&seen.checked), 1);
    buffer_end(&answer);
    edge_stop_node(&n);
}
