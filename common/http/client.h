/* client — HTTP to the outside, by libcurl, for everybody who speaks it: AWS, the identity provider. TLS is
 * verified, plain http is refused unless allowed, redirects are not followed, environment variables and
 * proxies of the machine are not looked at. Every request has a deadline and a cap on what it may return.
 *
 * One client is shared by all threads; each running request has a connection of its own, kept for the next. */
#ifndef CORDON_HTTP_CLIENT_H
#define CORDON_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/status.h"

enum {
    HTTP_BODY_MAX_BYTES = 1 << 20,          /* of an answer, when the request names no cap */
    HTTP_ERROR_BODY_MAX_BYTES = 64 << 10,   /* of an answer that is not 2xx to a request with a sink */
    HTTP_HEADERS_MAX_BYTES = 32 << 10,
    HTTP_CONNECT_MS = 5000,
};

struct http_options {
    bool allow_plain;           /* http:// too: development only */
    const char *proxy;          /* "http://host:port"; NULL or "": none */
    const char *ca_file;        /* PEM; NULL or "": the system's */
};

struct http_client;

struct http_client *http_client_new(const struct http_options *options);
void http_client_destroy(struct http_client **client_p);

struct http_request {
    const char *method;                 /* "GET" */
    const char *operation;              /* for spans and timing: "kms.Decrypt"; NULL: "http.request" */
    const char *url;                    /* already encoded; sent as it is */
    const char *const *headers;         /* "Name: value" lines, ends with NULL; NULL: none */
    const void *body;                   /* NULL with body_len 0: none for GET, HEAD, DELETE; empty for others */
    size_t body_len;
    size_t max_bytes;                   /* of the answer's body, whole; 0: HTTP_BODY_MAX_BYTES. With sink 0: no cap */
    int64_t deadline_ms;                /* clock_mono_ms() */
    bool is_once;                       /* never sent twice: curl repeats by itself when a kept connection dies under it */
    int64_t stall_ms;                   /* give up when nothing moved for so long; 0: only the deadline counts */
    /* Optional: takes the body of a 2xx answer as it comes instead of response->body. What it returns unless
     * ST_OK ends the request and is http_send's result. */
    enum status (*sink)(void *ctx, const void *data, size_t len, struct why *why);
    void *sink_ctx;
    /* Optional: asked at least once a second while the request runs; what it returns unless ST_OK ends the request and
     * is http_send's result. */
    enum status (*watch)(void *ctx, struct why *why);
    void *watch_ctx;
};

/* Zero-initialise, http_response_end. */
struct http_response {
    int status;                         /* 200 */
    struct buffer body;
    struct buffer headers;              /* "name\0value\0" pairs; use http_response_header */
};

void http_response_end(struct http_response *response);
/* Value of the first header of that name, in any case; NULL when absent. Borrowed from response. */
const char *http_response_header(const struct http_response *response, const char *name);

/* Send and wait. An answer of any status is ST_OK: look at response->status. ST_UNAVAILABLE: no connection, TLS
 * refused, cut, stalled, larger than the cap, or cancelled (core/cancel.h, within a second); ST_TIMEOUT: deadline_ms has come; ST_INTERNAL: the request
 * itself is not sendable. After a failure the server may or may not have acted. *why names the host only. */
enum status http_send(struct http_client *client, const struct http_request *request, struct http_response *response,
                      struct why *why) MUST_USE;

/* http_send for requests that are safe to repeat and have no sink: up to `attempts` times while the failure is
 * ST_UNAVAILABLE or the answer 429, 500, 502, 503 or 504, with full jitter, inside deadline_ms. */
enum status http_send_idempotent(struct http_client *client, const struct http_request *request, unsigned attempts,
                                 struct http_response *response, struct why *why) MUST_USE;

/* Percent-encoding of RFC 3986: all but unreserved characters, '/' only when it is not kept. */
bool http_encode(const char *text, size_t len, bool keep_slash, struct buffer *out);

#endif
