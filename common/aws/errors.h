/* errors — what AWS's refusals mean: one table of codes to kinds, one of services to what clients see. Pure. */
#ifndef CORDON_AWS_ERRORS_H
#define CORDON_AWS_ERRORS_H

#include <stdbool.h>

#include "core/status.h"

enum aws_kind {
    AWS_THROTTLED,      /* later; worth repeating */
    AWS_TRANSIENT,      /* the service's trouble; worth repeating */
    AWS_CLOCK,          /* our clock is off; worth repeating once corrected */
    AWS_EXPIRED,        /* our temporary credentials are over; worth repeating with others */
    AWS_REFUSED,        /* credentials, policy or configuration: an operator's to repair */
    AWS_MISSING,        /* what was named is not there */
    AWS_EXISTS,         /* what was to be made is there already */
    AWS_KEY_DISABLED,   /* a KMS key that must not be used now */
    AWS_OURS,           /* we asked for something wrong */
};

/* The kind of an error by its code ("" when the answer named none) and HTTP status. */
enum aws_kind aws_error_kind(const char *code, int http_status);

bool aws_kind_is_retryable(enum aws_kind kind);

/* What a client of ours sees when `service` ("kms", "s3", "sts", "bedrock") fails with kind. */
enum error_code aws_public_error(const char *service, enum aws_kind kind);

#endif
