#include "pace.h"

#include "http/backoff.h"

enum { SECOND_US = 1000000, BURST_S = 5, WINDOW_LEAST = 2, PAUSE_MS = 100, PAUSE_DOUBLINGS = 5, INTERACTIVE_PAUSE_PART = 8 };

static const double SHRINK = 0.7, BATCH_LEAVES = 0.2;

static struct pace_bucket bucket(int64_t a_minute, int64_t now_us) {
    double size = (double)a_minute / 60 * BURST_S;
    size = a_minute > 0 && size < 1 ? 1 : size;
    return (struct pace_bucket){ .level = size, .size = size, .per_us = (double)a_minute / 60 / SECOND_US, .at_us = now_us };
}

void pace_init(struct pace *pace, unsigned most, int64_t requests, int64_t tokens, int64_t now_us) {
    *pace = (struct pace){ .window = most, .most = most, .requests = bucket(requests, now_us), .tokens = bucket(tokens, now_us) };
}

/* Microseconds until class may take from it; 0: now. What a call takes is known when it ends, so the level may go below 0. */
static int64_t bucket_wait(struct pace_bucket *b, enum pace_class class, double wanted, int64_t now_us) {
    if (b->size <= 0)
        return 0;
    b->level += (double)(now_us - b->at_us) * b->per_us;
    b->level = b->level > b->size ? b->size : b->level;
    b->at_us = now_us;
    double least = class == PACE_BATCH ? b->size * BATCH_LEAVES + wanted : wanted;
    least = least > b->size ? b->size : least;
    return b->level >= least ? 0 : (int64_t)((least - b->level) / b->per_us) + 1;
}

bool pace_may_go(struct pace *pace, enum pace_class class, int64_t now_us, int64_t *ret_us) {
    unsigned window = (unsigned)pace->window, kept = window / 8 ? window / 8 : 1;
    *ret_us = INT64_MAX;
    if (pace->in_flight[PACE_INTERACTIVE] + pace->in_flight[PACE_BATCH] >= window ||
        (class == PACE_BATCH && pace->in_flight[PACE_BATCH] >= window - kept))
        return false;
    int64_t wait_us = pace->paused_until_us[class] - now_us;
    int64_t requests_us = bucket_wait(&pace->requests, class, 1, now_us), tokens_us = bucket_wait(&pace->tokens, class, 1, now_us);
    wait_us = wait_us < requests_us ? requests_us : wait_us;
    wait_us = wait_us < tokens_us ? tokens_us : wait_us;
    if (wait_us <= 0)
        return true;
    *ret_us = now_us + wait_us;
    return false;
}

uint64_t pace_begin(struct pace *pace, enum pace_class class, uint32_t tokens) {
    pace->in_flight[class]++;
    pace->requests.level--;
    pace->tokens.level -= tokens;
    return pace->shrunk_count;
}

void pace_end(struct pace *pace, enum pace_class class, uint32_t expected_tokens, uint32_t tokens) {
    pace->in_flight[class]--;
    pace->tokens.level += (double)expected_tokens - tokens;
}

void pace_succeeded(struct pace *pace) {
    unsigned others = pace->in_flight[PACE_INTERACTIVE] + pace->in_flight[PACE_BATCH];
    pace->throttles = 0;
    if (others + 1 + pace->window / 4 >= pace->window)      /* what was not tried was not borne */
        pace->window += 1 / pace->window;
    pace->window = pace->window > pace->most ? pace->most : pace->window;
}

/* True: begun since it last shrank. */
static bool shrink(struct pace *pace, uint64_t begun) {
    if (begun != pace->shrunk_count)
        return false;
    pace->window = pace->window * SHRINK > WINDOW_LEAST ? pace->window * SHRINK : WINDOW_LEAST;
    pace->shrunk_count++;
    return true;
}

void pace_failed(struct pace *pace, uint64_t begun) {
    (void)shrink(pace, begun);
}

void pace_throttled(struct pace *pace, uint64_t begun, int64_t asked_ms, int64_t now_us) {
    if (!shrink(pace, begun))
        return;
    int64_t ms = (int64_t)PAUSE_MS << (pace->throttles < PAUSE_DOUBLINGS ? pace->throttles : PAUSE_DOUBLINGS);
    pace->throttles++;
    ms = ms / 2 + backoff_jitter(ms / 2);
    int64_t interactive_ms = ms / INTERACTIVE_PAUSE_PART;
    pace->paused_until_us[PACE_BATCH] = now_us + (ms > asked_ms ? ms : asked_ms) * 1000;
    pace->paused_until_us[PACE_INTERACTIVE] = now_us + (interactive_ms > asked_ms ? interactive_ms : asked_ms) * 1000;
}
