#include "bus/inbound.h"

#include <stdlib.h>
#include <string.h>

#include "bus/envelope.h"
#include "bus/remotes.h"
#include "bus/sockets.h"
#include "core/clock.h"
#include "core/str.h"

enum {
    FRAMES_PER_TURN = 128,
    PROBE_EVERY_MS = 5000,
    PROBE_AFTER_LOSS_MS = 1000,         /* the event can come before the ROUTER forgets the connection */
    GOAWAY_GRACE_MS = 1000,             /* by then every caller has read it */
};

/* One call from its admission to its REPLY. */
struct served {
    struct served *next;                /* in the queue or among the running ones */
    uint64_t slot;                      /* its name towards the worker */
    struct remote *remote;
    uint64_t id;                        /* the caller's correlation id */
    int64_t deadline_ms;
    uint64_t data_credit;               /* DATA parts that the caller may still send */
    bool is_stream, is_cancelled;
    struct route_id worker;             /* while it runs */
    zmq_msg_t call;                     /* while it waits */
};

struct idle { struct idle *next; struct route_id worker; };

struct inbound {
    const struct bus_options *opt;
    void *inner, *router, *monitor;
    struct remotes remotes;
    struct served *queue, **queue_end, *running;
    struct idle *idle;
    unsigned queued_count, running_count, stream_count;
    uint64_t next_slot;
    bool is_draining, is_halting;
    int64_t drained_ms, probe_ms, probe_until_ms;
    struct counter *malformed, *shed, *expired, *undelivered;
    struct gauge *queued, *in_flight, *callers;
};

/* ---- frames to callers ---- */

static void on_gone(struct inbound *in, struct remote *remote);

/* Takes the frame. False: the caller is gone, or so far behind that its streams would have holes, which
 * is the same to us. */
static bool send_frame(struct inbound *in, struct remote *remote, zmq_msg_t *frame) {
    bool is_sent = !remote->is_gone &&
                   zmq_send(in->router, remote->id.bytes, remote->id.len, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
                   zmq_msg_send(frame, in->router, ZMQ_DONTWAIT) >= 0;
    if (!is_sent) {
        (void)zmq_msg_close(frame);
        on_gone(in, remote);
    }
    return is_sent;
}

static void send_envelope(struct inbound *in, struct remote *remote, Bus__Envelope *e) {
    e->version = BUS_VERSION;
    zmq_msg_t frame;
    envelope_pack(e, &frame);
    (void)send_frame(in, remote, &frame);
}

static void refuse(struct inbound *in, struct remote *remote, uint64_t id, enum status st, enum error_code code) {
    Bus__Envelope reply = BUS__ENVELOPE__INIT;
    reply.kind = BUS__KIND__REPLY;
    reply.correlation_id = id;
    reply.status = (uint32_t)st;
    reply.code = (char *)error_text_code(code);
    reply.retry_after_ms = st == ST_UNAVAILABLE ? INBOUND_BUSY_RETRY_MS : 0;
    reply.not_begun = true;
    send_envelope(in, remote, &reply);
}

static void pong(struct inbound *in, struct remote *remote, uint64_t id) {
    Bus__PingReply body = BUS__PING_REPLY__INIT;
    body.process = (char *)peer_name(in->opt->self);
    body.version = (char *)CORDON_VERSION;
    body.draining = in->is_draining;
    uint8_t packed[128];
    Bus__Envelope reply = BUS__ENVELOPE__INIT;
    reply.kind = BUS__KIND__REPLY;
    reply.correlation_id = id;
    reply.body = (ProtobufCBinaryData){ bus__ping_reply__pack(&body, packed), packed };
    send_envelope(in, remote, &reply);
}

/* ---- calls ---- */

static struct served **find_running(struct inbound *in, uint64_t slot) {
    struct served **place = &in->running;
    while (*place && (*place)->slot != slot)
        place = &(*place)->next;
    return place;
}

static void count(struct inbound *in) {
    gauge_set(in->queued, in->queued_count);
    gauge_set(in->in_flight, in->running_count);
}

static void forget(struct inbound *in, struct served *s) {
    s->remote->call_count--;
    in->stream_count -= s->is_stream;
    (void)zmq_msg_close(&s->call);
    free(s);
}

static struct served *pop_queue(struct inbound *in) {
    struct served *s = in->queue;
    in->queue = s->next;
    if (!in->queue)
        in->queue_end = &in->queue;
    in->queued_count--;
    return s;
}

/* The next call that is still worth starting; NULL when none waits. */
static struct served *next_call(struct inbound *in) {
    while (in->queue) {
        struct served *s = pop_queue(in);
        bool is_expired = clock_mono_ms() >= s->deadline_ms;
        if (!is_expired && !s->is_cancelled)
            return s;
        counter_add(in->expired, is_expired && !s->is_cancelled);
        forget(in, s);
    }
    return NULL;
}

static void start_calls(struct inbound *in) {
    while (in->idle && in->queue) {
        struct served *s = next_call(in);
        if (!s)
            break;
        struct idle *idle = in->idle;
        in->idle = idle->next;
        s->worker = idle->worker;
        free(idle);
        s->next = in->running;
        in->running = s;
        in->running_count++;
        struct note note = { .kind = NOTE_TAKE, .id = s->slot, .peer = s->remote->peer, .deadline_ms = s->deadline_ms };
        zmq_msg_t call;
        (void)zmq_msg_init(&call);
        (void)zmq_msg_move(&call, &s->call);
        note_send(in->inner, &s->worker, &note, &call);
    }
    count(in);
}

static void cancel(struct inbound *in, struct served *s, bool is_running) {
    if (!s->is_cancelled && is_running)
        note_send(in->inner, &s->worker, &(struct note){ .kind = NOTE_CANCELLED, .id = s->slot }, NULL);
    s->is_cancelled = true;
}


static void on_gone(struct inbound *in, struct remote *remote) {
    if (remote->is_gone)
        return;
    remote->is_gone = true;             /* swept at the next tick: callers of this may still hold it */
    for (struct served *s = in->running; s; s = s->next)
        if (s->remote == remote)
            cancel(in, s, true);
    for (struct served *s = in->queue; s; s = s->next)
        if (s->remote == remote)
            cancel(in, s, false);
}

static void admit(struct inbound *in, struct remote *remote, const Bus__Envelope *e, zmq_msg_t *frame) {
    uint32_t budget_ms = e->budget_ms < ENVELOPE_BUDGET_MAX_MS ? e->budget_ms : ENVELOPE_BUDGET_MAX_MS;
    struct served *s = xalloc(sizeof *s);
    *s = (struct served){
        .slot = ++in->next_slot, .remote = remote, .id = e->correlation_id, .deadline_ms = clock_mono_ms() + budget_ms,
        .is_stream = e->credit > 0
    };
    in->stream_count += s->is_stream;
    (void)zmq_msg_init(&s->call);
    (void)zmq_msg_move(&s->call, frame);
    remote->call_count++;
    *in->queue_end = s;
    in->queue_end = &s->next;
    in->queued_count++;
    start_calls(in);
}

static struct served *find_call(struct inbound *in, const struct remote *remote, uint64_t id, bool *ret_is_running) {
    *ret_is_running = true;
    for (struct served *s = in->running; s; s = s->next)
        if (s->remote == remote && s->id == id)
            return s;
    *ret_is_running = false;
    for (struct served *s = in->queue; s; s = s->next)
        if (s->remote == remote && s->id == id)
            return s;
    return NULL;
}

static bool has_room(const struct inbound *in, bool is_stream) {
    unsigned streams_max = in->opt->streams_max_count;
    return !in->is_halting && in->queued_count < in->opt->queue_max_count + (in->idle ? 1 : 0) &&
           (!is_stream || streams_max == 0 || in->stream_count < streams_max);
}

static void on_call(struct inbound *in, struct remote *remote, const Bus__Envelope *e, zmq_msg_t *frame) {
    bool is_running;
    const char *fault = envelope_call_fault(e);
    if (fault || e->correlation_id == 0 || find_call(in, remote, e->correlation_id, &is_running)) {
        counter_add(in->malformed, 1);
        refuse(in, remote, e->correlation_id, ST_INVALID, ERR_INVALID);
    } else if (str_equal(e->method, "bus.Ping")) {
        pong(in, remote, e->correlation_id);
    } else if (!has_room(in, e->credit > 0)) {
        counter_add(in->shed, 1);
        refuse(in, remote, e->correlation_id, ST_UNAVAILABLE, ERR_BUSY);
    } else {
        admit(in, remote, e, frame);
    }
}

/* ---- frames from callers ---- */

/* DATA beyond the credit: the caller does not follow the protocol, and would fill our memory. */
static void on_data(struct inbound *in, struct served *s, zmq_msg_t *frame) {
    if (s->data_credit == 0) {
        counter_add(in->malformed, 1);
        cancel(in, s, true);
        return;
    }
    s->data_credit--;
    zmq_msg_t moved;
    (void)zmq_msg_init(&moved);
    (void)zmq_msg_move(&moved, frame);
    note_send(in->inner, &s->worker, &(struct note){ .kind = NOTE_PASS, .id = s->slot }, &moved);
}

static void on_follow_up(struct inbound *in, const struct remote *remote, const Bus__Envelope *e, zmq_msg_t *frame) {
    bool is_running;
    struct served *s = find_call(in, remote, e->correlation_id, &is_running);
    if (!s || s->is_cancelled)
        return;                         /* it ended meanwhile */
    if (e->kind == BUS__KIND__CANCEL)
        cancel(in, s, is_running);
    else if (!is_running)
        counter_add(in->malformed, 1);  /* nobody gave it credit to send */
    else if (e->kind == BUS__KIND__DATA)
        on_data(in, s, frame);
    else
        note_send(in->inner, &s->worker, &(struct note){ .kind = NOTE_CREDIT, .id = s->slot, .credit = e->credit },
                  NULL);
}

static void on_envelope(struct inbound *in, const struct route_id *from, enum peer peer, const Bus__Envelope *e,
                        zmq_msg_t *frame) {
    struct remote *remote = remotes_meet(&in->remotes, from, peer);
    if (!remote)
        return;
    remote->is_gone = false;            /* it was only far behind; its earlier calls stay cancelled */
    if (e->kind == BUS__KIND__CALL)
        on_call(in, remote, e, frame);
    else if (e->version == BUS_VERSION &&
             (e->kind == BUS__KIND__DATA || e->kind == BUS__KIND__CREDIT || e->kind == BUS__KIND__CANCEL))
        on_follow_up(in, remote, e, frame);
    else
        counter_add(in->malformed, 1);
}

/* The ZAP handler named the peer; a frame without that name cannot be one of ours. */
static void on_frame(struct inbound *in, const struct route_id *from, zmq_msg_t *frame) {
    size_t len = zmq_msg_size(frame);
    enum peer peer = peer_from_name(zmq_msg_gets(frame, "User-Id"));
    CLEANUP(arena_destroy) struct arena *mem = arena_new(envelope_cap_bytes(len));
    Bus__Envelope *e = (in->opt->callers & peer) ? envelope_open(mem, zmq_msg_data(frame), len) : NULL;
    if (e)
        on_envelope(in, from, peer, e, frame);
    else
        counter_add(in->malformed, 1);
}

/* Take one message of exactly two frames, identity and envelope; others are read and thrown away. */
static bool read_frame(struct inbound *in) {
    zmq_msg_t id, frame;
    (void)zmq_msg_init(&id);
    (void)zmq_msg_init(&frame);
    bool has_one = zmq_msg_recv(&id, in->router, ZMQ_DONTWAIT) >= 0;
    struct route_id from = { 0 };
    bool is_whole = has_one && zmq_msg_more(&id) && zmq_msg_size(&id) <= sizeof from.bytes &&
                    zmq_msg_recv(&frame, in->router, 0) >= 0;
    if (is_whole && !zmq_msg_more(&frame)) {
        from.len = (uint8_t)zmq_msg_size(&id);
        memcpy(from.bytes, zmq_msg_data(&id), from.len);
        on_frame(in, &from, &frame);
    } else if (has_one) {
        counter_add(in->malformed, 1);
        bool has_more = is_whole ? zmq_msg_more(&frame) : zmq_msg_more(&id);
        while (has_more && zmq_msg_recv(&frame, in->router, 0) >= 0)
            has_more = zmq_msg_more(&frame);
    }
    (void)zmq_msg_close(&id);
    (void)zmq_msg_close(&frame);
    return has_one;
}

/* ---- workers ---- */

static void on_ready(struct inbound *in, const struct route_id *worker) {
    if (in->is_halting) {
        note_send(in->inner, worker, &(struct note){ .kind = NOTE_STOP }, NULL);
        return;
    }
    struct idle *idle = xalloc(sizeof *idle);
    *idle = (struct idle){ in->idle, *worker };
    in->idle = idle;
    start_calls(in);
}

void inbound_note(struct inbound *in, const struct route_id *worker, const struct note *note, zmq_msg_t *frame) {
    if (note->kind == NOTE_READY) {
        on_ready(in, worker);
        return;
    }
    struct served **place = find_running(in, note->id), *s = *place;
    if (!s)
        return;
    if (note->kind == NOTE_CREDIT)
        s->data_credit += note->credit;
    if (!s->is_cancelled) {
        zmq_msg_t moved;
        (void)zmq_msg_init(&moved);
        (void)zmq_msg_move(&moved, frame);
        if (!send_frame(in, s->remote, &moved))
            counter_add(in->undelivered, 1);
    }
    if (note->kind != NOTE_DONE)
        return;
    *place = s->next;
    in->running_count--;
    forget(in, s);
    count(in);
}

/* ---- life ---- */

enum status inbound_open(void *zmq_context, const struct bus_options *opt, void *inner, struct inbound **ret_in,
                         struct why *why) {
    struct inbound *in = xalloc(sizeof *in);
    in->opt = opt;
    in->inner = inner;
    in->queue_end = &in->queue;
    struct metrics *m = opt->metrics;
    in->malformed =
        metrics_counter(m, "cordon_bus_malformed_total", "Frames that were no valid envelope.", "side=\"callee\"");
    in->shed = metrics_counter(m, "cordon_shed_total", "Calls answered BUSY because the queue was full.", "");
    in->expired = metrics_counter(m, "cordon_expired_total", "Calls whose time ran out before they began.", "");
    in->undelivered =
        metrics_counter(m, "cordon_bus_undelivered_total", "Frames whose caller was gone or did not read.", "");
    in->queued = metrics_gauge(m, "cordon_queue_depth", "Calls that wait for a worker.", "");
    gauge_set(metrics_gauge(m, "cordon_queue_limit", "Calls that may wait; more are answered BUSY.", ""), opt->queue_max_count);
    in->in_flight = metrics_gauge(m, "cordon_in_flight", "Calls that run.", "");
    in->callers = metrics_gauge(m, "cordon_bus_callers", "Connections of callers.", "");
    enum status st = sockets_serve(zmq_context, opt, &in->router, why);
    if (st != ST_OK) {
        inbound_close(&in);
        return st;
    }
    in->monitor = sockets_monitor(zmq_context, in->router, UINT32_MAX, ZMQ_EVENT_DISCONNECTED);
    *ret_in = in;
    return ST_OK;
}

void inbound_close(struct inbound **in_p) {
    struct inbound *in = *in_p;
    if (!in)
        return;
    while (in->queue)
        forget(in, pop_queue(in));
    for (struct served *s; (s = in->running);) {
        in->running = s->next;
        forget(in, s);
    }
    for (struct idle *idle; (idle = in->idle);) {
        in->idle = idle->next;
        free(idle);
    }
    remotes_end(&in->remotes);
    sockets_close(&in->router, &in->monitor);
    free(in);
    *in_p = NULL;
}

/* A frame that callers ignore (CREDIT) or obey (GOAWAY), to everybody; those it cannot reach are gone. */
static void tell_all(struct inbound *in, Bus__Kind kind) {
    for (struct remote *remote = in->remotes.first; remote; remote = remote->next)
        if (!remote->is_gone) {
            Bus__Envelope e = BUS__ENVELOPE__INIT;
            e.kind = kind;
            send_envelope(in, remote, &e);
        }
}

void inbound_drain(struct inbound *in) {
    if (in->is_draining)
        return;
    in->is_draining = true;
    in->drained_ms = clock_mono_ms();
    tell_all(in, BUS__KIND__GOAWAY);
}

void inbound_halt(struct inbound *in) {
    in->is_halting = true;
    for (struct served *s; (s = next_call(in));) {
        refuse(in, s->remote, s->id, ST_UNAVAILABLE, ERR_BUSY);
        forget(in, s);
    }
    for (struct served *s = in->running; s; s = s->next)
        note_send(in->inner, &s->worker, &(struct note){ .kind = NOTE_CANCELLED, .id = s->slot }, NULL);
    for (struct idle *idle; (idle = in->idle);) {
        in->idle = idle->next;
        note_send(in->inner, &idle->worker, &(struct note){ .kind = NOTE_STOP }, NULL);
        free(idle);
    }
}

bool inbound_is_quiet(const struct inbound *in, int64_t now_ms) {
    bool is_idle = !in->queue && !in->running;
    return in->is_draining && is_idle && (!in->remotes.first || now_ms - in->drained_ms >= GOAWAY_GRACE_MS);
}

size_t inbound_poll_items(struct inbound *in, zmq_pollitem_t *items, size_t max) {
    if (max < 2)
        return 0;
    items[0] = (zmq_pollitem_t){ in->router, 0, ZMQ_POLLIN, 0 };
    items[1] = (zmq_pollitem_t){ in->monitor, 0, ZMQ_POLLIN, 0 };
    return 2;
}

void inbound_turn(struct inbound *in) {
    for (unsigned n = 0; n < FRAMES_PER_TURN && read_frame(in); n++)
        ;
    while (sockets_event(in->monitor))
        in->probe_until_ms = clock_mono_ms() + PROBE_AFTER_LOSS_MS;
}

void inbound_tick(struct inbound *in, int64_t now_ms) {
    if (now_ms < in->probe_until_ms || now_ms - in->probe_ms >= PROBE_EVERY_MS) {
        in->probe_ms = now_ms;
        tell_all(in, BUS__KIND__CREDIT);
    }
    remotes_sweep(&in->remotes);
    gauge_set(in->callers, in->remotes.count);
}
