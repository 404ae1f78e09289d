/* signer — an issuer of tokens for tests: makes a key, publishes it as a JWK and signs whatever it is
 * told to, forged tokens included. */
#ifndef CORDON_TESTS_SUPPORT_SIGNER_H
#define CORDON_TESTS_SUPPORT_SIGNER_H

#include <stddef.h>

#include "core/arena.h"

struct signer;

/* A fresh key for "RS256" ... "PS512", "ES256", "ES384" or "EdDSA". bits: of an RSA modulus, 0 for 2048. */
struct signer *signer_new(const char *algorithm, int bits);
void signer_destroy(struct signer **signer_p);

/* The public key as a JWK object; extra: more members such as "\"kid\":\"1\",\"alg\":\"ES256\"", or "". */
char *signer_jwk(const struct signer *s, struct arena *mem, const char *extra);
/* {"keys":[that]} */
char *signer_jwks(const struct signer *s, struct arena *mem, const char *extra);
/* header and payload as JSON texts; signed with the signer's algorithm whatever the header says. */
char *signer_token(const struct signer *s, struct arena *mem, const char *header, const char *payload);
/* The same over a ready "header.payload". */
char *signer_sign(const struct signer *s, struct arena *mem, const char *input);

#endif
