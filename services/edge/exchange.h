/* exchange — one HTTP request from its guard to the last byte of its answer. Made on a listener thread's
 * stack, used by that thread only, gone with the answer. */
#ifndef CORDON_EDGE_EXCHANGE_H
#define CORDON_EDGE_EXCHANGE_H

#include <civetweb.h>

#include "bus/bus.h"
#include "cookies.h"
#include "core/buffer.h"
#include "edge.h"
#include "guard.h"
#include "patience.h"
#include "rest/fill.h"
#include "routes.h"
#include "watch.h"

struct exchange {
    struct edge *edge;
    struct mg_connection *conn;
    const struct mg_request_info *in;
    struct framing framing;             /* what the guard found out about the request */
    struct route_match match;
    const struct http_route *route;     /* NULL until one matched */
    struct call call;                   /* request id, ticket, arena, deadline */
    struct fill fill;                   /* the request message; set by exchange_fill */
    char detail[200];                   /* for the client, when the answer is a problem; "" for the code's own text */
    struct sender sender;               /* whose request it is */
    struct uuid user_id;                /* as auth said; nil before */
    struct quota_use quotas;            /* what was taken for it */
    char session[COOKIE_SECRET_BYTES + 1];      /* the credential, when it is a browser's cookie; else "" */
    struct watched watched;             /* once it is admitted */
    const char *unsatisfied_range;      /* Content-Range of a 416; NULL: none */
    const char *cookies;                /* Set-Cookie lines for the answer; NULL: none */
    const char *origin;                 /* an allowed Origin to be echoed; NULL */
    struct vigil vigil;                 /* bounds each read and write on the connection */
    int64_t body_read_bytes;
    int http_status;                    /* of the answer's head once it was sent; 0 before */
    bool is_inside;                     /* its class counts it (doors.h) */
    bool is_refusal_recorded;           /* auth refused it, and recorded that */
    bool is_slow;                       /* the client's body was cut for its slowness */
    bool is_broken;                     /* the connection failed while answering */
};

/* ---- what the route table names; one per file ---- */
enum status serve_unary(struct exchange *x);        /* unary.c: JSON in, one bus call, JSON out */
enum status serve_login(struct exchange *x);        /* login.c */
enum status serve_callback(struct exchange *x);
enum status serve_logout(struct exchange *x);
enum status serve_answer(struct exchange *x);       /* events.c: as serve_unary, or as a stream of events */
enum status serve_upload(struct exchange *x);       /* upload.c */
enum status serve_content(struct exchange *x);      /* download.c */
enum status serve_tile(struct exchange *x);         /* audit.c */
enum status serve_export(struct exchange *x);
const char *export_content_type(const struct http_route *route);    /* of serve_export's, when no format is asked for */
enum status serve_live(struct exchange *x);         /* health.c */
enum status serve_ready(struct exchange *x);
enum status serve_health(struct exchange *x);
enum status serve_openapi(struct exchange *x);      /* docs.c */
enum status serve_docs(struct exchange *x);

/* The request message of x's route, filled from path and query and, when not NULL, a JSON body. ST_INVALID. */
enum status exchange_fill(struct exchange *x, const struct buffer *json) MUST_USE;
/* Body, class, message: what stands before asking. Then ask and answer with the reply. */
enum status exchange_read(struct exchange *x) MUST_USE;
enum status exchange_ask(struct exchange *x) MUST_USE;
/* Count x in its class, once. ST_UNAVAILABLE: the class is full. */
enum status exchange_enter(struct exchange *x) MUST_USE;
/* Is it asked with HEAD: for the answer that GET has, without its body? */
bool exchange_is_head(const struct exchange *x);
/* A request header that the guard found at most once; NULL when absent. */
const char *exchange_header(const struct exchange *x, const char *name);

#endif
