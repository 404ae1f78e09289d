#include "bus/resolver.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "bus/note.h"
#include "core/arena.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/str.h"

enum {
    AGAIN_MS = 3000, AGAIN_FAILED_MS = 500, STOP_MS = 200,
    HOST_BYTES = 254, PORT_BYTES = 6, ADDRESS_BYTES = 80, FILE_MAX_BYTES = 8 << 10,
};

/* One "tcp://host:port", or "file:///path" with such lines, and what it last resolved to: addresses, each with its NUL. */
struct endpoint {
    struct endpoint *next;
    unsigned peer;
    char host[HOST_BYTES], port[PORT_BYTES];        /* a file's path is in host, and port is "" */
    struct buffer addresses;
};

struct resolver {
    void *socket;                       /* made by whoever starts, used under the lock */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping, has_thread;
    bool has_ended, is_abandoned;       /* who comes last frees all */
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

/* text up to len: file:///path. */
static bool parse_file(const char *text, size_t len, struct endpoint *e) {
    static const char SCHEME[] = "file://";
    size_t scheme_len = sizeof SCHEME - 1;
    if (len <= scheme_len || len - scheme_len >= HOST_BYTES || memcmp(text, SCHEME, scheme_len) != 0)
        return false;
    memcpy(e->host, text + scheme_len, len - scheme_len);
    return e->host[0] == '/';
}

static enum status parse_endpoints(struct resolver *r, const struct bus_options *opt, struct why *why) {
    for (unsigned i = 0; i < PEER_COUNT; i++)
        for (const char *text = opt->endpoints[i]; text && *text;) {
            size_t len = strcspn(text, ",");
            struct endpoint *e = xalloc(sizeof *e);
            *e = (struct endpoint){ .next = r->endpoints, .peer = i };
            r->endpoints = e;
            if (!parse_endpoint(text, len, e) && !parse_file(text, len, e))
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

static bool resolve_name(const struct endpoint *e, struct buffer *out) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *found = NULL;
    if (getaddrinfo(e->host, e->port, &hints, &found) != 0)
        return false;
    unsigned count = 0;
    for (const struct addrinfo *at = found; at && count < RESOLVER_ADDRESSES_MAX; at = at->ai_next, count++)
        format_address(at, out);
    freeaddrinfo(found);
    return true;
}

/* Every line of the file must resolve: half a list would take replicas away that are there. */
static bool resolve_file(const char *path, struct buffer *out) {
    char text[FILE_MAX_BYTES];
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t len = fread(text, 1, sizeof text - 1, file);
    bool is_good = len > 0 && len < sizeof text - 1 && !ferror(file);
    (void)fclose(file);
    text[len] = '\0';
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line && is_good; line = strtok_r(NULL, "\n", &rest)) {
        struct endpoint e = { 0 };
        is_good = parse_endpoint(line, strlen(line), &e) && resolve_name(&e, out);
    }
    return is_good && out->len > 0;
}

/* False: it did not resolve, and the last addresses stay. */
static bool resolve(struct endpoint *e) {
    struct buffer fresh = { 0 };
    if (!(*e->port ? resolve_name(e, &fresh) : resolve_file(e->host, &fresh))) {
        buffer_end(&fresh);
        return false;
    }
    buffer_end(&e->addresses);
    e->addresses = fresh;
    return true;
}

/* Tell the network thread all addresses of one peer. */
static void report(struct resolver *r, unsigned peer) {
    struct buffer all = { 0 };
    for (const struct endpoint *e = r->endpoints; e; e = e->next)
        if (e->peer == peer && e->addresses.len)
            (void)buffer_add(&all, e->addresses.data, e->addresses.len);
    (void)pthread_mutex_lock(&r->lock);     /* once the bus stops, its context is not ours to use */
    if (all.len && !r->is_stopping) {
        zmq_msg_t frame;
        if (zmq_msg_init_size(&frame, all.len) != 0)
            abort();
        memcpy(zmq_msg_data(&frame), all.data, all.len);
        note_send(r->socket, NULL, &(struct note){ .kind = NOTE_ADDRESSES, .peer = peer_at(peer) }, &frame);
    }
    (void)pthread_mutex_unlock(&r->lock);
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

static bool is_stopping(struct resolver *r) {
    (void)pthread_mutex_lock(&r->lock);
    bool is = r->is_stopping;
    (void)pthread_mutex_unlock(&r->lock);
    return is;
}

static void resolver_free(struct resolver *r) {
    for (struct endpoint *e = r->endpoints, *next; e; e = next) {
        next = e->next;
        buffer_end(&e->addresses);
        free(e);
    }
    (void)pthread_cond_destroy(&r->changed);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

static void *run(void *arg) {
    struct resolver *r = arg;
    bool is_complete;
    do {
        is_complete = true;
        for (struct endpoint *e = r->endpoints; e && !is_stopping(r); e = e->next)
            is_complete = resolve(e) && is_complete;
        for (unsigned i = 0; i < PEER_COUNT; i++)
            report(r, i);
    } while (rest(r, is_complete ? AGAIN_MS : AGAIN_FAILED_MS));
    (void)pthread_mutex_lock(&r->lock);
    r->has_ended = true;
    bool is_last = r->is_abandoned;
    (void)pthread_mutex_unlock(&r->lock);
    if (is_last)
        resolver_free(r);
    return NULL;
}

enum status resolver_start(void *zmq_context, const struct bus_options *opt, struct resolver **ret_resolver,
                           struct why *why) {
    struct resolver *r = xalloc(sizeof *r);
    r->socket = note_socket(zmq_context);
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

/* getaddrinfo cannot be interrupted, and a dead name server must not hold up the end of the process: a thread
 * that is in it keeps what it needs and frees it when it returns. */
void resolver_stop(struct resolver **resolver_p) {
    struct resolver *r = *resolver_p;
    if (!r)
        return;
    (void)pthread_mutex_lock(&r->lock);
    r->is_stopping = true;
    (void)zmq_close(r->socket);
    (void)pthread_cond_signal(&r->changed);
    (void)pthread_mutex_unlock(&r->lock);
    *resolver_p = NULL;
    int64_t until_us = clock_unix_us() + STOP_MS * 1000;
    struct timespec until = { .tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000 * 1000) };
    if (r->has_thread && pthread_timedjoin_np(r->thread, NULL, &until) != 0) {
        (void)pthread_detach(r->thread);
        (void)pthread_mutex_lock(&r->lock);
        r->is_abandoned = !r->has_ended;
        bool is_abandoned = r->is_abandoned;
        (void)pthread_mutex_unlock(&r->lock);
        if (is_abandoned)
            return;
    }
    resolver_free(r);
}
