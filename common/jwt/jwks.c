#include "jwt/jwks.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"

struct jwks {
    atomic_uint references;
    size_t count, skipped;
    struct jwk keys[JWKS_MAX_KEYS];
};

static void pkey_destroy(EVP_PKEY **key_p) { EVP_PKEY_free(*key_p); *key_p = NULL; }
static void pkey_ctx_destroy(EVP_PKEY_CTX **ctx_p) { EVP_PKEY_CTX_free(*ctx_p); *ctx_p = NULL; }
static void bignum_destroy(BIGNUM **n_p) { BN_free(*n_p); *n_p = NULL; }
static void builder_destroy(OSSL_PARAM_BLD **builder_p) { OSSL_PARAM_BLD_free(*builder_p); *builder_p = NULL; }
static void params_destroy(OSSL_PARAM **params_p) { OSSL_PARAM_free(*params_p); *params_p = NULL; }

/* The bytes of a base64url member; false when it is absent, malformed or empty. */
static bool member_bytes(struct arena *mem, const json_t *jwk, const char *name, uint8_t **ret_data, size_t *ret_len) {
    const json_t *value = json_object_get(jwk, name);
    return json_is_string(value) &&
           base64url_decode(mem, json_string_value(value), json_string_length(value), ret_data, ret_len) && *ret_len > 0;
}

static BIGNUM *member_number(struct arena *mem, const json_t *jwk, const char *name) {
    uint8_t *data;
    size_t len;
    if (!member_bytes(mem, jwk, name, &data, &len) || len > JWKS_RSA_MAX_BITS / 8 + 1)
        return NULL;
    return BN_bin2bn(data, (int)len, NULL);
}

static EVP_PKEY *key_from_params(const char *type, OSSL_PARAM_BLD *builder) {
    CLEANUP(params_destroy) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    CLEANUP(pkey_ctx_destroy) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        return NULL;
    return key;
}

/* Modulus of 2048 to 8192 bits, both numbers odd, exponent of 2 to 64 bits. */
static EVP_PKEY *rsa_key(struct arena *mem, const json_t *jwk) {
    CLEANUP(bignum_destroy) BIGNUM *n = member_number(mem, jwk, "n");
    CLEANUP(bignum_destroy) BIGNUM *e = member_number(mem, jwk, "e");
    if (!n || !e || BN_num_bits(n) < JWKS_RSA_MIN_BITS || BN_num_bits(n) > JWKS_RSA_MAX_BITS || !BN_is_odd(n) ||
        BN_num_bits(e) < 2 || BN_num_bits(e) > 64 || !BN_is_odd(e))
        return NULL;
    CLEANUP(builder_destroy) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (!builder || OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) != 1)
        return NULL;
    return key_from_params("RSA", builder);
}

/* Coordinates of exactly the field's size (RFC 7518, 6.2.1.2), and a point that lies on the curve. */
static EVP_PKEY *ec_key(struct arena *mem, const json_t *jwk, const char *curve) {
    size_t size = str_equal(curve, "P-256") ? 32 : 48, x_len, y_len;
    uint8_t *x, *y, point[1 + 2 * 48] = { POINT_CONVERSION_UNCOMPRESSED };
    if (!member_bytes(mem, jwk, "x", &x, &x_len) || !member_bytes(mem, jwk, "y", &y, &y_len) || x_len != size || y_len != size)
        return NULL;
    memcpy(point + 1, x, size);
    memcpy(point + 1 + size, y, size);
    CLEANUP(builder_destroy) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (!builder || OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve, 0) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size) != 1)
        return NULL;
    CLEANUP(pkey_destroy) EVP_PKEY *key = key_from_params("EC", builder);
    CLEANUP(pkey_ctx_destroy) EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL) : NULL;
    if (!ctx || EVP_PKEY_public_check(ctx) != 1)
        return NULL;
    EVP_PKEY *checked = key;
    key = NULL;
    return checked;
}

static EVP_PKEY *ed25519_key(struct arena *mem, const json_t *jwk) {
    uint8_t *x;
    size_t len;
    if (!member_bytes(mem, jwk, "x", &x, &len) || len != 32)
        return NULL;
    return EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, x, len);
}

/* use and key_ops (RFC 7517, 4.2 and 4.3), where the issuer gives them. */
static bool is_for_verifying(const json_t *jwk) {
    const json_t *use = json_object_get(jwk, "use"), *operations = json_object_get(jwk, "key_ops");
    if (use && !str_equal(json_string_value(use), "sig"))
        return false;
    if (!operations)
        return true;
    for (size_t i = 0; i < json_array_size(operations); i++)
        if (str_equal(json_string_value(json_array_get(operations, i)), "verify"))
            return true;
    return false;
}

/* Fill *ret from one member of "keys"; NULL, or why the key is skipped. */
static const char *read_key(struct arena *mem, const json_t *jwk, struct jwk *ret) {
    static const struct { const char *key_type, *curve; } KINDS[] = {
        { "RSA", NULL }, { "EC", "P-256" }, { "EC", "P-384" }, { "OKP", "Ed25519" },
    };
    const char *type = json_string_value(json_object_get(jwk, "kty")), *curve = json_string_value(json_object_get(jwk, "crv"));
    const json_t *id = json_object_get(jwk, "kid"), *algorithm = json_object_get(jwk, "alg");
    if (!type || (id && !json_is_string(id)) || (algorithm && !json_is_string(algorithm)))
        return "malformed";
    if (json_object_get(jwk, "d") || json_object_get(jwk, "k"))
        return "it carries a secret";
    if (!is_for_verifying(jwk))
        return "it is for another purpose";
    struct jwk made = { 0 };
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS && !made.key_type; i++)
        if (str_equal(KINDS[i].key_type, type) && (!KINDS[i].curve || str_equal(KINDS[i].curve, curve))) {
            made.key_type = KINDS[i].key_type;
            made.curve = KINDS[i].curve;
        }
    if (!made.key_type)
        return "of a type or curve that is not accepted";
    if (algorithm) {
        made.algorithm = jws_algorithm_find(json_string_value(algorithm));
        if (!made.algorithm || !jws_algorithm_fits(made.algorithm, made.key_type, made.curve))
            return "its algorithm is not accepted";
    }
    made.key = !made.curve ? rsa_key(mem, jwk)
             : str_equal(made.key_type, "EC") ? ec_key(mem, jwk, made.curve) : ed25519_key(mem, jwk);
    if (!made.key)
        return "its numbers are missing, weak or malformed";
    made.id = id ? xstrdup(json_string_value(id)) : NULL;
    *ret = made;
    return NULL;
}

enum status jwks_parse(const char *text, size_t len, struct jwks **ret_keys, struct why *why) {
    CLEANUP(json_destroy) json_t *root = NULL;
    enum status st = json_parse(text, len, JWKS_MAX_BYTES, &root, why);
    if (st != ST_OK)
        return st;
    const json_t *list = json_object_get(root, "keys");
    if (!json_is_array(list))
        return fail(why, ST_INVALID, "not a key set");
    if (json_array_size(list) > JWKS_MAX_KEYS)
        return fail(why, ST_INVALID, "key set of %zu keys", json_array_size(list));

    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(jwks_destroy) struct jwks *keys = xalloc(sizeof *keys);
    atomic_init(&keys->references, 1);
    const char *skipped_for = "it is empty";
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *reason = read_key(mem, json_array_get(list, i), &keys->keys[keys->count]);
        if (!reason) {
            keys->count++;
            continue;
        }
        keys->skipped++;
        skipped_for = reason;
    }
    ERR_clear_error();          /* a bad key leaves entries in this thread's queue */
    if (!keys->count)
        return fail(why, ST_INVALID, "key set without a usable key: %s", skipped_for);
    *ret_keys = keys;
    keys = NULL;
    return ST_OK;
}

struct jwks *jwks_share(struct jwks *keys) {
    atomic_fetch_add(&keys->references, 1);
    return keys;
}

void jwks_destroy(struct jwks **keys_p) {
    struct jwks *keys = *keys_p;
    *keys_p = NULL;
    if (!keys || atomic_fetch_sub(&keys->references, 1) != 1)
        return;
    for (size_t i = 0; i < keys->count; i++) {
        EVP_PKEY_free(keys->keys[i].key);
        free(keys->keys[i].id);
    }
    free(keys);
}

size_t jwks_count(const struct jwks *keys) { return keys->count; }
size_t jwks_skipped(const struct jwks *keys) { return keys->skipped; }
const struct jwk *jwks_at(const struct jwks *keys, size_t i) { return &keys->keys[i]; }
