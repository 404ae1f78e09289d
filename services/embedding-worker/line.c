#include "line.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"

enum { INTERACTIVE_RUN = 8, SLOW_US = 3000000 };

struct line {
    struct fair *waiting[PACE_CLASSES];
    struct pace pace;
    struct breaker breaker;
    unsigned run;                           /* of interactive turns while batch waited */
    int64_t wake_us;
    struct counter *throttles, *openings;
    struct histogram *waited[PACE_CLASSES];
    struct gauge *waiting_now[PACE_CLASSES], *in_flight[PACE_CLASSES], *window, *breaker_now;
};

static void make_metrics(struct line *line, const struct line_options *options) {
    static const char *const CLASSES[PACE_CLASSES] = { [PACE_INTERACTIVE] = "interactive", [PACE_BATCH] = "batch" };
    struct metrics *m = options->metrics;
    char labels[64];
    for (int class = 0; class < PACE_CLASSES; class++) {
        (void)snprintf(labels, sizeof labels, "model=\"%s\",class=\"%s\"", options->model, CLASSES[class]);
        line->waited[class] = metrics_histogram(m, "cordon_model_wait_seconds", "From when a call could be sent to a model to when it was its turn.", labels);
        line->waiting_now[class] = metrics_gauge(m, "cordon_model_calls_waiting", "Calls that wait for their turn at a model.", labels);
        line->in_flight[class] = metrics_gauge(m, "cordon_model_calls_in_flight", "Calls on their way to a model.", labels);
    }
    (void)snprintf(labels, sizeof labels, "model=\"%s\"", options->model);
    line->throttles = metrics_counter(m, "cordon_model_throttles_total", "Calls that a model refused as too many.", labels);
    line->openings = metrics_counter(m, "cordon_model_breaker_openings_total", "Times that a model was taken for away.", labels);
    line->window = metrics_gauge(m, "cordon_model_window", "Calls at once that a model is taken to bear.", labels);
    line->breaker_now = metrics_gauge(m, "cordon_model_breaker_open",
                                      "1 while a model is taken for away and calls are refused; 0.5 while one call tries.", labels);
}

struct line *line_new(const struct line_options *options, int64_t now_us) {
    struct line *line = xalloc(sizeof *line);
    for (int class = 0; class < PACE_CLASSES; class++)
        line->waiting[class] = fair_new();
    pace_init(&line->pace, options->most_at_once, options->requests_per_minute, options->tokens_per_minute, now_us);
    line->breaker.most_failures = options->breaker_failures;
    make_metrics(line, options);
    return line;
}

void line_destroy(struct line **line_p) {
    if (!*line_p)
        return;
    for (int class = 0; class < PACE_CLASSES; class++)
        fair_destroy(&(*line_p)->waiting[class]);
    free(*line_p);
    *line_p = NULL;
}

static void put(struct line *line, struct turn *turn, bool at_front, int64_t now_us) {
    turn->state = TURN_WAITS;
    turn->since_us = now_us;
    turn->item.cost = turn->tokens;
    fair_put(line->waiting[turn->class], &turn->tenant, turn->weight, &turn->item, at_front);
}

void line_join(struct line *line, struct turn *turn, int64_t now_us) {
    put(line, turn, false, now_us);
}

void line_rejoin(struct line *line, struct turn *turn, int64_t now_us) {
    put(line, turn, true, now_us);
}

/* Has class something to send, and may it now? */
static bool has_turn(struct line *line, enum pace_class class, int64_t now_us) {
    int64_t again_us = INT64_MAX;
    if (fair_count(line->waiting[class]) == 0)
        return false;
    bool may_go = pace_may_go(&line->pace, class, now_us, &again_us);
    if (again_us < line->wake_us)
        line->wake_us = again_us;
    return may_go;
}

struct turn *line_next(struct line *line, int64_t now_us) {
    line->wake_us = INT64_MAX;
    if (!breaker_may_go(&line->breaker, now_us)) {
        int64_t left_us = breaker_left_us(&line->breaker, now_us);
        line->wake_us = left_us > 0 ? now_us + left_us : INT64_MAX;
        return NULL;
    }
    bool has_interactive = has_turn(line, PACE_INTERACTIVE, now_us), has_batch = has_turn(line, PACE_BATCH, now_us);
    if (!has_interactive && !has_batch)
        return NULL;
    enum pace_class class = has_interactive && !(has_batch && line->run >= INTERACTIVE_RUN) ? PACE_INTERACTIVE : PACE_BATCH;
    line->run = class == PACE_INTERACTIVE && has_batch ? line->run + 1 : 0;
    struct turn *turn = (struct turn *)fair_first(line->waiting[class]);
    fair_serve(line->waiting[class], &turn->item);
    turn->state = TURN_GOES;
    turn->begun = pace_begin(&line->pace, class, turn->tokens);
    turn->is_trial = breaker_begin(&line->breaker);
    histogram_observe_us(line->waited[class], now_us - turn->since_us);
    turn->since_us = now_us;
    return turn;
}

int64_t line_wake_us(const struct line *line) {
    return line->wake_us;
}

void line_withdraw(struct line *line, struct turn *turn) {
    fair_drop(line->waiting[turn->class], &turn->item);
    turn->state = TURN_NONE;
}

void line_leave(struct line *line, struct turn *turn, enum line_outcome outcome, uint32_t tokens, int64_t asked_ms, int64_t now_us) {
    pace_end(&line->pace, turn->class, turn->tokens, tokens);
    turn->state = TURN_NONE;
    switch (outcome) {
    case LINE_GOOD:
        pace_succeeded(&line->pace);
        breaker_succeeded(&line->breaker, now_us);
        break;
    case LINE_THROTTLED:                    /* it is there */
        counter_add(line->throttles, 1);
        pace_throttled(&line->pace, turn->begun, asked_ms, now_us);
        breaker_succeeded(&line->breaker, now_us);
        break;
    case LINE_FAILED:                       /* perhaps of too much work */
        pace_failed(&line->pace, turn->begun);
        if (breaker_failed(&line->breaker, turn->is_trial, now_us))
            counter_add(line->openings, 1);
        break;
    case LINE_UNKNOWN:
        breaker_unknown(&line->breaker, turn->is_trial);
        break;
    }
}

enum status line_status(const struct line *line, int64_t now_us, struct why *why) {
    int64_t left_us = breaker_left_us(&line->breaker, now_us);
    if (left_us == 0)
        return ST_OK;
    why->retry_after_ms = (int)(left_us / 1000) + 1;
    return fail_as(why, ERR_MODEL_UNAVAILABLE, "the model failed %u times in a row and is not asked for %lld ms", line->breaker.failures,
                   (long long)left_us / 1000);
}

enum line_outcome line_judge(const struct turn *turn, enum status st, const struct why *why, bool is_unwanted, int64_t now_us) {
    if (st == ST_OK)
        return LINE_GOOD;
    if (st == ST_LIMITED)
        return LINE_THROTTLED;
    bool was_slow = st == ST_TIMEOUT && now_us - turn->since_us >= SLOW_US;     /* else the caller had no time to give */
    bool is_models = why->code == ERR_MODEL_UNAVAILABLE || why->code == ERR_MODEL_BROKE_OFF || was_slow;
    return is_models && !is_unwanted ? LINE_FAILED : LINE_UNKNOWN;
}

size_t line_waiting(const struct line *line, enum pace_class class) {
    return fair_count(line->waiting[class]);
}

void line_collect(const struct line *line, int64_t now_us) {
    static const double STATES[] = { [BREAKER_CLOSED] = 0, [BREAKER_HALF_OPEN] = 0.5, [BREAKER_OPEN] = 1 };
    for (int class = 0; class < PACE_CLASSES; class++) {
        gauge_set(line->waiting_now[class], (double)fair_count(line->waiting[class]));
        gauge_set(line->in_flight[class], line->pace.in_flight[class]);
    }
    gauge_set(line->window, line->pace.window);
    gauge_set(line->breaker_now, STATES[breaker_state(&line->breaker, now_us)]);
}
