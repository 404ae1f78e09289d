/* worker — a thread of one's own that works in turns and rests between them, until it is stopped:
 *
 *     static void *run(void *arg) {
 *         struct thing *t = arg;
 *         do
 *             turn(t);
 *         while (worker_rests(&t->worker, TURN_EVERY_MS));
 *         return NULL;
 *     }
 *
 * Whoever starts it also stops it. Stopping ends a rest at once and waits for the turn under way. */
#ifndef CORDON_CORE_WORKER_H
#define CORDON_CORE_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/cleanup.h"

/* Zeroed: not started. */
struct worker {
    pthread_t thread;
    int stop_fd;        /* readable once it is to end */
    bool is_running;
};

/* run(arg) on a new thread. Without a thread to be had it aborts, as without memory: the supervisor restarts us. */
void worker_start(struct worker *w, void *(*run)(void *arg), void *arg);

/* By the thread itself: rest for ms. False: it is to end. */
bool worker_rests(const struct worker *w, int64_t ms);
/* The same, but the rest also ends when wake_fd is readable, which nobody reads here; -1: there is none. */
bool worker_rests_unless(const struct worker *w, int wake_fd, int64_t ms);
bool worker_is_stopping(const struct worker *w);

/* End the thread. Does nothing to one that was never started, or is stopped already. */
void worker_stop(struct worker *w);
/* The same, but wait only until deadline_ms (clock_mono_ms). False: it is still in its turn, with all that it uses. */
bool worker_stop_by(struct worker *w, int64_t deadline_ms) MUST_USE;

#endif
