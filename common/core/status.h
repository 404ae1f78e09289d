/* status — the closed set of outcomes, the same in C, on the wire and in HTTP; and the
 * registry of error codes that clients see. Pure functions over constant tables. */
#ifndef CORDON_CORE_STATUS_H
#define CORDON_CORE_STATUS_H

#include <stdbool.h>

#include "core/cleanup.h"

enum status {
#define STATUS(id, wire, http, retry, text) id = wire,
#include "core/status.def"
#undef STATUS
};

enum error_code {
#define ERROR(id, code, status, http, text) id,
#include "core/errors.def"
#undef ERROR
    ERROR_CODE_COUNT
};

/* Detail of one failure. text is for operators and goes to the log, never to a client: no secrets,
 * no PHI. code is what the client sees. Zero-initialise before use. */
struct why {
    enum error_code code;
    int retry_after_ms;         /* 0: no advice */
    char text[256];
};

/* Fill *why and return st, so that a failure is one line: return fail(why, ST_X, "..."). The public
 * code is the status's own. */
enum status fail(struct why *why, enum status st, const char *fmt, ...) MUST_USE PRINTF(3, 4);

/* The same with a more precise public code; returns the status that the registry gives the code. */
enum status fail_as(struct why *why, enum error_code code, const char *fmt, ...) MUST_USE PRINTF(3, 4);

const char *status_name(enum status st);        /* "ST_NOT_FOUND"; static; "ST_?" when unknown */
bool status_is_known(unsigned wire);            /* may a peer's number be read as enum status? */
bool status_is_retryable(enum status st);       /* may the same request succeed later? */
enum error_code status_error(enum status st);   /* the code a bare status stands for */

const char *error_text_code(enum error_code code);  /* "DOC_001"; static */
const char *error_public_text(enum error_code code);
enum status error_status(enum error_code code);
int error_http(enum error_code code);
/* The row of a wire code such as "DOC_001"; ERR_INTERNAL when nobody knows it. */
enum error_code error_from_text(const char *text);

#endif
