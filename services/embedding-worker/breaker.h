/* breaker — a model that is away is not asked again and again by everybody. After some failures in a row, and five seconds
 * without a success (of one that is overloaded some calls succeed), it is open: calls are refused at once, with when to come
 * back. When that time is over, one call is let through; its success closes the breaker, its failure opens it for twice as
 * long. Pure state: times are clock_mono_us(). Not thread-safe. */
#ifndef CORDON_EMBEDDING_BREAKER_H
#define CORDON_EMBEDDING_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

struct breaker {
    unsigned most_failures;         /* in a row, which open it; 0: never */
    unsigned failures, openings;    /* in a row */
    int64_t good_us;                /* of the last success; 0: there was none */
    int64_t open_until_us;          /* 0: closed */
    bool is_trying;                 /* half open: the one call is on its way */
};

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };

/* How long calls are still refused; 0: they are not, or one may try. */
int64_t breaker_left_us(const struct breaker *breaker, int64_t now_us);
enum breaker_state breaker_state(const struct breaker *breaker, int64_t now_us);
/* May a call go? Half open, one may. */
bool breaker_may_go(const struct breaker *breaker, int64_t now_us);
/* It goes. True when it is that one. */
bool breaker_begin(struct breaker *breaker);
void breaker_succeeded(struct breaker *breaker, int64_t now_us);
/* True: it has opened by this. is_trial: what breaker_begin said of the call, as below. */
bool breaker_failed(struct breaker *breaker, bool is_trial, int64_t now_us);
/* The call ended for a reason that says nothing of the model. */
void breaker_unknown(struct breaker *breaker, bool is_trial);

#endif
