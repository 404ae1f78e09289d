/* claims — what a verified token says (RFC 7519), checked against what this deployment believes. Pure
 * functions; the time is an argument. */
#ifndef CORDON_JWT_CLAIMS_H
#define CORDON_JWT_CLAIMS_H

#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "jwt/jws.h"
#include "jwt/refusal.h"

enum {
    CLAIMS_LEEWAY_S = 30,                   /* how far the issuer's clock may be from ours */
    CLAIMS_MAX_LIFETIME_S = 24 * 60 * 60,
    CLAIMS_TEXT_MAX_BYTES = 255,            /* sub, jti */
    CLAIMS_ROLES_MAX = 64,
    CLAIMS_ROLE_MAX_BYTES = 64,
    CLAIMS_TENANT_MIN_BYTES = 2,
    CLAIMS_TENANT_MAX_BYTES = 63,
};

struct jwt_policy {
    const char *issuer;             /* iss, byte for byte */
    const char *audience;           /* what the audience claim must contain */
    const char *audience_claim;     /* "aud"; an issuer's stand-in where its tokens have none, "client_id" */
    const char *tenant_claim;       /* "tenant" */
    const char *roles_claim;        /* "roles" */
};

struct jwt_claims {
    const char *subject;
    const char *token_id;           /* jti, or the digest in hexadecimal when the token has none */
    const char *tenant;             /* slug or UUID; NULL: the token names none */
    const char *const *roles;
    size_t roles_count;
    const char *name, *email;       /* for people's eyes only; NULL when absent, or no text, or too long */
    int64_t accepted_until_s;       /* Unix time: exp and the leeway */
};

/* Check jws's payload; everything in *ret_claims lives in mem. now_s: Unix time. */
enum jwt_refusal jwt_claims_read(struct arena *mem, const struct jws *jws, const struct jwt_policy *policy, int64_t now_s,
                             struct jwt_claims *ret_claims) MUST_USE;

#endif
