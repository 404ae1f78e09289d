/* json/canonical against the examples of RFC 8785 that fall inside our restriction. */
#include <criterion/criterion.h>
#include <string.h>

#include "json/canonical.h"
#include "json/reader.h"

static void check(const char *text, const char *want) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(json_parse(text, strlen(text), 4096, &value, &why), ST_OK, "%s", why.text);
    cr_assert_eq(json_canonical(value, &out, &why), ST_OK, "%s", why.text);
    cr_assert_str_eq(out.data, want);
    cr_assert(json_is_canonical(want, strlen(want)));
    cr_assert_eq(json_is_canonical(text, strlen(text)), strcmp(text, want) == 0);
}

Test(json_canonical, sorts_and_strips) {
    check("{ \"b\" : [ 1, true, null, {} ], \"a\" : { \"y\":-0, \"x\":\"\" } }", "{\"a\":{\"x\":\"\",\"y\":0},\"b\":[1,true,null,{}]}");
    check("{\"aa\":1,\"a\":2}", "{\"a\":2,\"aa\":1}");
}

/* RFC 8785 section 3.2.3: the names sort as UTF-16, so the emoji (D83D DE00) comes before U+FB33. */
Test(json_canonical, names_sort_by_utf16_code_units) {
    check("{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\",\"1\":\"One\","
          "\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\",\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
          "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\",\"\xc3\xb6\":\"Latin Small Letter O With Diaeresis\","
          "\"\xe2\x82\xac\":\"Euro Sign\",\"\xf0\x9f\x98\x80\":\"Emoji: Grinning Face\","
          "\"\xef\xac\xb3\":\"Hebrew Letter Dalet With Dagesh\"}");
}

Test(json_canonical, escapes_are_the_shortest) {
    check("[\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\\b\\f\\n\\r\\t\\u007f\"]",
          "[\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\\b\\f\\n\\r\\t\x7f\"]");
}

Test(json_canonical, numbers_that_readers_would_round_are_refused) {
    struct why why = { 0 };
    static const char *const BAD[] = { "[1.0]", "[1e2]", "[9007199254740992]", "[-9007199254740992]", NULL };
    for (int i = 0; BAD[i]; i++) {
        CLEANUP(json_destroy) json_t *value = NULL;
        CLEANUP(buffer_end) struct buffer out = { 0 };
        cr_assert_eq(json_parse(BAD[i], strlen(BAD[i]), 64, &value, &why), ST_OK);
        cr_assert_eq(json_canonical(value, &out, &why), ST_INVALID, "%s", BAD[i]);
    }
    check("[9007199254740991,-9007199254740991]", "[9007199254740991,-9007199254740991]");
}

Test(json_canonical, text_that_is_not_utf8_and_a_full_buffer_are_refused) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = json_string_nocheck("\xff");
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(json_canonical(value, &out, &why), ST_INVALID);
    CLEANUP(json_destroy) json_t *longer = json_pack("[s]", "0123456789");
    CLEANUP(buffer_end) struct buffer small = { .limit_bytes = 8 };
    cr_assert_eq(json_canonical(longer, &small, &why), ST_INVALID);
    cr_assert_eq(json_canonical(NULL, &out, &why), ST_INVALID);
}
