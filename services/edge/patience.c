#include "patience.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"

enum { TICK_MS = 200, SCAN_MAX_COUNT = 16384 };

struct patience {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    struct vigil *head;
    bool is_stopping;
};

/* Is fd a connection from this address and port? */
static bool is_client(int fd, const struct in_addr *address, int port) {
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    return getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET &&
           peer.sin_addr.s_addr == address->s_addr && ntohs(peer.sin_port) == port;
}

/* Civetweb does not tell a connection's socket: find it among our own by who is at the other end. The
 * vigil is open and locked, so its connection cannot have been closed and its number reused meanwhile.
 * Not by /proc/self/fd, which a process that may not be dumped cannot read. */
static void cut(const struct vigil *v) {
    struct in_addr address;
    struct rlimit files = { .rlim_cur = 1024 };
    (void)getrlimit(RLIMIT_NOFILE, &files);
    int count = files.rlim_cur < SCAN_MAX_COUNT ? (int)files.rlim_cur : SCAN_MAX_COUNT;
    if (inet_pton(AF_INET, v->address, &address) != 1)
        return;
    for (int fd = 0; fd < count; fd++)
        if (is_client(fd, &address, v->port))
            (void)shutdown(fd, v->is_writing ? SHUT_RDWR : SHUT_RD);
}

static void *watch(void *arg) {
    struct patience *p = arg;
    (void)pthread_mutex_lock(&p->lock);
    while (!p->is_stopping) {
        int64_t now_ms = clock_mono_ms();
        for (struct vigil *v = p->head; v; v = v->next)
            if (!v->is_cut && now_ms > v->deadline_ms) {
                v->is_cut = true;
                cut(v);
            }
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        (void)pthread_cond_timedwait(&p->wake, &p->lock, &until);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct patience *patience_new(void) {
    struct patience *p = xalloc(sizeof *p);
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->wake, NULL);
    if (pthread_create(&p->thread, NULL, watch, p) != 0)
        abort();
    return p;
}

void patience_destroy(struct patience **p_p) {
    struct patience *p = *p_p;
    if (!p)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->is_stopping = true;
    (void)pthread_cond_signal(&p->wake);
    (void)pthread_mutex_unlock(&p->lock);
    (void)pthread_join(p->thread, NULL);
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
    *p_p = NULL;
}

void patience_begin(struct patience *p, struct vigil *v, int64_t deadline_ms) {
    (void)pthread_mutex_lock(&p->lock);
    v->deadline_ms = deadline_ms;
    v->is_open = true;
    v->is_cut = false;
    v->previous = NULL;
    v->next = p->head;
    if (p->head)
        p->head->previous = v;
    p->head = v;
    (void)pthread_mutex_unlock(&p->lock);
}

bool patience_end(struct patience *p, struct vigil *v) {
    (void)pthread_mutex_lock(&p->lock);
    if (v->is_open) {
        if (v->previous)
            v->previous->next = v->next;
        else
            p->head = v->next;
        if (v->next)
            v->next->previous = v->previous;
        v->is_open = false;
    }
    bool is_cut = v->is_cut;
    (void)pthread_mutex_unlock(&p->lock);
    return is_cut;
}
