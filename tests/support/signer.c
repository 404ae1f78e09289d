#include "support/signer.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"

struct signer { EVP_PKEY *key; const char *algorithm; };

static void must(bool is_so) {
    if (!is_so)
        abort();
}

struct signer *signer_new(const char *algorithm, int bits) {
    struct signer *s = xalloc(sizeof *s);
    s->algorithm = algorithm;
    s->key = str_equal(algorithm, "ES256") ? EVP_EC_gen("P-256")
           : str_equal(algorithm, "ES384") ? EVP_EC_gen("P-384")
           : str_equal(algorithm, "EdDSA") ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
           : EVP_RSA_gen((unsigned)(bits ? bits : 2048));
    must(s->key != NULL);
    return s;
}

void signer_destroy(struct signer **signer_p) {
    if (!*signer_p)
        return;
    EVP_PKEY_free((*signer_p)->key);
    free(*signer_p);
    *signer_p = NULL;
}

static const char *number_text(const EVP_PKEY *key, struct arena *mem, const char *name) {
    BIGNUM *n = NULL;
    must(EVP_PKEY_get_bn_param(key, name, &n) == 1);
    size_t len = (size_t)BN_num_bytes(n);
    uint8_t *bytes = arena_alloc(mem, len);
    (void)BN_bn2bin(n, bytes);
    BN_free(n);
    return base64url_encode(mem, bytes, len);
}

char *signer_jwk(const struct signer *s, struct arena *mem, const char *extra) {
    const char *comma = *extra ? "," : "";
    uint8_t point[97];
    size_t len = sizeof point;
    if (EVP_PKEY_is_a(s->key, "RSA"))
        return arena_printf(mem, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s%s}", number_text(s->key, mem, OSSL_PKEY_PARAM_RSA_N),
                            number_text(s->key, mem, OSSL_PKEY_PARAM_RSA_E), comma, extra);
    if (EVP_PKEY_is_a(s->key, "EC")) {
        must(EVP_PKEY_get_octet_string_param(s->key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &len) == 1);
        size_t half = (len - 1) / 2;
        return arena_printf(mem, "{\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"%s%s}", half == 32 ? "P-256" : "P-384",
                            base64url_encode(mem, point + 1, half), base64url_encode(mem, point + 1 + half, half), comma, extra);
    }
    must(EVP_PKEY_get_raw_public_key(s->key, point, &len) == 1);
    return arena_printf(mem, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"%s%s}", base64url_encode(mem, point, len), comma, extra);
}

char *signer_jwks(const struct signer *s, struct arena *mem, const char *extra) {
    return arena_printf(mem, "{\"keys\":[%s]}", signer_jwk(s, mem, extra));
}

/* DER as r || s of fixed width. */
static void unwrap_ecdsa(uint8_t *signature, size_t *len, size_t width) {
    const unsigned char *at = signature;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)*len);
    must(sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), signature, (int)width) > 0 &&
         BN_bn2binpad(ECDSA_SIG_get0_s(sig), signature + width, (int)width) > 0);
    ECDSA_SIG_free(sig);
    *len = 2 * width;
}

char *signer_sign(const struct signer *s, struct arena *mem, const char *input) {
    const char *digest = strstr(s->algorithm, "256") ? "SHA256" : strstr(s->algorithm, "384") ? "SHA384"
                       : strstr(s->algorithm, "512") ? "SHA512" : NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    must(EVP_DigestSignInit_ex(ctx, &pkey_ctx, digest, NULL, NULL, s->key, NULL) == 1);
    if (str_starts_with(s->algorithm, "PS"))
        must(EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey_ctx, RSA_PSS_SALTLEN_DIGEST) == 1);
    uint8_t signature[1024];
    size_t len = sizeof signature;
    must(EVP_DigestSign(ctx, signature, &len, (const unsigned char *)input, strlen(input)) == 1);
    EVP_MD_CTX_free(ctx);
    if (str_starts_with(s->algorithm, "ES"))
        unwrap_ecdsa(signature, &len, digest && str_equal(digest, "SHA256") ? 32 : 48);
    return arena_printf(mem, "%s.%s", input, base64url_encode(mem, signature, len));
}

char *signer_token(const struct signer *s, struct arena *mem, const char *header, const char *payload) {
    return signer_sign(s, mem, arena_printf(mem, "%s.%s", base64url_encode(mem, header, strlen(header)),
                                            base64url_encode(mem, payload, strlen(payload))));
}
