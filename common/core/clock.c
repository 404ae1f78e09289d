#include "core/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t now_us(clockid_t id) {
    struct timespec t;
    (void)clock_gettime(id, &t);        /* cannot fail for these two clocks */
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_mono_us(void) { return now_us(CLOCK_MONOTONIC); }
int64_t clock_mono_ms(void) { return clock_mono_us() / 1000; }
int64_t clock_unix_us(void) { return now_us(CLOCK_REALTIME); }

const char *clock_format(int64_t unix_us, char out[CLOCK_TEXT_BYTES]) {
    static const int64_t MIN_US = -62167219200LL * 1000000, MAX_US = 253402300799LL * 1000000 + 999999;
    int64_t us = unix_us < MIN_US ? MIN_US : unix_us > MAX_US ? MAX_US : unix_us;
    int64_t fraction = us % 1000000;
    time_t seconds = (time_t)(us / 1000000);
    if (fraction < 0) {
        fraction += 1000000;
        seconds--;
    }
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(out, CLOCK_TEXT_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", (unsigned)(tm.tm_year + 1900) % 10000u,
                   (unsigned)(tm.tm_mon + 1) % 100u, (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
                   (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u, (unsigned)fraction % 1000000u);
    return out;
}
