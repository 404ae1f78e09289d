/* answer — everything that goes back to a client: status line, security headers, body. One answer per
 * exchange; every connection is closed after it. */
#ifndef CORDON_EDGE_ANSWER_H
#define CORDON_EDGE_ANSWER_H

#include "exchange.h"

/* How an answer differs from the ordinary. Zero-initialise. */
struct answer_head {
    int http_status;
    const char *content_type;       /* NULL: no body */
    int64_t length_bytes;           /* -1: not known; the caller sends chunks (RFC 9112, 7.1) */
    const char *policy;             /* Content-Security-Policy; NULL: nothing may load */
    const char *disposition;        /* Content-Disposition; NULL: none */
    const char *etag;               /* ETag of something that is given in ranges too; NULL: none */
    const char *range;              /* Content-Range; NULL: none */
    const char *allow;              /* of 405 and of preflights; NULL: none */
    int retry_after_ms;             /* 0: none */
    const char *location;           /* of a 303; NULL: none */
    const char *cookies;            /* whole Set-Cookie lines: the exchange's */
    const char *cache;              /* Cache-Control; NULL: no-store */
    bool is_live;                   /* a stream of events: whoever is between shall keep nothing back */
    bool wants_mfa;                 /* a 401 that another login, with several factors, would cure */
    const struct quota_use *quotas; /* NULL: none were asked */
    bool is_preflight;              /* the answer to a browser's OPTIONS; allow says which verbs */
};

/* Send the head; the caller then sends length_bytes with answer_bytes. False: the client has gone. */
bool answer_begin(struct exchange *x, const struct answer_head *head);
bool answer_bytes(struct exchange *x, const void *data, size_t len);
/* One chunk of an answer whose length was not known, in one write; the empty one ends it. */
bool answer_chunk(struct exchange *x, const void *data, size_t len);

/* Head and body at once. ST_OK, also when the client has gone: nobody is left to be told. */
enum status answer_whole(struct exchange *x, const struct answer_head *head, const void *data, size_t len);
/* The same with a message as JSON. ST_INTERNAL: it cannot be printed. */
enum status answer_message(struct exchange *x, int http_status, const ProtobufCMessage *msg) MUST_USE;
/* application/problem+json for x->call.why and x->detail. */
void answer_problem(struct exchange *x);
/* "HTTP/1.1 100 Continue" when the client waits for it. */
void answer_continue(struct exchange *x);

/* The problem document, for an answer that has no exchange (the HTTP library's own errors). */
bool problem_print(enum error_code code, int http_status, const char *detail, const struct uuid *request_id, struct buffer *out);
/* Status line and headers of every answer. */
void answer_print_head(struct buffer *out, const struct answer_head *head, const struct uuid *request_id, const char *origin,
                       bool is_production);

#endif
