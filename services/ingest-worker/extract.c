#include "extract.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/cancel.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/utf8.h"

enum { WATCH_INTERVAL_MS = 250, HEAD_BYTES = 1024, READ_BYTES = 64 << 10, EXIT_UNCONFINED = 126 };

struct type;

struct extraction {
    const struct extract_options *options;
    const struct type *type;
    int64_t left_ms;                /* of the child's time; what the bytes take to come is not on its account */
    struct buffer text;
    uint8_t head[HEAD_BYTES];       /* first bytes, to see whether the type is what it claims */
    size_t head_len;
    pid_t child;                    /* 0: none */
    int in_fd, out_fd;              /* -1: closed */
    uint32_t pages;                 /* whose text is here whole: form feeds so far */
    enum status (*watch)(void *ctx, uint32_t pages, struct why *why);    /* NULL: nobody watches */
    void *watch_ctx;
};

struct type {
    const char *content_type;
    const char *magic;              /* must occur among the first HEAD_BYTES; NULL: none */
    bool has_pages;
    bool is_piped;                  /* through the sandboxed program, else taken as it is */
};

static const struct type TYPES[] = {
    { "text/plain",      NULL,    false, false },
    { "text/markdown",   NULL,    false, false },
    { "application/pdf", "%PDF-", true,  true  },
    { 0 }
};

static const struct type *type_find(const char *content_type) {
    for (const struct type *t = TYPES; t->content_type; t++)
        if (str_equal(t->content_type, content_type))
            return t;
    return NULL;
}

bool extract_is_supported(const char *content_type) {
    return type_find(content_type) != NULL;
}

bool extract_has_pages(const char *content_type) {
    const struct type *t = type_find(content_type);
    return t && t->has_pages;
}

static void fd_close(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* posix_spawn and not fork: this process has threads and ZeroMQ sockets. */
static enum status child_start(struct extraction *x, struct why *why) {
    int in[2] = { -1, -1 }, out[2] = { -1, -1 };
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        fd_close(&in[0]);
        fd_close(&in[1]);
        return fail(why, ST_UNAVAILABLE, "extractor: no pipe, errno %d", errno);
    }
    char memory[24], cpu[24];
    (void)snprintf(memory, sizeof memory, "%lld", (long long)x->options->memory_max_bytes);
    (void)snprintf(cpu, sizeof cpu, "%lld", (long long)(x->options->time_max_ms / 1000 + 1));
    const char *argv[12];
    size_t n = 0;
    argv[n++] = "cordon-sandbox";
    if (!x->options->is_landlock_required)
        argv[n++] = "--without-landlock";
    argv[n++] = memory;
    argv[n++] = cpu;
    argv[n++] = x->options->pdftotext_path;
    argv[n++] = "-q";
    argv[n++] = "-layout";              /* a table's rows stay rows: else values part from their names */
    argv[n++] = "-enc";
    argv[n++] = "UTF-8";
    argv[n++] = "-";
    argv[n++] = "-";
    argv[n] = NULL;
    char *environment[] = { NULL };

    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    /* Its complaints may quote the document, so nobody reads them; the exit status says enough. */
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int rc = posix_spawn(&x->child, x->options->sandbox_path, &files, &attr, (char *const *)argv, environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    fd_close(&in[0]);
    fd_close(&out[1]);
    x->in_fd = in[1];
    x->out_fd = out[0];
    if (rc != 0) {
        x->child = 0;
        return fail(why, ST_INTERNAL, "extractor: %s: errno %d", x->options->sandbox_path, rc);
    }
    if (fcntl(x->in_fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(x->out_fd, F_SETFL, O_NONBLOCK) != 0)
        return fail(why, ST_INTERNAL, "extractor: fcntl");
    return ST_OK;
}

enum status extraction_new(const struct extract_options *options, const char *content_type,
                           struct extraction **ret_x, struct why *why) {
    const struct type *type = type_find(content_type);
    if (!type)
        return fail_as(why, ERR_DOC_TYPE, "no extractor for this type");
    CLEANUP(extraction_destroy) struct extraction *x = xalloc(sizeof *x);
    x->options = options;
    x->type = type;
    x->left_ms = options->time_max_ms;
    x->in_fd = x->out_fd = -1;
    buffer_init(&x->text, options->text_max_bytes);
    if (type->is_piped) {
        enum status st = child_start(x, why);
        if (st != ST_OK)
            return st;
    }
    *ret_x = x;
    x = NULL;
    return ST_OK;
}

static enum status take_text(struct extraction *x, const void *data, size_t len, struct why *why) {
    if (!buffer_add(&x->text, data, len))
        return fail_as(why, ERR_DOC_TOO_COMPLEX, "text is longer than %zu bytes", x->options->text_max_bytes);
    return ST_OK;
}

/* Read what the child has written. *ret_end: it closed its output. */
static enum status child_read(struct extraction *x, bool *ret_end, struct why *why) {
    char data[READ_BYTES];
    for (;;) {
        ssize_t n = read(x->out_fd, data, sizeof data);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? ST_OK : fail(why, ST_INTERNAL, "extractor: read errno %d", errno);
        if (n == 0) {
            *ret_end = true;
            return ST_OK;
        }
        enum status st = take_text(x, data, (size_t)n, why);
        for (const char *c = data; (c = memchr(c, '\f', (size_t)(data + n - c))); c++)
            x->pages++;
        explicit_bzero(data, (size_t)n);
        if (st != ST_OK)
            return st;
    }
}

static enum status takes_too_long(const struct extraction *x, struct why *why) {
    return fail_as(why, ERR_DOC_TOO_COMPLEX, "extraction took longer than %lld ms", (long long)x->options->time_max_ms);
}

/* Write len bytes to the child (NULL: none) while reading its output, so that neither pipe can block
 * the other. With data NULL it runs until the child closes its output. */
static enum status pump(struct extraction *x, const uint8_t *data, size_t len, int64_t deadline_ms, struct why *why) {
    size_t sent = 0;
    bool is_end = x->out_fd < 0;
    while (data ? sent < len && x->in_fd >= 0 : !is_end) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        if (left_ms <= 0)
            return takes_too_long(x, why);
        enum status watched = x->watch ? x->watch(x->watch_ctx, x->pages, why) : ST_OK;
        if (watched != ST_OK)
            return watched;
        struct pollfd fds[] = { { .fd = is_end ? -1 : x->out_fd, .events = POLLIN },
                                { .fd = data ? x->in_fd : -1, .events = POLLOUT },
                                { .fd = cancel_fd(), .events = POLLIN } };
        if (poll(fds, 3, (int)(left_ms < WATCH_INTERVAL_MS ? left_ms : WATCH_INTERVAL_MS)) < 0 && errno != EINTR)
            return fail(why, ST_INTERNAL, "extractor: poll errno %d", errno);
        if (fds[2].revents)
            return fail(why, ST_UNAVAILABLE, "extraction cancelled");
        if (fds[0].revents) {
            enum status st = child_read(x, &is_end, why);
            if (st != ST_OK)
                return st;
            if (is_end)
                fd_close(&x->out_fd);
        }
        if (fds[1].revents) {
            ssize_t n = write(x->in_fd, data + sent, len - sent);
            if (n > 0)
                sent += (size_t)n;
            else if (n < 0 && errno != EAGAIN && errno != EINTR)
                fd_close(&x->in_fd);        /* the child gave up reading; its exit status will say why */
        }
    }
    return ST_OK;
}

static enum status child_pump(struct extraction *x, const uint8_t *data, size_t len, struct why *why) {
    int64_t deadline_ms = clock_mono_ms() + x->left_ms;
    enum status st = pump(x, data, len, deadline_ms, why);
    x->left_ms = deadline_ms - clock_mono_ms();
    return st;
}

void extraction_watch(struct extraction *x, enum status (*watch)(void *ctx, uint32_t pages, struct why *why), void *ctx) {
    x->watch = watch;
    x->watch_ctx = ctx;
}

static enum status check_head(struct extraction *x, const void *data, size_t len, struct why *why) {
    if (!x->type->magic || x->head_len == HEAD_BYTES)
        return ST_OK;
    size_t n = len < HEAD_BYTES - x->head_len ? len : HEAD_BYTES - x->head_len;
    memcpy(x->head + x->head_len, data, n);
    x->head_len += n;
    if (x->head_len == HEAD_BYTES && !memmem(x->head, x->head_len, x->type->magic, strlen(x->type->magic)))
        return fail_as(why, ERR_DOC_DAMAGED, "no %s signature", x->type->content_type);
    return ST_OK;
}

enum status extraction_feed(struct extraction *x, const void *data, size_t len, struct why *why) {
    if (len == 0)
        return ST_OK;
    enum status st = check_head(x, data, len, why);
    if (st != ST_OK)
        return st;
    return x->type->is_piped ? child_pump(x, data, len, why) : take_text(x, data, len, why);
}

/* It has closed its output, so it is about to end; one that a hostile document has taken over might stay. */
static enum status child_reap(struct extraction *x, int *ret_wait_status, struct why *why) {
    int64_t deadline_ms = clock_mono_ms() + x->left_ms;
    for (int wait_ms = 1;; wait_ms = wait_ms < WATCH_INTERVAL_MS ? 2 * wait_ms : wait_ms) {
        pid_t ended = waitpid(x->child, ret_wait_status, WNOHANG);
        if (ended > 0)
            break;
        if (ended < 0 && errno != EINTR)
            return fail(why, ST_INTERNAL, "extractor: waitpid errno %d", errno);
        if (clock_mono_ms() >= deadline_ms)
            return takes_too_long(x, why);
        if (poll(&(struct pollfd){ .fd = cancel_fd(), .events = POLLIN }, 1, wait_ms) > 0)
            return fail(why, ST_UNAVAILABLE, "extraction cancelled");
    }
    x->child = 0;
    return ST_OK;
}

static enum status child_verdict(struct extraction *x, struct why *why) {
    int wait_status = 0;
    enum status st = child_reap(x, &wait_status, why);
    if (st != ST_OK)
        return st;
    if (WIFSIGNALED(wait_status) && (WTERMSIG(wait_status) == SIGTERM || WTERMSIG(wait_status) == SIGINT))
        return fail(why, ST_UNAVAILABLE, "extractor was told to stop");
    if (WIFSIGNALED(wait_status))
        return fail_as(why, ERR_DOC_TOO_COMPLEX, "extractor ended by signal %d", WTERMSIG(wait_status));
    int code = WEXITSTATUS(wait_status);
    if (code == EXIT_UNCONFINED || code == EXIT_UNCONFINED + 1)
        return fail(why, ST_INTERNAL, "extractor could not be confined or started");
    if (code != 0)
        return fail_as(why, ERR_DOC_DAMAGED, "extractor exit status %d", code);
    return ST_OK;
}

static bool has_text(const struct buffer *text) {
    for (size_t i = 0; i < text->len; i++)
        if ((unsigned char)text->data[i] > ' ')
            return true;
    return false;
}

enum status extraction_finish(struct extraction *x, struct buffer *ret_text, struct why *why) {
    if (x->type->magic && x->head_len < HEAD_BYTES &&
        !memmem(x->head, x->head_len, x->type->magic, strlen(x->type->magic)))
        return fail_as(why, ERR_DOC_DAMAGED, "no %s signature", x->type->content_type);
    if (x->type->is_piped) {
        fd_close(&x->in_fd);
        enum status st = child_pump(x, NULL, 0, why);
        if (st == ST_OK)
            st = child_verdict(x, why);
        if (st != ST_OK)
            return st;
    }
    if (!has_text(&x->text))
        return fail_as(why, ERR_DOC_NO_TEXT, "no text");
    if (!utf8_is_text(x->text.data, x->text.len, NULL))
        return fail_as(why, ERR_DOC_DAMAGED, "text is not UTF-8");
    *ret_text = x->text;
    x->text = (struct buffer){ 0 };
    return ST_OK;
}

void extraction_destroy(struct extraction **x_p) {
    struct extraction *x = *x_p;
    if (!x)
        return;
    fd_close(&x->in_fd);
    fd_close(&x->out_fd);
    if (x->child > 0) {
        kill(x->child, SIGKILL);
        while (waitpid(x->child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    buffer_end(&x->text);
    explicit_bzero(x->head, sizeof x->head);
    free(x);
    *x_p = NULL;
}
