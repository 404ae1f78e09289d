/* routes — every endpoint, one row each: what it is called, who may use it, what goes in and out, and
 * where it is answered. The rows dispatch requests, make /openapi.json and are walked by tests. */
#ifndef CORDON_EDGE_ROUTES_H
#define CORDON_EDGE_ROUTES_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/scopes.h"
#include "core/status.h"
#include "rest/fill.h"

struct exchange;

enum route_auth {
    AUTH_NONE,              /* open to everybody, on purpose */
    AUTH_LOGIN,             /* open to browsers that have no session yet; auth decides */
    AUTH_TOKEN,             /* a credential (token, key, browser's session) with the row's scope */
    AUTH_SESSION,           /* any credential: for what is one's own */
    AUTH_PASSIVE,           /* the same, but never out of a cache, and no activity that would keep a session alive */
};
enum route_body { BODY_NONE, BODY_JSON, BODY_UPLOAD };
enum route_rate { RATE_NONE, RATE_READ, RATE_WRITE, RATE_UPLOAD, RATE_DOWNLOAD, RATE_MODEL, RATE_ADMIN, RATE_COUNT };

/* Answer the request, or fail: the problem document is written by the caller. */
typedef enum status (*http_fn)(struct exchange *x);

struct http_route {
    const char *verb, *path;                    /* "/api/v1/documents/{document_id}" */
    enum route_auth auth;
    uint64_t scope;                             /* one bit that the caller's ticket must carry; SCOPE_NONE with all but AUTH_TOKEN */
    enum route_rate rate;
    enum route_body body;
    size_t body_max_bytes;                      /* 0: the setting CORDON_MAX_UPLOAD_BYTES */
    int64_t budget_ms;                          /* for the answer, once the request is here */
    http_fn handle;
    const char *method;                         /* on the bus; NULL: the edge answers */
    const ProtobufCMessageDescriptor *req, *reply;      /* NULL: no members; no JSON body */
    int success;                                /* HTTP status of a good answer */
    const char *tag, *summary;
};

extern const struct http_route ROUTES[];        /* ends with verb NULL */
extern const struct fill_rule FIELDS[];         /* fields.def; ends with message NULL */

enum { ROUTE_COUNT_MAX = 128, ROUTE_PARAMS_MAX = 4 };

struct route_param { const char *name, *text; size_t name_len, text_len; };     /* borrowed from row and path */
struct route_match {
    const struct http_route *route;             /* NULL: no row has this path and verb */
    const struct http_route *other;             /* a row of this path, whatever its verb; NULL: no such path */
    struct route_param params[ROUTE_PARAMS_MAX];
    unsigned param_count;
};

/* Match a path as it was sent: a parameter takes one segment of [A-Za-z0-9._~-], one called {name*} the rest of the
 * path; nothing is decoded. */
struct route_match route_match(const char *verb, const char *path);
/* Does path fit the template? Fills params. */
bool route_fits(const char *template, const char *path, struct route_param params[], unsigned *ret_count);
unsigned route_index(const struct http_route *route);
/* Does the row, a GET, answer HEAD too? */
bool route_has_head(const struct http_route *route);
/* The verbs that a path answers, "GET, HEAD, POST", into out. */
void route_verbs(const char *path, char *out, size_t size);

#endif
