// links: jwt
/* Input: a key set, a NUL byte, a token. Neither parser may crash, read outside its bytes or leak. */
#include <string.h>

#include "jwt/claims.h"
#include "jwt/jws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char SPARE[] = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    const char *token = nul ? (const char *)nul + 1 : (const char *)data;
    size_t token_len = nul ? size - (size_t)(nul + 1 - data) : size;
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct why why = { 0 };
    if ((!nul || jwks_parse((const char *)data, (size_t)(nul - data), &keys, &why) != ST_OK) &&
        jwks_parse(SPARE, sizeof SPARE - 1, &keys, &why) != ST_OK)
        __builtin_trap();
    struct jws jws = { 0 };
    struct jwt_claims claims;
    enum jwt_refusal refusal = jws_verify(mem, keys, token, token_len, &jws);
    /* Whatever was not signed: the claims reader must stand it too. */
    if (refusal != JWT_ACCEPTED)
        jws = (struct jws){ .payload = token, .payload_len = token_len };
    (void)jws_peek_issuer(mem, token, token_len);
    static const struct jwt_pair MAP[] = { { "g", "r" }, { NULL, NULL } };
    static const char *const VALUES[] = { "mfa", NULL };
    struct jwt_policy policy = { .issuer = "i", .audience = "a", .audience_claim = "aud", .tenant_claim = "/a/tenant", .roles_claim = "/a/b/roles",
                                 .role_map = MAP, .required = MAP, .amr_claim = "amr", .acr_claim = "acr", .amr_values = VALUES, .acr_values = VALUES };
    refusal = jwt_claims_read(mem, &jws, &policy, 1000, &claims);
    policy = (struct jwt_policy){ .issuer = "i", .audience = "a", .audience_claim = "aud", .tenant_claim = "tenant", .roles_claim = "roles" };
    refusal = jwt_claims_read(mem, &jws, &policy, 1000, &claims);
    return refusal == JWT_REFUSAL_COUNT;
}
