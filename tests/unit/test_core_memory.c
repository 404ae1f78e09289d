#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "core/arena.h"
#include "core/buffer.h"
#include "core/live_secret.h"
#include "core/secret.h"

Test(arena, blocks_are_zeroed_aligned_and_apart) {
    CLEANUP(arena_destroy) struct arena *a = arena_new(0);
    char *last = NULL;
    for (size_t n = 1; n < 40000; n = n * 3 + 1) {
        char *p = arena_alloc(a, n);
        cr_assert_eq((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            cr_assert_eq(p[i], 0);
        memset(p, 0x5a, n);
        cr_assert_neq(p, last);
        last = p;
    }
}

Test(arena, copies_are_terminated) {
    CLEANUP(arena_destroy) struct arena *a = arena_new(0);
    cr_assert_str_eq(arena_strdup(a, "abc"), "abc");
    cr_assert_str_eq(arena_strndup(a, "abcdef", 3), "abc");
    cr_assert_str_eq(arena_printf(a, "%s-%d", "x", 7), "x-7");
}

Test(arena, wire_allocator_refuses_past_its_cap) {
    CLEANUP(arena_destroy) struct arena *a = arena_new(100);
    ProtobufCAllocator *wire = arena_wire(a);
    cr_assert_not_null(wire->alloc(wire->allocator_data, 60));
    cr_assert_null(wire->alloc(wire->allocator_data, 41));
    cr_assert_not_null(wire->alloc(wire->allocator_data, 40));
}

Test(arena, destroy_nulls_and_may_run_twice) {
    struct arena *a = arena_new(0);
    arena_destroy(&a);
    cr_assert_null(a);
    arena_destroy(&a);
}

Test(arena, absurd_size_aborts_instead_of_wrapping, .signal = SIGABRT) {
    CLEANUP(arena_destroy) struct arena *a = arena_new(0);
    (void)arena_alloc(a, SIZE_MAX - 3);
}

Test(buffer, room_that_was_taken_at_once_is_not_moved) {
    CLEANUP(buffer_end) struct buffer b = { .limit_bytes = 2000 };
    cr_assert(buffer_add_str(&b, "kept"));
    buffer_reserve(&b, 1000);
    const char *at = b.data;
    cr_assert_str_eq(b.data, "kept");
    memset(buffer_grow(&b, 996), 'x', 996);
    cr_assert_eq(b.data, at);
    cr_assert_eq(strlen(b.data), 1000);
    buffer_reserve(&b, 10);
    buffer_reserve(&b, 3000);
    cr_assert_eq(b.data, at, "less than there is, and more than may be");
    cr_assert_null(buffer_grow(&b, 1001));
    cr_assert(b.is_overfull);
}

Test(buffer, grows_keeps_a_terminator_and_stops_at_its_limit) {
    CLEANUP(buffer_end) struct buffer b = { .limit_bytes = 1000 };
    for (int i = 0; i < 100; i++)
        cr_assert(buffer_printf(&b, "%d", 1234567890));
    cr_assert_eq(b.len, 1000);
    cr_assert_eq(b.data[1000], '\0');
    cr_assert_not(buffer_add(&b, "x", 1));
    cr_assert(b.is_overfull);
    cr_assert_eq(b.len, 1000);
    buffer_clear(&b);
    cr_assert(buffer_add_str(&b, "again"));
    cr_assert_str_eq(b.data, "again");
}

Test(secret, holds_compares_and_forgets) {
    struct secret *s = secret_new("hunter2", 7);
    cr_assert_str_eq(secret_text(s), "hunter2");
    cr_assert(secret_equal(s, "hunter2", 7));
    cr_assert_not(secret_equal(s, "hunter3", 7));
    cr_assert_not(secret_equal(s, "hunter", 6));
    secret_destroy(&s);
    cr_assert_null(s);
    secret_destroy(&s);
    cr_assert_not(secret_equal(NULL, "", 0));
    cr_assert_str_eq(secret_text(NULL), "");
}

struct keeper { const char *next; unsigned looks; };

static void look(void *ctx, struct live_secret *s, unsigned version, int64_t deadline_ms) {
    struct keeper *k = ctx;
    cr_expect(version == 0 && deadline_ms == 7);
    k->looks++;
    if (k->next)
        (void)live_secret_set(s, k->next, strlen(k->next));
}

Test(secret, a_live_one_is_looked_for_again_when_its_value_was_refused) {
    struct live_secret *s = live_secret_new("one", 3);
    struct keeper keeper = { 0 };
    unsigned version = 9, later = 9;
    CLEANUP(secret_destroy) struct secret *copy = live_secret_copy(s, &version);
    cr_expect(secret_equal(copy, "one", 3) && version == 0);
    cr_expect_not(live_secret_refused(s, version, 7), "nobody keeps it: it stays");
    live_secret_keep(s, look, &keeper);
    cr_expect(!live_secret_refused(s, version, 7) && keeper.looks == 1, "there is no other");
    keeper.next = "two";
    cr_expect(live_secret_refused(s, version, 7) && keeper.looks == 2);
    cr_expect(live_secret_refused(s, version, 7) && keeper.looks == 2, "a value of before is not looked for");
    CLEANUP(secret_destroy) struct secret *other = live_secret_copy(s, &later);
    cr_expect(secret_equal(other, "two", 3) && later == 1 && secret_equal(copy, "one", 3));
    cr_expect(!live_secret_copy(NULL, &later) && !live_secret_refused(NULL, 0, 7));
    live_secret_destroy(&s);
    live_secret_destroy(&s);
}
