#include "jwt/algorithm.h"

#include "core/str.h"

static const struct jws_algorithm ALGORITHMS[] = {
    /* name     kty    crv        digest    pss    signature */
    { "RS256", "RSA", NULL,      "SHA256", false, 0 },
    { "RS384", "RSA", NULL,      "SHA384", false, 0 },
    { "RS512", "RSA", NULL,      "SHA512", false, 0 },
    { "PS256", "RSA", NULL,      "SHA256", true,  0 },
    { "PS384", "RSA", NULL,      "SHA384", true,  0 },
    { "PS512", "RSA", NULL,      "SHA512", true,  0 },
    { "ES256", "EC",  "P-256",   "SHA256", false, 64 },
    { "ES384", "EC",  "P-384",   "SHA384", false, 96 },
    { "EdDSA", "OKP", "Ed25519", NULL,     false, 64 },
    { 0 }
};

const struct jws_algorithm *jws_algorithm_find(const char *name) {
    for (const struct jws_algorithm *a = ALGORITHMS; a->name; a++)
        if (str_equal(a->name, name))
            return a;
    return NULL;
}

bool jws_algorithm_fits(const struct jws_algorithm *algorithm, const char *key_type, const char *curve) {
    if (!str_equal(algorithm->key_type, key_type))
        return false;
    return algorithm->curve ? str_equal(algorithm->curve, curve) : !curve;
}

bool jws_algorithm_exists_for(const char *key_type, const char *curve) {
    for (const struct jws_algorithm *a = ALGORITHMS; a->name; a++)
        if (jws_algorithm_fits(a, key_type, curve))
            return true;
    return false;
}
