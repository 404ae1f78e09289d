/* backoff — when to try again: full jitter (a random time up to a doubling limit), inside a deadline and a count
 * of attempts. In-place; belongs to one thread. */
#ifndef CORDON_HTTP_BACKOFF_H
#define CORDON_HTTP_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct backoff {
    int64_t base_ms, cap_ms;        /* limit of the first wait, and of every wait */
    int64_t deadline_ms;            /* clock_mono_ms() */
    unsigned attempts;              /* how many tries there may be in all */
    unsigned tried;                 /* by now; starts at 0 */
};

/* A try failed: sleep before the next, at least least_ms (Retry-After). False, without sleeping, when there
 * is no try left or the deadline would pass before it, nor when the thread is cancelled (core/cancel.h). */
bool backoff_wait(struct backoff *backoff, int64_t least_ms);

/* For waits of another shape: a random number from 0 to most. */
int64_t backoff_jitter(int64_t most);

#endif
