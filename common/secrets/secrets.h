/* secrets — settings whose values are in AWS Secrets Manager. NAME_SECRET_ARN beside a secret setting NAME says which:
 *
 *     arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-XXXXXX[:JSON-KEY[:STAGE[:VERSION-ID]]]
 *
 * as in an ECS task definition. With a JSON key the secret is a JSON object and the value its member of that name. They
 * are read once before the process confines itself, as whom its AWS settings say it must be, or it does not start. Live
 * ones (config.h) are read again now and then, and at once when somebody refused them; of the others a gauge counts those
 * that are another by now. During a rotation a live one may be refused before AWSCURRENT moves: AWSPENDING is tried then.
 *
 * Threads: one reads now and then; a refused value is read by the thread that says so. */
#ifndef CORDON_SECRETS_SECRETS_H
#define CORDON_SECRETS_SECRETS_H

#include "aws/aws.h"
#include "service/service.h"

/* For struct service, beside aws_offset. */
extern const struct secret_store SECRETS_MANAGER;

/* AWS for the life of the process: aws_open(), and is it who settings->identity says (not asked in development without an
 * STS)? From here on rt->secrets are read again. settings and rt outlive it. ST_FORBIDDEN: somebody else; ST_INVALID,
 * ST_UNAVAILABLE, ST_TIMEOUT. */
enum status secrets_open_aws(const struct aws_settings *settings, struct runtime *rt, struct aws **ret_aws, struct why *why) MUST_USE;

/* ---- for tests ---- */

struct secret_name { char id[2048], key[256], stage[256], version_id[65]; };

/* Take the text of a reference apart. ST_INVALID: no ARN of a secret in `region`. */
enum status secret_name_parse(const char *text, const char *region, struct secret_name *ret_name, struct why *why) MUST_USE;

#endif
