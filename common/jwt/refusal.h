/* refusal — the closed set of reasons why a token is not accepted. Checking a token has one good
 * outcome and many bad ones that are all the caller's answer to the same client, so the functions of
 * this folder return the reason itself; jwt_refusal_error turns it into what that client sees. */
#ifndef CORDON_JWT_REFUSAL_H
#define CORDON_JWT_REFUSAL_H

#include "core/status.h"

enum jwt_refusal {
#define REFUSAL(id, name, code) id,
#include "jwt/refusals.def"
#undef REFUSAL
    JWT_REFUSAL_COUNT
};

const char *jwt_refusal_name(enum jwt_refusal refusal);             /* "signature"; static */
enum error_code jwt_refusal_error(enum jwt_refusal refusal);        /* ERR_AUTH_TOKEN; ERR_NONE when accepted */

#endif
