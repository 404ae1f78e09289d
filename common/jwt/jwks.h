/* jwks — an issuer's public keys (RFC 7517), parsed once and never changed. A key that we cannot or must
 * not use (another purpose, an algorithm that we do not accept, a weak or malformed key, one that carries
 * its private half or a shared secret) is skipped: issuers publish keys for others too.
 *
 * Counted references: any thread may hold one; the last jwks_destroy frees. */
#ifndef CORDON_JWT_JWKS_H
#define CORDON_JWT_JWKS_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"
#include "jwt/algorithm.h"

enum {
    JWKS_MAX_BYTES = 256 << 10,
    JWKS_MAX_KEYS = 64,
    JWKS_RSA_MIN_BITS = 2048,
    JWKS_RSA_MAX_BITS = 8192,
};

struct jwk {
    char *id;                                   /* kid; NULL when the issuer gave none */
    const char *key_type, *curve;               /* static text; curve NULL for RSA */
    const struct jws_algorithm *algorithm;      /* the only one that it may be used with; NULL: any that fits its type */
    EVP_PKEY *key;
};

struct jwks;

/* Parse {"keys": [...]} of len bytes. ST_INVALID: not such a document, too large, or no key in it is
 * usable; why says which, with the reason of the last key that was skipped. */
enum status jwks_parse(const char *text, size_t len, struct jwks **ret_keys, struct why *why) MUST_USE;
struct jwks *jwks_share(struct jwks *keys);     /* one more reference to the same keys */
void jwks_destroy(struct jwks **keys_p);

size_t jwks_count(const struct jwks *keys);     /* usable keys */
size_t jwks_skipped(const struct jwks *keys);
const struct jwk *jwks_at(const struct jwks *keys, size_t i);       /* borrowed; i < jwks_count */

#endif
