#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct { const char *name; bool is_retryable; enum error_code code; } STATUSES[] = {
    [ST_OK] = { "ST_OK", false, ERR_NONE },
    [ST_INVALID] = { "ST_INVALID", false, ERR_INVALID },
    [ST_UNAUTHENTICATED] = { "ST_UNAUTHENTICATED", false, ERR_UNAUTHENTICATED },
    [ST_FORBIDDEN] = { "ST_FORBIDDEN", false, ERR_FORBIDDEN },
    [ST_NOT_FOUND] = { "ST_NOT_FOUND", false, ERR_NOT_FOUND },
    [ST_CONFLICT] = { "ST_CONFLICT", false, ERR_CONFLICT },
    [ST_LIMITED] = { "ST_LIMITED", true, ERR_LIMITED },
    [ST_UNAVAILABLE] = { "ST_UNAVAILABLE", true, ERR_UNAVAILABLE },
    [ST_TIMEOUT] = { "ST_TIMEOUT", true, ERR_TIMEOUT },
    [ST_INTERNAL] = { "ST_INTERNAL", false, ERR_INTERNAL },
};

static const struct { const char *code; enum status status; int http; const char *text; } ERRORS[] = {
#define ERROR(id, code, status, http, text) [id] = { code, status, http, text },
#include "core/errors.def"
#undef ERROR
};

enum { STATUS_COUNT = sizeof STATUSES / sizeof *STATUSES };

static PRINTF(3, 0) void say(struct why *why, enum error_code code, const char *fmt, va_list ap) {
    why->code = code;
    (void)vsnprintf(why->text, sizeof why->text, fmt, ap);
}

enum status fail(struct why *why, enum status st, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(why, status_error(st), fmt, ap);
    va_end(ap);
    return st;
}

enum status fail_as(struct why *why, enum error_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(why, code, fmt, ap);
    va_end(ap);
    return error_status(code);
}

bool status_is_known(unsigned wire) {
    return wire < STATUS_COUNT;
}

const char *status_name(enum status st) {
    return status_is_known(st) ? STATUSES[st].name : "ST_?";
}

bool status_is_retryable(enum status st) {
    return status_is_known(st) && STATUSES[st].is_retryable;
}

enum error_code status_error(enum status st) {
    return status_is_known(st) ? STATUSES[st].code : ERR_INTERNAL;
}

static enum error_code known(enum error_code code) {
    return (unsigned)code < ERROR_CODE_COUNT ? code : ERR_INTERNAL;
}

const char *error_text_code(enum error_code code) { return ERRORS[known(code)].code; }
const char *error_public_text(enum error_code code) { return ERRORS[known(code)].text; }
enum status error_status(enum error_code code) { return ERRORS[known(code)].status; }
int error_http(enum error_code code) { return ERRORS[known(code)].http; }

enum error_code error_from_text(const char *text) {
    for (unsigned i = 0; text && i < ERROR_CODE_COUNT; i++)
        if (strcmp(ERRORS[i].code, text) == 0)
            return (enum error_code)i;
    return ERR_INTERNAL;
}
