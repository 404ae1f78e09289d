/* sts — who AWS says we are. Asked at start and by readiness checks: a process that runs under another process's
 * identity must not begin its work. */
#ifndef CORDON_AWS_STS_H
#define CORDON_AWS_STS_H

#include "aws/aws.h"

/* GetCallerIdentity: the ARN, in mem. endpoint "": AWS's own. ST_UNAVAILABLE, ST_TIMEOUT. */
enum status sts_identity(struct aws *aws, const char *endpoint, int64_t deadline_ms, struct arena *mem, char **ret_arn,
                         struct why *why) MUST_USE;

/* Is the caller the user or assumed role called `name` ("cordon-query")? ST_FORBIDDEN: another. */
enum status sts_assert(struct aws *aws, const char *endpoint, const char *name, int64_t deadline_ms, struct why *why) MUST_USE;

/* "cordon-query" of "arn:aws:iam::1:user/cordon-query", "arn:aws:sts::1:assumed-role/cordon-query/session" and with
 * paths in front; false for anything else. */
bool sts_arn_name(const char *arn, char *out, size_t size);

/* ---- roles ---- */

struct sts_role {
    const char *arn;
    const char *session_name;           /* in AWS's logs; "": cordon */
    const char *external_id;            /* NULL: none */
    struct sigv4_pair tags[4];          /* of the session; end with a name of NULL */
};

/* AssumeRole, for an hour; the caller owns *ret_credentials. ST_UNAVAILABLE: refused, or STS cannot be reached; ST_TIMEOUT. */
enum status sts_assume_role(struct aws *aws, const char *endpoint, const struct sts_role *role, int64_t deadline_ms,
                            struct credentials **ret_credentials, struct why *why) MUST_USE;
/* The same for an OpenID token, which is all the identity that we have: nothing is signed. */
enum status sts_assume_with_web_identity(struct http_client *http, const char *region, const char *endpoint, const struct sts_role *role,
                                         const char *token, int64_t deadline_ms, struct credentials **ret_credentials,
                                         struct why *why) MUST_USE;

#endif
