/* admission — what authz.admit() and authz.log_in() ask about somebody whom an issuer vouches for, and what becomes of
 * those whom they refuse. */
#ifndef CORDON_AUTH_ADMISSION_H
#define CORDON_AUTH_ADMISSION_H

#include "auth.h"
#include "db/sql.h"

enum { ADMISSION_PARAMS = 14, ADMISSION_FRESH_S = 15 * 60 };

/* $1 to $14: until_s (Unix time) is the end of the session; names and addresses are sealed. Everything in call->mem. */
enum status admission_params(struct auth *a, struct call *call, const struct believed *issuer, const struct jwt_claims *claims, int64_t until_s,
                             struct db_param ret_params[ADMISSION_PARAMS]) MUST_USE;
/* May the scopes to PHI be given? */
bool admission_is_strong(const struct auth *a, const struct jwt_claims *claims);
/* What the claims say of the tenant; the one of an issuer whose tokens name none. NULL: none. */
const char *admission_tenant(const struct believed *issuer, const struct jwt_claims *claims);

/* Put a refusal on the record and answer it: error_status(code). The record may fail; the refusal stands. */
enum status refuse(struct auth *a, struct call *call, enum error_code code, const char *reason, const char *tenant,
                   const char *remote_address) MUST_USE;
/* The same for what the database refused (SQLSTATE 28000), by the word in call->why. */
enum status refuse_by_database(struct auth *a, struct call *call, const char *tenant, const char *remote_address) MUST_USE;

#endif
