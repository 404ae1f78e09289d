/* claims — what a verified token says (RFC 7519), checked against what this deployment believes of its
 * issuer. Pure functions; the time is an argument.
 *
 * A claim is named as it stands in the token ("cognito:groups", "https://cordon.example/roles"); a name that
 * begins with a slash is a JSON Pointer (RFC 6901) into it ("/realm_access/roles"). */
#ifndef CORDON_JWT_CLAIMS_H
#define CORDON_JWT_CLAIMS_H

#include <stdbool.h>
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
    CLAIMS_GROUPS_MAX = 512,                /* values that a role map is asked about */
    CLAIMS_TENANT_MIN_BYTES = 2,
    CLAIMS_TENANT_MAX_BYTES = 63,
};

struct jwt_pair { const char *name, *value; };         /* tables of these end with a NULL name */

struct jwt_policy {
    const char *issuer;             /* iss, byte for byte */
    const char *audience;           /* what the audience claim must contain */
    const char *audience_claim;     /* "aud"; an issuer's stand-in where its tokens have none, "client_id" */
    const char *tenant_claim;       /* "tenant"; "": its tokens name none */
    const char *roles_claim;        /* "roles" */
    /* What may be left out: NULL and 0. */
    const struct jwt_pair *role_map;        /* value of the roles claim -> our role, which may repeat; others mean nothing */
    const struct jwt_pair *required;        /* claims that must have just this text: token_use=access */
    const char *authorized_party;           /* what azp must be where there is one, or several audiences (OpenID Connect Core, 3.1.3.7) */
    const char *amr_claim, *acr_claim;      /* RFC 8176, OpenID Connect Core 2: how the person was authenticated */
    const char *const *amr_values, *const *acr_values;      /* any of these means several factors; end with NULL */
    bool is_mfa_assumed;                    /* the issuer lets nobody in without */
    int64_t leeway_s, max_lifetime_s;
};

struct jwt_claims {
    const char *subject;
    const char *token_id;           /* jti, or the digest in hexadecimal when the token has none */
    const char *tenant;             /* slug or UUID; NULL: the token names none */
    const char *const *roles;
    size_t roles_count;
    const char *name, *email;       /* for people's eyes only; NULL when absent, or no text, or too long */
    bool is_email_verified;         /* the issuer says so */
    bool has_mfa;                   /* several factors, as far as the token tells */
    int64_t auth_time_s;            /* when the person logged in, Unix time; 0: the token does not say */
    int64_t issued_at_s;            /* iat; 0: the token does not say */
    int64_t accepted_until_s;       /* Unix time: exp and the leeway */
};

/* Check jws's payload; everything in *ret_claims lives in mem. now_s: Unix time. */
enum jwt_refusal jwt_claims_read(struct arena *mem, const struct jws *jws, const struct jwt_policy *policy, int64_t now_s,
                             struct jwt_claims *ret_claims) MUST_USE;

#endif
