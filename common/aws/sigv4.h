/* sigv4 — AWS Signature Version 4, in the header form and the query (presigned) form. Pure functions over an
 * arena: the same request, scope and credentials give the same text, so that every step can be compared with
 * published examples (tests/tools/sigv4_print.c prints them). */
#ifndef CORDON_AWS_SIGV4_H
#define CORDON_AWS_SIGV4_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/credentials.h"
#include "core/arena.h"
#include "crypto/digest.h"

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_STREAMING "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"    /* the body comes in chunks that are signed one by one */

enum { SIGV4_TIME_BYTES = 17 };             /* "20150830T123600Z" and its NUL */

struct sigv4_pair { const char *name, *value; };

/* How the path that is sent appears in the canonical request: S3 takes it as it is, everybody else encodes
 * it a second time ("%3A" becomes "%253A"), by the standard after removing dot segments and empty ones. */
enum sigv4_path { SIGV4_PATH_AS_SENT, SIGV4_PATH_ENCODED, SIGV4_PATH_NORMALIZED };

struct sigv4_request {
    const char *method;
    const char *path;                       /* as sent, encoded, begins with '/' */
    enum sigv4_path path_rule;
    const struct sigv4_pair *query;         /* decoded; the order does not matter */
    size_t n_query;
    const struct sigv4_pair *headers;       /* all of them are signed; host is among them */
    size_t n_headers;
    const char *payload;                    /* SHA-256 of the body in hexadecimal, SIGV4_UNSIGNED or SIGV4_STREAMING */
};

struct sigv4_scope {
    char time[SIGV4_TIME_BYTES];            /* of the request */
    const char *region, *service;
};

const char *sigv4_time(int64_t unix_us, char out[SIGV4_TIME_BYTES]);

/* Query string, encoded and sorted: send it like this and it is canonical already. "" for none. */
char *sigv4_query(struct arena *mem, const struct sigv4_pair query[], size_t n);
/* Percent-encoded text; '/' stays when keep_slash. */
char *sigv4_encode(struct arena *mem, const char *text, bool keep_slash);

/* The three steps. */
char *sigv4_canonical_request(struct arena *mem, const struct sigv4_request *request);
char *sigv4_string_to_sign(struct arena *mem, const struct sigv4_scope *scope, const char *canonical_request);
void sigv4_signature(const struct secret *secret_access_key, const struct sigv4_scope *scope, const char *string_to_sign,
                     char out[SHA256_HEX_BYTES]);

/* Signature of the next chunk of a body whose payload is SIGV4_STREAMING. previous: that of the chunk before, of the first one
 * the request's. An empty chunk is the last. On the wire a chunk is "<length in hexadecimal>;chunk-signature=<out>\r\n", its
 * bytes, "\r\n". Our own clients have every body in memory and sign its SHA-256. */
void sigv4_chunk_signature(const struct secret *secret_access_key, const struct sigv4_scope *scope, const char *previous,
                           const void *data, size_t len, char out[SHA256_HEX_BYTES]);

/* Value of the Authorization header. x-amz-date, and x-amz-security-token when there is one, must be among the
 * request's headers. */
char *sigv4_authorization(struct arena *mem, const struct credentials *c, const struct sigv4_scope *scope,
                          const struct sigv4_request *request);

/* Query string of a presigned URL, X-Amz-Signature included. expires_s: 1 to 604800.
 * ret_canonical_request: NULL, or takes what was signed. */
char *sigv4_presign(struct arena *mem, const struct credentials *c, const struct sigv4_scope *scope,
                    const struct sigv4_request *request, unsigned expires_s, char **ret_canonical_request);

#endif
