/* tenants — one assumed session for each tenant that a process works for: the role CORDON_AWS_TENANT_ROLE_ARN with the
 * session tag tenant_id, so that a policy can say ${aws:PrincipalTag/tenant_id} and a request for one tenant's object
 * or key cannot reach another's, whatever our code gets wrong. Sessions are kept until shortly before their end; the
 * longest unused makes room. Any thread may ask; threads that ask for the same tenant wait for one answer. */
#ifndef CORDON_AWS_TENANTS_H
#define CORDON_AWS_TENANTS_H

#include "aws/credentials.h"
#include "core/uuid.h"

enum { TENANTS_KEPT = 256 };

struct aws;
struct tenants;

/* The sessions are asked for as aws, which is borrowed; so are the texts. session_name "": cordon. */
struct tenants *tenants_new(struct aws *aws, const char *sts_endpoint, const char *role_arn, const char *session_name);
void tenants_destroy(struct tenants **tenants_p);

/* The tenant's session, with a reference for the caller. ST_UNAVAILABLE, ST_TIMEOUT. */
enum status tenants_get(struct tenants *tenants, const struct uuid *tenant, int64_t deadline_ms, struct credentials **ret_credentials,
                        struct why *why) MUST_USE;
/* AWS calls it expired: forget it. */
void tenants_reject(struct tenants *tenants, const struct credentials *rejected);

#endif
