/* cookies — what a browser keeps for us. Three names, each with the prefix __Host-, so that a browser takes them only from
 * this very host over TLS (or from the machine itself) and no neighbouring domain can plant one:
 *   session   the session's secret; HttpOnly, SameSite=Strict: not sent with anything that another site began
 *   csrf      what a page sends back in X-CSRF-Token with each change; the page reads it. It follows from the session's
 *             secret, so nothing of it is stored, and a planted one is worth nothing
 *   login     binds a login under way to the browser that began it; SameSite=Lax, for the way back from the provider
 * Pure. */
#ifndef CORDON_EDGE_COOKIES_H
#define CORDON_EDGE_COOKIES_H

#include <stdbool.h>

#include "core/arena.h"

enum { COOKIE_SECRET_BYTES = 64, COOKIE_LOGIN_MAX_AGE_S = 600 };     /* hexadecimal digits of 256 bits */

#define COOKIE_SESSION "__Host-cordon-session"
#define COOKIE_CSRF    "__Host-cordon-csrf"
#define COOKIE_LOGIN   "__Host-cordon-login"

/* The secret of that name in a Cookie header (RFC 6265, 4.2). False: it is not there, or twice, or no secret of ours. */
bool cookies_find(const char *header, const char *name, char ret_secret[COOKIE_SECRET_BYTES + 1]);

/* Is token the one that belongs to this session? In constant time; token may be NULL. */
bool cookies_csrf_fits(const char *session, const char *token);

/* Set-Cookie lines, each with its CRLF. */
const char *cookies_begin_login(struct arena *mem, const char *secret);
const char *cookies_end_login(void);
const char *cookies_begin_session(struct arena *mem, const char *session);      /* ends the login's, too */
const char *cookies_end_session(void);

#endif
