/* The line before a model, without threads and with a clock of the test's own: whose turn it is, how many at once, and when
 * nobody is let through. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/arena.h"
#include "line.h"

enum { SECOND_US = 1000000, MANY = 10000 };

static struct metrics *metrics;
static struct line *line;
static int64_t now_us;

static void open_line(unsigned most, int64_t requests, int64_t tokens) {
    metrics = metrics_new();
    now_us = SECOND_US;
    line = line_new(&(struct line_options){ .model = "embed", .most_at_once = most, .requests_per_minute = requests,
                                            .tokens_per_minute = tokens, .breaker_failures = 3, .metrics = metrics }, now_us);
}

static void close_line(void) {
    line_destroy(&line);
    metrics_destroy(&metrics);
}

TestSuite(line, .fini = close_line);

static struct uuid tenant(uint8_t n) {
    return (struct uuid){ .bytes = { [15] = n } };
}

static struct turn *join(struct turn *turn, uint8_t who, double weight, enum pace_class class, uint32_t tokens) {
    *turn = (struct turn){ .tenant = tenant(who), .weight = weight, .class = class, .tokens = tokens };
    line_join(line, turn, now_us);
    return turn;
}

static void finish(struct turn *turn, enum line_outcome outcome) {
    line_leave(line, turn, outcome, turn->tokens, 0, now_us);
}

/* Serve one after the other; how many of the first n were who's. */
static unsigned served_of(uint8_t who, unsigned n) {
    unsigned count = 0;
    struct uuid id = tenant(who);
    for (unsigned i = 0; i < n; i++) {
        struct turn *turn = line_next(line, now_us);
        cr_assert_not_null(turn, "%u of %u", i, n);
        count += uuid_equal(&turn->tenant, &id);
        finish(turn, LINE_GOOD);
    }
    return count;
}

Test(line, tenants_are_served_by_weight_however_much_each_has_waiting) {
    static struct turn big[MANY], small[200], heavy[400];
    open_line(8, 0, 0);
    for (int i = 0; i < MANY; i++)
        join(&big[i], 1, 1, PACE_BATCH, 100);
    for (int i = 0; i < 200; i++)
        join(&small[i], 2, 1, PACE_BATCH, 100);
    for (int i = 0; i < 400; i++)
        join(&heavy[i], 3, 2, PACE_BATCH, 100);
    unsigned of_small = 0, of_heavy = 0, n = 400;
    struct uuid second = tenant(2), third = tenant(3);
    for (unsigned i = 0; i < n; i++) {
        struct turn *turn = line_next(line, now_us);
        of_small += uuid_equal(&turn->tenant, &second);
        of_heavy += uuid_equal(&turn->tenant, &third);
        finish(turn, LINE_GOOD);
    }
    cr_expect_leq(of_small, 101);
    cr_expect_geq(of_small, 99, "a quarter: %u", of_small);
    cr_expect_geq(of_heavy, 199, "the half: %u", of_heavy);
    while (line_waiting(line, PACE_BATCH) > 0)
        finish(line_next(line, now_us), LINE_GOOD);
}

Test(line, a_large_text_costs_its_tenant_as_much_as_many_small_ones) {
    static struct turn large[50], small[500];
    open_line(8, 0, 0);
    for (int i = 0; i < 50; i++)
        join(&large[i], 1, 1, PACE_BATCH, 1000);
    for (int i = 0; i < 500; i++)
        join(&small[i], 2, 1, PACE_BATCH, 100);
    unsigned of_large = served_of(1, 110);
    cr_expect_leq(of_large, 12, "%u", of_large);
    cr_expect_geq(of_large, 9, "%u", of_large);
    (void)served_of(1, 440);
}

Test(line, who_was_silent_begins_with_the_others_and_has_saved_nothing_up) {
    static struct turn first[300], late[300];
    open_line(8, 0, 0);
    for (int i = 0; i < 300; i++)
        join(&first[i], 1, 1, PACE_BATCH, 100);
    (void)served_of(1, 200);
    for (int i = 0; i < 300; i++)
        join(&late[i], 2, 1, PACE_BATCH, 100);
    unsigned of_late = served_of(2, 100);
    cr_expect_leq(of_late, 51, "%u", of_late);
    cr_expect_geq(of_late, 49, "%u", of_late);
    (void)served_of(1, 300);
}

Test(line, a_question_goes_before_ten_thousand_texts_and_finds_a_place_free) {
    static struct turn batch[MANY];
    struct turn question;
    open_line(16, 0, 0);
    for (int i = 0; i < MANY; i++)
        join(&batch[i], 1, 1, PACE_BATCH, 100);
    unsigned on_their_way = 0;
    while (line_next(line, now_us))
        on_their_way++;
    cr_assert_eq(on_their_way, 14, "an eighth is left: %u", on_their_way);
    join(&question, 2, 1, PACE_INTERACTIVE, 10);
    cr_expect_eq(line_next(line, now_us), &question);
    finish(&question, LINE_GOOD);
    for (unsigned i = 0; i < on_their_way; i++)
        finish(&batch[i], LINE_UNKNOWN);
    while (line_waiting(line, PACE_BATCH) > 0)
        finish(line_next(line, now_us), LINE_GOOD);
}

Test(line, of_nine_calls_one_is_a_batchs_when_both_wait) {
    static struct turn questions[900], batch[900];
    open_line(2, 0, 0);
    for (int i = 0; i < 900; i++) {
        join(&questions[i], 1, 1, PACE_INTERACTIVE, 1);
        join(&batch[i], 1, 1, PACE_BATCH, 1);
    }
    unsigned of_batch = 0;
    for (int i = 0; i < 90; i++) {
        struct turn *turn = line_next(line, now_us);
        of_batch += turn->class == PACE_BATCH;
        finish(turn, LINE_GOOD);
    }
    cr_expect_eq(of_batch, 10, "%u", of_batch);
    (void)served_of(1, 1710);
}

/* As long as the model bears `bears` at once, in rounds of a tenth of a second each. Returns how many are sent in the last. */
static unsigned settle(struct turn turns[], unsigned n, unsigned bears, unsigned rounds, unsigned *ret_throttled) {
    unsigned sent = 0;
    *ret_throttled = 0;
    for (unsigned r = 0; r < rounds; r++) {
        struct turn *away[64];
        now_us += SECOND_US / 10;
        for (sent = 0; sent < 64 && (away[sent] = line_next(line, now_us));)
            sent++;
        for (unsigned i = 0; i < sent; i++) {
            bool is_throttled = i >= bears;
            *ret_throttled += is_throttled;
            finish(away[i], is_throttled ? LINE_THROTTLED : LINE_GOOD);
            line_rejoin(line, away[i], now_us);
        }
    }
    (void)turns;
    (void)n;
    return sent;
}

Test(line, a_throttled_model_is_asked_less_and_then_a_little_more) {
    static struct turn batch[64];
    unsigned throttled = 0;
    open_line(64, 0, 0);
    for (int i = 0; i < 64; i++)
        join(&batch[i], 1, 1, PACE_BATCH, 1);
    (void)settle(batch, 64, 10, 100, &throttled);
    cr_expect_gt(throttled, 0);
    unsigned most = 0;
    for (int i = 0; i < 200; i++) {
        unsigned sent = settle(batch, 64, 10, 1, &throttled);
        most = sent > most ? sent : most;
    }
    cr_expect_geq(most, 6, "it grows again: %u", most);
    cr_expect_leq(most, 20, "and never far above what is borne: %u", most);
    for (int i = 0; i < 64; i++)
        line_withdraw(line, &batch[i]);
}

Test(line, a_throttle_of_many_calls_at_once_counts_once) {
    static struct turn batch[32];
    struct turn *away[32];
    unsigned n = 0;
    open_line(16, 0, 0);
    for (int i = 0; i < 32; i++)
        join(&batch[i], 1, 1, PACE_BATCH, 1);
    while ((away[n] = line_next(line, now_us)))
        n++;
    for (unsigned i = 0; i < n; i++)
        finish(away[i], LINE_THROTTLED);
    line_collect(line, now_us);
    CLEANUP(buffer_end) struct buffer text = { 0 };
    metrics_print(metrics, &text);
    cr_expect_not_null(strstr(text.data, "cordon_model_window{model=\"embed\"} 11.1"), "%s", strstr(text.data, "cordon_model_window"));
    cr_expect_null(line_next(line, now_us), "batch pauses");
    cr_expect_lt(line_wake_us(line), now_us + SECOND_US, "and says until when");
    for (int i = 0; i < 32; i++)
        if (batch[i].state == TURN_WAITS)
            line_withdraw(line, &batch[i]);
}

Test(line, what_the_account_allows_in_a_minute_is_not_gone_over_and_a_part_is_left_for_questions) {
    static struct turn batch[600];
    struct turn question;
    unsigned sent = 0;
    open_line(16, 60, 0);
    for (int i = 0; i < 600; i++)
        join(&batch[i], 1, 1, PACE_BATCH, 1);
    for (int tick = 0; tick < 600; tick++, now_us += SECOND_US / 10)
        for (struct turn *turn; (turn = line_next(line, now_us)); sent++)
            finish(turn, LINE_GOOD);
    cr_expect_leq(sent, 66, "a minute's, and what the bucket held: %u", sent);
    cr_expect_geq(sent, 55, "%u", sent);
    join(&question, 2, 1, PACE_INTERACTIVE, 1);
    cr_expect_eq(line_next(line, now_us), &question, "the bucket is never empty for it");
    finish(&question, LINE_GOOD);
    while (line_waiting(line, PACE_BATCH) > 0) {
        now_us += SECOND_US;
        struct turn *turn = line_next(line, now_us);
        if (turn)
            finish(turn, LINE_GOOD);
    }
}

Test(line, tokens_are_paced_by_what_calls_really_took) {
    struct turn turns[3];
    open_line(16, 0, 6000);                     /* 100 a second; the bucket holds 500 */
    for (int i = 0; i < 3; i++)
        join(&turns[i], 1, 1, PACE_INTERACTIVE, 10);
    cr_assert_eq(line_next(line, now_us), &turns[0]);
    line_leave(line, &turns[0], LINE_GOOD, 700, 0, now_us);
    cr_expect_null(line_next(line, now_us), "200 over");
    cr_expect_gt(line_wake_us(line), now_us + 2 * SECOND_US);
    now_us += 2 * SECOND_US + SECOND_US / 10;
    cr_assert_eq(line_next(line, now_us), &turns[1]);
    finish(&turns[1], LINE_GOOD);
    line_withdraw(line, &turns[2]);
}

Test(line, a_model_that_fails_again_and_again_is_left_alone_and_tried_by_one_call) {
    struct turn turns[6];
    struct why why = { 0 };
    open_line(16, 0, 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(line_status(line, now_us, &why), ST_OK);
        join(&turns[i], 1, 1, PACE_INTERACTIVE, 1);
        cr_assert_eq(line_next(line, now_us), &turns[i]);
        finish(&turns[i], LINE_FAILED);
    }
    cr_assert_eq(line_status(line, now_us, &why), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_MODEL_UNAVAILABLE);
    cr_expect_gt(why.retry_after_ms, 0);
    cr_expect_leq(why.retry_after_ms, 1001);
    for (int i = 0; i < 2; i++)
        join(&turns[i], 1, 1, PACE_INTERACTIVE, 1);
    cr_expect_null(line_next(line, now_us));
    now_us += SECOND_US;
    cr_expect_eq(line_status(line, now_us, &why), ST_OK);
    cr_assert_eq(line_next(line, now_us), &turns[0]);
    cr_expect_null(line_next(line, now_us), "one tries for all");
    finish(&turns[0], LINE_FAILED);
    cr_expect_eq(line_status(line, now_us + SECOND_US, &why), ST_UNAVAILABLE, "for twice as long");
    now_us += 2 * SECOND_US;
    cr_assert_eq(line_next(line, now_us), &turns[1]);
    finish(&turns[1], LINE_GOOD);
    join(&turns[2], 1, 1, PACE_INTERACTIVE, 1);
    join(&turns[3], 1, 1, PACE_INTERACTIVE, 1);
    cr_expect_eq(line_next(line, now_us), &turns[2]);
    cr_expect_eq(line_next(line, now_us), &turns[3], "closed");
    finish(&turns[2], LINE_FAILED);
    finish(&turns[3], LINE_GOOD);
}

Test(line, a_model_of_which_some_calls_succeed_is_overloaded_and_not_away) {
    struct turn turns[16];
    struct why why = { 0 };
    open_line(16, 0, 0);
    for (int i = 0; i < 14; i++) {
        join(&turns[i], 1, 1, PACE_INTERACTIVE, 1);
        cr_assert_eq(line_next(line, now_us), &turns[i]);
    }
    finish(&turns[0], LINE_GOOD);
    for (int i = 1; i < 13; i++)
        finish(&turns[i], LINE_FAILED);
    cr_expect_eq(line_status(line, now_us, &why), ST_OK);
    CLEANUP(buffer_end) struct buffer text = { 0 };
    line_collect(line, now_us);
    metrics_print(metrics, &text);
    cr_expect_not_null(strstr(text.data, "cordon_model_window{model=\"embed\"} 11.1"), "but it is asked less");
    now_us += 5 * SECOND_US;
    finish(&turns[13], LINE_FAILED);
    cr_expect_eq(line_status(line, now_us, &why), ST_UNAVAILABLE, "after five seconds without a success");
}

Test(line, a_trial_that_nobody_waits_for_any_more_lets_the_next_try) {
    struct turn turns[4];
    struct why why = { 0 };
    open_line(16, 0, 0);
    for (int i = 0; i < 3; i++) {
        join(&turns[i], 1, 1, PACE_INTERACTIVE, 1);
        (void)line_next(line, now_us);
        finish(&turns[i], LINE_FAILED);
    }
    now_us += SECOND_US;
    join(&turns[0], 1, 1, PACE_INTERACTIVE, 1);
    join(&turns[1], 1, 1, PACE_INTERACTIVE, 1);
    cr_assert_eq(line_next(line, now_us), &turns[0]);
    finish(&turns[0], LINE_UNKNOWN);
    cr_assert_eq(line_next(line, now_us), &turns[1]);
    finish(&turns[1], LINE_GOOD);
    cr_expect_eq(line_status(line, now_us, &why), ST_OK);
}

Test(line, what_the_end_of_a_call_says_of_the_model) {
    struct turn turn = { .since_us = 0 };
    struct why away = { .code = ERR_MODEL_UNAVAILABLE }, broke = { .code = ERR_MODEL_BROKE_OFF }, guarded = { .code = ERR_MODEL_GUARDED },
               ours = { .code = ERR_INTERNAL }, late = { .code = ERR_TIMEOUT };
    open_line(2, 0, 0);
    cr_expect_eq(line_judge(&turn, ST_OK, &away, false, 0), LINE_GOOD);
    cr_expect_eq(line_judge(&turn, ST_LIMITED, &away, false, 0), LINE_THROTTLED);
    cr_expect_eq(line_judge(&turn, ST_UNAVAILABLE, &away, false, 0), LINE_FAILED);
    cr_expect_eq(line_judge(&turn, ST_UNAVAILABLE, &broke, false, 0), LINE_FAILED);
    cr_expect_eq(line_judge(&turn, ST_UNAVAILABLE, &broke, true, 0), LINE_UNKNOWN, "the client went");
    cr_expect_eq(line_judge(&turn, ST_INVALID, &guarded, false, 0), LINE_UNKNOWN);
    cr_expect_eq(line_judge(&turn, ST_INTERNAL, &ours, false, 0), LINE_UNKNOWN);
    cr_expect_eq(line_judge(&turn, ST_TIMEOUT, &late, false, SECOND_US), LINE_UNKNOWN, "the caller had no time to give");
    cr_expect_eq(line_judge(&turn, ST_TIMEOUT, &late, false, 4 * SECOND_US), LINE_FAILED);
}
