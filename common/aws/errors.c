#include "aws/errors.h"

#include <string.h>

#include "core/str.h"

static const struct { const char *code; enum aws_kind kind; } ERRORS[] = {
#define AWS_ERROR(code, kind) { code, kind },
#include "aws/errors.def"
#undef AWS_ERROR
};

static const struct { const char *service; enum error_code unavailable, limited; } SERVICES[] = {
    { "kms",     ERR_KMS_UNAVAILABLE,   ERR_KMS_UNAVAILABLE },
    { "s3",      ERR_STORE_UNAVAILABLE, ERR_STORE_UNAVAILABLE },
    { "bedrock", ERR_MODEL_UNAVAILABLE, ERR_MODEL_LIMITED },
    { "",        ERR_UNAVAILABLE,       ERR_UNAVAILABLE },      /* everybody else */
};

enum aws_kind aws_error_kind(const char *code, int http_status) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (str_equal(ERRORS[i].code, code))
            return ERRORS[i].kind;
    switch (http_status) {
    case 429: return AWS_THROTTLED;
    case 408: return AWS_TRANSIENT;
    case 401: case 403: return AWS_REFUSED;
    case 404: return AWS_MISSING;
    default:  return http_status >= 500 ? AWS_TRANSIENT : AWS_OURS;
    }
}

bool aws_kind_is_retryable(enum aws_kind kind) {
    return kind == AWS_THROTTLED || kind == AWS_TRANSIENT || kind == AWS_CLOCK;
}

enum error_code aws_public_error(const char *service, enum aws_kind kind) {
    size_t i = 0;
    while (*SERVICES[i].service && !str_equal(SERVICES[i].service, service))
        i++;
    switch (kind) {
    case AWS_THROTTLED:    return SERVICES[i].limited;
    case AWS_MISSING:      return ERR_NOT_FOUND;
    case AWS_EXISTS:       return ERR_CONFLICT;
    case AWS_KEY_DISABLED: return ERR_KMS_DISABLED;
    case AWS_OURS:         return ERR_INTERNAL;
    case AWS_TRANSIENT: case AWS_CLOCK: case AWS_EXPIRED: case AWS_REFUSED: break;
    }
    return SERVICES[i].unavailable;
}
