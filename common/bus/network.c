#include "bus/network.h"

#include "core/clock.h"

enum { TICK_MS = 100, NOTES_PER_TURN = 256, POLL_MAX = 1024 };

static void note_to_inbound(struct bus *bus, const struct route_id *from, const struct note *note, zmq_msg_t *frame) {
    if (bus->in)
        inbound_note(bus->in, from, note, frame);
}

/* False: it is time to end. */
static bool on_note(struct bus *bus, const struct route_id *from, const struct note *note, zmq_msg_t *frame) {
    switch (note->kind) {
    case NOTE_ASK:
    case NOTE_PASS:
    case NOTE_FORGET:
    case NOTE_ADDRESSES:
        outbound_note(bus->out, from, note, frame);
        break;
    case NOTE_READY:
    case NOTE_PART:
    case NOTE_CREDIT:
    case NOTE_DONE:
        note_to_inbound(bus, from, note, frame);
        break;
    case NOTE_DRAIN:
        bus->quiet_to = *from;
        if (bus->in)
            inbound_drain(bus->in);
        break;
    case NOTE_HALT:
        outbound_halt(bus->out);
        if (bus->in)
            inbound_halt(bus->in);
        break;
    case NOTE_QUIT:
        return false;
    default:
        break;
    }
    return true;
}

static bool read_notes(struct bus *bus) {
    bool goes_on = true;
    for (unsigned n = 0; n < NOTES_PER_TURN && goes_on; n++) {
        struct route_id from;
        struct note note;
        zmq_msg_t frame;
        bool has_note = note_recv(bus->inner, &from, &note, &frame);
        if (has_note)
            goes_on = on_note(bus, &from, &note, &frame);
        (void)zmq_msg_close(&frame);
        if (!has_note)
            break;
    }
    return goes_on;
}

static void tick(struct bus *bus, int64_t now_ms) {
    outbound_tick(bus->out, now_ms);
    if (bus->in)
        inbound_tick(bus->in, now_ms);
    if (bus->quiet_to.len && (!bus->in || inbound_is_quiet(bus->in, now_ms))) {
        note_send(bus->inner, &bus->quiet_to, &(struct note){ .kind = NOTE_QUIET }, NULL);
        bus->quiet_to.len = 0;
    }
}

static void wait_for_anything(struct bus *bus) {
    zmq_pollitem_t items[POLL_MAX];
    size_t n = 0;
    items[n++] = (zmq_pollitem_t){ bus->inner, 0, ZMQ_POLLIN, 0 };
    if (bus->zap)
        items[n++] = (zmq_pollitem_t){ zap_socket(bus->zap), 0, ZMQ_POLLIN, 0 };
    if (bus->in)
        n += inbound_poll_items(bus->in, items + n, POLL_MAX - n);
    n += outbound_poll_items(bus->out, items + n, POLL_MAX - n);
    (void)zmq_poll(items, (int)n, TICK_MS);
}

void *network_run(void *arg) {
    struct bus *bus = arg;
    int64_t ticked_ms = 0;
    do {
        wait_for_anything(bus);
        if (bus->zap)
            zap_turn(bus->zap);
        if (bus->in)
            inbound_turn(bus->in);
        outbound_turn(bus->out);
        int64_t now_ms = clock_mono_ms();
        if (now_ms - ticked_ms >= TICK_MS) {
            ticked_ms = now_ms;
            tick(bus, now_ms);
        }
    } while (read_notes(bus));
    return NULL;
}
