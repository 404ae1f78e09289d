#include "patience.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/worker.h"

enum { TICK_MS = 200, HURRY_MS = 1000, CUTS_PER_TICK = 256, SCAN_MAX_COUNT = 16384 };

struct patience {
    struct worker worker;
    pthread_mutex_t lock;           /* guards the list */
    struct vigil *head;
    atomic_bool is_crowded;
};

/* Civetweb does not tell a connection's socket: it is found among our own by who is at the other end. Not by
 * /proc/self/fd, which a process that may not be dumped cannot read. */
static void each_peer(bool (*goes_on)(void *ctx, int fd, const struct sockaddr_in *peer), void *ctx) {
    struct rlimit files = { .rlim_cur = 1024 };
    (void)getrlimit(RLIMIT_NOFILE, &files);
    int files_count = files.rlim_cur < SCAN_MAX_COUNT ? (int)files.rlim_cur : SCAN_MAX_COUNT;
    for (int fd = 0; fd < files_count; fd++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET && !goes_on(ctx, fd, &peer))
            return;
    }
}

static bool is_other_end(const struct patience_cut *cut, const struct sockaddr_in *peer) {
    return cut->port == ntohs(peer->sin_port) && cut->address.s_addr == peer->sin_addr.s_addr;
}

struct cuts { const struct patience_cut *cuts; unsigned count; };

static bool cut_peer(void *ctx, int fd, const struct sockaddr_in *peer) {
    const struct cuts *c = ctx;
    for (unsigned i = 0; i < c->count; i++)
        if (is_other_end(&c->cuts[i], peer))
            (void)shutdown(fd, c->cuts[i].is_writing ? SHUT_RDWR : SHUT_RD);
    return true;
}

/* Those to be cut, in one pass. Their vigils are open and locked, so none of the connections can have been closed and its
 * number reused meanwhile. Not to the first that fits: a client may have one port for connections to several of ours, to the
 * health's too, and with another one of them it would keep the one that is late. */
void patience_cut_all(const struct patience_cut *cuts, unsigned count) {
    each_peer(cut_peer, &(struct cuts){ cuts, count });
}

struct wanted { struct patience_cut cut; int server_port, fd; };

/* To the first that fits: numbers that are in use are low ones, and to ask for all 16,384 takes 3 ms, which each stream would wait. */
static bool find_peer(void *ctx, int fd, const struct sockaddr_in *peer) {
    struct wanted *w = ctx;
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    bool is_it = is_other_end(&w->cut, peer) && getsockname(fd, (struct sockaddr *)&own, &len) == 0 && ntohs(own.sin_port) == w->server_port;
    w->fd = is_it ? fd : -1;
    return !is_it;
}

int patience_socket(const struct vigil *v) {
    struct wanted w = { .server_port = v->server_port, .fd = -1 };
    if (patience_cut_init(&w.cut, v->address, v->port))
        each_peer(find_peer, &w);
    return w.fd;
}

bool patience_cut_init(struct patience_cut *cut, const char *address, int port) {
    cut->port = port;
    cut->is_writing = true;
    return inet_pton(AF_INET, address, &cut->address) == 1;
}

static bool is_over(const struct patience *p, const struct vigil *v, int64_t now_ms) {
    return now_ms > v->deadline_ms || (atomic_load(&p->is_crowded) && now_ms > v->begun_ms + HURRY_MS);
}

static void look(struct patience *p) {
    struct patience_cut cuts[CUTS_PER_TICK];
    unsigned count = 0;
    int64_t now_ms = clock_mono_ms();
    for (struct vigil *v = p->head; v && count < CUTS_PER_TICK; v = v->next)
        if (!v->is_cut && is_over(p, v, now_ms)) {
            v->is_cut = true;
            bool is_good = patience_cut_init(&cuts[count], v->address, v->port);
            cuts[count].is_writing = v->is_writing;
            count += is_good;
        }
    if (count)
        patience_cut_all(cuts, count);
}

static void *watch(void *arg) {
    struct patience *p = arg;
    do {
        (void)pthread_mutex_lock(&p->lock);
        look(p);
        (void)pthread_mutex_unlock(&p->lock);
    } while (worker_rests(&p->worker, TICK_MS));
    return NULL;
}

struct patience *patience_new(void) {
    struct patience *p = xalloc(sizeof *p);
    (void)pthread_mutex_init(&p->lock, NULL);
    worker_start(&p->worker, watch, p);
    return p;
}

void patience_destroy(struct patience **p_p) {
    struct patience *p = *p_p;
    if (!p)
        return;
    worker_stop(&p->worker);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
    *p_p = NULL;
}

void patience_begin(struct patience *p, struct vigil *v, int64_t deadline_ms) {
    (void)pthread_mutex_lock(&p->lock);
    v->begun_ms = clock_mono_ms();
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

void patience_hurry(struct patience *p, bool is_crowded) {
    atomic_store(&p->is_crowded, is_crowded);
}
