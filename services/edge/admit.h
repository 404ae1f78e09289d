/* admit — who asks, and may they? Turns the credential of an exchange (a token, a key, a browser's cookie) into a ticket by
 * asking auth, checks the route's scope, and puts refusals on the record. */
#ifndef CORDON_EDGE_ADMIT_H
#define CORDON_EDGE_ADMIT_H

#include "exchange.h"

/* Set x->call.ticket for the route's authority; none for AUTH_NONE and AUTH_LOGIN. ST_UNAUTHENTICATED, ST_FORBIDDEN,
 * ST_UNAVAILABLE, ST_TIMEOUT. */
enum status admit(struct exchange *x) MUST_USE;
/* A ticket that auth has made just now, past the cache, for uploads that outlive the first. The scope is
 * checked again. *ret_ticket lives in the call's arena. */
enum status admit_again(struct exchange *x, const char **ret_ticket) MUST_USE;
/* For streams down: when the ticket that the callee has is some 20 s old (they live a minute) and the stream has room, ask
 * for a fresh one and pass it on: whoever loses access loses the rest of what is under way too. *renewed_ms: when that was
 * done last; at first when the stream began. Failures of admit_again. */
enum status admit_renew(struct exchange *x, struct bus_stream *stream, int64_t *renewed_ms) MUST_USE;
/* What became of the exchange. When it was refused, by the edge or by a process behind it (the session ended in
 * between, or the database gives less than the edge saw), and auth has not refused it itself, auth puts it on the
 * record. A refusal that cannot be recorded is still a refusal; it is counted. */
void admit_record_refusal(struct exchange *x, enum status st);

/* Has its session ended since it was admitted? The connection is shut then. Asks nobody: for loops to look at. */
bool admit_is_revoked(const struct exchange *x);

#endif
