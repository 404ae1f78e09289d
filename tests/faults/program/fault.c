/* fault — the tests' implementation of core/fault.h: looks into the folder CORDON_FAULT_DIR for a file
 * <point>, or <point>@<program>, that says what shall happen there:
 *
 *   kill | stop | fail | delay <ms> | try <what,what>   [after <n>]     after: let n of them pass first
 *
 * try: what a process that was taken over would do (trials.c); how it went is in <point>.tried.<pid>.
 *
 * Whoever renames the file away has claimed it, so that one arming fires once over all processes; it leaves
 * <point>.fired.<pid> (moved into place before anything happens). Binaries that hold this refuse production. */
#include "core/fault.h"
#include "trials.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const NAMES[] = {
#define FAULT(id, name, process, what) name,
#include "core/faults.def"
#undef FAULT
};

enum { PATH_BYTES = 512, ORDER_BYTES = 512 };

static char folder[PATH_BYTES / 2];        /* read before main(): settings take the environment away; "" without one */

struct order { char verb[8], trials[ORDER_BYTES]; int delay_ms, after; };

static void __attribute__((constructor)) begin(void) {
    const char *environment = getenv("ENVIRONMENT"), *dir = getenv("CORDON_FAULT_DIR");
    if (dir)
        (void)snprintf(folder, sizeof folder, "%s", dir);
    if (environment && strcmp(environment, "production") == 0) {
        static const char TEXT[] = "these binaries have fault points in them and are for tests only\n";
        (void)!write(STDERR_FILENO, TEXT, sizeof TEXT - 1);
        _exit(78);      /* EX_CONFIG */
    }
}

static bool read_order(const char *path, struct order *ret_order) {
    char text[ORDER_BYTES] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    struct order order = { 0 };
    char *rest = NULL;
    for (char *word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        if (strcmp(word, "try") == 0) {
            const char *trials = strtok_r(NULL, " \n", &rest);
            (void)snprintf(order.trials, sizeof order.trials, "%s", trials ? trials : "");
        } else if (strcmp(word, "after") == 0 || strcmp(word, "delay") == 0) {
            const char *number = strtok_r(NULL, " \n", &rest);
            int value = number ? (int)strtol(number, NULL, 10) : 0;
            *(*word == 'a' ? &order.after : &order.delay_ms) = value;
        }
        if (strcmp(word, "after") != 0)
            (void)snprintf(order.verb, sizeof order.verb, "%s", word);
    }
    *ret_order = order;
    return true;
}

/* Put the order back, one less to let pass. Whole or not at all: others read it at any moment. */
static void put_back(const char *claimed, const char *path, const struct order *order) {
    FILE *f = fopen(claimed, "we");
    if (!f)
        return;
    if (order->delay_ms)
        (void)fprintf(f, "delay %d after %d\n", order->delay_ms, order->after - 1);
    else
        (void)fprintf(f, "%s after %d\n", order->verb, order->after - 1);
    if (fclose(f) == 0)
        (void)rename(claimed, path);
}

/* True: the file was ours, and *ret_order shall happen now. */
static bool take(const char *name, const char *program, struct order *ret_order) {
    char path[PATH_BYTES], claimed[PATH_BYTES], fired[PATH_BYTES];
    const char *at = *program ? "@" : "";
    (void)snprintf(path, sizeof path, "%s/%s%s%s", folder, name, at, program);
    (void)snprintf(claimed, sizeof claimed, "%s/%s%s%s.claimed.%ld", folder, name, at, program, (long)getpid());
    (void)snprintf(fired, sizeof fired, "%s/%s%s%s.fired.%ld", folder, name, at, program, (long)getpid());
    if (access(path, R_OK) != 0 || rename(path, claimed) != 0 || !read_order(claimed, ret_order))
        return false;
    if (ret_order->after > 0) {
        put_back(claimed, path, ret_order);
        return false;
    }
    return rename(claimed, fired) == 0;
}

static bool happens(enum fault at, struct order *ret_order) {
    return *folder && (take(NAMES[at], "", ret_order) || take(NAMES[at], program_invocation_short_name, ret_order));
}

static void tell(const char *path, const char *line) {
    FILE *f = fopen(path, "ae");
    if (!f)
        return;
    (void)fprintf(f, "%s\n", line);
    (void)fclose(f);
}

/* A line before each, so that a trial which ends the process has said what it was, and one with what came of it. */
static void make_trials(const char *point, char *words) {
    char path[PATH_BYTES], result[TRIAL_RESULT_BYTES], *rest = NULL;
    (void)snprintf(path, sizeof path, "%s/%s.tried.%ld", folder, point, (long)getpid());
    for (char *word = strtok_r(words, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        (void)snprintf(result, sizeof result, "%s begun", word);
        tell(path, result);
        trial_run(word, result);
        tell(path, result);
    }
    tell(path, "end");
}

static void obey(const char *point, struct order *order) {
    if (*order->trials)
        make_trials(point, order->trials);
    if (strcmp(order->verb, "kill") == 0)
        (void)kill(getpid(), SIGKILL);
    if (strcmp(order->verb, "stop") == 0)
        (void)kill(getpid(), SIGSTOP);
    struct timespec left = { order->delay_ms / 1000, order->delay_ms % 1000 * 1000000 };
    while (order->delay_ms && nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

void fault_point(enum fault at) {
    struct order order;
    if (happens(at, &order))
        obey(NAMES[at], &order);
}

enum status fault_status(enum fault at, struct why *why) {
    struct order order;
    if (!happens(at, &order))
        return ST_OK;
    obey(NAMES[at], &order);
    return strcmp(order.verb, "fail") == 0 ? fail(why, ST_UNAVAILABLE, "fault: %s", NAMES[at]) : ST_OK;
}

const struct fault_needs *fault_needs(void) {
    static const char *const CALLS[] = { "rename", "renameat2", "kill", NULL };
    static const struct fault_needs NEEDS = { folder, CALLS };
    return &NEEDS;
}
