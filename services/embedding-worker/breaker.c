#include "breaker.h"

enum { OPEN_MS = 1000, DOUBLINGS = 4, QUIET_US = 5000000 };

int64_t breaker_left_us(const struct breaker *breaker, int64_t now_us) {
    return breaker->open_until_us > now_us ? breaker->open_until_us - now_us : 0;
}

enum breaker_state breaker_state(const struct breaker *breaker, int64_t now_us) {
    return breaker->open_until_us == 0 ? BREAKER_CLOSED : breaker_left_us(breaker, now_us) > 0 ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

bool breaker_may_go(const struct breaker *breaker, int64_t now_us) {
    enum breaker_state state = breaker_state(breaker, now_us);
    return state == BREAKER_CLOSED || (state == BREAKER_HALF_OPEN && !breaker->is_trying);
}

bool breaker_begin(struct breaker *breaker) {
    breaker->is_trying = breaker->open_until_us != 0;
    return breaker->is_trying;
}

void breaker_succeeded(struct breaker *breaker, int64_t now_us) {
    breaker->good_us = now_us;
    breaker->failures = breaker->openings = 0;
    breaker->open_until_us = 0;
    breaker->is_trying = false;
}

bool breaker_failed(struct breaker *breaker, bool is_trial, int64_t now_us) {
    breaker_unknown(breaker, is_trial);
    breaker->failures++;
    bool is_open = breaker->open_until_us != 0;     /* of calls that began before, nobody need hear */
    bool has_succeeded_lately = breaker->good_us != 0 && now_us - breaker->good_us < QUIET_US;
    if (breaker->most_failures == 0 || (is_open ? !is_trial : breaker->failures < breaker->most_failures || has_succeeded_lately))
        return false;
    breaker->open_until_us = now_us + ((int64_t)OPEN_MS << (breaker->openings < DOUBLINGS ? breaker->openings : DOUBLINGS)) * 1000;
    breaker->openings++;
    return true;
}

void breaker_unknown(struct breaker *breaker, bool is_trial) {
    breaker->is_trying = breaker->is_trying && !is_trial;
}
