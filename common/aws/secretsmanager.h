/* secretsmanager — AWS Secrets Manager, asked for the text of a secret. */
#ifndef CORDON_AWS_SECRETSMANAGER_H
#define CORDON_AWS_SECRETSMANAGER_H

#include "aws/aws.h"

enum { SECRETSMANAGER_TEXT_MAX_BYTES = 65536 };     /* its own limit */

/* GetSecretValue of the secret `id` (an ARN): its version at stage ("AWSCURRENT") or, when stage is "", version_id.
 * endpoint "": AWS's own. The text is the caller's. ST_UNAVAILABLE: also when it is not there, not ours, or no text;
 * ST_TIMEOUT. *why has AWS's code, and nothing of the secret. */
enum status secretsmanager_get(struct aws *aws, const char *endpoint, const char *id, const char *stage, const char *version_id,
                               int64_t deadline_ms, struct secret **ret_text, struct why *why) MUST_USE;

#endif
