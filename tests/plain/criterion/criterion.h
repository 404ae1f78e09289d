/* criterion.h — the part of Criterion that our tests use, on a runner of our own (../runner.c), for the thread
 * sanitizer and for valgrind: Criterion does not start under the one and hides its tests from the other. */
#ifndef CORDON_TESTS_PLAIN_CRITERION_H
#define CORDON_TESTS_PLAIN_CRITERION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_options {
    void (*init)(void), (*fini)(void);
    double timeout;                             /* seconds */
    int signal;                                 /* it must end by this one; 0: by returning */
};

struct plain_params { size_t size; void *rows; size_t count; };

struct plain_test {
    const char *suite, *name;                   /* name NULL: the options of the suite */
    struct plain_options options;
    void (*run)(void *param);
    struct plain_params (*params)(void);        /* NULL: run once, with NULL */
    struct plain_test *next;
};

void plain_add(struct plain_test *test);
/* Says where and what when it does not hold; ends the test when is_fatal. Any thread. */
void plain_check(bool holds, bool is_fatal, const char *file, int line, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

/* Ends the test, which counts as passed. */
void plain_skip(const char *why) __attribute__((noreturn));

#define PLAIN_ADD(id, ...) \
    static struct plain_test plain_##id = { __VA_ARGS__ }; \
    __attribute__((constructor)) static void plain_add_##id(void) { plain_add(&plain_##id); }

#define TestSuite(s, ...) \
    PLAIN_ADD(suite_##s, .suite = #s, .options = { __VA_ARGS__ })

#define Test(s, n, ...) \
    static void s##_##n(void); \
    static void plain_run_##s##_##n(void *param) { (void)param; s##_##n(); } \
    PLAIN_ADD(s##_##n, .suite = #s, .name = #n, .run = plain_run_##s##_##n, .options = { __VA_ARGS__ }) \
    static void s##_##n(void)

#define PLAIN(holds, is_fatal, what, ...) plain_check((holds), is_fatal, __FILE__, __LINE__, what, " " __VA_ARGS__)

#define cr_skip(why)                     plain_skip(why)
#define cr_log_info(fmt, ...)            ((void)fprintf(stderr, "[INFO] " fmt "\n" __VA_OPT__(,) __VA_ARGS__))
#define cr_assert(x, ...)                PLAIN(x, true, #x, __VA_ARGS__)
#define cr_assert_fail(...)              PLAIN(false, true, "reached", __VA_ARGS__)
#define cr_assert_not(x, ...)            PLAIN(!(x), true, "not " #x, __VA_ARGS__)
#define cr_assert_null(x, ...)           PLAIN(!(x), true, #x " is NULL", __VA_ARGS__)
#define cr_assert_not_null(x, ...)       PLAIN((x) != NULL, true, #x " is not NULL", __VA_ARGS__)
#define cr_assert_eq(a, b, ...)          PLAIN((a) == (b), true, #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)         PLAIN((a) != (b), true, #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)          PLAIN((a) < (b), true, #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)         PLAIN((a) <= (b), true, #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)          PLAIN((a) > (b), true, #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)         PLAIN((a) >= (b), true, #a " >= " #b, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)      PLAIN(strcmp(a, b) == 0, true, #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...)     PLAIN(strcmp(a, b) != 0, true, #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, len, ...) PLAIN(memcmp(a, b, len) == 0, true, #a " equals " #b, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, len, ...) PLAIN(memcmp(a, b, len) != 0, true, #a " differs from " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, by, ...) \
    PLAIN((a) - (b) <= (by) && (b) - (a) <= (by), true, #a " is about " #b, __VA_ARGS__)

#define cr_expect(x, ...)                PLAIN(x, false, #x, __VA_ARGS__)
#define cr_expect_not(x, ...)            PLAIN(!(x), false, "not " #x, __VA_ARGS__)
#define cr_expect_null(x, ...)           PLAIN(!(x), false, #x " is NULL", __VA_ARGS__)
#define cr_expect_not_null(x, ...)       PLAIN((x) != NULL, false, #x " is not NULL", __VA_ARGS__)
#define cr_expect_eq(a, b, ...)          PLAIN((a) == (b), false, #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)         PLAIN((a) != (b), false, #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)          PLAIN((a) < (b), false, #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)         PLAIN((a) <= (b), false, #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)          PLAIN((a) > (b), false, #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)         PLAIN((a) >= (b), false, #a " >= " #b, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)      PLAIN(strcmp(a, b) == 0, false, #a " is " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...)     PLAIN(strcmp(a, b) != 0, false, #a " is not " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, len, ...) PLAIN(memcmp(a, b, len) == 0, false, #a " equals " #b, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, len, ...) PLAIN(memcmp(a, b, len) != 0, false, #a " differs from " #b, __VA_ARGS__)
#define cr_expect_float_eq(a, b, by, ...) \
    PLAIN((a) - (b) <= (by) && (b) - (a) <= (by), false, #a " is about " #b, __VA_ARGS__)

#endif
