#include <criterion/criterion.h>
#include <string.h>

#include "cursor.h"

Test(cursor, both_kinds_round_trip) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct uuid id = uuid_v7(), back;
    struct why why = { 0 };
    bool is_first = true;
    cr_assert_eq(cursor_to_uuid(mem, cursor_from_uuid(mem, &id), &is_first, &back, &why), ST_OK);
    cr_assert(!is_first && uuid_equal(&id, &back));
    static const int64_t NUMBERS[] = { 0, 1, -1, INT64_MAX, INT64_MIN };
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        int64_t n = 7;
        cr_assert_eq(cursor_to_number(mem, cursor_from_number(mem, NUMBERS[i]), &is_first, &n, &why), ST_OK);
        cr_assert(!is_first && n == NUMBERS[i]);
    }
}

Test(cursor, empty_is_the_first_page) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    struct uuid id;
    bool is_first = false;
    cr_assert_eq(cursor_to_uuid(mem, "", &is_first, &id, &why), ST_OK);
    cr_assert(is_first);
}

Test(cursor, anything_else_is_refused_with_its_own_code) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct uuid id = uuid_v7();
    int64_t n = 0;
    bool is_first = false;
    const char *bad[] = { "x", "!!", "AAAA", cursor_from_uuid(mem, &id), "bg" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct why why = { 0 };
        cr_expect_eq(cursor_to_number(mem, bad[i], &is_first, &n, &why), ST_INVALID, "%s", bad[i]);
        cr_expect_eq(why.code, ERR_REQ_CURSOR);
    }
}
