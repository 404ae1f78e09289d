#include "service/stop.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/arena.h"
#include "service/service.h"

struct runtime_stop { int fd; atomic_bool is_set; };

struct runtime_stop *runtime_stop_new(void) {
    struct runtime_stop *stop = xalloc(sizeof *stop);
    stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop->fd < 0)
        abort();        /* no descriptor left at start */
    return stop;
}

void runtime_stop_destroy(struct runtime_stop **stop_p) {
    if (!*stop_p)
        return;
    (void)close((*stop_p)->fd);
    free(*stop_p);
    *stop_p = NULL;
}

void runtime_stop_set(struct runtime_stop *stop) {
    atomic_store(&stop->is_set, true);
    (void)eventfd_write(stop->fd, 1);
}

int runtime_stop_fd(const struct runtime *rt) {
    return rt->stop ? rt->stop->fd : -1;
}

int runtime_halt_fd(const struct runtime *rt) {
    return rt->halt ? rt->halt->fd : -1;
}

bool runtime_is_stopping(const struct runtime *rt) {
    return rt->stop && atomic_load(&rt->stop->is_set);
}

bool runtime_wait_stop(const struct runtime *rt, int64_t ms) {
    struct pollfd item = { runtime_stop_fd(rt), POLLIN, 0 };
    (void)poll(&item, 1, ms > 3600 * 1000 ? 3600 * 1000 : (int)ms);
    return runtime_is_stopping(rt);
}
