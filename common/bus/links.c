#include "bus/links.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/sockets.h"
#include "core/clock.h"
#include "core/str.h"

enum {
    EVENTS = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
             ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL,
    PING_ID = 1,                /* below every client's correlation ids */
    GREETING_MS = 3000,
    REOPEN_MS = 250,
    REOPEN_WRONG_MS = 2000,
    FRAMES_PER_TURN = 128,
};

struct links {
    void *zmq_context;
    const struct bus_options *opt;
    atomic_uint *up_counts;
    struct links_events events;
    struct link *of[PEER_COUNT][LINKS_PER_PEER_MAX];
    int64_t down_since_ms[PEER_COUNT];
    unsigned next_pick[PEER_COUNT];         /* so that equals take turns */
    unsigned monitor_count;
    struct counter *malformed;
};

struct links *links_new(void *zmq_context, const struct bus_options *opt, atomic_uint *up_counts,
                        struct links_events events) {
    struct links *links = xalloc(sizeof *links);
    links->zmq_context = zmq_context;
    links->opt = opt;
    links->up_counts = up_counts;
    links->events = events;
    links->malformed = metrics_counter(opt->metrics, "cordon_bus_malformed_total",
                                       "Frames that were no valid envelope.", "side=\"caller\"");
    for (unsigned i = 0; i < PEER_COUNT; i++)
        links->down_since_ms[i] = clock_mono_ms();
    return links;
}

static bool is_usable(const struct link *link) {
    return link && link->state == LINK_UP && link->is_wanted;
}

/* Recount after any change of a link's state or wantedness. */
static void publish(struct links *links, enum peer peer) {
    unsigned index = peer_index(peer), count = 0;
    for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++)
        count += is_usable(links->of[index][i]);
    if (count)
        links->down_since_ms[index] = INT64_MAX;
    else if (links->down_since_ms[index] == INT64_MAX)
        links->down_since_ms[index] = clock_mono_ms();
    atomic_store_explicit(&links->up_counts[index], count, memory_order_release);
}

static void set_state(struct links *links, struct link *link, enum link_state state, const char *what) {
    link->state = state;
    gauge_set(link->up, state == LINK_UP);
    gauge_set(link->draining, state == LINK_DRAINING);
    publish(links, link->peer);
    if (what && links->opt->on_link)
        links->opt->on_link(links->opt->ctx, link->peer, link->address, what);
}

static void link_open(struct links *links, struct link *link) {
    link->dealer = sockets_call(links->zmq_context, links->opt, link->peer);
    if (link->dealer)
        link->monitor = sockets_monitor(links->zmq_context, link->dealer, links->monitor_count++, EVENTS);
    if (!link->dealer || !sockets_connect(link->dealer, link->address)) {
        sockets_close(&link->dealer, &link->monitor);
        link->due_ms = clock_mono_ms() + REOPEN_MS;
        return;
    }
    set_state(links, link, LINK_CONNECTING, NULL);
}

static void link_close(struct links *links, struct link *link) {
    sockets_close(&link->dealer, &link->monitor);
    link->due_ms = clock_mono_ms() + REOPEN_MS;
    set_state(links, link, LINK_CLOSED, NULL);
}

static void link_free(struct link **link_p) {
    sockets_close(&(*link_p)->dealer, &(*link_p)->monitor);
    free((*link_p)->address);
    free(*link_p);
    *link_p = NULL;
}

void links_destroy(struct links **links_p) {
    if (!*links_p)
        return;
    for (unsigned p = 0; p < PEER_COUNT; p++)
        for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++)
            if ((*links_p)->of[p][i])
                link_free(&(*links_p)->of[p][i]);
    free(*links_p);
    *links_p = NULL;
}

static struct link *find_address(struct links *links, unsigned peer, const char *address) {
    for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++)
        if (links->of[peer][i] && str_equal(links->of[peer][i]->address, address))
            return links->of[peer][i];
    return NULL;
}

static void add_link(struct links *links, enum peer peer, const char *address) {
    unsigned index = peer_index(peer), slot = 0;
    while (slot < LINKS_PER_PEER_MAX && links->of[index][slot])
        slot++;
    if (slot == LINKS_PER_PEER_MAX)
        return;
    char labels[96];
    (void)snprintf(labels, sizeof labels, "peer=\"%s\",replica=\"%u\"", peer_name(peer), slot);
    struct link *link = xalloc(sizeof *link);
    *link = (struct link){ .peer = peer, .slot = slot, .address = xstrdup(address), .is_wanted = true };
    link->up = metrics_gauge(links->opt->metrics, "cordon_bus_link_up", "1 while this replica takes calls.", labels);
    link->draining = metrics_gauge(links->opt->metrics, "cordon_bus_link_draining", "1 while this replica finishes and takes no more.", labels);
    link->outstanding =
        metrics_gauge(links->opt->metrics, "cordon_bus_outstanding", "Calls under way to this replica.", labels);
    links->of[index][slot] = link;
    link_open(links, link);
}

void links_apply(struct links *links, enum peer peer, const char *addresses, size_t len) {
    assert(len > 0 && addresses[len - 1] == '\0');
    unsigned index = peer_index(peer);
    for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++)
        if (links->of[index][i])
            links->of[index][i]->is_wanted = false;
    for (const char *address = addresses; address < addresses + len; address += strlen(address) + 1) {
        struct link *link = find_address(links, index, address);
        if (link)
            link->is_wanted = true;
        else
            add_link(links, peer, address);
    }
    publish(links, peer);
}

struct link *links_pick(struct links *links, enum peer peer, uint64_t tried) {
    unsigned index = peer_index(peer);
    struct link *best = NULL;
    for (unsigned n = 0; n < LINKS_PER_PEER_MAX; n++) {
        struct link *link = links->of[index][(links->next_pick[index] + n) % LINKS_PER_PEER_MAX];
        if (is_usable(link) && !(tried >> link->slot & 1) &&
            (!best || link->outstanding_count < best->outstanding_count))
            best = link;
    }
    if (best)
        links->next_pick[index] = best->slot + 1;
    return best;
}

int64_t links_down_since_ms(const struct links *links, enum peer peer) {
    return links->down_since_ms[peer_index(peer)];
}

bool link_send(struct link *link, zmq_msg_t *frame) {
    return link->dealer && zmq_msg_send(frame, link->dealer, ZMQ_DONTWAIT) >= 0;
}

static void send_ping(struct link *link) {
    struct uuid id = uuid_v7();
    Bus__Envelope ping = BUS__ENVELOPE__INIT;
    ping.version = BUS_VERSION;
    ping.kind = BUS__KIND__CALL;
    ping.correlation_id = PING_ID;
    ping.method = (char *)"bus.Ping";
    ping.request_id = (ProtobufCBinaryData){ UUID_BYTES, id.bytes };
    ping.budget_ms = GREETING_MS;
    ping.attempt = 1;
    zmq_msg_t frame;
    envelope_pack(&ping, &frame);
    link->has_pinged = link_send(link, &frame);
    if (!link->has_pinged)
        (void)zmq_msg_close(&frame);
}

/* The event can come before the socket has its pipe to the replica: then the next turn pings. */
static void greet(struct links *links, struct link *link) {
    link->due_ms = clock_mono_ms() + GREETING_MS;
    set_state(links, link, LINK_GREETING, NULL);
    send_ping(link);
}

static void on_greeted(struct links *links, struct link *link, struct arena *mem, const Bus__Envelope *e) {
    Bus__PingReply *reply = bus__ping_reply__unpack(arena_wire(mem), e->body.len, e->body.data);
    bool is_right = e->status == ST_OK && reply && str_equal(reply->process, peer_name(link->peer));
    if (!is_right) {
        set_state(links, link, link->state, "not the process it should be");
        link_close(links, link);
        link->due_ms += REOPEN_WRONG_MS;
    } else if (reply->draining) {
        /* Still the one that said GOAWAY: its successor is not there yet. */
        set_state(links, link, LINK_DRAINING, NULL);
    } else {
        set_state(links, link, LINK_UP, "up");
        links->events.on_up(links->events.ctx, link->peer);
    }
}

static void on_frame(struct links *links, struct link *link, zmq_msg_t *frame) {
    size_t len = zmq_msg_size(frame);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(envelope_cap_bytes(len));
    Bus__Envelope *e = zmq_msg_more(frame) ? NULL : envelope_open(mem, zmq_msg_data(frame), len);
    if (!e || e->version != BUS_VERSION) {
        counter_add(links->malformed, 1);
    } else if (e->kind == BUS__KIND__GOAWAY) {
        if (link->state == LINK_UP || link->state == LINK_GREETING)
            set_state(links, link, LINK_DRAINING, "draining");
    } else if (e->correlation_id == PING_ID) {
        if (link->state == LINK_GREETING && e->kind == BUS__KIND__REPLY)
            on_greeted(links, link, mem, e);
    } else {
        links->events.on_frame(links->events.ctx, link, e, frame);
    }
}

static void read_frames(struct links *links, struct link *link, unsigned max) {
    for (unsigned n = 0; n < max && link->dealer; n++) {
        zmq_msg_t frame;
        (void)zmq_msg_init(&frame);
        bool has_frame = zmq_msg_recv(&frame, link->dealer, ZMQ_DONTWAIT) >= 0;
        if (has_frame)
            on_frame(links, link, &frame);
        (void)zmq_msg_close(&frame);
        if (!has_frame)
            return;
    }
}

static void on_disconnected(struct links *links, struct link *link) {
    read_frames(links, link, UINT32_MAX);       /* replies that came before the end are good */
    bool was_connected = link->state != LINK_CONNECTING && link->state != LINK_CLOSED;
    if (link->state != LINK_CLOSED)
        set_state(links, link, LINK_CONNECTING, was_connected ? "down" : NULL);
    links->events.on_lost(links->events.ctx, link);
}

static void read_events(struct links *links, struct link *link) {
    while (link->monitor) {
        int event = sockets_event(link->monitor);
        if (event == 0)
            return;
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            greet(links, link);
        else if (event == ZMQ_EVENT_DISCONNECTED)
            on_disconnected(links, link);
        else
            set_state(links, link, link->state, "refused");
    }
}

size_t links_poll_items(struct links *links, zmq_pollitem_t *items, size_t max) {
    size_t n = 0;
    for (unsigned p = 0; p < PEER_COUNT; p++)
        for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++) {
            const struct link *link = links->of[p][i];
            if (!link || !link->dealer || n + 2 > max)
                continue;
            bool has_to_ping = link->state == LINK_GREETING && !link->has_pinged;
            items[n++] = (zmq_pollitem_t){ link->dealer, 0, has_to_ping ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN, 0 };
            items[n++] = (zmq_pollitem_t){ link->monitor, 0, ZMQ_POLLIN, 0 };
        }
    return n;
}

void links_turn(struct links *links) {
    for (unsigned p = 0; p < PEER_COUNT; p++)
        for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++) {
            struct link *link = links->of[p][i];
            if (!link)
                continue;
            read_frames(links, link, FRAMES_PER_TURN);
            read_events(links, link);
            if (link->state == LINK_GREETING && !link->has_pinged)
                send_ping(link);
        }
}

static void tick_link(struct links *links, struct link **link_p, int64_t now_ms) {
    struct link *link = *link_p;
    gauge_set(link->outstanding, link->outstanding_count);
    bool is_idle = link->outstanding_count == 0;
    if (!link->is_wanted && is_idle) {
        set_state(links, link, LINK_CLOSED, "removed");
        link_free(link_p);
    } else if (link->state == LINK_CLOSED && now_ms >= link->due_ms) {
        link_open(links, link);
    } else if (link->state == LINK_GREETING && now_ms >= link->due_ms) {
        link_close(links, link);
    } else if (link->state == LINK_DRAINING && is_idle) {
        link_close(links, link);        /* tells the replica that we need it no more; its successor may be there soon */
    }
}

void links_tick(struct links *links, int64_t now_ms) {
    for (unsigned p = 0; p < PEER_COUNT; p++)
        for (unsigned i = 0; i < LINKS_PER_PEER_MAX; i++)
            if (links->of[p][i])
                tick_link(links, &links->of[p][i], now_ms);
}
