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

#endif
