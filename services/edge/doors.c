#include "doors.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIXTEENTHS = 16, SHARE_LEAST = 4, FILES_MAX = 16384, CROWDED_SIXTEENTHS = 14, PLUG_US = 20000 };

/* In sixteenths of the threads; what they leave is for heads that are still coming, and for health. */
static const struct { const char *name; unsigned share; } KINDS[RATE_COUNT] = {
    [RATE_NONE] = { "none", 0 },      [RATE_READ] = { "read", 2 },          [RATE_WRITE] = { "write", 1 },
    [RATE_UPLOAD] = { "upload", 4 },  [RATE_DOWNLOAD] = { "download", 2 },  [RATE_MODEL] = { "model", 4 },
    [RATE_ADMIN] = { "admin", 1 },
};

const char *doors_class(enum route_rate rate) {
    return KINDS[rate].name;
}

static unsigned share_of(const struct doors *doors, enum route_rate rate) {
    unsigned share = doors->threads * KINDS[rate].share / SIXTEENTHS;
    return share < SHARE_LEAST ? SHARE_LEAST : share;
}

void doors_init(struct doors *doors, struct metrics *metrics, int port, unsigned threads) {
    doors->port = port;
    doors->threads = threads;
    doors->plug_fd = -1;
    doors->connections_gauge = metrics_gauge(metrics, "cordon_http_connections", "Open connections of clients.", "");
    for (enum route_rate rate = RATE_NONE + 1; rate < RATE_COUNT; rate++) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "class=\"%s\"", KINDS[rate].name);
        doors->inside_gauge[rate] =
            metrics_gauge(metrics, "cordon_http_class_in_flight", "Requests being served, by what bounds them.", labels);
        gauge_set(metrics_gauge(metrics, "cordon_http_class_limit", "As many may be served at once; more are answered 503.", labels),
                  share_of(doors, rate));
        doors->shed[rate] =
            metrics_counter(metrics, "cordon_http_shed_total", "Requests answered 503 because their class was full.", labels);
    }
}

void doors_end(struct doors *doors) {
    if (doors->plug_fd >= 0)
        (void)close(doors->plug_fd);
    doors->plug_fd = -1;
}

bool doors_enter(struct doors *doors, enum route_rate rate) {
    if (rate == RATE_NONE)
        return true;
    unsigned inside = atomic_fetch_add(&doors->inside[rate], 1) + 1;
    if (inside > share_of(doors, rate)) {
        (void)atomic_fetch_sub(&doors->inside[rate], 1);
        counter_add(doors->shed[rate], 1);
        return false;
    }
    gauge_set(doors->inside_gauge[rate], inside);
    return true;
}

void doors_leave(struct doors *doors, enum route_rate rate) {
    if (rate != RATE_NONE)
        gauge_set(doors->inside_gauge[rate], atomic_fetch_sub(&doors->inside[rate], 1) - 1);
}

bool doors_count_connection(struct doors *doors, int change) {
    unsigned count = atomic_fetch_add(&doors->connections, (unsigned)change) + (unsigned)change;
    gauge_set(doors->connections_gauge, count);
    return count > doors->threads * CROWDED_SIXTEENTHS / SIXTEENTHS;
}

/* Civetweb tells neither its listening socket nor those of its connections: they are those of ours with this port. */
static void each_socket(const struct doors *doors, bool is_listening, void (*act)(const struct doors *doors, int fd)) {
    struct rlimit files = { .rlim_cur = 1024 };
    (void)getrlimit(RLIMIT_NOFILE, &files);
    int count = files.rlim_cur < FILES_MAX ? (int)files.rlim_cur : FILES_MAX;
    for (int fd = 0; fd < count; fd++) {
        struct sockaddr_in own;
        socklen_t len = sizeof own, size = sizeof(int);
        int accepts = 0;
        if (getsockname(fd, (struct sockaddr *)&own, &len) == 0 && own.sin_family == AF_INET &&
            ntohs(own.sin_port) == doors->port && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0 &&
            (accepts != 0) == is_listening)
            act(doors, fd);
    }
}

/* The listener's thread goes on polling that number, and from now on finds the plug there. */
static void plug(const struct doors *doors, int fd) {
    int listening = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    (void)dup2(doors->plug_fd, fd);
    (void)shutdown(listening, SHUT_RDWR);
    (void)close(listening);
}

static void cut(const struct doors *doors, int fd) {
    (void)doors;
    (void)shutdown(fd, SHUT_RDWR);
}

void doors_close(struct doors *doors) {
    eventfd_t ignored;
    if (doors->plug_fd >= 0 || (doors->plug_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return;
    each_socket(doors, true, plug);
    /* A poll that the shutdown woke looks the number up again, but stays queued at the old socket: it must find the plug
     * ready once, or it would sleep its time out. */
    (void)usleep(PLUG_US);
    (void)eventfd_read(doors->plug_fd, &ignored);
}

void doors_cut_all(struct doors *doors) {
    each_socket(doors, false, cut);
    if (doors->plug_fd >= 0)
        (void)eventfd_write(doors->plug_fd, 1);     /* the listener's thread looks whether it shall end */
}
