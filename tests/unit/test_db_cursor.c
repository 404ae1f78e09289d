#include <criterion/criterion.h>
#include <string.h>

#include "db/cursor.h"

Test(db_cursor, both_kinds_round_trip) {
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

Test(db_cursor, empty_is_the_first_page) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    struct uuid id;
    bool is_first = false;
    cr_assert_eq(cursor_to_uuid(mem, "", &is_first, &id, &why), ST_OK);
    cr_assert(is_first);
}

Test(db_cursor, anything_else_is_refused_with_its_own_code) {
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

Test(db_cursor, a_page_has_as_many_rows_as_are_asked_for_and_at_most_a_hundred) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct { uint32_t asked, limit; enum status st; } rows[] = { { 0, 50, ST_OK }, { 1, 1, ST_OK }, { 100, 100, ST_OK }, { 101, 0, ST_INVALID } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct why why = { 0 };
        struct list_page page;
        cr_assert_eq(list_page_read(mem, "", rows[i].asked, &page, &why), rows[i].st, "%u", rows[i].asked);
        cr_expect(rows[i].st == ST_OK ? page.limit == rows[i].limit && page.is_first : why.code == ERR_REQ_FIELD);
    }
}
