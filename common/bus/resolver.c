#include "bus/resolver.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "bus/note.h"
#include "core/arena.h"
#include "core/buffer.h"
#include "core/str.h"

enum { AGAIN_MS = 3000, AGAIN_FAILED_MS = 500, HOST_BYTES = 254, PORT_BYTES = 6, ADDRESS_BYTES = 80 };

/* One "tcp://host:port" and what it last resolved to: addresses, each with its NUL. */
struct endpoint {
    struct endpoint *next;
    unsigned peer;
    char host[HOST_BYTES], port[PORT_BYTES];
    struct buffer addresses;
};

struct resolver {
    void *zmq_context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping, has_thread;
    struct endpoint *endpoints;
};

/* text up to len: tcp://host:port or tcp://[v6]:port. */
static bool parse_endpoint(const char *text, size_t len, struct endpoint *e) {
    static const char SCHEME[] = "tcp://";
    size_t scheme_len = sizeof SCHEME - 1;
    if (len <= scheme_len || memcmp(text, SCHEME, scheme_len) != 0)
        return false;
    const char *host = text + scheme_len, *end = text + len, *colon = memrchr(host, ':', (size_t)(end - host));
    if (!colon || colon == host)
        return false;
    size_t host_len = (size_t)(colon - host), port_len = (size_t)(end - colon - 1);
    bool is_bracketed = host_len > 2 && host[0] == '[' && host[host_len - 1] == ']';
    if (is_bracketed) {
        host++;
        host_len -= 2;
    }
    if (host_len == 0 || host_len >= HOST_BYTES || port_len == 0 || port_len >= PORT_BYTES)
        return false;
    memcpy(e->host, host, host_len);
    memcpy(e->port, colon + 1, port_len);
    int64_t port;
    return (is_bracketed || !strchr(e->host, ':')) && str_to_i64(e->port, 1, 65535, &port);
}

static enum status parse_endpoints(struct resolver *r, const struct bus_options *opt, struct why *why) {
    for (unsigned i = 0; i < PEER_COUNT; i++)
        for (const char *text = opt->endpoints[i]; text && *text;) {
            size_t len = strcspn(text, ",");
            struct endpoint *e = xalloc(sizeof *e);
            *e = (struct endpoint){ .next = r->endpoints, .peer = i };
            r->endpoints = e;
            if (!parse_endpoint(text, len, e))
                return fail(why, ST_INVALID, "an endpoint of %s is not tcp://host:port", peer_name(peer_at(i)));
            text += len + (text[len] == ',');
        }
    return ST_OK;
}

static void format_address(const struct addrinfo *at, struct buffer *out) {
    char host[INET6_ADDRSTRLEN], port[PORT_BYTES], text[ADDRESS_BYTES];
    if (getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    int len = snprintf(text, sizeof text, at->ai_family == AF_INET6 ? "tcp://[%s]:%s" : "tcp://%s:%s", host, port);
    (void)buffer_add(out, text, (size_t)len + 1);
}

/* False: the name did not resolve, and the last addresses stay. */
static bool resolve(struct endpoint *e) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *found = NULL;
    if (getaddrinfo(e->host, e->port, &hints, &found) != 0)
        return false;
    buffer_clear(&e->addresses);
    unsigned count = 0;
    for (const struct addrinfo *at = found; at && count < RESOLVER_ADDRESSES_MAX; at = at->ai_next, count++)
        format_address(at, &e->addresses);
    freeaddrinfo(found);
    return true;
}

/* Tell the network thread all addresses of one peer. */
static void report(struct resolver *r, void *socket, unsigned peer) {
    struct buffer all = { 0 };
    for (const struct endpoint *e = r->endpoints; e; e = e->next)
        if (e->peer == peer && e->addresses.len)
            (void)buffer_add(&all, e->addresses.data, e->addresses.len);
    if (all.len) {
        zmq_msg_t frame;
        if (zmq_msg_init_size(&frame, all.len) != 0)
            abort();
        memcpy(zmq_msg_data(&frame), all.data, all.len);
        note_send(socket, NULL, &(struct note){ .kind = NOTE_ADDRESSES, .peer = peer_at(peer) }, &frame);
    }
    buffer_end(&all);
}

/* Sleep; false when the resolver stops. */
static bool rest(struct resolver *r, int64_t ms) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_mutex_lock(&r->lock);
    while (!r->is_stopping && pthread_cond_timedwait(&r->changed, &r->lock, &until) == 0)
        ;
    bool is_stopping = r->is_stopping;
    (void)pthread_mutex_unlock(&r->lock);
    return !is_stopping;
}

static void *run(void *arg) {
    struct resolver *r = arg;
    void *socket = note_socket(r->zmq_context);
    /* Of this thread only: a dead name server must not hold up the end of the process. */
    if (res_init() == 0) {
        _res.retrans = 1;
        _res.retry = 2;
    }
    bool is_complete;
    do {
        is_complete = true;
        for (struct endpoint *e = r->endpoints; e; e = e->next)
            is_complete = resolve(e) && is_complete;
        for (unsigned i = 0; i < PEER_COUNT; i++)
            report(r, socket, i);
    } while (rest(r, is_complete ? AGAIN_MS : AGAIN_FAILED_MS));
    (void)zmq_close(socket);
    return NULL;
}

enum status resolver_start(void *zmq_context, const struct bus_options *opt, struct resolver **ret_resolver,
                           struct why *why) {
    struct resolver *r = xalloc(sizeof *r);
    r->zmq_context = zmq_context;
    (void)pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    enum status st = parse_endpoints(r, opt, why);
    if (st == ST_OK && r->endpoints) {
        r->has_thread = pthread_create(&r->thread, NULL, run, r) == 0;
        if (!r->has_thread)
            st = fail(why, ST_UNAVAILABLE, "no thread for the resolver");
    }
    if (st != ST_OK) {
        resolver_stop(&r);
        return st;
    }
    *ret_resolver = r;
    return ST_OK;
}

void resolver_stop(struct resolver **resolver_p) {
    struct resolver *r = *resolver_p;
    if (!r)
        return;
    (void)pthread_mutex_lock(&r->lock);
    r->is_stopping = true;
    (void)pthread_cond_signal(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    if (r->has_thread)
        (void)pthread_join(r->thread, NULL);
    for (struct endpoint *e = r->endpoints, *next; e; e = next) {
        next = e->next;
        buffer_end(&e->addresses);
        free(e);
    }
    (void)pthread_cond_destroy(&r->changed);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
    *resolver_p = NULL;
}
