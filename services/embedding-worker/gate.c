#include "gate.h"

#include <stdlib.h>

#include "core/clock.h"

enum { ASK_MS = 1000 };

void gate_init(struct gate *gate, const struct line_options *options) {
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0 || pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) != 0 ||
        pthread_mutex_init(&gate->lock, NULL) != 0 || pthread_cond_init(&gate->changed, &monotonic) != 0)
        abort();
    (void)pthread_condattr_destroy(&monotonic);
    gate->line = line_new(options, clock_mono_us());
}

void gate_end(struct gate *gate) {
    line_destroy(&gate->line);
    (void)pthread_cond_destroy(&gate->changed);
    (void)pthread_mutex_destroy(&gate->lock);
}

enum status gate_standing(struct gate *gate, const struct patience *patience, struct why *why) {
    if (patience->is_unwanted && patience->is_unwanted(patience->ctx))
        return fail(why, ST_UNAVAILABLE, "nobody waits for the model any more");
    if (clock_mono_ms() < patience->deadline_ms)
        return line_status(gate->line, clock_mono_us(), why);
    if (patience->throttled.code == ERR_NONE)
        return fail(why, ST_TIMEOUT, "no turn at the model in time");
    *why = patience->throttled;
    return error_status(why->code);
}

void gate_sleep(struct gate *gate, const struct patience *patience) {
    int64_t until_us = clock_mono_us() + ASK_MS * 1000, deadline_us = patience->deadline_ms * 1000, wake_us = line_wake_us(gate->line);
    until_us = deadline_us < until_us ? deadline_us : until_us;
    until_us = wake_us < until_us ? wake_us : until_us;
    struct timespec until = { until_us / 1000000, until_us % 1000000 * 1000 };
    (void)pthread_cond_timedwait(&gate->changed, &gate->lock, &until);
}

/* With the lock held: let all go whose turn it is. */
static void let_go(struct gate *gate) {
    bool has_gone = false;
    while (line_next(gate->line, clock_mono_us()))
        has_gone = true;
    if (has_gone)
        (void)pthread_cond_broadcast(&gate->changed);
}

enum status gate_enter(struct gate *gate, struct turn *turn, bool is_again, const struct patience *patience, struct why *why) {
    enum status st = ST_OK;
    (void)pthread_mutex_lock(&gate->lock);
    if (is_again)
        line_rejoin(gate->line, turn, clock_mono_us());
    else
        line_join(gate->line, turn, clock_mono_us());
    let_go(gate);
    while (turn->state != TURN_GOES && (st = gate_standing(gate, patience, why)) == ST_OK) {
        gate_sleep(gate, patience);
        let_go(gate);
    }
    if (st != ST_OK) {
        line_withdraw(gate->line, turn);
        (void)pthread_cond_signal(&gate->changed);      /* somebody else keeps the time */
    }
    (void)pthread_mutex_unlock(&gate->lock);
    return st;
}

void gate_leave(struct gate *gate, struct turn *turn, enum line_outcome outcome, uint32_t tokens, int64_t asked_ms) {
    (void)pthread_mutex_lock(&gate->lock);
    line_leave(gate->line, turn, outcome, tokens, asked_ms, clock_mono_us());
    let_go(gate);
    (void)pthread_cond_broadcast(&gate->changed);
    (void)pthread_mutex_unlock(&gate->lock);
}

void gate_collect(struct gate *gate) {
    (void)pthread_mutex_lock(&gate->lock);
    line_collect(gate->line, clock_mono_us());
    (void)pthread_mutex_unlock(&gate->lock);
}
