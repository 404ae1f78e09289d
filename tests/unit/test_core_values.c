#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/scopes.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "core/uuid.h"

Test(uuid, version_7_has_its_bits_and_sorts_by_time) {
    struct uuid a = uuid_v7();
    cr_assert_eq(a.bytes[6] >> 4, 7);
    cr_assert_eq(a.bytes[8] >> 6, 2);
    int64_t start = clock_mono_ms();
    while (clock_mono_ms() < start + 2)
        ;
    struct uuid b = uuid_v7();
    cr_assert_lt(memcmp(a.bytes, b.bytes, UUID_BYTES), 0);
}

Test(uuid, text_round_trips_and_nothing_else_parses) {
    struct uuid id = uuid_v7(), back;
    char text[UUID_TEXT_BYTES];
    cr_assert(uuid_parse(uuid_format(&id, text), 36, &back));
    cr_assert(uuid_equal(&id, &back));
    static const char *const BAD[] = { "", "0198c0de-0000-7000-8000-00000000000", "0198c0de-0000-7000-8000-0000000000000",
        "0198c0de00000-7000-8000-000000000000", "0198c0dg-0000-7000-8000-000000000000", "{198c0de-0000-7000-8000-00000000000}" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_not(uuid_parse(BAD[i], strlen(BAD[i]), &back), "%s", BAD[i]);
    cr_assert_not(uuid_from_bytes("short", 5, &back));
}

Test(clock, formats_the_epoch_fractions_and_the_far_ends) {
    char text[CLOCK_TEXT_BYTES];
    cr_assert_str_eq(clock_format(0, text), "1970-01-01T00:00:00.000000Z");
    cr_assert_str_eq(clock_format(1767225599999999, text), "2025-12-31T23:59:59.999999Z");
    cr_assert_str_eq(clock_format(-1, text), "1969-12-31T23:59:59.999999Z");
    cr_assert_str_eq(clock_format(INT64_MAX, text), "9999-12-31T23:59:59.999999Z");
    cr_assert_str_eq(clock_format(INT64_MIN, text), "0000-01-01T00:00:00.000000Z");
}

Test(clock, says_of_days_of_ten_thousand_years_what_the_library_says) {
    enum { DAY_S = 86400, STEP_S = 13 * DAY_S - 7 };
    char text[CLOCK_TEXT_BYTES], expected[64];
    for (time_t at = -62167219200; at < 253402300800; at += STEP_S) {
        struct tm tm;
        (void)gmtime_r(&at, &tm);
        (void)strftime(expected, sizeof expected, "-%m-%dT%H:%M:%S.000000Z", &tm);
        cr_assert_str_eq(clock_format((int64_t)at * 1000000, text) + 4, expected);
        cr_assert_eq((text[0] - '0') * 1000 + (text[1] - '0') * 100 + (text[2] - '0') * 10 + text[3] - '0', tm.tm_year + 1900);
    }
}

Test(str, numbers_are_whole_strings_within_limits) {
    int64_t v = 0;
    cr_assert(str_to_i64("-42", -100, 100, &v));
    cr_assert_eq(v, -42);
    cr_assert(str_to_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v));
    static const char *const BAD[] = { "", "-", " 1", "1 ", "+1", "0x1", "1e3", "101", "9223372036854775808" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_not(str_to_i64(BAD[i], -100, 100, &v), "'%s'", BAD[i]);
}

Test(str, null_equals_nothing) {
    cr_assert_not(str_equal(NULL, NULL));
    cr_assert(str_equal("a", "a"));
    cr_assert(str_starts_with("abc", "ab"));
    cr_assert(str_ends_with("abc", "bc"));
    cr_assert_not(str_ends_with("c", "bc"));
}

Test(scopes, texts_and_bits_agree) {
    for (unsigned bit = 0; bit < 64; bit++) {
        const char *text = scope_text(UINT64_C(1) << bit);
        if (*text)
            cr_expect_eq(scope_from_text(text, strlen(text)), UINT64_C(1) << bit);
    }
    cr_assert_eq(scope_from_text("documents:rea", 13), SCOPE_NONE);
    cr_assert_str_eq(scope_text(SCOPE_QUERY | SCOPE_AUDIT_READ), "");
}

Test(text_codec, base64_vectors_of_rfc_4648) {
    static const char *const VECTORS[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    for (size_t i = 0; i < sizeof VECTORS / sizeof *VECTORS; i++) {
        cr_expect_str_eq(base64_encode(mem, VECTORS[i][0], strlen(VECTORS[i][0])), VECTORS[i][1]);
        uint8_t *data = NULL;
        size_t len = 0;
        cr_expect(base64_decode(mem, VECTORS[i][1], strlen(VECTORS[i][1]), &data, &len));
        cr_expect(len == strlen(VECTORS[i][0]) && memcmp(data, VECTORS[i][0], len) == 0);
    }
}

Test(text_codec, decoders_refuse_what_is_not_canonical) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    uint8_t *data = NULL;
    size_t len = 0;
    static const char *const BAD[] = { "Zg", "Zg=", "Zh==", "Zg==\n", "Z g=", "====", "Zm9v====", "Zm-v" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_not(base64_decode(mem, BAD[i], strlen(BAD[i]), &data, &len), "%s", BAD[i]);
    static const char *const BAD_URL[] = { "Z", "Zh", "Zm9", "Zg==", "Zm+v", "Zm9v " };
    for (size_t i = 0; i < sizeof BAD_URL / sizeof *BAD_URL; i++)
        cr_expect_not(base64url_decode(mem, BAD_URL[i], strlen(BAD_URL[i]), &data, &len), "%s", BAD_URL[i]);
    cr_assert(base64url_decode(mem, "-_8", 3, &data, &len));
    cr_assert(len == 2 && data[0] == 0xfb && data[1] == 0xff);
}

Test(text_codec, hexadecimal_round_trips) {
    uint8_t in[256], back[256];
    char text[513];
    for (int i = 0; i < 256; i++)
        in[i] = (uint8_t)i;
    hex_encode(in, sizeof in, text);
    cr_assert(hex_decode(text, 512, back));
    cr_assert_arr_eq(in, back, sizeof in);
    cr_assert_not(hex_decode("abc", 3, back));
    cr_assert_not(hex_decode("zz", 2, back));
}
