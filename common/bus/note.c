#include "bus/note.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

const char NOTE_ADDRESS[] = "inproc://bus";

enum { WAIT_MAX_MS = 60 * 1000 };

bool route_id_equal(const struct route_id *a, const struct route_id *b) {
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

void *note_socket(void *zmq_context) {
    static const int NONE = 0;
    void *socket = zmq_socket(zmq_context, ZMQ_DEALER);
    if (!socket)
        abort();        /* out of sockets or memory: the limits are ours */
    /* No high-water mark inside the process: the window and the call table bound what is under way. */
    (void)zmq_setsockopt(socket, ZMQ_SNDHWM, &NONE, sizeof NONE);
    (void)zmq_setsockopt(socket, ZMQ_RCVHWM, &NONE, sizeof NONE);
    (void)zmq_setsockopt(socket, ZMQ_LINGER, &NONE, sizeof NONE);
    if (zmq_connect(socket, NOTE_ADDRESS) != 0)
        abort();
    return socket;
}

static void send_bytes(void *socket, const void *data, size_t len, int flags) {
    while (zmq_send(socket, data, len, flags) < 0 && errno == EINTR)
        ;
}

void note_send(void *socket, const struct route_id *to, const struct note *note, zmq_msg_t *frame) {
    if (to)
        send_bytes(socket, to->bytes, to->len, ZMQ_SNDMORE);
    send_bytes(socket, note, sizeof *note, frame ? ZMQ_SNDMORE : 0);
    if (!frame)
        return;
    while (zmq_msg_send(frame, socket, 0) < 0 && errno == EINTR)
        ;
    (void)zmq_msg_close(frame);     /* empty after a successful send */
}

static bool take(void *socket, void *data, size_t size, size_t *ret_len, int flags) {
    int len = zmq_recv(socket, data, size, flags);
    while (len < 0 && errno == EINTR)
        len = zmq_recv(socket, data, size, flags);
    if (len < 0)
        return false;
    assert((size_t)len <= size);
    *ret_len = (size_t)len;
    return true;
}

static bool has_more(void *socket) {
    int more = 0;
    size_t size = sizeof more;
    (void)zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    return more != 0;
}

bool note_recv(void *socket, struct route_id *ret_from, struct note *ret_note, zmq_msg_t *ret_frame) {
    (void)zmq_msg_init(ret_frame);
    size_t len = 0;
    if (ret_from) {
        if (!take(socket, ret_from->bytes, sizeof ret_from->bytes, &len, ZMQ_DONTWAIT))
            return false;
        ret_from->len = (uint8_t)len;
    }
    if (!take(socket, ret_note, sizeof *ret_note, &len, ret_from ? 0 : ZMQ_DONTWAIT))
        return false;
    assert(len == sizeof *ret_note);
    if (has_more(socket))
        (void)zmq_msg_recv(ret_frame, socket, 0);
    return true;
}

bool note_wait(void *socket, int64_t deadline_ms) {
    return note_wait_either(socket, NULL, deadline_ms);
}

bool note_wait_either(void *socket, void *other, int64_t deadline_ms) {
    for (;;) {
        int64_t left = deadline_ms - clock_mono_ms();
        if (left < 0)
            left = 0;
        zmq_pollitem_t items[] = { { socket, 0, ZMQ_POLLIN, 0 }, { other, 0, ZMQ_POLLIN, 0 } };
        int n = zmq_poll(items, other ? 2 : 1, left > WAIT_MAX_MS ? WAIT_MAX_MS : (long)left);
        if (n > 0)
            return true;
        if (clock_mono_ms() >= deadline_ms)
            return false;
    }
}
