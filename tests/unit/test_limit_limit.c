#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "limit/limit.h"

TestSuite(limit, .timeout = 60);

static const struct quota TEN_A_MINUTE = { 10, 60000000 };
static const struct lockout_policy POLICY = { .free_count = 3, .first_us = 1000000, .longest_us = 60000000, .forget_us = 900000000 };
enum { SECOND = 1000000, START = 5 * SECOND };

static struct limit_key key_of(const char *text) {
    return limit_key(1, 0, text, strlen(text));
}

static struct allowance take(struct limits *limits, const char *text, int64_t now_us) {
    struct limit_key key = key_of(text);
    return limit_take(limits, &key, &TEN_A_MINUTE, now_us);
}

Test(limit, a_bucket_gives_its_quota_at_once_and_then_evenly) {
    struct limits *limits = limits_new(64);
    for (int i = 0; i < 10; i++) {
        struct allowance a = take(limits, "ann", START);
        cr_expect(a.is_granted);
        cr_expect_eq(a.remaining, 9 - i);
        cr_expect_eq(a.whole_us, (i + 1) * 6 * SECOND);
    }
    struct allowance a = take(limits, "ann", START);
    cr_expect_not(a.is_granted);
    cr_expect_eq(a.remaining, 0);
    cr_expect_eq(a.retry_us, 6 * SECOND);
    cr_expect_eq(a.whole_us, 60 * SECOND);
    cr_expect_not(take(limits, "ann", START + 6 * SECOND - 1).is_granted);
    cr_expect(take(limits, "ann", START + 6 * SECOND).is_granted);
    cr_expect_not(take(limits, "ann", START + 6 * SECOND).is_granted);
    cr_expect(take(limits, "bob", START).is_granted, "another key has a bucket of its own");
    limits_destroy(&limits);
    limits_destroy(&limits);
}

Test(limit, in_the_long_run_a_key_gets_its_quota_and_never_twice_it_in_a_window) {
    struct limits *limits = limits_new(64);
    int granted = 0, first_minute = 0;
    for (int ms = 0; ms < 600000; ms += 50) {
        granted += take(limits, "ann", START + ms * 1000LL).is_granted;
        if (ms == 59950)
            first_minute = granted;
    }
    cr_expect_eq(granted, 10 + 99);
    cr_expect_leq(first_minute, 20);
    limits_destroy(&limits);
}

Test(limit, no_quota_is_no_limit_and_kinds_and_classes_are_apart) {
    struct limits *limits = limits_new(64);
    struct limit_key key = key_of("ann"), other_kind = limit_key(2, 0, "ann", 3), other_class = limit_key(1, 1, "ann", 3);
    const struct quota none = { 0, 60000000 }, one = { 1, 60000000 };
    for (int i = 0; i < 1000; i++)
        cr_assert(limit_take(limits, &key, &none, START).is_granted);
    cr_expect(limit_take(limits, &key, &one, START).is_granted);
    cr_expect_not(limit_take(limits, &key, &one, START).is_granted);
    cr_expect(limit_take(limits, &other_kind, &one, START).is_granted);
    cr_expect(limit_take(limits, &other_class, &one, START).is_granted);
    limits_destroy(&limits);
}

Test(limit, a_flood_of_fresh_keys_does_not_free_the_one_that_is_held_back) {
    struct limits *limits = limits_new(1024);
    char name[32];
    for (int i = 0; i < 10; i++)
        cr_assert(take(limits, "heavy", START).is_granted);
    for (int i = 0; i < 100000; i++) {
        snprintf(name, sizeof name, "flood-%d", i);
        cr_assert(take(limits, name, START + i).is_granted, "who comes once is served");
    }
    cr_expect_not(take(limits, "heavy", START + 100000).is_granted);
    limits_destroy(&limits);
}

Test(limit, lock_outs_double_up_to_the_longest_and_are_forgotten) {
    struct limits *limits = limits_new(64);
    struct limit_key key = key_of("198.51.100.7");
    int64_t now_us = START;
    for (int i = 0; i < 3; i++)
        cr_expect_eq(lockout_fail(limits, &key, &POLICY, now_us), 0);
    cr_expect_eq(lockout_left_us(limits, &key, now_us), 0);
    static const int64_t SECONDS[] = { 1, 2, 4, 8, 16, 32, 60, 60 };
    for (unsigned i = 0; i < sizeof SECONDS / sizeof *SECONDS; i++) {
        cr_expect_eq(lockout_fail(limits, &key, &POLICY, now_us), SECONDS[i] * SECOND);
        cr_expect_eq(lockout_fail(limits, &key, &POLICY, now_us), 0, "what was under way does not count");
        cr_expect_eq(lockout_left_us(limits, &key, now_us + SECOND / 2), SECONDS[i] * SECOND - SECOND / 2);
        now_us += SECONDS[i] * SECOND;
        cr_expect_eq(lockout_left_us(limits, &key, now_us), 0);
    }
    now_us += POLICY.forget_us;
    cr_expect_eq(lockout_fail(limits, &key, &POLICY, now_us), 0);
    limits_destroy(&limits);
}

Test(limit, asking_about_a_key_pushes_nobody_out) {
    struct limits *limits = limits_new(8);
    struct limit_key held = key_of("held");
    char name[32];
    limit_mark(limits, &held, START + SECOND);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "asked-%d", i);
        struct limit_key key = key_of(name);
        cr_assert_eq(lockout_left_us(limits, &key, START), 0);
        cr_assert_not(limit_is_marked(limits, &key, START));
    }
    cr_expect(limit_is_marked(limits, &held, START));
    cr_expect_not(limit_is_marked(limits, &held, START + SECOND));
    limits_destroy(&limits);
}
