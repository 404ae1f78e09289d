/* runner — every test in a process of its own, forked from one that has no threads. Ends with the line that
 * Criterion ends with. --filter=SUITE/NAME takes some of them (shell pattern); CORDON_TEST_PATIENCE multiplies
 * the timeouts, for tools that make programs slow. */
#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

enum { TIMEOUT_S = 60 };

static struct plain_test *tests;
static atomic_bool has_failed;

void plain_add(struct plain_test *test) {
    test->next = tests;
    tests = test;
}

void plain_check(bool holds, bool is_fatal, const char *file, int line, const char *what, const char *fmt, ...) {
    if (holds)
        return;
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)fprintf(stderr, "[----] %s:%d: %s%s\n", file, line, what, text);
    has_failed = true;
    if (is_fatal)
        _exit(EXIT_FAILURE);
}

void plain_skip(const char *why) {
    (void)fprintf(stderr, "[SKIP] %s\n", why);
    _exit(has_failed ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* In the place of libc's, which the thread sanitizer of clang 14 does not know: by those that it knows. */
int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *end) {
    struct timespec now, until;
    (void)clock_gettime(clock, &now);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    int64_t ns = until.tv_nsec + end->tv_nsec - now.tv_nsec + INT64_C(1000000000);
    until.tv_sec += end->tv_sec - now.tv_sec - 1 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    return sem_timedwait(sem, &until);
}

int pthread_clockjoin_np(pthread_t thread, void **ret_value, clockid_t clock, const struct timespec *end) {
    struct timespec now;
    int error;
    while ((error = pthread_tryjoin_np(thread, ret_value)) == EBUSY) {
        (void)clock_gettime(clock, &now);
        if (now.tv_sec > end->tv_sec || (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec))
            return ETIMEDOUT;
        (void)usleep(1000);
    }
    return error;
}

static const struct plain_options *suite_options(const char *suite) {
    static const struct plain_options NONE = { 0 };
    for (const struct plain_test *t = tests; t; t = t->next)
        if (!t->name && strcmp(t->suite, suite) == 0)
            return &t->options;
    return &NONE;
}

static void call(void (*function)(void)) {
    if (function)
        function();
}

/* In the child. */
static void run(const struct plain_test *t, const struct plain_options *suite, void *param) {
    const char *patience = getenv("CORDON_TEST_PATIENCE");
    double timeout = t->options.timeout > 0 ? t->options.timeout : suite->timeout > 0 ? suite->timeout : TIMEOUT_S;
    alarm((unsigned)(timeout * (patience ? atoi(patience) : 1)));
    call(suite->init);
    call(t->options.init);
    t->run(param);
    call(t->options.fini);
    call(suite->fini);
    exit(has_failed ? EXIT_FAILURE : EXIT_SUCCESS);
}

static bool passes(const struct plain_test *t, void *param) {
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        run(t, suite_options(t->suite), param);
    int state = 0;
    if (child < 0 || waitpid(child, &state, 0) != child)
        return false;
    bool is_right = t->options.signal ? WIFSIGNALED(state) && WTERMSIG(state) == t->options.signal
                                      : WIFEXITED(state) && WEXITSTATUS(state) == EXIT_SUCCESS;
    if (!is_right)
        (void)fprintf(stderr, "[FAIL] %s::%s (%s %d)\n", t->suite, t->name, WIFSIGNALED(state) ? "signal" : "status",
                      WIFSIGNALED(state) ? WTERMSIG(state) : WEXITSTATUS(state));
    return is_right;
}

int main(int argc, char **argv) {
    static const char FILTER[] = "--filter=";
    const char *filter = argc > 1 && strncmp(argv[1], FILTER, sizeof FILTER - 1) == 0 ? argv[1] + sizeof FILTER - 1 : NULL;
    unsigned passed = 0, failed = 0;
    for (const struct plain_test *t = tests; t; t = t->next) {
        char id[256];
        (void)snprintf(id, sizeof id, "%s/%s", t->suite, t->name ? t->name : "");
        if (!t->name || (filter && fnmatch(filter, id, 0) != 0))
            continue;
        struct plain_params params = t->params ? t->params() : (struct plain_params){ 0, NULL, 1 };
        for (size_t i = 0; i < params.count; i++) {
            if (passes(t, params.rows ? (char *)params.rows + i * params.size : NULL))
                passed++;
            else
                failed++;
        }
    }
    (void)fprintf(stderr, "[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: 0 \n", passed + failed, passed, failed);
    return failed > 0 || passed == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
