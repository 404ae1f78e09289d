/* refusals — what auth puts on the record when somebody is turned away. */
#ifndef CORDON_AUTH_REFUSALS_H
#define CORDON_AUTH_REFUSALS_H

#include "auth.h"

/* A request that edge refused before any handler saw it. Recorded in the tenant of call's ticket, or
 * without a tenant when it has none or one that is no longer good. */
enum status record_denial(struct call *call, enum error_code code, const char *http_method, const char *path,
                          const char *remote_address) MUST_USE;

/* Somebody is locked out after failed logins, for so long; whom: address | credential. Always without a tenant. */
enum status record_lockout(struct call *call, const char *whom, int64_t locked_s, const char *http_method, const char *path,
                           const char *remote_address) MUST_USE;

/* A token that got no ticket. reason: a word of a closed set; tenant: as claimed by a verified token, or
 * NULL. Always without a tenant: whoever sends it is nobody yet. */
enum status record_refused_token(struct call *call, enum error_code code, const char *reason, const char *tenant,
                                 const char *remote_address) MUST_USE;

#endif
