/* clock — monotonic time for budgets, real time for records. */
#ifndef CORDON_CORE_CLOCK_H
#define CORDON_CORE_CLOCK_H

#include <stdint.h>

enum { CLOCK_TEXT_BYTES = 28 };         /* "2026-01-31T23:59:59.123456Z" and its NUL */

int64_t clock_mono_ms(void);            /* milliseconds since some fixed point; never goes back */
int64_t clock_mono_us(void);
int64_t clock_unix_us(void);            /* microseconds since 1970-01-01T00:00:00Z */

/* RFC 3339 UTC with microseconds into out; returns out. Years 0000 to 9999; clamped outside. */
const char *clock_format(int64_t unix_us, char out[CLOCK_TEXT_BYTES]);

#endif
