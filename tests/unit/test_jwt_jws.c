/* The published examples verify, and everything that somebody ever forged is refused. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "jwt/jws.h"
#include "support/signer.h"

#define JOE "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define FRODO "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwg" \
    "YW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4"
#define BILBO "\"kty\":\"RSA\",\"kid\":\"bilbo.baggins@hobbiton.example\",\"use\":\"sig\",\"e\":\"AQAB\"," \
    "\"n\":\"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU" \
    "_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8" \
    "lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw\""

struct example { const char *name, *key, *token, *algorithm; };

static const struct example EXAMPLES[] = {
    { "RFC 7515 A.2",
      "{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B"
      "m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2"
      "CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\"}",
      "eyJhbGciOiJSUzI1NiJ9." JOE ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGb"
      "ds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12j"
      "zDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw", "RS256" },
    { "RFC 7515 A.3",
      "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
      "eyJhbGciOiJFUzI1NiJ9." JOE ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q", "ES256" },
    { "RFC 8037 A.4", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "EdDSA" },
    { "RFC 7520 4.1", "{" BILBO "}",
      "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." FRODO ".MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2"
      "e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCT"
      "JDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ4"
      "1Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg", "RS256" },
    { "RFC 7520 4.2", "{" BILBO ",\"alg\":\"PS384\"}",
      "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9." FRODO ".cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42mi"
      "Ah2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNq"
      "iVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOc"
      "bH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw", "PS384" },
};

static struct arena *mem;
static void begin(void) { mem = arena_new(0); }
static void end(void) { arena_destroy(&mem); }
TestSuite(jws, .init = begin, .fini = end, .timeout = 60);

static struct jwks *keys_of(const char *set) {
    struct jwks *keys = NULL;
    struct why why = { 0 };
    cr_assert_eq(jwks_parse(set, strlen(set), &keys, &why), ST_OK, "%s", why.text);
    return keys;
}

static enum jwt_refusal verify(const char *set, const char *token) {
    CLEANUP(jwks_destroy) struct jwks *keys = keys_of(set);
    struct jws jws;
    return jws_verify(mem, keys, token, strlen(token), &jws);
}

#define cr_assert_refusal(got, want) do { \
        enum jwt_refusal got_ = (got); \
        cr_assert_eq(got_, want, "got %s, expected %s", jwt_refusal_name(got_), jwt_refusal_name(want)); \
    } while (0)

Test(jws, published_examples_verify) {
    for (size_t i = 0; i < sizeof EXAMPLES / sizeof *EXAMPLES; i++) {
        const struct example *e = &EXAMPLES[i];
        CLEANUP(jwks_destroy) struct jwks *keys = keys_of(arena_printf(mem, "{\"keys\":[%s]}", e->key));
        struct jws jws = { 0 };
        enum jwt_refusal refusal = jws_verify(mem, keys, e->token, strlen(e->token), &jws);
        cr_expect_eq(refusal, JWT_ACCEPTED, "%s: %s", e->name, jwt_refusal_name(refusal));
        cr_expect_str_eq(jws.algorithm, e->algorithm);
    }
}

Test(jws, any_changed_character_is_refused) {
    const struct example *e = &EXAMPLES[1];
    CLEANUP(jwks_destroy) struct jwks *keys = keys_of(arena_printf(mem, "{\"keys\":[%s]}", e->key));
    size_t len = strlen(e->token);
    for (size_t i = 0; i < len; i++) {
        char *token = arena_strdup(mem, e->token);
        token[i] = token[i] == 'A' ? 'B' : 'A';
        struct jws jws;
        cr_assert_neq(jws_verify(mem, keys, token, len, &jws), JWT_ACCEPTED, "character %zu", i);
    }
    for (size_t cut = 0; cut < len; cut++) {
        struct jws jws;
        cr_assert_neq(jws_verify(mem, keys, e->token, cut, &jws), JWT_ACCEPTED, "cut at %zu", cut);
    }
}

Test(jws, every_algorithm_of_the_table_verifies_its_own_signature) {
    static const char *const NAMES[] = { "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA" };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        CLEANUP(signer_destroy) struct signer *s = signer_new(NAMES[i], 0);
        const char *token = signer_token(s, mem, arena_printf(mem, "{\"alg\":\"%s\",\"typ\":\"at+jwt\"}", NAMES[i]), "{}");
        cr_assert_refusal(verify(signer_jwks(s, mem, ""), token), JWT_ACCEPTED);
        cr_assert_refusal(verify(signer_jwks(s, mem, arena_printf(mem, "\"alg\":\"%s\"", NAMES[i])), token), JWT_ACCEPTED);
    }
}

Test(jws, the_keys_own_algorithm_is_the_only_one) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("RS256", 0);
    const char *token = signer_token(s, mem, "{\"alg\":\"RS256\",\"kid\":\"1\"}", "{}");
    cr_assert_refusal(verify(signer_jwks(s, mem, "\"kid\":\"1\",\"alg\":\"PS256\""), token), JWT_KEY_MISMATCH);
    cr_assert_refusal(verify(signer_jwks(s, mem, "\"kid\":\"1\",\"alg\":\"RS512\""), token), JWT_KEY_MISMATCH);
    cr_assert_refusal(verify(signer_jwks(s, mem, "\"kid\":\"1\",\"alg\":\"RS256\""), token), JWT_ACCEPTED);
}

Test(jws, the_header_cannot_move_a_key_to_another_family) {
    CLEANUP(signer_destroy) struct signer *ec = signer_new("ES256", 0);
    CLEANUP(signer_destroy) struct signer *big = signer_new("ES384", 0);
    cr_assert_refusal(verify(signer_jwks(ec, mem, "\"kid\":\"1\""), signer_token(ec, mem, "{\"alg\":\"RS256\",\"kid\":\"1\"}", "{}")), JWT_KEY_MISMATCH);
    cr_assert_refusal(verify(signer_jwks(ec, mem, "\"kid\":\"1\""), signer_token(ec, mem, "{\"alg\":\"ES384\",\"kid\":\"1\"}", "{}")), JWT_KEY_MISMATCH);
    cr_assert_refusal(verify(signer_jwks(big, mem, "\"kid\":\"1\""), signer_token(big, mem, "{\"alg\":\"ES256\",\"kid\":\"1\"}", "{}")), JWT_KEY_MISMATCH);
    /* the declared algorithm is right, the key that signed has the other curve */
    cr_assert_refusal(verify(signer_jwks(ec, mem, ""), signer_token(big, mem, "{\"alg\":\"ES256\"}", "{}")), JWT_SIGNATURE);
}

Test(jws, none_and_hmac_are_not_algorithms) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("RS256", 0);
    const char *jwk = signer_jwk(s, mem, "\"kid\":\"1\""), *set = signer_jwks(s, mem, "\"kid\":\"1\"");
    static const char *const NAMES[] = { "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "rs256", "RS1", "ES256K", "ES512", "A128KW", "" };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        const char *header = arena_printf(mem, "{\"alg\":\"%s\",\"kid\":\"1\"}", NAMES[i]);
        cr_assert_refusal(verify(set, signer_token(s, mem, header, "{}")), JWT_ALGORITHM);
    }
    const char *input = arena_printf(mem, "%s.e30", base64url_encode(mem, "{\"alg\":\"none\"}", 14));
    cr_assert_refusal(verify(set, arena_printf(mem, "%s.", input)), JWT_SHAPE);
    /* the public key's text as the HMAC secret */
    uint8_t mac[32];
    unsigned mac_len = sizeof mac;
    input = arena_printf(mem, "%s.e30", base64url_encode(mem, "{\"alg\":\"HS256\"}", 15));
    cr_assert_not_null(HMAC(EVP_sha256(), jwk, (int)strlen(jwk), (const unsigned char *)input, strlen(input), mac, &mac_len));
    cr_assert_refusal(verify(set, arena_printf(mem, "%s.%s", input, base64url_encode(mem, mac, mac_len))), JWT_ALGORITHM);
}

Test(jws, keys_inside_the_token_and_critical_members_are_refused) {
    CLEANUP(signer_destroy) struct signer *good = signer_new("ES256", 0);
    CLEANUP(signer_destroy) struct signer *evil = signer_new("ES256", 0);
    const char *set = signer_jwks(good, mem, "");
    const char *members[] = {
        arena_printf(mem, "\"jwk\":%s", signer_jwk(evil, mem, "")),
        "\"jku\":\"https://evil.example/keys\"", "\"x5u\":\"https://evil.example/c\"", "\"x5c\":[\"MIIB\"]",
        "\"crit\":[\"exp\"],\"exp\":1", "\"crit\":[]", "\"b64\":false", "\"zip\":\"DEF\"", "\"jwk\":null",
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const char *header = arena_printf(mem, "{\"alg\":\"ES256\",%s}", members[i]);
        cr_assert_refusal(verify(set, signer_token(evil, mem, header, "{}")), JWT_HEADER_MEMBER);
        cr_assert_refusal(verify(set, signer_token(good, mem, header, "{}")), JWT_HEADER_MEMBER);
    }
    cr_assert_refusal(verify(set, signer_token(good, mem, "{\"alg\":\"ES256\",\"x5t\":\"hint\"}", "{}")), JWT_ACCEPTED);
}

Test(jws, headers_that_are_not_plain_json_objects_are_refused) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("EdDSA", 0);
    const char *set = signer_jwks(s, mem, "");
    static const char *const HEADERS[] = {
        "{\"alg\":\"EdDSA\",\"alg\":\"EdDSA\"}", "{\"alg\":\"none\",\"alg\":\"EdDSA\"}", "{\"alg\":\"EdDSA\",\"x\":{\"y\":1,\"y\":2}}",
        "[\"EdDSA\"]", "\"EdDSA\"", "{\"alg\":\"EdDSA\"", "{\"alg\":\"EdDSA\"} {}", "{\"alg\":1}", "{}", "{\"alg\":\"EdDSA\",\"kid\":1}",
        "{\"alg\":\"EdDSA\",\"kid\":\"a\\u0000b\"}", "{\"alg\":\"EdDSA\",\"kid\":\"\xff\"}", "{\"alg\":\"EdDSA\",\"kid\":null}",
    };
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++)
        cr_expect_eq(verify(set, signer_token(s, mem, HEADERS[i], "{}")), JWT_HEADER, "%s", HEADERS[i]);
    cr_assert_refusal(verify(set, signer_token(s, mem, "{\"alg\":\"EdDSA\",\"typ\":\"dpop+jwt\"}", "{}")), JWT_TYPE);
    cr_assert_refusal(verify(set, signer_token(s, mem, "{\"alg\":\"EdDSA\",\"typ\":7}", "{}")), JWT_TYPE);
    cr_assert_refusal(verify(set, signer_token(s, mem, "{\"alg\":\"EdDSA\",\"typ\":\"jwt\"}", "{}")), JWT_ACCEPTED);
}

Test(jws, only_canonical_base64url_is_read) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("EdDSA", 0);
    const char *set = signer_jwks(s, mem, ""), *token = signer_token(s, mem, "{\"alg\":\"EdDSA\"}", "{\"a\":\"?\"}");
    size_t len = strlen(token);
    cr_assert_refusal(verify(set, arena_printf(mem, "%s==", token)), JWT_SHAPE);
    cr_assert_refusal(verify(set, arena_printf(mem, "%s\n", token)), JWT_SHAPE);
    cr_assert_refusal(verify(set, arena_printf(mem, " %s", token)), JWT_SHAPE);
    cr_assert_refusal(verify(set, arena_printf(mem, "%s.x", token)), JWT_SHAPE);
    /* 64 bytes are 86 characters, the last of which carries 4 unused bits */
    char *stray = arena_strdup(mem, token);
    stray[len - 1]++;
    cr_assert_refusal(verify(set, stray), JWT_SHAPE);
    /* the standard alphabet */
    char *other = signer_sign(s, mem, arena_printf(mem, "%s.%s", base64url_encode(mem, "{\"alg\":\"EdDSA\"}", 15), "Pz8/"));
    cr_assert_refusal(verify(set, other), JWT_SHAPE);
    cr_assert_refusal(verify(set, ""), JWT_SHAPE);
    cr_assert_refusal(verify(set, "a.b"), JWT_SHAPE);
    cr_assert_refusal(verify(set, ".."), JWT_SHAPE);
}

Test(jws, signatures_have_one_length) {
    static const char *const NAMES[] = { "RS256", "PS256", "ES256", "ES384", "EdDSA" };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        CLEANUP(signer_destroy) struct signer *s = signer_new(NAMES[i], 0);
        const char *set = signer_jwks(s, mem, "");
        const char *token = signer_token(s, mem, arena_printf(mem, "{\"alg\":\"%s\"}", NAMES[i]), "{}");
        const char *dot = strrchr(token, '.');
        uint8_t *bytes;
        size_t len;
        cr_assert(base64url_decode(mem, dot + 1, strlen(dot + 1), &bytes, &len));
        uint8_t padded[600] = { 0 };
        for (size_t extra = 1; extra < 4; extra++) {
            int input_len = (int)(dot - token);
            memcpy(padded, bytes, len);
            cr_assert_refusal(verify(set, arena_printf(mem, "%.*s.%s", input_len, token, base64url_encode(mem, padded, len + extra))), JWT_SIGNATURE);
            cr_assert_refusal(verify(set, arena_printf(mem, "%.*s.%s", input_len, token, base64url_encode(mem, padded, len - extra))), JWT_SIGNATURE);
            memset(padded, 0, sizeof padded);
            memcpy(padded + extra, bytes, len);
            cr_assert_refusal(verify(set, arena_printf(mem, "%.*s.%s", input_len, token, base64url_encode(mem, padded, len + extra))), JWT_SIGNATURE);
        }
        memset(padded, 0, sizeof padded);       /* r = s = 0 passed in some verifiers, CVE-2022-21449 */
        cr_assert_refusal(verify(set, arena_printf(mem, "%.*s.%s", (int)(dot - token), token, base64url_encode(mem, padded, len))), JWT_SIGNATURE);
    }
}

Test(jws, key_ids_choose_among_the_issuers_keys_only) {
    CLEANUP(signer_destroy) struct signer *a = signer_new("ES256", 0);
    CLEANUP(signer_destroy) struct signer *b = signer_new("ES256", 0);
    const char *set = arena_printf(mem, "{\"keys\":[%s,%s]}", signer_jwk(a, mem, "\"kid\":\"a\""), signer_jwk(b, mem, "\"kid\":\"b\""));
    cr_assert_refusal(verify(set, signer_token(a, mem, "{\"alg\":\"ES256\",\"kid\":\"a\"}", "{}")), JWT_ACCEPTED);
    cr_assert_refusal(verify(set, signer_token(b, mem, "{\"alg\":\"ES256\",\"kid\":\"a\"}", "{}")), JWT_SIGNATURE);
    cr_assert_refusal(verify(set, signer_token(a, mem, "{\"alg\":\"ES256\",\"kid\":\"c\"}", "{}")), JWT_KEY_UNKNOWN);
    cr_assert_refusal(verify(set, signer_token(a, mem, "{\"alg\":\"ES256\",\"kid\":\"../../a\"}", "{}")), JWT_KEY_UNKNOWN);
    cr_assert_refusal(verify(set, signer_token(a, mem, "{\"alg\":\"ES256\",\"kid\":\"a' OR 'a'='a\"}", "{}")), JWT_KEY_UNKNOWN);
    cr_assert_refusal(verify(set, signer_token(a, mem, "{\"alg\":\"ES256\"}", "{}")), JWT_KEY_AMBIGUOUS);
    set = arena_printf(mem, "{\"keys\":[%s,%s]}", signer_jwk(a, mem, "\"kid\":\"a\""), signer_jwk(b, mem, "\"kid\":\"a\""));
    cr_assert_refusal(verify(set, signer_token(a, mem, "{\"alg\":\"ES256\",\"kid\":\"a\"}", "{}")), JWT_KEY_AMBIGUOUS);
}

Test(jws, sizes_are_capped) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("EdDSA", 0);
    const char *set = signer_jwks(s, mem, "");
    char *wide = arena_alloc(mem, JWS_MAX_BYTES + 1);
    memset(wide, 'a', JWS_MAX_BYTES);
    cr_assert_refusal(verify(set, signer_token(s, mem, "{\"alg\":\"EdDSA\"}", arena_printf(mem, "\"%s\"", wide))), JWT_TOO_LARGE);
    wide[2000] = '\0';
    cr_assert_refusal(verify(set, signer_token(s, mem, arena_printf(mem, "{\"alg\":\"EdDSA\",\"kid\":\"%s\"}", wide), "{}")), JWT_TOO_LARGE);
}

Test(jws, a_second_valid_signature_is_the_same_token) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("ES256", 0);
    CLEANUP(jwks_destroy) struct jwks *keys = keys_of(signer_jwks(s, mem, ""));
    const char *one = signer_token(s, mem, "{\"alg\":\"ES256\"}", "{}"), *two = signer_token(s, mem, "{\"alg\":\"ES256\"}", "{}");
    struct jws first, second;
    cr_assert_str_neq(one, two);
    cr_assert_refusal(jws_verify(mem, keys, one, strlen(one), &first), JWT_ACCEPTED);
    cr_assert_refusal(jws_verify(mem, keys, two, strlen(two), &second), JWT_ACCEPTED);
    cr_assert_arr_eq(first.digest, second.digest, JWS_DIGEST_BYTES);
}
