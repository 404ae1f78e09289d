/* Key sets: what cannot or must not be used is skipped, and a set without a usable key is none. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/buffer.h"
#include "jwt/jwks.h"
#include "support/signer.h"

#define X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define EC256 "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\""

static struct arena *mem;
static void begin(void) { mem = arena_new(0); }
static void end(void) { arena_destroy(&mem); }
TestSuite(jwks, .init = begin, .fini = end, .timeout = 60);

static enum status parse(const char *text, struct jwks **ret_keys) {
    struct why why = { 0 };
    return jwks_parse(text, strlen(text), ret_keys, &why);
}

static bool is_usable(const char *jwk) {
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    return parse(arena_printf(mem, "{\"keys\":[%s]}", jwk), &keys) == ST_OK;
}

Test(jwks, skips_what_it_cannot_use_and_keeps_the_rest) {
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    cr_assert_eq(parse("{\"keys\":[7,{},{\"kty\":\"oct\",\"k\":\"AAAA\"},{" EC256 ",\"kid\":\"a\"},{" EC256 ",\"use\":\"enc\"},"
                       "{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"" X "\",\"y\":\"" Y "\"}],\"more\":1}", &keys), ST_OK);
    cr_assert_eq(jwks_count(keys), 1);
    cr_assert_eq(jwks_skipped(keys), 5);
    cr_assert_str_eq(jwks_at(keys, 0)->id, "a");
}

Test(jwks, purpose_and_algorithm_are_believed) {
    cr_assert(is_usable("{" EC256 "}"));
    cr_assert(is_usable("{" EC256 ",\"use\":\"sig\",\"key_ops\":[\"verify\"],\"alg\":\"ES256\"}"));
    cr_assert_not(is_usable("{" EC256 ",\"use\":7}"));
    cr_assert_not(is_usable("{" EC256 ",\"key_ops\":[\"sign\"]}"));
    cr_assert_not(is_usable("{" EC256 ",\"key_ops\":\"verify\"}"));
    cr_assert_not(is_usable("{" EC256 ",\"alg\":\"RS256\"}"));
    cr_assert_not(is_usable("{" EC256 ",\"alg\":\"ES384\"}"));
    cr_assert_not(is_usable("{" EC256 ",\"alg\":\"HS256\"}"));
    cr_assert_not(is_usable("{" EC256 ",\"alg\":null}"));
    cr_assert_not(is_usable("{" EC256 ",\"kid\":1}"));
}

Test(jwks, a_key_that_carries_a_secret_is_not_used) {
    cr_assert_not(is_usable("{" EC256 ",\"d\":\"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\"}"));
    cr_assert_not(is_usable("{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ\"}"));
}

Test(jwks, points_off_the_curve_are_refused) {
    cr_assert_not(is_usable("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" Y "\",\"y\":\"" X "\"}"));
    cr_assert_not(is_usable("{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"" X "\",\"y\":\"" Y "\"}"));
    cr_assert_not(is_usable("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA" X "\",\"y\":\"" Y "\"}"));
    cr_assert_not(is_usable("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\"}"));
    cr_assert_not(is_usable("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "=\",\"y\":\"" Y "\"}"));
    cr_assert_not(is_usable("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"));
    cr_assert_not(is_usable("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}"));
    cr_assert_not(is_usable("{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08\"}"));
}

Test(jwks, weak_rsa_keys_are_refused) {
    CLEANUP(signer_destroy) struct signer *weak = signer_new("RS256", 1024), *odd = signer_new("RS256", 2040), *good = signer_new("RS256", 2048);
    cr_assert_not(is_usable(signer_jwk(weak, mem, "")));
    cr_assert_not(is_usable(signer_jwk(odd, mem, "")));
    cr_assert(is_usable(signer_jwk(good, mem, "")));
    char *even = signer_jwk(good, mem, ""), *e = strstr(even, "\"e\":\"AQAB\"");
    cr_assert_not_null(e);
    memcpy(e, "\"e\":\"AAAB\"", 10);         /* 1: every message is its own signature */
    cr_assert_not(is_usable(even));
    memcpy(e, "\"e\":\"AQAC\"", 10);         /* even */
    cr_assert_not(is_usable(even));
}

Test(jwks, too_much_is_refused_whole) {
    CLEANUP(buffer_end) struct buffer many = { 0 };
    cr_assert(buffer_add_str(&many, "{\"keys\":[{" EC256 "}"));
    for (int i = 1; i < JWKS_MAX_KEYS; i++)
        cr_assert(buffer_add_str(&many, ",{" EC256 "}"));
    CLEANUP(jwks_destroy) struct jwks *keys = NULL, *none = NULL;
    struct why why = { 0 };
    size_t full = many.len;
    cr_assert(buffer_add_str(&many, "]}"));
    cr_assert_eq(jwks_parse(many.data, many.len, &keys, &why), ST_OK);
    cr_assert_eq(jwks_count(keys), JWKS_MAX_KEYS);
    many.len = full;
    cr_assert(buffer_add_str(&many, ",{" EC256 "}]}"));
    cr_assert_eq(jwks_parse(many.data, many.len, &none, &why), ST_INVALID);
    buffer_clear(&many);
    while (many.len <= JWKS_MAX_BYTES)
        cr_assert(buffer_add_str(&many, "                                                                "));
    cr_assert(buffer_add_str(&many, "{\"keys\":[{" EC256 "}]}"));
    cr_assert_eq(jwks_parse(many.data, many.len, &none, &why), ST_INVALID);
}

Test(jwks, documents_of_another_shape_are_refused) {
    static const char *const TEXTS[] = { "", "null", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}", "{\"keys\":[{}],\"keys\":[{" EC256 "}]}",
                                         "<html>", "{\"keys\":[{" EC256 "}]", "{\"keys\":[{\"kty\":\"EC\"," EC256 "}]}" };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        CLEANUP(jwks_destroy) struct jwks *keys = NULL;
        cr_expect_eq(parse(TEXTS[i], &keys), ST_INVALID, "%s", TEXTS[i]);
    }
}

Test(jwks, shared_keys_live_until_the_last_holder_lets_go) {
    struct jwks *keys = NULL;
    cr_assert_eq(parse("{\"keys\":[{" EC256 "}]}", &keys), ST_OK);
    struct jwks *other = jwks_share(keys);
    jwks_destroy(&keys);
    cr_assert_null(keys);
    cr_assert_eq(jwks_count(other), 1);
    jwks_destroy(&other);
    jwks_destroy(&other);
}
