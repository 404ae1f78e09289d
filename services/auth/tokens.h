/* tokens — from a bearer token to claims that are believed. */
#ifndef CORDON_AUTH_TOKENS_H
#define CORDON_AUTH_TOKENS_H

#include "auth.h"

/* Verify token with this issuer's keys, fetching newer ones when it names a key that they lack. ST_OK with
 * *ret_refusal JWT_ACCEPTED and *ret_claims in call->mem, or with the reason why not.
 * ST_UNAVAILABLE (AUTH_006): the issuer's keys are out of reach. */
enum status check_token(const struct believed *issuer, struct call *call, const char *token, enum jwt_refusal *ret_refusal,
                        struct jwt_claims *ret_claims) MUST_USE;

#endif
