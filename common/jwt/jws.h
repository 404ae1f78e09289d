/* jws — verification of a signed token in compact form (RFC 7515). The algorithm is decided by the
 * issuer's key: its type, its curve and, where the issuer names it, its alg; the header must agree and
 * can choose nothing. Keys that travel inside the token are refused, not used. Pure functions. */
#ifndef CORDON_JWT_JWS_H
#define CORDON_JWT_JWS_H

#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "jwt/jwks.h"
#include "jwt/refusal.h"

enum {
    JWS_MAX_BYTES = 16 << 10,           /* the whole token */
    JWS_HEADER_MAX_BYTES = 2 << 10,     /* its first part, encoded */
    JWS_DIGEST_BYTES = 32,
};

/* A token whose signature is good. Lives in the arena that it was verified into. */
struct jws {
    const char *payload;                /* bytes as signed; JSON is not implied */
    size_t payload_len;
    const char *algorithm;              /* "RS256"; static */
    /* SHA-256 of what was signed: header and payload without the signature, which an ECDSA verifier
     * cannot tell from a second valid one and so must not name the token. */
    uint8_t digest[JWS_DIGEST_BYTES];
};

enum jwt_refusal jws_verify(struct arena *mem, const struct jwks *keys, const char *token, size_t len,
                            struct jws *ret_jws) MUST_USE;

/* What the token claims its iss to be, before anything is verified: good for choosing whose keys to ask,
 * and for nothing else. NULL: it does not say, or is no token. In mem. */
const char *jws_peek_issuer(struct arena *mem, const char *token, size_t len);

#endif
