/* json/reader: what is refused, and that failures never repeat what was sent. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "json/reader.h"

static enum status parse(const char *text, json_t **ret, struct why *why) {
    return json_parse(text, strlen(text), 4096, ret, why);
}

struct bad_case { char text[64]; };

ParameterizedTestParameters(json_reader, refuses) {
    static struct bad_case cases[] = {
        { "" }, { "1" }, { "\"x\"" }, { "null" }, { "{\"a\":1,\"a\":2}" }, { "{\"a\":1} x" }, { "{\"a\":1,}" },
        { "[1,]" }, { "[01]" }, { "[1.]" }, { "[NaN]" }, { "[Infinity]" }, { "['a']" }, { "{a:1}" }, { "[\"\t\"]" },
        { "[\"\\u0000\"]" }, { "[\"\\ud800\"]" }, { "[\"\xff\"]" }, { "[\"\xc0\xaf\"]" }, { "[\"\xed\xa0\x80\"]" },
        { "\xef\xbb\xbf[]" }, { "[9223372036854775808]" }, { "[1e999]" }, { "{\"a\":{\"b\":1,\"b\":2}}" }, { "[1" },
    };
    return cr_make_param_array(struct bad_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct bad_case *c, json_reader, refuses) {
    struct why why = { 0 };
    json_t *value = NULL;
    cr_assert_eq(parse(c->text, &value, &why), ST_INVALID, "%s", c->text);
    cr_assert_eq(why.code, ERR_REQ_JSON);
    cr_assert_null(value);
}

Test(json_reader, size_and_depth_are_capped) {
    struct why why = { 0 };
    json_t *value = NULL;
    char deep[2 * JSON_DEPTH_MAX + 3];
    memset(deep, '[', JSON_DEPTH_MAX + 1);
    memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    cr_assert_eq(json_parse(deep, 2 * (JSON_DEPTH_MAX + 1), 4096, &value, &why), ST_INVALID);
    cr_assert_eq(json_parse(deep + 1, 2 * JSON_DEPTH_MAX, 4096, &value, &why), ST_OK);
    json_destroy(&value);
    cr_assert_eq(json_parse("[1]", 3, 2, &value, &why), ST_INVALID);
}

Test(json_reader, brackets_inside_strings_do_not_count) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    cr_assert_eq(parse("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\"]", &value, &why), ST_OK);
}

Test(json_reader, a_member_is_read_by_type) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    cr_assert_eq(parse("{\"t\":\"x\",\"n\":-5,\"f\":0.5,\"b\":true,\"o\":{},\"a\":[1,2],\"z\":null}", &value, &why), ST_OK);
    const char *text = NULL;
    int64_t number = 0;
    double real = 0;
    bool flag = false;
    const json_t *object = NULL, *array = NULL;
    cr_assert_eq(json_get_text(value, "t", JSON_REQUIRED, 1, &text, &why), ST_OK);
    cr_assert_str_eq(text, "x");
    cr_assert_eq(json_get_i64(value, "n", JSON_REQUIRED, -5, 5, &number, &why), ST_OK);
    cr_assert_eq(number, -5);
    cr_assert_eq(json_get_double(value, "f", JSON_REQUIRED, &real, &why), ST_OK);
    cr_assert_eq(json_get_bool(value, "b", JSON_REQUIRED, &flag, &why), ST_OK);
    cr_assert(flag);
    cr_assert_eq(json_get_object(value, "o", JSON_REQUIRED, &object, &why), ST_OK);
    cr_assert_eq(json_get_array(value, "a", JSON_REQUIRED, 2, &array, &why), ST_OK);
    cr_assert_eq(json_array_size(array), 2);
    cr_assert_eq(json_get_array(value, "a", JSON_REQUIRED, 1, &array, &why), ST_INVALID);
    cr_assert_eq(json_get_text(value, "t", JSON_REQUIRED, 0, &text, &why), ST_INVALID);
    cr_assert_eq(json_get_i64(value, "n", JSON_REQUIRED, -4, 5, &number, &why), ST_INVALID);
    cr_assert_eq(json_get_i64(value, "f", JSON_REQUIRED, -4, 5, &number, &why), ST_INVALID);
    cr_assert_eq(json_get_text(value, "n", JSON_OPTIONAL, 9, &text, &why), ST_INVALID);
    cr_assert_eq(json_get_bool(value, "n", JSON_OPTIONAL, &flag, &why), ST_INVALID);
    cr_assert_eq(json_get_text(value, "z", JSON_REQUIRED, 9, &text, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_REQ_FIELD);
}

Test(json_reader, an_absent_optional_member_leaves_the_preset) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    cr_assert_eq(parse("{\"z\":null}", &value, &why), ST_OK);
    int64_t number = 7;
    cr_assert_eq(json_get_i64(value, "n", JSON_OPTIONAL, 0, 9, &number, &why), ST_OK);
    cr_assert_eq(json_get_i64(value, "z", JSON_OPTIONAL, 0, 9, &number, &why), ST_OK);
    cr_assert_eq(number, 7);
    cr_assert_eq(json_get_i64(value, "n", JSON_REQUIRED, 0, 9, &number, &why), ST_INVALID);
    cr_assert_eq(json_get_i64(NULL, "n", JSON_OPTIONAL, 0, 9, &number, &why), ST_INVALID);
}

Test(json_reader, unknown_members_are_refused_without_being_repeated) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    cr_assert_eq(parse("{\"question\":\"x\",\"Jane Doe\":1}", &value, &why), ST_OK);
    cr_assert_eq(json_only_members(value, (const char *const[]){ "question", "Jane Doe", NULL }, &why), ST_OK);
    cr_assert_eq(json_only_members(value, (const char *const[]){ "question", NULL }, &why), ST_INVALID);
    cr_assert_null(strstr(why.text, "Jane"));
}

Test(json_reader, a_syntax_error_does_not_repeat_the_input) {
    struct why why = { 0 };
    json_t *value = NULL;
    cr_assert_eq(parse("{\"mrn\": 12345 Jane}", &value, &why), ST_INVALID);
    cr_assert_null(strstr(why.text, "Jane"));
}
