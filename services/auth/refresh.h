/* refresh — the provider's next word on somebody whose browser has a session. */
#ifndef CORDON_AUTH_REFRESH_H
#define CORDON_AUTH_REFRESH_H

#include "auth.h"

/* With the sealed refresh token of the login that has this cookie's hash. ST_OK: kept. ST_UNAUTHENTICATED: the provider
 * vouches no longer, or for somebody else, and the session has been ended. ST_UNAVAILABLE AUTH_006: it does not answer. */
enum status refresh_login(struct auth *a, struct call *call, const uint8_t cookie[SHA256_BYTES], const char *issuer, const void *sealed, size_t len) MUST_USE;

#endif
