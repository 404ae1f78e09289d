#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "core/utf8.h"

struct utf8_case { char bytes[16]; size_t len; bool is_text; size_t bad_offset; };

ParameterizedTestParameters(utf8, accepts_only_strict_utf8) {
    static struct utf8_case cases[] = {
        { "plain", 5, true, 0 },
        { "", 0, true, 0 },
        { "\xC2\x80", 2, true, 0 },
        { "\xE0\xA0\x80", 3, true, 0 },
        { "\xED\x9F\xBF", 3, true, 0 },
        { "\xEE\x80\x80", 3, true, 0 },
        { "\xF0\x90\x80\x80", 4, true, 0 },
        { "\xF4\x8F\xBF\xBF", 4, true, 0 },
        { "a\0b", 3, false, 1 },
        { "12345678\0", 9, false, 8 },          /* beyond the first eight bytes */
        { "abcdefg\0abcdefgh", 16, false, 7 },  /* among them */
        { "ok \x80", 4, false, 3 },             /* stray continuation */
        { "\xC0\x80", 2, false, 0 },            /* overlong NUL */
        { "\xC1\xBF", 2, false, 0 },
        { "\xE0\x9F\xBF", 3, false, 0 },
        { "\xED\xA0\x80", 3, false, 0 },        /* surrogate */
        { "\xF0\x8F\xBF\xBF", 4, false, 0 },
        { "\xF4\x90\x80\x80", 4, false, 0 },    /* above U+10FFFF */
        { "\xF5\x80\x80\x80", 4, false, 0 },
        { "\xFF", 1, false, 0 },
        { "a\xE2\x82", 3, false, 1 },           /* cut short */
        { "\xE2\x82z", 3, false, 0 },
    };
    return cr_make_param_array(struct utf8_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct utf8_case *c, utf8, accepts_only_strict_utf8) {
    size_t bad = 99;
    cr_assert_eq(utf8_is_text(c->bytes, c->len, &bad), c->is_text);
    if (!c->is_text)
        cr_assert_eq(bad, c->bad_offset, "bad at %zu, want %zu", bad, c->bad_offset);
    cr_assert_eq(utf8_is_text(c->bytes, c->len, NULL), c->is_text);
}

Test(utf8, counts_characters_not_bytes) {
    const char *text = "µmol ≥ é 😀";
    cr_assert_eq(utf8_count(text, strlen(text)), 10);
    cr_assert_eq(utf8_step("a"), 1);
    cr_assert_eq(utf8_step("µ"), 2);
    cr_assert_eq(utf8_step("≥"), 3);
    cr_assert_eq(utf8_step("😀"), 4);
}

Test(utf8, floor_never_cuts_a_character) {
    const char *text = "a≥b";               /* 1 + 3 + 1 bytes */
    size_t want[] = { 0, 1, 1, 1, 4, 5, 5 };
    for (size_t max = 0; max < 7; max++)
        cr_assert_eq(utf8_floor(text, 5, max), want[max], "max %zu", max);
}

Test(utf8, sequence_wants_all_its_bytes_and_takes_nul_for_one) {
    cr_assert_eq(utf8_sequence("", 0), 0);
    cr_assert_eq(utf8_sequence("\0", 1), 1);
    cr_assert_eq(utf8_sequence("≥b", 4), 3);
    for (size_t len = 1; len < 4; len++)
        cr_assert_eq(utf8_sequence("😀", len), 0);
    cr_assert_eq(utf8_sequence("😀", 4), 4);
}
