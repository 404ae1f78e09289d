#include "support/measure.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/str.h"

enum { ROWS_MAX = 32, CALLERS_MAX = 64, RUNS_MAX = 25 };

struct samples { float *us; size_t count, size; };

struct caller {
    const struct bench_row *row;
    unsigned number;
    pthread_t thread;
    pthread_barrier_t *start;
    const atomic_bool *stop;
    struct samples samples;
    double sum_us;
};

struct outcome {
    struct samples all;
    double rates[RUNS_MAX];     /* sorted once all are there */
};

void bench_fail(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("bench: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

const char *bench_setting(const char *name) {
    const char *value = getenv(name);
    if (!value || !*value)
        bench_fail("%s is not set; ./cordon bench sets it", name);
    return value;
}

void bench_check(enum status st, const struct why *why, const char *what) {
    if (st != ST_OK)
        bench_fail("%s: %s: %s", what, status_name(st), why->text);
}

static int number(const char *name, int otherwise, int max) {
    int64_t value = otherwise;
    const char *text = getenv(name);
    if (text && *text && !str_to_i64(text, 1, max, &value))
        bench_fail("%s is no number from 1 to %d", name, max);
    return (int)value;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void stopwatch_restart(struct stopwatch *watch) {
    watch->began_ns = now_ns();
}

/* ---- one run of one row ---- */

static void samples_add(struct samples *s, const float *us, size_t count) {
    if (s->count + count > s->size) {
        s->size = (s->count + count) * 2 + 1024;
        s->us = realloc(s->us, s->size * sizeof *s->us);
        if (!s->us)
            bench_fail("out of memory");
    }
    memcpy(s->us + s->count, us, count * sizeof *us);
    s->count += count;
}

static void *call_repeatedly(void *arg) {
    struct caller *c = arg;
    void *state = c->row->begin(c->row->ctx, c->number);
    pthread_barrier_wait(c->start);
    do {
        struct stopwatch watch;
        stopwatch_restart(&watch);
        c->row->work(state, &watch);
        float us = (float)(now_ns() - watch.began_ns) / 1000;
        c->sum_us += us;
        samples_add(&c->samples, &us, 1);
    } while (!atomic_load_explicit(c->stop, memory_order_relaxed));
    if (c->row->end)
        c->row->end(state);
    return NULL;
}

/* Units per second, by the time that operations took: preparation does not count. Adds to all. */
static double run(const struct bench_row *row, int ms, struct samples *all) {
    static struct caller callers[CALLERS_MAX];
    atomic_bool stop = false;
    pthread_barrier_t start;
    double rate = 0;
    pthread_barrier_init(&start, NULL, row->callers + 1);
    for (unsigned i = 0; i < row->callers; i++) {
        callers[i] = (struct caller){ .row = row, .number = i, .start = &start, .stop = &stop };
        if (pthread_create(&callers[i].thread, NULL, call_repeatedly, &callers[i]) != 0)
            bench_fail("no thread");
    }
    pthread_barrier_wait(&start);
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
    stop = true;
    for (unsigned i = 0; i < row->callers; i++) {
        pthread_join(callers[i].thread, NULL);
        rate += (double)callers[i].samples.count * row->units / callers[i].sum_us * 1e6;
        if (all)
            samples_add(all, callers[i].samples.us, callers[i].samples.count);
        free(callers[i].samples.us);
    }
    pthread_barrier_destroy(&start);
    return rate;
}

/* ---- printing ---- */

static int by_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct samples *s, double q) {
    return (double)s->us[(size_t)(q * (double)(s->count - 1))];
}

/* Three digits, thousands set apart. */
static const char *number_text(double v, char out[32]) {
    if (v < 1000)
        snprintf(out, 32, v < 10 ? "%.2f" : v < 100 ? "%.1f" : "%.0f", v);
    else if (v < 1e6)
        snprintf(out, 32, "%d,%03d", (int)v / 1000, (int)v % 1000);
    else
        snprintf(out, 32, "%d,%03d,%03d", (int)(v / 1e6), (int)v / 1000 % 1000, (int)v % 1000);
    return out;
}

static const char *time_text(double us, char out[32]) {
    char digits[32];
    snprintf(out, 32, us < 1000 ? "%.20s us" : "%.20s ms", number_text(us < 1000 ? us : us / 1000, digits));
    return out;
}

static const char *processor(char out[128]) {
    char line[256];
    snprintf(out, 128, "unknown processor");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (str_starts_with(line, "model name") && strchr(line, ':')) {
            line[strcspn(line, "\n")] = 0;
            snprintf(out, 128, "%.120s", strchr(line, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
    return out;
}

static void print_row(const struct bench_row rows[], const struct outcome outcomes[], size_t i, int runs) {
    char rate[32], p50[32], p99[32], low[32], high[32], ratio[48] = "";
    const struct bench_row *row = &rows[i];
    const struct outcome *o = &outcomes[i];
    double share = row->against == NO_ROW ? 0 : o->rates[runs / 2] / outcomes[row->against].rates[runs / 2];
    if (row->against != NO_ROW)
        snprintf(ratio, sizeof ratio, "%.*f of row %d", share < 0.1 ? 3 : 2, share, row->against + 1);
    printf("| %zu | %s | %u | %s %s/s | %s to %s | %s | %s | %s |\n", i + 1, row->name, row->callers,
           number_text(o->rates[runs / 2], rate), row->unit, number_text(o->rates[0], low), number_text(o->rates[runs - 1], high),
           time_text(quantile(&o->all, 0.5), p50), time_text(quantile(&o->all, 0.99), p99), ratio);
}

static void print_json(const char *bench, double load, const struct bench_row rows[], const struct outcome outcomes[],
                       size_t count, int runs, int run_ms) {
    char cpu[128];
    printf("{\"bench\":\"%s\",\"processor\":\"%s\",\"cores\":%ld,\"load_before\":%.2f,\"runs\":%d,\"run_ms\":%d,\"rows\":[", bench,
           processor(cpu), sysconf(_SC_NPROCESSORS_ONLN), load, runs, run_ms);
    for (size_t i = 0; i < count; i++) {
        const struct outcome *o = &outcomes[i];
        printf("%s{\"name\":\"%s\",\"callers\":%u,\"unit\":\"%s\",\"rate\":%.2f,\"rate_low\":%.2f,\"rate_high\":%.2f,\"p50_us\":%.1f,\"p99_us\":%.1f",
               i ? "," : "", rows[i].name, rows[i].callers, rows[i].unit, o->rates[runs / 2], o->rates[0], o->rates[runs - 1],
               quantile(&o->all, 0.5), quantile(&o->all, 0.99));
        if (rows[i].against != NO_ROW)
            printf(",\"against\":%d,\"ratio\":%.3f", rows[i].against, o->rates[runs / 2] / outcomes[rows[i].against].rates[runs / 2]);
        printf("}");
    }
    printf("]}\n");
}

static void print(const char *bench, const char *about, double load, const struct bench_row rows[],
                  const struct outcome outcomes[], size_t count, int runs, int run_ms) {
    char cpu[128];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    printf("### %s\n\n", bench);
    if (about)
        printf("%s\n\n", about);
    printf("%s, %ld cores, load %.2f before the start; %d runs of %d ms of each row, taken in turns.%s\n\n", processor(cpu), cores, load,
           runs, run_ms, load > (double)cores ? " **The machine was busy: read the ratios, not the figures.**" : "");
    printf("| row | what | callers | rate, median | runs | p50 | p99 | ratio |\n|--:|---|--:|--:|--:|--:|--:|---|\n");
    for (size_t i = 0; i < count; i++)
        print_row(rows, outcomes, i, runs);
    printf("\n");
    print_json(bench, load, rows, outcomes, count, runs, run_ms);
    if (fflush(stdout) != 0)
        bench_fail("cannot write");
}

void measure(const char *bench, const char *about, const struct bench_row rows[], size_t count) {
    static struct outcome outcomes[ROWS_MAX];
    int runs = number("BENCH_RUNS", 5, RUNS_MAX), run_ms = number("BENCH_RUN_MS", 1000, 60000);
    double load = 0;
    if (count > ROWS_MAX)
        bench_fail("more than %d rows", ROWS_MAX);
    /* as it was before ./cordon bench began to build and start things, when it says so */
    const char *before = getenv("BENCH_LOAD_BEFORE");
    if (before)
        load = strtod(before, NULL);
    else
        (void)getloadavg(&load, 1);
    if (getenv("BENCH_ROW")) {          /* that one by itself, for a profiler */
        const struct bench_row *row = &rows[number("BENCH_ROW", 1, (int)count) - 1];
        double rate = run(row, run_ms, &outcomes[0].all);
        qsort(outcomes[0].all.us, outcomes[0].all.count, sizeof(float), by_float);
        printf("%s, %u callers: %.0f %s/s, p50 %.0f us, p99 %.0f us\n", row->name, row->callers, rate, row->unit,
               quantile(&outcomes[0].all, 0.5), quantile(&outcomes[0].all, 0.99));
        (void)fflush(stdout);       /* some programs end by _exit */
        return;
    }
    for (size_t i = 0; i < count; i++)
        (void)run(&rows[i], run_ms / 3 + 1, NULL);
    for (int r = 0; r < runs; r++)
        for (size_t i = 0; i < count; i++)
            outcomes[i].rates[r] = run(&rows[i], run_ms, &outcomes[i].all);
    for (size_t i = 0; i < count; i++) {
        qsort(outcomes[i].rates, (size_t)runs, sizeof(double), by_double);
        qsort(outcomes[i].all.us, outcomes[i].all.count, sizeof(float), by_float);
    }
    print(bench, about, load, rows, outcomes, count, runs, run_ms);
}
