/* pace — how much may be on its way to one model: what it has shown to bear (a window that grows by one for each window of
 * successes and shrinks by a third at a throttle or failure: AIMD), and what the account is allowed in a minute. Pure state: times are
 * clock_mono_us(), given by the caller. Not thread-safe. */
#ifndef CORDON_EMBEDDING_PACE_H
#define CORDON_EMBEDDING_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Somebody waits for an interactive call. Batch leaves it a part of everything: of the window an eighth, at least one; of
 * what is allowed in a minute a fifth. */
enum pace_class { PACE_INTERACTIVE, PACE_BATCH, PACE_CLASSES };

/* A bucket of what a minute allows; it holds five seconds of it. */
struct pace_bucket { double level, size, per_us; int64_t at_us; };

struct pace {
    double window, most;                        /* calls at once */
    unsigned in_flight[PACE_CLASSES];
    unsigned throttles;                         /* in a row */
    uint64_t shrunk_count;
    int64_t paused_until_us[PACE_CLASSES];
    struct pace_bucket requests, tokens;        /* size 0: no limit */
};

/* most: calls at once, from 2. A minute's requests and tokens; 0: no limit. */
void pace_init(struct pace *pace, unsigned most, int64_t requests, int64_t tokens, int64_t now_us);

/* May a call of class go? If not, *ret_us is when to ask again unless a call ends before; INT64_MAX: not before that. */
bool pace_may_go(struct pace *pace, enum pace_class class, int64_t now_us, int64_t *ret_us);

/* It goes, with about so many tokens. Returns what pace_throttled wants to know. */
uint64_t pace_begin(struct pace *pace, enum pace_class class, uint32_t tokens);
/* It has ended, and took so many instead. */
void pace_end(struct pace *pace, enum pace_class class, uint32_t expected_tokens, uint32_t tokens);
/* And was good. */
void pace_succeeded(struct pace *pace);
/* Or failed, or was not answered in time: who is overloaded often says nothing else. */
void pace_failed(struct pace *pace, uint64_t begun);
/* Or was throttled. begun: of its pace_begin, so that one refusal of many calls counts once. asked_ms: Retry-After, 0 for none. */
void pace_throttled(struct pace *pace, uint64_t begun, int64_t asked_ms, int64_t now_us);

#endif
