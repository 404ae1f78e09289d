#include "support/loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/arena.h"

enum { CONNECTIONS_MAX = 256 };

struct loopback {
    loopback_fn answer;
    void *ctx;
    int listener;
    char url[64];
    pthread_t acceptor;
    pthread_mutex_t lock;           /* guards fds and n */
    pthread_t threads[CONNECTIONS_MAX];
    int fds[CONNECTIONS_MAX];
    unsigned n;
    atomic_uint requests;
};

struct connection { struct loopback *server; int fd; unsigned number; };

void loopback_write(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

bool loopback_answer(int fd, int status, const char *headers, const char *body) {
    struct buffer out = { 0 };
    (void)buffer_printf(&out, "HTTP/1.1 %d Status\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body), headers, body);
    loopback_write(fd, out.data, out.len);
    buffer_end(&out);
    return true;
}

const char *loopback_header(const struct loopback_request *request, const char *name, char *out, size_t size) {
    out[0] = '\0';
    for (const char *line = request->head.data; line && *line; line = strstr(line, "\r\n") ? strstr(line, "\r\n") + 2 : NULL) {
        size_t len = strlen(name);
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        const char *value = line + len + 1 + strspn(line + len + 1, " ");
        (void)snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
        break;
    }
    return out;
}

/* Read one request; false at the end of the connection. left holds bytes that came too early. */
static bool read_request(int fd, struct buffer *left, struct loopback_request *request) {
    char *end;
    char chunk[16384];
    while (!left->data || !(end = strstr(left->data, "\r\n\r\n"))) {
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0)
            return false;
        (void)buffer_add(left, chunk, (size_t)n);
    }
    size_t head_len = (size_t)(end + 4 - left->data);
    const char *lines = strstr(left->data, "\r\n") + 2;
    if (sscanf(left->data, "%15s %2047s", request->method, request->target) != 2)
        return false;
    (void)buffer_add(&request->head, lines, (size_t)(end + 2 - lines));
    char length[24];
    size_t body_len = strtoul(loopback_header(request, "content-length", length, sizeof length), NULL, 10);
    while (left->len < head_len + body_len) {
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n <= 0)
            return false;
        (void)buffer_add(left, chunk, (size_t)n);
    }
    (void)buffer_add(&request->body, left->data + head_len, body_len);
    struct buffer rest = { 0 };
    (void)buffer_add(&rest, left->data + head_len + body_len, left->len - head_len - body_len);
    buffer_end(left);
    *left = rest;
    return true;
}

static void *serve(void *arg) {
    struct connection *connection = arg;
    struct loopback *server = connection->server;
    struct buffer left = { 0 };
    bool is_open = true;
    while (is_open) {
        struct loopback_request request = { .connection = connection->number };
        is_open = read_request(connection->fd, &left, &request);
        if (is_open) {
            request.number = atomic_fetch_add(&server->requests, 1) + 1;
            is_open = server->answer(server->ctx, &request, connection->fd);
        }
        buffer_end(&request.head);
        buffer_end(&request.body);
    }
    (void)shutdown(connection->fd, SHUT_RDWR);
    buffer_end(&left);
    free(connection);
    return NULL;
}

static void *accept_all(void *arg) {
    struct loopback *server = arg;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        (void)pthread_mutex_lock(&server->lock);
        if (server->n < CONNECTIONS_MAX) {
            struct connection *connection = xalloc(sizeof *connection);
            *connection = (struct connection){ server, fd, server->n + 1 };
            server->fds[server->n] = fd;
            if (pthread_create(&server->threads[server->n], NULL, serve, connection) != 0)
                abort();
            server->n++;
        } else {
            (void)close(fd);
        }
        (void)pthread_mutex_unlock(&server->lock);
    }
}

struct loopback *loopback_start(loopback_fn answer, void *ctx) {
    struct loopback *server = xalloc(sizeof *server);
    server->answer = answer;
    server->ctx = ctx;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof at;
    if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(server->listener, 128) != 0 || getsockname(server->listener, (struct sockaddr *)&at, &len) != 0)
        abort();
    (void)snprintf(server->url, sizeof server->url, "http://127.0.0.1:%d", ntohs(at.sin_port));
    if (pthread_mutex_init(&server->lock, NULL) != 0 || pthread_create(&server->acceptor, NULL, accept_all, server) != 0)
        abort();
    return server;
}

const char *loopback_url(const struct loopback *server) {
    return server->url;
}

void loopback_stop(struct loopback **server_p) {
    struct loopback *server = *server_p;
    if (!server)
        return;
    (void)shutdown(server->listener, SHUT_RDWR);
    (void)pthread_join(server->acceptor, NULL);
    (void)close(server->listener);
    for (unsigned i = 0; i < server->n; i++) {
        (void)shutdown(server->fds[i], SHUT_RDWR);
        (void)pthread_join(server->threads[i], NULL);
        (void)close(server->fds[i]);
    }
    (void)pthread_mutex_destroy(&server->lock);
    free(server);
    *server_p = NULL;
}
