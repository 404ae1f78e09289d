#include "core/worker.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

void worker_start(struct worker *w, void *(*run)(void *arg), void *arg) {
    w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->stop_fd < 0 || pthread_create(&w->thread, NULL, run, arg) != 0)
        abort();
    w->is_running = true;
}

bool worker_rests_unless(const struct worker *w, int wake_fd, int64_t ms) {
    struct pollfd fds[] = { { .fd = w->stop_fd, .events = POLLIN }, { .fd = wake_fd, .events = POLLIN } };
    int64_t until_ms = clock_mono_ms() + ms;
    for (int64_t left_ms = ms;; left_ms = until_ms - clock_mono_ms()) {
        int ready = poll(fds, 2, left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : (int)left_ms);
        if (ready > 0 && fds[0].revents)
            return false;
        if (ready > 0 || left_ms <= 0)
            return true;
    }
}

bool worker_rests(const struct worker *w, int64_t ms) {
    return worker_rests_unless(w, -1, ms);
}

bool worker_is_stopping(const struct worker *w) {
    return !worker_rests(w, 0);
}

static void has_ended(struct worker *w) {
    close(w->stop_fd);
    w->is_running = false;
}

void worker_stop(struct worker *w) {
    if (!w->is_running)
        return;
    eventfd_write(w->stop_fd, 1);
    pthread_join(w->thread, NULL);
    has_ended(w);
}

bool worker_stop_by(struct worker *w, int64_t deadline_ms) {
    if (!w->is_running)
        return true;
    struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000 };
    eventfd_write(w->stop_fd, 1);
    if (pthread_clockjoin_np(w->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        return false;
    has_ended(w);
    return true;
}
