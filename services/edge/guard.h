/* guard — is this HTTP request one that no two readers can take for different requests? Civetweb lets
 * through what others read otherwise (two lengths, a length with chunks, odd header names); whatever is
 * ambiguous is refused here, before anything else looks at it. Pure; over civetweb's parsed head. */
#ifndef CORDON_EDGE_GUARD_H
#define CORDON_EDGE_GUARD_H

#include <civetweb.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum { GUARD_URI_MAX_BYTES = 4096, GUARD_LENGTH_MAX_DIGITS = 15, GUARD_NAME_MAX_BYTES = 128, GUARD_VALUE_MAX_BYTES = 8192,
       GUARD_CREDENTIAL_MAX_BYTES = 17 << 10 };      /* Authorization and Cookie */

/* How the body comes, and the header lines that may come once at most (borrowed; NULL when absent). */
struct framing {
    int64_t length_bytes;           /* Content-Length; -1 when there is none */
    bool is_chunked;
    bool wants_continue;            /* Expect: 100-continue */
    const char *host, *authorization, *content_type, *content_digest, *repr_digest, *idempotency_key, *content_disposition, *origin,
        *request_method, *metadata, *mrn, *document_id, *priority, *cookie, *csrf_token, *range, *if_range, *if_match, *if_none_match;
};

/* ST_INVALID: REQ_002 malformed, REQ_012 too many headers. *ret_framing on ST_OK. */
enum status guard_check(const struct mg_request_info *in, struct framing *ret_framing, struct why *why) MUST_USE;
/* Did civetweb read all of the head, and each line in the one way? It stops at a line that begins with a
 * space, takes a bare LF for the end of a line and drops spaces before a colon, all without a word. But it
 * parses in place: names and values lie in the received head one behind the other with NULs where the
 * separators were, so the gaps between them show what was skipped. Only for heads that civetweb made. */
bool guard_is_verbatim(const struct mg_request_info *in);
/* Is host, without its port, in the comma list? An empty list allows all; host may be NULL. */
bool guard_allows_host(const char *allowed_hosts, const char *host);
/* Does the request announce a body? */
bool guard_has_body(const struct framing *framing);

#endif
