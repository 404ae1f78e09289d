/* login — the authorization code flow of a browser (OpenID Connect Core, 3.1; RFC 9700): its two handlers, on_begin_login
 * and on_complete_login, and what others need of it. docs/login.md, docs/adr/0016. */
#ifndef CORDON_AUTH_LOGIN_H
#define CORDON_AUTH_LOGIN_H

#include "auth.h"

enum { LOGIN_SECRET_HEX_BYTES = 64 };

/* CORDON_PUBLIC_URL: "" or an origin without a slash at its end, https in production. ST_INVALID. */
enum status login_check_public_url(const char *url, bool is_production, struct why *why) MUST_USE;
/* Where the provider sends browsers back to. */
const char *login_redirect_uri(const struct auth *a, struct arena *mem);
/* May a browser be sent there after its login? Only to a path of ours: "//host" and "/\host" are others' addresses. */
bool login_is_local_path(const char *path);

#endif
