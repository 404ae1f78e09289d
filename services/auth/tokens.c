#include "tokens.h"

#include <string.h>

#include "core/clock.h"

enum { KEYS_WAIT_MS = 4000 };       /* for the issuer, if the call has that long */

static int64_t keys_deadline(const struct call *call) {
    int64_t wait_until_ms = clock_mono_ms() + KEYS_WAIT_MS;
    return wait_until_ms < call->deadline_ms ? wait_until_ms : call->deadline_ms;
}

enum status check_token(const struct believed *issuer, struct call *call, const char *token, enum jwt_refusal *ret_refusal,
                        struct jwt_claims *ret_claims) {
    CLEANUP(jwks_destroy) struct jwks *keys = NULL, *newer = NULL;
    uint64_t edition = 0;
    size_t len = strlen(token);
    enum status st = issuer_keys(issuer->keys, keys_deadline(call), &keys, &edition, &call->why);
    if (st != ST_OK)
        return st;
    struct jws jws = { 0 };
    enum jwt_refusal refusal = jws_verify(call->mem, keys, token, len, &jws);
    if (refusal == JWT_KEY_UNKNOWN) {
        st = issuer_newer_keys(issuer->keys, edition, keys_deadline(call), &newer, &call->why);
        if (st == ST_OK)
            refusal = jws_verify(call->mem, newer, token, len, &jws);
        else if (st != ST_NOT_FOUND)
            return st;
    }
    if (refusal == JWT_ACCEPTED)
        refusal = jwt_claims_read(call->mem, &jws, &issuer->policy, clock_unix_us() / 1000000, ret_claims);
    *ret_refusal = refusal;
    return ST_OK;
}
