/* provider — an issuer's token endpoint, spoken to as the client that its people log in with (RFC 6749). The client's
 * secret goes there and nowhere else. Any thread. */
#ifndef CORDON_AUTH_PROVIDER_H
#define CORDON_AUTH_PROVIDER_H

#include "auth.h"

/* In call->mem. */
struct provider_tokens {
    const char *access, *id, *refresh;      /* NULL: none came; access always did */
};

/* Change a code into tokens, once (PKCE: RFC 7636). ST_INVALID AUTH_011: the provider does not take it;
 * ST_UNAVAILABLE AUTH_006: it does not answer, or not as it should, or refuses us and not the code. */
enum status provider_exchange(struct auth *a, const struct believed *issuer, struct call *call, const char *code, const char *verifier,
                              struct provider_tokens *ret_tokens) MUST_USE;
/* New tokens for a refresh token; statuses as above. */
enum status provider_refresh(struct auth *a, const struct believed *issuer, struct call *call, const char *refresh,
                             struct provider_tokens *ret_tokens) MUST_USE;
/* Tell the provider that a refresh token is of no more use (RFC 7009), if it has a place to hear that. */
enum status provider_revoke(struct auth *a, const struct believed *issuer, struct call *call, const char *refresh) MUST_USE;

/* Append name=value in the form of a query, behind a '?' or an '&'. */
void provider_add_param(struct buffer *url, const char *name, const char *value);

#endif
