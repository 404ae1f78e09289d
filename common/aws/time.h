/* time — AWS's spelling of a moment in its answers: "2026-01-31T23:59:59Z", fractions allowed. Pure. */
#ifndef CORDON_AWS_TIME_H
#define CORDON_AWS_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* Unix time in microseconds; false for anything else. */
bool aws_time_parse(const char *text, int64_t *ret_unix_us);

#endif
