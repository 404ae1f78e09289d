/* bedrock_control — Amazon Bedrock's control plane: what has to be known of the account before text is sent to its models.
 * Only embedding-worker links it. */
#ifndef CORDON_AWS_BEDROCK_CONTROL_H
#define CORDON_AWS_BEDROCK_CONTROL_H

#include "aws/aws.h"

enum { BEDROCK_LIST_MAX = 64 };

/* Both: ST_UNAVAILABLE MODEL_001 when Bedrock refuses us, cannot be reached or answers what we do not understand; ST_TIMEOUT.
 * endpoint "": AWS's own. Lists end with NULL; lists and texts are in mem. */

/* Where Bedrock copies what models are asked and answer: "s3:<bucket>", "logs:<log group>". Empty: nowhere. */
enum status bedrock_log_places(struct aws *aws, const char *endpoint, int64_t deadline_ms, struct arena *mem, const char ***ret_places,
                               struct why *why) MUST_USE;

/* Is a model's id that of an inference profile (an ARN of one, "us.anthropic.…")? */
bool bedrock_is_profile(const char *model);
/* The regions to which an inference profile may send; "global" for one that names none. */
enum status bedrock_profile_regions(struct aws *aws, const char *endpoint, const char *profile, int64_t deadline_ms, struct arena *mem,
                                    const char ***ret_regions, struct why *why) MUST_USE;

#endif
