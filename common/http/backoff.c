#include "http/backoff.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/cancel.h"
#include "core/clock.h"

int64_t backoff_jitter(int64_t most) {
    uint32_t bits;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        abort();
    return most > 0 ? (int64_t)bits % (most + 1) : 0;
}

bool backoff_wait(struct backoff *backoff, int64_t least_ms) {
    if (++backoff->tried >= backoff->attempts)
        return false;
    int64_t limit_ms = backoff->base_ms;
    for (unsigned i = 1; i < backoff->tried && limit_ms < backoff->cap_ms; i++)
        limit_ms *= 2;
    int64_t wait_ms = backoff_jitter(limit_ms < backoff->cap_ms ? limit_ms : backoff->cap_ms);
    if (wait_ms < least_ms)
        wait_ms = least_ms;
    if (clock_mono_ms() + wait_ms >= backoff->deadline_ms)
        return false;
    struct pollfd item = { cancel_fd(), POLLIN, 0 };
    for (int64_t until_ms = clock_mono_ms() + wait_ms, left_ms = wait_ms; left_ms > 0; left_ms = until_ms - clock_mono_ms())
        if (poll(&item, 1, (int)left_ms) > 0)
            return false;
    return true;
}
