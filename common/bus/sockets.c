#include "bus/sockets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93       /* a draft name in zmq.h, but built in; czmq's wrapper does nothing */
#endif

enum {
    HIGH_WATER_FRAMES = 1000,
    HEARTBEAT_EVERY_MS = 1000,
    HEARTBEAT_TIMEOUT_MS = 2500,
    HANDSHAKE_MS = 5000,
    CONNECT_MS = 2000,
    RECONNECT_MIN_MS = 50,
    RECONNECT_MAX_MS = 2000,
    BACKLOG = 256,
    LAST_WORDS_MS = 200,                /* replies that were sent just before the end still go out */
};

static bool set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_key(void *socket, int option, const char *text) {
    return text && strlen(text) == BUS_KEY_TEXT_BYTES - 1 &&
           zmq_setsockopt(socket, option, text, BUS_KEY_TEXT_BYTES) == 0;
}

static bool set_limits(void *socket) {
    int64_t frame_max = BUS_FRAME_MAX_BYTES;
    return set_int(socket, ZMQ_IPV6, 1) && set_int(socket, ZMQ_LINGER, 0) &&
           set_int(socket, ZMQ_SNDHWM, HIGH_WATER_FRAMES) && set_int(socket, ZMQ_RCVHWM, HIGH_WATER_FRAMES) &&
           zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) == 0 &&
           set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_EVERY_MS) &&
           set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS) &&
           set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) && set_int(socket, ZMQ_TCP_KEEPALIVE, 1);
}

/* A non-empty domain and its enforcement: otherwise libzmq lets everybody in when no handler answers. */
static bool set_server(void *socket, const struct bus_options *opt) {
    const char *domain = peer_name(opt->self);
    return set_limits(socket) && set_int(socket, ZMQ_LINGER, LAST_WORDS_MS) && set_int(socket, ZMQ_ROUTER_MANDATORY, 1) &&
           set_int(socket, ZMQ_BACKLOG, BACKLOG) &&
           zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0 &&
           set_int(socket, ZMQ_ZAP_ENFORCE_DOMAIN, 1) && set_int(socket, ZMQ_CURVE_SERVER, 1) &&
           set_key(socket, ZMQ_CURVE_SECRETKEY, secret_text(opt->secret_key));
}

static bool set_client(void *socket, const struct bus_options *opt, enum peer peer) {
    char public_key[BUS_KEY_TEXT_BYTES];
    const char *secret_key = secret_text(opt->secret_key);
    return strlen(secret_key) == BUS_KEY_TEXT_BYTES - 1 && zmq_curve_public(public_key, secret_key) == 0 &&
           set_limits(socket) && set_int(socket, ZMQ_IMMEDIATE, 1) &&
           set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MIN_MS) &&
           set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
           set_int(socket, ZMQ_CONNECT_TIMEOUT, CONNECT_MS) &&
           set_key(socket, ZMQ_CURVE_SERVERKEY, opt->public_keys[peer_index(peer)]) &&
           set_key(socket, ZMQ_CURVE_PUBLICKEY, public_key) && set_key(socket, ZMQ_CURVE_SECRETKEY, secret_key);
}

static void *open_socket(void *zmq_context, int type) {
    void *socket = zmq_socket(zmq_context, type);
    if (!socket)
        abort();        /* out of sockets or memory: the limits are ours */
    return socket;
}

enum status sockets_serve(void *zmq_context, const struct bus_options *opt, void **ret_router, struct why *why) {
    void *router = open_socket(zmq_context, ZMQ_ROUTER);
    if (!set_server(router, opt)) {
        (void)zmq_close(router);
        return fail(why, ST_INVALID, "the CURVE secret key is not 40 characters of Z85");
    }
    if (zmq_bind(router, opt->listen) != 0) {
        int cause = zmq_errno();
        (void)zmq_close(router);
        bool is_malformed = cause == EINVAL || cause == EPROTONOSUPPORT || cause == ENOCOMPATPROTO;
        return fail(why, is_malformed ? ST_INVALID : ST_UNAVAILABLE, "cannot bind %s: %s", opt->listen,
                    zmq_strerror(cause));
    }
    *ret_router = router;
    return ST_OK;
}

void *sockets_call(void *zmq_context, const struct bus_options *opt, enum peer peer) {
    void *dealer = open_socket(zmq_context, ZMQ_DEALER);
    if (set_client(dealer, opt, peer))
        return dealer;
    (void)zmq_close(dealer);
    return NULL;
}

bool sockets_connect(void *dealer, const char *address) {
    return zmq_connect(dealer, address) == 0;
}

void *sockets_monitor(void *zmq_context, void *socket, unsigned number, int events) {
    char name[48];
    (void)snprintf(name, sizeof name, "inproc://monitor-%u", number);
    if (zmq_socket_monitor(socket, name, events) != 0)
        abort();        /* the name is ours and fresh */
    void *monitor = open_socket(zmq_context, ZMQ_PAIR);
    if (zmq_connect(monitor, name) != 0)
        abort();
    return monitor;
}

int sockets_event(void *monitor) {
    zmq_msg_t event, address;
    (void)zmq_msg_init(&event);
    (void)zmq_msg_init(&address);
    uint16_t number = 0;
    if (zmq_msg_recv(&event, monitor, ZMQ_DONTWAIT) >= 0) {
        if (zmq_msg_size(&event) >= sizeof number)
            memcpy(&number, zmq_msg_data(&event), sizeof number);
        (void)zmq_msg_recv(&address, monitor, 0);
    }
    (void)zmq_msg_close(&event);
    (void)zmq_msg_close(&address);
    return number;
}

void sockets_close(void **socket_p, void **monitor_p) {
    if (*monitor_p) {
        (void)zmq_socket_monitor(*socket_p, NULL, 0);
        (void)zmq_close(*monitor_p);
        *monitor_p = NULL;
    }
    if (*socket_p)
        (void)zmq_close(*socket_p);
    *socket_p = NULL;
}
