/* loopback — an HTTP server inside a test, on a free port of 127.0.0.1, whose answers the test writes: a fake is
 * a server, not a switch in the product. One thread per connection; stop it from the thread that started it. */
#ifndef CORDON_TESTS_LOOPBACK_H
#define CORDON_TESTS_LOOPBACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/buffer.h"

struct loopback;

struct loopback_request {
    unsigned number;            /* from 1, over all connections */
    unsigned connection;        /* from 1 */
    char method[16];
    char target[2048];          /* as sent */
    struct buffer head;         /* the header lines, as sent */
    struct buffer body;         /* by Content-Length */
};

/* Answer one request by writing to fd; false closes the connection. */
typedef bool (*loopback_fn)(void *ctx, const struct loopback_request *request, int fd);

struct loopback *loopback_start(loopback_fn answer, void *ctx);
void loopback_stop(struct loopback **server_p);
const char *loopback_url(const struct loopback *server);        /* "http://127.0.0.1:40123" */

/* A whole answer with Content-Length. headers: lines that each end with \r\n, or "". Returns true. */
bool loopback_answer(int fd, int status, const char *headers, const char *body);
void loopback_write(int fd, const char *data, size_t len);
/* Value of a header into out (cut to size); "" when absent. Returns out. */
const char *loopback_header(const struct loopback_request *request, const char *name, char *out, size_t size);

#endif
