#include "core/cancel.h"

#include <poll.h>

static _Thread_local int cancelled_by = -1;

void cancel_on(int fd) {
    cancelled_by = fd;
}

int cancel_fd(void) {
    return cancelled_by;
}

bool cancel_is_due(void) {
    struct pollfd item = { cancelled_by, POLLIN, 0 };
    return cancelled_by >= 0 && poll(&item, 1, 0) > 0;
}
