/* instant — RFC 3339 text as microseconds since 1970-01-01T00:00:00Z. clock_format is the way back. */
#ifndef CORDON_REST_INSTANT_H
#define CORDON_REST_INSTANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Strict: "2026-01-31T23:59:59[.1 to 6 digits](Z|+hh:mm|-hh:mm)". Leap seconds and impossible dates are refused. */
bool instant_parse(const char *text, size_t len, int64_t *ret_unix_us);

#endif
