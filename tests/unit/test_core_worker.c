#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/worker.h"

enum { FOR_EVER_MS = 3600 * 1000 };

struct rig {
    struct worker worker;
    int wake_fd;
    int64_t rest_ms;
    atomic_int turns;
    sem_t in_turn, may_end;     /* for a turn that takes as long as the test wants */
};

static void *rest_between_turns(void *arg) {
    struct rig *r = arg;
    do
        atomic_fetch_add(&r->turns, 1);
    while (worker_rests_unless(&r->worker, r->wake_fd, r->rest_ms));
    return NULL;
}

static void *take_one_long_turn(void *arg) {
    struct rig *r = arg;
    sem_post(&r->in_turn);
    sem_wait(&r->may_end);
    atomic_fetch_add(&r->turns, 1);
    (void)worker_rests(&r->worker, FOR_EVER_MS);
    return NULL;
}

static void await_turns(struct rig *r, int count) {
    while (atomic_load(&r->turns) < count)
        usleep(1000);
}

Test(worker, takes_turns_until_it_is_stopped) {
    struct rig r = { .wake_fd = -1, .rest_ms = 1 };
    worker_start(&r.worker, rest_between_turns, &r);
    await_turns(&r, 3);
    worker_stop(&r.worker);
    cr_assert(!r.worker.is_running);
}

Test(worker, a_rest_ends_at_once_when_it_is_stopped) {
    struct rig r = { .wake_fd = -1, .rest_ms = FOR_EVER_MS };
    worker_start(&r.worker, rest_between_turns, &r);
    await_turns(&r, 1);
    worker_stop(&r.worker);
    cr_assert_eq(atomic_load(&r.turns), 1);
}

Test(worker, a_rest_ends_when_there_is_something_to_do) {
    struct rig r = { .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .rest_ms = FOR_EVER_MS };
    worker_start(&r.worker, rest_between_turns, &r);
    await_turns(&r, 1);
    eventfd_write(r.wake_fd, 1);
    await_turns(&r, 3);         /* nobody has read it */
    worker_stop(&r.worker);
    close(r.wake_fd);
}

Test(worker, a_turn_under_way_outlives_a_deadline_and_is_waited_for_without_one) {
    struct rig r = { .wake_fd = -1 };
    sem_init(&r.in_turn, 0, 0);
    sem_init(&r.may_end, 0, 0);
    worker_start(&r.worker, take_one_long_turn, &r);
    sem_wait(&r.in_turn);
    cr_assert(!worker_stop_by(&r.worker, clock_mono_ms() + 20));
    cr_assert(worker_is_stopping(&r.worker));
    cr_assert_eq(atomic_load(&r.turns), 0);
    sem_post(&r.may_end);
    worker_stop(&r.worker);
    cr_assert_eq(atomic_load(&r.turns), 1);
}

Test(worker, one_that_was_never_started_or_is_stopped_already_is_stopped_again_for_nothing) {
    struct rig r = { .wake_fd = -1, .rest_ms = FOR_EVER_MS };
    worker_stop(&r.worker);
    cr_assert(worker_stop_by(&r.worker, 0));
    worker_start(&r.worker, rest_between_turns, &r);
    cr_assert(worker_stop_by(&r.worker, clock_mono_ms() + FOR_EVER_MS));
    worker_stop(&r.worker);
}
