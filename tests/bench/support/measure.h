/* measure — runs rows of a table against each other in one process, turn by turn, so that what disturbs
 * the machine disturbs all of them, and prints what came out: a Markdown table and one line of JSON.
 *
 * A row is a number of callers, each a thread that repeats one operation as fast as it gets answers. Its
 * rate is the median over the runs, p50 and p99 are over every operation of all runs. Environment:
 * BENCH_RUNS (5), BENCH_RUN_MS (1000); BENCH_ROW runs that row only, once, for a profiler. Programs end with a message on stderr when something fails: a
 * figure of half a run is worth nothing. */
#ifndef CORDON_BENCH_MEASURE_H
#define CORDON_BENCH_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "core/cleanup.h"
#include "core/status.h"

enum { NO_ROW = -1 };

/* Of one operation; started by measure(). */
struct stopwatch { int64_t began_ns; };

void stopwatch_restart(struct stopwatch *watch);        /* what came before was preparation */

struct bench_row {
    const char *name;
    unsigned callers;
    double units;               /* done by one operation */
    const char *unit;           /* "calls", "MB" */
    int against;                /* index of the row that this one is compared with, or NO_ROW */
    void *ctx;
    void *(*begin)(void *ctx, unsigned caller);         /* on the caller's thread, before each run */
    void (*work)(void *state, struct stopwatch *watch);
    void (*end)(void *state);                           /* or NULL */
};

/* about: one line under the heading, or NULL. */
void measure(const char *bench, const char *about, const struct bench_row rows[], size_t count);

_Noreturn void bench_fail(const char *fmt, ...) PRINTF(1, 2);
/* The variable's value, which must be there. */
const char *bench_setting(const char *name);
/* ST_OK, or bench_fail. */
void bench_check(enum status st, const struct why *why, const char *what);

#endif
