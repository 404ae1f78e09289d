#include "core/clock.h"

#include <string.h>
#include <time.h>

static int64_t now_us(clockid_t id) {
    struct timespec t;
    (void)clock_gettime(id, &t);        /* cannot fail for these two clocks */
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_mono_us(void) { return now_us(CLOCK_MONOTONIC); }
int64_t clock_mono_ms(void) { return clock_mono_us() / 1000; }
int64_t clock_unix_us(void) { return now_us(CLOCK_REALTIME); }

static void put_digits(char *at, int count, int64_t value) {
    for (; count > 0; value /= 10)
        at[--count] = (char)('0' + value % 10);
}

/* Not by gmtime_r, which takes a lock that all threads share, nor by printf: the log of what happened has two times a line. */
const char *clock_format(int64_t unix_us, char out[CLOCK_TEXT_BYTES]) {
    enum { DAY_S = 86400, ERA_DAYS = 146097, ERA_YEARS = 400 };
    static const int64_t MIN_US = -62167219200LL * 1000000, MAX_US = 253402300799LL * 1000000 + 999999;
    int64_t us = (unix_us < MIN_US ? MIN_US : unix_us > MAX_US ? MAX_US : unix_us) - MIN_US;    /* since the year 0 began */
    int64_t second = us / 1000000 % DAY_S, day = us / 1000000 / DAY_S + ERA_DAYS - 60;          /* since a 1st of March, 400 years before that of the year 0 */
    int64_t of_era = day % ERA_DAYS;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t march_month = (5 * of_year + 2) / 153, month = march_month < 10 ? march_month + 3 : march_month - 9;
    memcpy(out, "0000-00-00T00:00:00.000000Z", CLOCK_TEXT_BYTES);
    put_digits(out, 4, (day / ERA_DAYS - 1) * ERA_YEARS + year_of_era + (month <= 2));
    put_digits(out + 5, 2, month);
    put_digits(out + 8, 2, of_year - (153 * march_month + 2) / 5 + 1);
    put_digits(out + 11, 2, second / 3600);
    put_digits(out + 14, 2, second / 60 % 60);
    put_digits(out + 17, 2, second % 60);
    put_digits(out + 20, 6, us % 1000000);
    return out;
}
