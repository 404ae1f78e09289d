/* algorithm — the signature algorithms that we accept (RFC 7518, RFC 8037), as a table. What is not in
 * it does not exist for us: `none` and the HMAC family have no row. Constant data. */
#ifndef CORDON_JWT_ALGORITHM_H
#define CORDON_JWT_ALGORITHM_H

#include <stdbool.h>
#include <stddef.h>

struct jws_algorithm {
    const char *name;               /* "ES256", as in alg */
    const char *key_type;           /* kty of the keys that may use it */
    const char *curve;              /* crv; NULL for RSA */
    const char *digest;             /* OpenSSL's name; NULL: the algorithm hashes by itself */
    bool is_pss;
    size_t signature_bytes;         /* exact; 0: as long as the key's modulus */
};

/* NULL: not one of ours. Case matters. */
const struct jws_algorithm *jws_algorithm_find(const char *name);
/* May a key of this type and curve (NULL for RSA) make such signatures? */
bool jws_algorithm_fits(const struct jws_algorithm *algorithm, const char *key_type, const char *curve);
/* Does any algorithm use such keys? */
bool jws_algorithm_exists_for(const char *key_type, const char *curve);

#endif
