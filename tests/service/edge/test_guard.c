#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"

/* A parsed head from lines: "GET /path?query 1.1", then "Name: value" each. */
static enum status check(char *text, struct framing *framing, struct why *why) {
    struct mg_request_info in = { .content_length = -1 };
    char *save = NULL, *line = strtok_r(text, "\n", &save), *inner = NULL;
    in.request_method = strtok_r(line, " ", &inner);
    char *path = strtok_r(NULL, " ", &inner);
    in.http_version = strtok_r(NULL, " ", &inner);
    char *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    in.query_string = query;
    in.request_uri = in.local_uri_raw = in.local_uri = path;
    while ((line = strtok_r(NULL, "\n", &save)) && in.num_headers < MG_MAX_HEADERS) {
        char *colon = strchr(line + 1, ':');
        *colon = '\0';
        in.http_headers[in.num_headers].name = line;
        in.http_headers[in.num_headers++].value = colon + 1 + strspn(colon + 1, " ");
    }
    return guard_check(&in, framing, why);
}

struct head_case { char text[256]; int http; };

ParameterizedTestParameters(edge_guard, heads) {
    static struct head_case cases[] = {
        { "GET / 1.1\nHost: a", 200 },
        { "GET / 1.0", 200 },
        { "POST /a?b=c 1.1\nHost: a:8080\nContent-Length: 5", 200 },
        { "POST / 1.1\nHost: [::1]:80\nTransfer-Encoding: chunked\nExpect: 100-continue", 200 },
        { "GET / 1.1", 400 },
        { "GET / 1.1\nHost: a\nHost: a", 400 },
        { "GET / 1.1\nHost: a b", 400 },
        { "GET / 1.1\nHost: a/b", 400 },
        { "GET / 1.1\nHost:", 400 },
        { "GET / 1.1\nHost: a@b", 400 },
        { "GET / 2.0\nHost: a", 400 },
        { "G(T / 1.1\nHost: a", 400 },
        { "GETGETGETGETGETGET / 1.1\nHost: a", 400 },
        { "GET http://a/ 1.1\nHost: a", 400 },
        { "GET /a\\b 1.1\nHost: a", 400 },
        { "GET /a#b 1.1\nHost: a", 400 },
        { "GET /a%2fb?c=%41 1.1\nHost: a", 200 },
        { "GET /a%2 1.1\nHost: a", 400 },
        { "GET /a%zz 1.1\nHost: a", 400 },
        { "GET /a%00 1.1\nHost: a", 400 },
        { "GET /a?b=%0 1.1\nHost: a", 400 },
        { "GET /a?b=%00 1.1\nHost: a", 400 },
        { "GET /\x7f 1.1\nHost: a", 400 },
        { "GET /\xc3\xa9 1.1\nHost: a", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: 1\nContent-Length: 1", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked", 400 },
        { "POST / 1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked", 400 },
        { "POST / 1.1\nHost: a\nTransfer-Encoding: gzip, chunked", 400 },
        { "POST / 1.1\nHost: a\nTransfer-Encoding: identity", 400 },
        { "POST / 1.1\nHost: a\nTransfer-Encoding: xchunked", 400 },
        { "POST / 1.0\nTransfer-Encoding: chunked", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: 5abc", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: 0x3", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: +3", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: -3", 400 },
        { "POST / 1.1\nHost: a\nContent-Length:", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: 1,1", 400 },
        { "POST / 1.1\nHost: a\nContent-Length: 1234567890123456", 400 },
        { "POST / 1.1\nHost: a\nContent-Encoding: gzip\nContent-Length: 1", 415 },
        { "POST / 1.1\nHost: a\nExpect: 200-ok", 400 },
        { "GET / 1.1\nHost: a\nX Y: 1", 400 },
        { "GET / 1.1\nHost: a\n folded: 1", 400 },
        { "GET / 1.1\nHost: a\nContent-Length : 1", 400 },
        { "GET / 1.1\nHost: a\nX: a\x01" "b", 400 },
        { "GET / 1.1\nHost: a\nX: a\rb", 400 },
        { "GET / 1.1\nHost: a\nAuthorization: Bearer a\nAuthorization: Bearer b", 400 },
        { "GET / 1.1\nHost: a\nauthorization: Bearer a\nAUTHORIZATION: Bearer a", 400 },
        { "POST / 1.1\nHost: a\nContent-Type: a/b\nContent-Type: a/b", 400 },
    };
    return cr_make_param_array(struct head_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct head_case *c, edge_guard, heads) {
    struct framing framing = { 0 };
    struct why why = { 0 };
    char text[256], shown[256];
    (void)snprintf(text, sizeof text, "%s", c->text);
    (void)snprintf(shown, sizeof shown, "%s", c->text);
    enum status st = check(text, &framing, &why);
    cr_expect_eq(st == ST_OK ? 200 : error_http(why.code), c->http, "%s", shown);
}

Test(edge_guard, a_full_header_table_is_refused) {
    char text[2048] = "GET / 1.1\nHost: a";
    struct framing framing;
    struct why why = { 0 };
    for (int i = 0; i < 62; i++)
        strncat(text, "\nX: y", sizeof text - strlen(text) - 1);
    char again[2048];
    (void)snprintf(again, sizeof again, "%s", text);
    cr_expect_eq(check(again, &framing, &why), ST_OK);
    strncat(text, "\nX: y", sizeof text - strlen(text) - 1);
    cr_expect_eq(check(text, &framing, &why), ST_INVALID);
    cr_expect_eq(error_http(why.code), 431);
}

Test(edge_guard, tells_how_the_body_comes) {
    struct framing framing;
    struct why why = { 0 };
    char with_length[] = "POST / 1.1\nHost: a\ncontent-length: 7\nExpect: 100-Continue\nAuthorization: Bearer x";
    cr_assert_eq(check(with_length, &framing, &why), ST_OK);
    cr_expect_eq(framing.length_bytes, 7);
    cr_expect(framing.wants_continue && !framing.is_chunked && guard_has_body(&framing));
    cr_expect_str_eq(framing.authorization, "Bearer x");
    char chunked[] = "POST / 1.1\nHost: a\nTransfer-Encoding: Chunked";
    cr_assert_eq(check(chunked, &framing, &why), ST_OK);
    cr_expect(framing.is_chunked && framing.length_bytes == -1 && guard_has_body(&framing));
    char none[] = "GET / 1.1\nHost: a\nContent-Length: 0";
    cr_assert_eq(check(none, &framing, &why), ST_OK);
    cr_expect_not(guard_has_body(&framing));
}

Test(edge_guard, lines_longer_than_ours_need_to_be_are_refused) {
    static const struct { const char *name; size_t len; int http; } CASES[] = {
        { "X", GUARD_VALUE_MAX_BYTES, 200 }, { "X", GUARD_VALUE_MAX_BYTES + 1, 431 },
        { "authorization", GUARD_CREDENTIAL_MAX_BYTES, 200 }, { "Cookie", GUARD_CREDENTIAL_MAX_BYTES + 1, 431 },
    };
    for (unsigned i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *value = malloc(CASES[i].len + 1);
        memset(value, 'y', CASES[i].len);
        value[CASES[i].len] = '\0';
        struct mg_request_info in = { .request_method = "GET", .request_uri = "/", .local_uri_raw = "/", .local_uri = "/", .http_version = "1.1",
                                      .num_headers = 2, .http_headers = { { "Host", "a" }, { CASES[i].name, value } } };
        struct framing framing;
        struct why why = { 0 };
        enum status st = guard_check(&in, &framing, &why);
        cr_expect_eq(st == ST_OK ? 200 : error_http(why.code), CASES[i].http, "%s of %zu", CASES[i].name, CASES[i].len);
        free(value);
    }
}

Test(edge_guard, hosts_are_compared_whole_and_without_their_port) {
    cr_expect(guard_allows_host("", NULL));
    cr_expect(guard_allows_host(" ,", "anything"));
    cr_expect(guard_allows_host("api.example, [::1]", "API.example:443"));
    cr_expect(guard_allows_host("api.example, [::1]", "[::1]:80"));
    cr_expect(guard_allows_host("api.example,[::1]", "[::1]"));
    cr_expect_not(guard_allows_host("api.example", "api.example.evil"));
    cr_expect_not(guard_allows_host("api.example", "api.exampl"));
    cr_expect_not(guard_allows_host("api.example", ":80"));
    cr_expect_not(guard_allows_host("api.example", NULL));
}
