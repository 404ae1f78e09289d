#include "pg_proxy.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/arena.h"
#include "support/pg.h"

enum { CONNECTIONS_MAX = 64, BYTES = 65536, TURN_MS = 20 };

struct pg_proxy {
    const char *word;
    enum proxy_cut cut;
    atomic_uint spare, cuts_left, cuts;
    atomic_bool is_stopping;
    int listener;
    char url[1024];
    unsigned port;
    pthread_t acceptor, threads[CONNECTIONS_MAX];
    unsigned count;
};

struct link { struct pg_proxy *proxy; int client; };

static int dial(void) {
    struct addrinfo want = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    int fd = -1;
    if (getaddrinfo(PQhost(pg_admin()), PQport(pg_admin()), &want, &list) == 0)
        fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    if (list)
        freeaddrinfo(list);
    return fd;
}

static bool takes(atomic_uint *count) {
    unsigned n = atomic_load(count);
    while (n > 0 && !atomic_compare_exchange_weak(count, &n, n - 1))
        ;
    return n > 0;
}

static bool is_hit(struct pg_proxy *p, const char *data, size_t len) {
    return memmem(data, len, p->word, strlen(p->word) + 1) && !takes(&p->spare) && takes(&p->cuts_left);
}

static void *carry(void *arg) {
    struct link link = *(struct link *)arg;
    free(arg);
    struct pg_proxy *p = link.proxy;
    int server = dial();
    char *data = xalloc(BYTES);
    bool is_cut = false;
    struct pollfd fds[] = { { .fd = link.client, .events = POLLIN }, { .fd = server, .events = POLLIN } };
    while (server >= 0 && !p->is_stopping) {
        if (poll(fds, 2, TURN_MS) <= 0)
            continue;
        int from = fds[0].revents ? 0 : 1;
        ssize_t n = recv(fds[from].fd, data, BYTES, 0);
        if (n <= 0)
            break;
        bool hit = from == 0 && is_hit(p, data, (size_t)n);
        p->cuts += hit;
        if ((hit && p->cut == CUT_QUESTION) || (from == 1 && is_cut))
            break;                      /* not carried out, or carried out and nobody hears of it */
        is_cut = is_cut || hit;
        if (send(fds[1 - from].fd, data, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    }
    free(data);
    close(link.client);
    if (server >= 0)
        close(server);
    return NULL;
}

static void *accept_all(void *arg) {
    struct pg_proxy *p = arg;
    for (int fd; (fd = accept(p->listener, NULL, NULL)) >= 0;) {
        struct link *link = xalloc(sizeof *link);
        *link = (struct link){ p, fd };
        if (p->count == CONNECTIONS_MAX || pthread_create(&p->threads[p->count], NULL, carry, link) != 0)
            abort();
        p->count++;
    }
    return NULL;
}

struct pg_proxy *pg_proxy_start(const char *word, enum proxy_cut cut, unsigned cuts) {
    struct pg_proxy *p = xalloc(sizeof *p);
    p->word = word;
    p->cut = cut;
    p->cuts_left = cuts;
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof at;
    cr_assert_eq(bind(p->listener, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(p->listener, 16), 0);
    cr_assert_eq(getsockname(p->listener, (struct sockaddr *)&at, &len), 0);
    p->port = ntohs(at.sin_port);
    cr_assert_eq(pthread_create(&p->acceptor, NULL, accept_all, p), 0);
    return p;
}

void pg_proxy_stop(struct pg_proxy **proxy_p) {
    struct pg_proxy *p = *proxy_p;
    p->is_stopping = true;
    (void)shutdown(p->listener, SHUT_RDWR);
    pthread_join(p->acceptor, NULL);
    for (unsigned i = 0; i < p->count; i++)
        pthread_join(p->threads[i], NULL);
    close(p->listener);
    free(p);
    *proxy_p = NULL;
}

void pg_proxy_spare(struct pg_proxy *p, unsigned count) {
    p->spare = count;
}

unsigned pg_proxy_cuts(struct pg_proxy *p) {
    return p->cuts;
}

const char *pg_proxy_url(struct pg_proxy *p, const char *role) {
    /* of a word that comes twice the last counts */
    (void)snprintf(p->url, sizeof p->url, "%s hostaddr='' host='127.0.0.1' port='%u' sslmode='disable'", pg_url(role), p->port);
    return p->url;
}
