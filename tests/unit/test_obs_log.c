#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "obs/json_text.h"
#include "obs/log.h"
#include "obs/trace.h"

struct text_case { char in[16], want[48]; size_t size; };

Test(json_text, escapes_and_cuts) {
    static const struct text_case CASES[] = {
        { "plain", "\"plain\"", 48 },
        { "a\"b\\c", "\"a\\\"b\\\\c\"", 48 },
        { "a\nb\x01", "\"a\\u000ab\\u0001\"", 48 },
        { "\xc3\xa9", "\"\xc3\xa9\"", 48 },
        { "\xc3", "\"\\ufffd\"", 48 },
        { "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"", 48 },
        { "\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"", 48 },
        { "\xc0\xaf", "\"\\ufffd\\ufffd\"", 48 },
        { "abcdef", "\"abc\"", 6 },
        { "a\xc3\xa9", "\"a\"", 5 },
        { "", "\"\"", 3 },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char out[48];
        size_t len = json_text_put(out, CASES[i].size, CASES[i].in);
        cr_expect_str_eq(out, CASES[i].want, "case %zu: %s", i, out);
        cr_expect_eq(len, strlen(CASES[i].want));
    }
}

/* What log_event wrote to standard error. */
static void capture(char *out, size_t size, const char *text) {
    int ends[2], kept = dup(STDERR_FILENO);
    cr_assert_eq(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    log_event(LOG_WARN, "sampled", LOG_TEXT("why", text), LOG_NUMBER("count", -3));
    log_event(LOG_DEBUG, "hidden", LOG_NUMBER("n", 1));
    dup2(kept, STDERR_FILENO);
    close(ends[1]);
    ssize_t len = read(ends[0], out, size - 1);
    cr_assert_gt(len, 0);
    out[len] = '\0';
    close(ends[0]);
}

Test(log, one_json_object_per_line_and_quiet_levels_stay_quiet) {
    char line[8192];
    log_open("sample", LOG_INFO);
    capture(line, sizeof line, "a \"quoted\"\nreason");
    cr_expect(strstr(line, "\"level\":\"warn\",\"service\":\"sample\",\"event\":\"sampled\",\"why\":\"a \\\"quoted\\\"\\u000areason\",\"count\":-3}\n"), "%s", line);
    cr_expect_eq(strchr(line, '\n'), line + strlen(line) - 1);
    cr_expect_null(strstr(line, "hidden"));
}

Test(log, long_text_is_cut_and_the_line_stays_whole) {
    char line[8192], text[6000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    capture(line, sizeof line, text);
    size_t len = strlen(line);
    cr_expect_leq(len, 4096);
    cr_expect_str_eq(line + len - 3, "\"}\n");
}

Test(log, levels_are_read_from_text) {
    enum log_level level = LOG_ERROR;
    cr_expect(log_level_from_text("debug", &level));
    cr_expect_eq(level, LOG_DEBUG);
    cr_expect_not(log_level_from_text("loud", &level));
    cr_expect_eq(level, LOG_DEBUG);
}

Test(log, a_line_says_whose_work_it_was) {
    char line[8192];
    struct trace_scope scope;
    struct uuid request_id, tenant_id;
    cr_assert(uuid_parse("01890000-0000-7000-8000-000000000001", 36, &request_id));
    cr_assert(uuid_parse("01890000-0000-7000-8000-000000000002", 36, &tenant_id));
    log_open("sample", LOG_INFO);
    trace_begin(&scope, SPAN_SERVER, "x", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    trace_request(&request_id);
    trace_tenant(&tenant_id);
    capture(line, sizeof line, "why");
    trace_end(&scope, ST_OK);
    cr_expect(strstr(line, "\"event\":\"sampled\",\"request_id\":\"01890000-0000-7000-8000-000000000001\","
                           "\"tenant_id\":\"01890000-0000-7000-8000-000000000002\","
                           "\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"why\":\"why\""), "%s", line);
}
