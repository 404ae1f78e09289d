#include "bus/bus.h"

#include <stdlib.h>

#include "bus/network.h"
#include "core/arena.h"

enum { IO_THREADS = 1, SOCKETS_MAX = 8192, FIRST_CLIENT = 1 };

static enum status open_inner(struct bus *bus, struct why *why) {
    static const int NONE = 0;
    bus->inner = zmq_socket(bus->zmq_context, ZMQ_ROUTER);
    if (!bus->inner || zmq_setsockopt(bus->inner, ZMQ_SNDHWM, &NONE, sizeof NONE) != 0 ||
        zmq_setsockopt(bus->inner, ZMQ_RCVHWM, &NONE, sizeof NONE) != 0 ||
        zmq_setsockopt(bus->inner, ZMQ_LINGER, &NONE, sizeof NONE) != 0 || zmq_bind(bus->inner, NOTE_ADDRESS) != 0)
        return fail(why, ST_INTERNAL, "the bus cannot start: %s", zmq_strerror(zmq_errno()));
    return ST_OK;
}

static enum status open_all(struct bus *bus, struct why *why) {
    const struct bus_options *opt = bus->opt;
    enum status st = open_inner(bus, why);
    if (st != ST_OK)
        return st;
    bus->late =
        metrics_counter(opt->metrics, "cordon_bus_late_replies_total", "Replies that nobody waited for any more.", "");
    bus->out = outbound_new(bus->zmq_context, opt, bus->inner, bus->up_counts, bus->late);
    if (opt->listen) {
        st = zap_open(bus->zmq_context, opt, &bus->zap, why);      /* before the door that it guards */
        if (st == ST_OK)
            st = inbound_open(bus->zmq_context, opt, bus->inner, &bus->in, why);
        if (st != ST_OK)
            return st;
    }
    bus->control = note_socket(bus->zmq_context);
    bus->has_thread = pthread_create(&bus->thread, NULL, network_run, bus) == 0;
    if (!bus->has_thread)
        return fail(why, ST_UNAVAILABLE, "no thread for the bus");
    return resolver_start(bus->zmq_context, opt, &bus->resolver, why);
}

enum status bus_start(const struct bus_options *opt, struct bus **ret_bus, struct why *why) {
    struct bus *bus = xalloc(sizeof *bus);
    bus->opt = opt;
    bus->next_client = FIRST_CLIENT;
    bus->zmq_context = zmq_ctx_new();
    if (!bus->zmq_context)
        abort();
    (void)zmq_ctx_set(bus->zmq_context, ZMQ_IO_THREADS, IO_THREADS);
    (void)zmq_ctx_set(bus->zmq_context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    enum status st = open_all(bus, why);
    if (st != ST_OK) {
        bus_stop(&bus);
        return st;
    }
    *ret_bus = bus;
    return ST_OK;
}

void bus_drain(struct bus *bus) {
    note_send(bus->control, NULL, &(struct note){ .kind = NOTE_DRAIN }, NULL);
}

bool bus_wait_quiet(struct bus *bus, int64_t deadline_ms) {
    while (note_wait(bus->control, deadline_ms)) {
        struct note note;
        zmq_msg_t frame;
        bool is_quiet = note_recv(bus->control, NULL, &note, &frame) && note.kind == NOTE_QUIET;
        (void)zmq_msg_close(&frame);
        if (is_quiet)
            return true;
    }
    return false;
}

void bus_halt(struct bus *bus) {
    note_send(bus->control, NULL, &(struct note){ .kind = NOTE_HALT }, NULL);
}

void bus_stop(struct bus **bus_p) {
    struct bus *bus = *bus_p;
    if (!bus)
        return;
    resolver_stop(&bus->resolver);
    if (bus->has_thread) {
        note_send(bus->control, NULL, &(struct note){ .kind = NOTE_QUIT }, NULL);
        (void)pthread_join(bus->thread, NULL);
    }
    if (bus->control)
        (void)zmq_close(bus->control);
    inbound_close(&bus->in);
    zap_close(&bus->zap);
    outbound_destroy(&bus->out);
    if (bus->inner)
        (void)zmq_close(bus->inner);
    (void)zmq_ctx_term(bus->zmq_context);
    free(bus);
    *bus_p = NULL;
}

bool bus_peer_is_up(struct bus *bus, enum peer peer) {
    return atomic_load_explicit(&bus->up_counts[peer_index(peer)], memory_order_acquire) > 0;
}
