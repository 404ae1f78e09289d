#include "jwt/jws.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>
#include <strings.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"

struct header { const char *algorithm, *key_id; };     /* key_id NULL: the token names none */

static void md_ctx_destroy(EVP_MD_CTX **ctx_p) { EVP_MD_CTX_free(*ctx_p); *ctx_p = NULL; }
static void ecdsa_sig_destroy(ECDSA_SIG **sig_p) { ECDSA_SIG_free(*sig_p); *sig_p = NULL; }
static void der_destroy(unsigned char **der_p) { OPENSSL_free(*der_p); *der_p = NULL; }

/* RFC 7515, 4.1.9: a media type, "application/" may be left out, case does not matter. */
static bool is_accepted_type(const char *type) {
    static const char *const TYPES[] = { "JWT", "at+jwt", "application/jwt", "application/at+jwt" };
    for (size_t i = 0; type && i < sizeof TYPES / sizeof *TYPES; i++)
        if (strcasecmp(TYPES[i], type) == 0)
            return true;
    return false;
}

/* RFC 7515, 4.1: what would change how the token is to be read, or bring a key along. A thumbprint
 * (x5t) is only a hint and is ignored like every member that is not named here. */
static bool has_refused_member(const json_t *header) {
    static const char *const REFUSED[] = { "crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c" };
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++)
        if (json_object_get(header, REFUSED[i]))
            return true;
    return false;
}

static enum jwt_refusal read_header(struct arena *mem, const char *text, size_t len, struct header *ret_header) {
    uint8_t *bytes;
    size_t bytes_len;
    if (len > JWS_HEADER_MAX_BYTES)
        return JWT_TOO_LARGE;
    if (!base64url_decode(mem, text, len, &bytes, &bytes_len))
        return JWT_SHAPE;
    CLEANUP(json_destroy) json_t *header = NULL;
    struct why why;         /* the refusal says enough */
    if (json_parse(bytes, bytes_len, JWS_HEADER_MAX_BYTES, &header, &why) != ST_OK || !json_is_object(header))
        return JWT_HEADER;
    if (has_refused_member(header))
        return JWT_HEADER_MEMBER;
    const json_t *algorithm = json_object_get(header, "alg"), *key_id = json_object_get(header, "kid"),
                 *type = json_object_get(header, "typ");
    if (!json_is_string(algorithm) || (key_id && !json_is_string(key_id)))
        return JWT_HEADER;
    if (type && !is_accepted_type(json_string_value(type)))
        return JWT_TYPE;
    ret_header->algorithm = arena_strdup(mem, json_string_value(algorithm));
    ret_header->key_id = key_id ? arena_strdup(mem, json_string_value(key_id)) : NULL;
    return JWT_ACCEPTED;
}

static bool key_allows(const struct jwk *key, const struct jws_algorithm *algorithm) {
    return key->algorithm ? key->algorithm == algorithm : jws_algorithm_fits(algorithm, key->key_type, key->curve);
}

/* The one key that the token can mean: the key of that id, or else (the token names none, or the
 * issuer's keys have no ids) the only one that allows the algorithm. */
static enum jwt_refusal choose_key(const struct jwks *keys, const char *key_id, const struct jws_algorithm *algorithm,
                                   const struct jwk **ret_key) {
    const struct jwk *named = NULL, *nameless = NULL;
    unsigned named_count = 0, nameless_count = 0;
    bool is_known = false;
    for (size_t i = 0; i < jwks_count(keys); i++) {
        const struct jwk *key = jwks_at(keys, i);
        bool is_named = key_id && str_equal(key->id, key_id);
        is_known |= is_named;
        if (!key_allows(key, algorithm))
            continue;
        if (is_named) {
            named = key;
            named_count++;
        } else if (!key_id || !key->id) {
            nameless = key;
            nameless_count++;
        }
    }
    if (named_count + nameless_count == 0)
        return is_known ? JWT_KEY_MISMATCH : JWT_KEY_UNKNOWN;
    if (named ? named_count > 1 : nameless_count > 1)
        return JWT_KEY_AMBIGUOUS;
    *ret_key = named ? named : nameless;
    return JWT_ACCEPTED;
}

/* r || s of fixed width (RFC 7518, 3.4) as the DER that OpenSSL wants. */
static bool ecdsa_to_der(const uint8_t *signature, size_t len, unsigned char **ret_der, size_t *ret_len) {
    CLEANUP(ecdsa_sig_destroy) ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, (int)(len / 2), NULL), *s = BN_bin2bn(signature + len / 2, (int)(len / 2), NULL);
    if (!sig || !r || !s || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        return false;
    }
    int der_len = i2d_ECDSA_SIG(sig, ret_der);
    if (der_len <= 0)
        return false;
    *ret_len = (size_t)der_len;
    return true;
}

static bool is_signed_by(const struct jwk *key, const struct jws_algorithm *algorithm, const char *input, size_t input_len,
                         const uint8_t *signature, size_t len) {
    size_t exact = algorithm->signature_bytes ? algorithm->signature_bytes : (size_t)EVP_PKEY_get_size(key->key);
    if (len != exact)
        return false;
    CLEANUP(der_destroy) unsigned char *der = NULL;
    if (str_equal(algorithm->key_type, "EC")) {
        if (!ecdsa_to_der(signature, len, &der, &len))
            return false;
        signature = der;
    }
    CLEANUP(md_ctx_destroy) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;      /* owned by ctx */
    if (!ctx || EVP_DigestVerifyInit_ex(ctx, &pkey_ctx, algorithm->digest, NULL, NULL, key->key, NULL) != 1)
        return false;
    if (algorithm->is_pss && (EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, RSA_PKCS1_PSS_PADDING) != 1 ||
                              EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey_ctx, RSA_PSS_SALTLEN_DIGEST) != 1))
        return false;
    return EVP_DigestVerify(ctx, signature, len, (const unsigned char *)input, input_len) == 1;
}

enum jwt_refusal jws_verify(struct arena *mem, const struct jwks *keys, const char *token, size_t len, struct jws *ret_jws) {
    if (len > JWS_MAX_BYTES)
        return JWT_TOO_LARGE;
    const char *first = memchr(token, '.', len);
    const char *second = first ? memchr(first + 1, '.', len - (size_t)(first + 1 - token)) : NULL;
    if (!second || first == token || second == first + 1 || second + 1 == token + len)
        return JWT_SHAPE;       /* a third dot is no base64url character */

    struct header header;
    enum jwt_refusal refusal = read_header(mem, token, (size_t)(first - token), &header);
    if (refusal != JWT_ACCEPTED)
        return refusal;
    uint8_t *payload, *signature;
    size_t payload_len, signature_len, input_len = (size_t)(second - token);
    if (!base64url_decode(mem, first + 1, (size_t)(second - first - 1), &payload, &payload_len) ||
        !base64url_decode(mem, second + 1, len - input_len - 1, &signature, &signature_len))
        return JWT_SHAPE;

    const struct jws_algorithm *algorithm = jws_algorithm_find(header.algorithm);
    if (!algorithm)
        return JWT_ALGORITHM;
    const struct jwk *key;
    refusal = choose_key(keys, header.key_id, algorithm, &key);
    if (refusal != JWT_ACCEPTED)
        return refusal;
    bool is_good = is_signed_by(key, algorithm, token, input_len, signature, signature_len);
    ERR_clear_error();          /* a bad signature leaves entries in this thread's queue */
    struct jws made = { .payload = (const char *)payload, .payload_len = payload_len, .algorithm = algorithm->name };
    if (!is_good || EVP_Q_digest(NULL, "SHA256", NULL, token, input_len, made.digest, NULL) != 1)
        return JWT_SIGNATURE;
    *ret_jws = made;
    return JWT_ACCEPTED;
}

const char *jws_peek_issuer(struct arena *mem, const char *token, size_t len) {
    const char *first = len <= JWS_MAX_BYTES ? memchr(token, '.', len) : NULL;
    const char *second = first ? memchr(first + 1, '.', len - (size_t)(first + 1 - token)) : NULL;
    uint8_t *payload;
    size_t payload_len;
    if (!second || !base64url_decode(mem, first + 1, (size_t)(second - first - 1), &payload, &payload_len))
        return NULL;
    CLEANUP(json_destroy) json_t *claims = NULL;
    struct why why;         /* the verification will say */
    if (json_parse(payload, payload_len, JWS_MAX_BYTES, &claims, &why) != ST_OK)
        return NULL;
    const char *issuer = json_string_value(json_object_get(claims, "iss"));
    return issuer ? arena_strdup(mem, issuer) : NULL;
}
