#include "bus/zap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "core/arena.h"
#include "core/str.h"

enum { KEY_BYTES = 32, FIELD_MAX_BYTES = 255 };

/* A request's frames (RFC 27). The address is not among our reasons, but it has its place. */
enum { F_VERSION, F_ID, F_DOMAIN, F_ADDRESS, F_IDENTITY, F_MECHANISM, F_CREDENTIAL, F_COUNT };

struct zap {
    void *socket;
    const struct bus_options *opt;
    uint8_t keys[PEER_COUNT][KEY_BYTES];
    bool is_admitted[PEER_COUNT];
    struct counter *refused;
};

static enum status read_keys(struct zap *zap, struct why *why) {
    for (unsigned i = 0; i < PEER_COUNT; i++) {
        const char *text = zap->opt->public_keys[i];
        if (!(zap->opt->callers & peer_at(i)))
            continue;
        if (!text || strlen(text) != BUS_KEY_TEXT_BYTES - 1 || !zmq_z85_decode(zap->keys[i], text))
            return fail(why, ST_INVALID, "the public key of %s is not 40 characters of Z85", peer_name(peer_at(i)));
        for (unsigned j = 0; j < i; j++)
            if (zap->is_admitted[j] && memcmp(zap->keys[i], zap->keys[j], KEY_BYTES) == 0)
                return fail(why, ST_INVALID, "%s and %s have the same public key", peer_name(peer_at(i)),
                            peer_name(peer_at(j)));
        zap->is_admitted[i] = true;
    }
    return ST_OK;
}

enum status zap_open(void *zmq_context, const struct bus_options *opt, struct zap **ret_zap, struct why *why) {
    struct zap *zap = xalloc(sizeof *zap);
    zap->opt = opt;
    zap->refused = metrics_counter(opt->metrics, "cordon_bus_refused_total", "Handshakes that the bus refused.", "");
    enum status st = read_keys(zap, why);
    if (st == ST_OK) {
        zap->socket = zmq_socket(zmq_context, ZMQ_REP);
        if (!zap->socket || zmq_bind(zap->socket, "inproc://zeromq.zap.01") != 0)
            st = fail(why, ST_INTERNAL, "the ZAP handler cannot start: %s", zmq_strerror(zmq_errno()));
    }
    if (st != ST_OK) {
        zap_close(&zap);
        return st;
    }
    *ret_zap = zap;
    return ST_OK;
}

void zap_close(struct zap **zap_p) {
    if (!*zap_p)
        return;
    if ((*zap_p)->socket)
        (void)zmq_close((*zap_p)->socket);
    free(*zap_p);
    *zap_p = NULL;
}

void *zap_socket(const struct zap *zap) {
    return zap->socket;
}

struct field { size_t len; uint8_t bytes[FIELD_MAX_BYTES + 1]; };

/* Take a whole request. False: there is none. *ret_count is more than F_COUNT when it is no CURVE request. */
static bool take_request(void *socket, struct field fields[F_COUNT], unsigned *ret_count) {
    int more = 1;
    for (*ret_count = 0; more; ++*ret_count) {
        struct field surplus, *f = *ret_count < F_COUNT ? &fields[*ret_count] : &surplus;
        int len = zmq_recv(socket, f->bytes, FIELD_MAX_BYTES, *ret_count == 0 ? ZMQ_DONTWAIT : 0);
        if (len < 0)
            return false;
        f->len = (size_t)len > FIELD_MAX_BYTES ? FIELD_MAX_BYTES : (size_t)len;
        f->bytes[f->len] = '\0';
        size_t size = sizeof more;
        (void)zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    }
    return true;
}

/* Public keys are public: an ordinary comparison leaks nothing. */
static const char *find_peer(const struct zap *zap, const struct field fields[F_COUNT], unsigned count) {
    if (count != F_COUNT || !str_equal((const char *)fields[F_VERSION].bytes, "1.0") ||
        !str_equal((const char *)fields[F_MECHANISM].bytes, "CURVE") || fields[F_CREDENTIAL].len != KEY_BYTES ||
        !str_equal((const char *)fields[F_DOMAIN].bytes, peer_name(zap->opt->self)))
        return NULL;
    for (unsigned i = 0; i < PEER_COUNT; i++)
        if (zap->is_admitted[i] && memcmp(zap->keys[i], fields[F_CREDENTIAL].bytes, KEY_BYTES) == 0)
            return peer_name(peer_at(i));
    return NULL;
}

static void answer(void *socket, const struct field *id, const char *name) {
    const char *code = name ? "200" : "400", *text = name ? "OK" : "refused";
    (void)zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
    (void)zmq_send(socket, id->bytes, id->len, ZMQ_SNDMORE);
    (void)zmq_send(socket, code, 3, ZMQ_SNDMORE);
    (void)zmq_send(socket, text, strlen(text), ZMQ_SNDMORE);
    (void)zmq_send(socket, name ? name : "", name ? strlen(name) : 0, ZMQ_SNDMORE);
    (void)zmq_send(socket, "", 0, 0);
}

void zap_turn(struct zap *zap) {
    struct field fields[F_COUNT];
    unsigned count;
    while (take_request(zap->socket, fields, &count)) {
        const char *name = find_peer(zap, fields, count);
        if (!name)
            counter_add(zap->refused, 1);
        if (count < F_ID + 1)
            fields[F_ID].len = 0;
        answer(zap->socket, &fields[F_ID], name);
    }
}
