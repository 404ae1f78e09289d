#include "bus/outbound.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/envelope.h"
#include "bus/links.h"
#include "core/clock.h"
#include "core/str.h"

enum { BUCKET_COUNT = 1024, UNSENT_MS = 250 };

/* One call under way. */
struct pending {
    struct pending *next;           /* of its bucket */
    uint64_t id;
    struct route_id client;
    enum peer peer;
    struct link *link;              /* NULL: parked */
    bool is_stream, is_repeatable;
    unsigned attempt;               /* how often it was sent */
    uint64_t tried;                 /* link slots */
    int64_t deadline_ms, asked_ms;
    zmq_msg_t call;                 /* kept until the reply, to be sent again; empty for a stream that was sent */
};

struct outbound {
    void *inner;
    struct links *links;
    struct pending *buckets[BUCKET_COUNT];
    unsigned parked_count;
    bool is_halting;
    struct counter *late;
    struct counter *retries[PEER_COUNT];
    struct gauge *parked;
};

static struct pending **find(struct outbound *out, uint64_t id) {
    struct pending **place = &out->buckets[(id ^ id >> 32) % BUCKET_COUNT];
    while (*place && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

static void set_link(struct outbound *out, struct pending *p, struct link *link) {
    if (p->link)
        p->link->outstanding_count--;
    else
        out->parked_count--;
    if (link)
        link->outstanding_count++;
    else
        out->parked_count++;
    p->link = link;
}

static void drop(struct outbound *out, struct pending **place) {
    struct pending *p = *place;
    set_link(out, p, NULL);
    out->parked_count--;
    (void)zmq_msg_close(&p->call);
    *place = p->next;
    free(p);
}

static void give_up(struct outbound *out, struct pending **place, enum status st, const char *text) {
    struct pending *p = *place;
    struct note note = { .kind = NOTE_FAILED, .id = p->id, .status = st };
    (void)snprintf(note.text, sizeof note.text, "%s: %s", peer_name(p->peer), text);
    note_send(out->inner, &p->client, &note, NULL);
    drop(out, place);
}

/* The CALL as it should be sent now: less time left, and which attempt this is. False: no time is left. */
static bool repack(struct pending *p, zmq_msg_t *ret_frame) {
    int64_t now_ms = clock_mono_ms(), left_ms = p->deadline_ms - now_ms;
    if (left_ms <= 0)
        return false;
    if (p->attempt == 0 && now_ms - p->asked_ms <= 1) {
        (void)zmq_msg_init(ret_frame);
        (void)zmq_msg_copy(ret_frame, &p->call);
        return true;
    }
    size_t len = zmq_msg_size(&p->call);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(envelope_cap_bytes(len));
    /* Our own client packed it, so it opens. */
    Bus__Envelope *e = envelope_open(mem, zmq_msg_data(&p->call), len);
    if (!e)
        return false;
    e->budget_ms = (uint32_t)left_ms;
    e->attempt = p->attempt + 1;
    envelope_pack(e, ret_frame);
    return true;
}

/* Send the call to the best link. False: it stays parked. */
static bool dispatch(struct outbound *out, struct pending *p) {
    struct link *link;
    while ((link = links_pick(out->links, p->peer, p->tried))) {
        p->tried |= (uint64_t)1 << link->slot;
        zmq_msg_t frame;
        if (!repack(p, &frame))
            return false;
        if (link_send(link, &frame)) {
            p->attempt++;
            set_link(out, p, link);
            return true;
        }
        (void)zmq_msg_close(&frame);
    }
    return false;
}

/* Why a parked call may wait no longer; NULL while it may. */
static const char *hopeless(const struct outbound *out, const struct pending *p, int64_t now_ms) {
    int64_t since_ms = links_down_since_ms(out->links, p->peer);
    if (since_ms != INT64_MAX && now_ms - since_ms > OUTBOUND_PARK_MS)
        return "no replica is connected";
    if (p->attempt == 0 && p->deadline_ms - now_ms < UNSENT_MS)     /* before its client says that it took too long */
        return "no replica in time";
    if (now_ms - p->asked_ms > OUTBOUND_PARK_MS)
        return "no replica takes the call";
    return out->parked_count > OUTBOUND_PARKED_MAX ? "too many calls wait for a replica" : NULL;
}

/* After a failed dispatch: wait, or end. False: it ended. */
static bool park(struct outbound *out, struct pending **place) {
    struct pending *p = *place;
    int64_t now_ms = clock_mono_ms();
    const char *reason = hopeless(out, p, now_ms);
    bool is_late = now_ms >= p->deadline_ms;
    if (is_late || reason) {
        give_up(out, place, reason ? ST_UNAVAILABLE : ST_TIMEOUT, reason ? reason : "no replica in time");
        return false;
    }
    p->tried = 0;
    return true;
}

static void on_ask(struct outbound *out, const struct route_id *from, const struct note *note, zmq_msg_t *frame) {
    struct pending *p = xalloc(sizeof *p);
    *p = (struct pending){ .id = note->id,
                           .client = *from,
                           .peer = note->peer,
                           .is_stream = note->is_stream,
                           .is_repeatable = note->is_repeatable,
                           .deadline_ms = note->deadline_ms,
                           .asked_ms = clock_mono_ms() };
    (void)zmq_msg_init(&p->call);
    (void)zmq_msg_move(&p->call, frame);
    struct pending **place = find(out, p->id);
    p->next = *place;
    *place = p;
    out->parked_count++;
    if (out->is_halting)
        give_up(out, place, ST_UNAVAILABLE, "this process stops");
    else if (!dispatch(out, p))
        (void)park(out, place);
}

static void send_cancel(struct pending *p) {
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    e.version = BUS_VERSION;
    e.kind = BUS__KIND__CANCEL;
    e.correlation_id = p->id;
    zmq_msg_t frame;
    envelope_pack(&e, &frame);
    if (!link_send(p->link, &frame))
        (void)zmq_msg_close(&frame);    /* the callee's deadline ends it */
}

static void on_forget(struct outbound *out, uint64_t id) {
    struct pending **place = find(out, id);
    if (!*place)
        return;
    if ((*place)->link)
        send_cancel(*place);
    drop(out, place);
}

/* DATA and CREDIT follow their CALL. While that waits for a replica nothing can follow: the client has
 * no credit yet. */
static void on_pass(struct outbound *out, uint64_t id, zmq_msg_t *frame) {
    struct pending **place = find(out, id);
    if (*place && (*place)->link && !link_send((*place)->link, frame))
        give_up(out, place, ST_UNAVAILABLE, "the connection takes no more");
}

void outbound_note(struct outbound *out, const struct route_id *from, const struct note *note, zmq_msg_t *frame) {
    if (note->kind == NOTE_ASK)
        on_ask(out, from, note, frame);
    else if (note->kind == NOTE_PASS)
        on_pass(out, note->id, frame);
    else if (note->kind == NOTE_FORGET)
        on_forget(out, note->id);
    else if (note->kind == NOTE_ADDRESSES)
        links_apply(out->links, note->peer, zmq_msg_data(frame), zmq_msg_size(frame));
}

static bool may_repeat(const struct pending *p) {
    return p->is_repeatable && !p->is_stream && p->attempt < OUTBOUND_ATTEMPTS_MAX;
}

/* The callee had no room and did not begin, or it stops: true when another replica has the call now, or when it waits
 * for the successor of the one that stops. A BUSY that the callee itself got further down is an answer: each hop
 * that asked again would multiply the load of whoever has too much already. */
static bool went_elsewhere(struct outbound *out, struct pending **place, const Bus__Envelope *e) {
    struct pending *p = *place;
    bool is_leaving = p->link->state == LINK_DRAINING;
    bool may_go = e->not_begun ? p->attempt < OUTBOUND_ATTEMPTS_MAX : is_leaving && may_repeat(p);
    if (e->status != ST_UNAVAILABLE || !may_go)
        return false;
    if (!dispatch(out, p)) {
        if (!is_leaving)
            return false;
        set_link(out, p, NULL);
        p->asked_ms = clock_mono_ms();
        (void)park(out, place);
        return true;
    }
    counter_add(out->retries[peer_index(p->peer)], 1);
    return true;
}

static void on_frame(void *ctx, struct link *link, const Bus__Envelope *e, zmq_msg_t *frame) {
    struct outbound *out = ctx;
    struct pending **place = find(out, e->correlation_id), *p = *place;
    bool is_reply = e->kind == BUS__KIND__REPLY;
    if (!is_reply && e->kind != BUS__KIND__PART && e->kind != BUS__KIND__CREDIT)
        return;
    if (!p || p->link != link) {            /* gave up, or sent elsewhere since */
        counter_add(out->late, is_reply);
        return;
    }
    if (is_reply && went_elsewhere(out, place, e))
        return;
    zmq_msg_t moved;
    (void)zmq_msg_init(&moved);
    (void)zmq_msg_move(&moved, frame);
    note_send(out->inner, &p->client, &(struct note){ .kind = NOTE_PASS, .id = p->id }, &moved);
    if (is_reply)
        drop(out, place);
}

/* False: the call ended. */
static bool on_lost_call(struct outbound *out, struct pending **place) {
    struct pending *p = *place;
    if (!may_repeat(p)) {
        give_up(out, place, ST_UNAVAILABLE, "the replica went away, the outcome is unknown");
        return false;
    }
    set_link(out, p, NULL);
    p->asked_ms = clock_mono_ms();
    counter_add(out->retries[peer_index(p->peer)], 1);
    return dispatch(out, p) || park(out, place);
}

static void on_lost(void *ctx, struct link *link) {
    struct outbound *out = ctx;
    for (unsigned i = 0; i < BUCKET_COUNT && link->outstanding_count; i++)
        for (struct pending **place = &out->buckets[i]; *place;)
            if ((*place)->link != link || on_lost_call(out, place))
                place = &(*place)->next;
}

/* peer: PEER_NONE for all. */
static void retry_parked(struct outbound *out, enum peer peer) {
    for (unsigned i = 0; i < BUCKET_COUNT && out->parked_count; i++)
        for (struct pending **place = &out->buckets[i]; *place;) {
            struct pending *p = *place;
            bool is_due = !p->link && (peer == PEER_NONE || p->peer == peer);
            if (!is_due || dispatch(out, p) || park(out, place))
                place = &p->next;
        }
}

static void on_up(void *ctx, enum peer peer) {
    retry_parked(ctx, peer);
}

struct outbound *outbound_new(void *zmq_context, const struct bus_options *opt, void *inner, atomic_uint *up_counts,
                              struct counter *late) {
    struct outbound *out = xalloc(sizeof *out);
    out->inner = inner;
    out->late = late;
    out->parked = metrics_gauge(opt->metrics, "cordon_bus_parked", "Calls that wait for a replica.", "");
    for (unsigned i = 0; i < PEER_COUNT; i++) {
        char labels[48];
        (void)snprintf(labels, sizeof labels, "peer=\"%s\"", peer_name(peer_at(i)));
        out->retries[i] =
            metrics_counter(opt->metrics, "cordon_bus_retries_total", "Calls sent again to another replica.", labels);
    }
    out->links = links_new(zmq_context, opt, up_counts, (struct links_events){ out, on_frame, on_lost, on_up });
    return out;
}

void outbound_destroy(struct outbound **out_p) {
    if (!*out_p)
        return;
    for (unsigned i = 0; i < BUCKET_COUNT; i++)
        while ((*out_p)->buckets[i])
            drop(*out_p, &(*out_p)->buckets[i]);
    links_destroy(&(*out_p)->links);
    free(*out_p);
    *out_p = NULL;
}

size_t outbound_poll_items(struct outbound *out, zmq_pollitem_t *items, size_t max) {
    return links_poll_items(out->links, items, max);
}

void outbound_turn(struct outbound *out) {
    links_turn(out->links);
}

void outbound_halt(struct outbound *out) {
    out->is_halting = true;
    for (unsigned i = 0; i < BUCKET_COUNT; i++)
        while (out->buckets[i]) {
            if (out->buckets[i]->link)
                send_cancel(out->buckets[i]);
            give_up(out, &out->buckets[i], ST_UNAVAILABLE, "this process stops");
        }
}

void outbound_tick(struct outbound *out, int64_t now_ms) {
    links_tick(out->links, now_ms);
    gauge_set(out->parked, out->parked_count);
    if (out->parked_count)
        retry_parked(out, PEER_NONE);
}
