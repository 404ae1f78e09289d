/* header — values of HTTP and part headers that carry parameters: `text/plain; charset=utf-8`,
 * `form-data; name="file"; filename="a b.txt"`. Reads untrusted text into bounded buffers and writes
 * file names so that no client misreads them (RFC 6266, RFC 8187). Ranges and conditions as RFC 9110 has them. */
#ifndef CORDON_REST_HEADER_H
#define CORDON_REST_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"

enum { HEADER_TOKEN_BYTES = 128, HEADER_BOUNDARY_BYTES = 71, HEADER_NAME_BYTES = 64, HEADER_FILE_BYTES = 256,
       IDEMPOTENCY_KEY_MAX_BYTES = 255 };

/* What a Content-Type says. */
struct media_type {
    char text[HEADER_TOKEN_BYTES];              /* "text/plain", lower case, no parameters */
    char boundary[HEADER_BOUNDARY_BYTES];       /* of multipart; "" when there is none */
};
/* False: not a media type, a parameter is malformed or repeated, a boundary outside RFC 2046. */
bool media_type_parse(const char *value, struct media_type *ret_type);

/* What a Content-Disposition says. */
struct disposition {
    char kind[HEADER_TOKEN_BYTES];              /* "form-data", "attachment", lower case */
    char name[HEADER_NAME_BYTES];               /* the form field; "" when there is none */
    char file_name[HEADER_FILE_BYTES];          /* the last segment of a path; UTF-8 without controls; "" for none */
    bool has_file_name;
};
/* False: malformed, too long, not UTF-8, or a file name with control characters. */
bool disposition_parse(const char *value, struct disposition *ret_disposition);
/* `attachment; filename="..."; filename*=UTF-8''...`, safe to send whatever file_name holds. */
char *disposition_print(struct arena *mem, const char *file_name);

/* What a Content-Digest or Repr-Digest (RFC 9530) says: `sha-256=:<base64>:, sha-512=:<base64>:`. */
struct digests {
    bool has_sha256, has_sha512;
    uint8_t sha256[32], sha512[64];
};
/* Adds to *digests what value says. False: the field is malformed, or says of an algorithm what *digests denies. Other
 * algorithms are passed over. */
bool digests_parse(struct arena *mem, const char *value, struct digests *digests);

/* The one range of a Range header (RFC 9110, 14.1.2), for a reader who is sent bytes as they are. */
struct byte_range {
    int64_t from;               /* first byte; -1: the last `length` bytes */
    int64_t length;             /* -1: to the end */
};
/* False: nothing that must be heeded, so all is sent: another unit, several ranges, a range that ends before it begins. */
bool byte_range_parse(const char *value, struct byte_range *ret_range);

/* Does a list of entity tags ("*", `"a", W/"b"`) name etag, a strong one with its quotes? With is_strong, weak ones never do
 * (RFC 9110, 8.8.3.2). What is no such list names nothing. */
bool etag_matches(const char *list, const char *etag, bool is_strong);

/* An Idempotency-Key: 1 to 255 visible ASCII characters, plain or as the quoted string that its draft wants; both are
 * the same key. NULL: it is none. */
const char *idempotency_key_parse(struct arena *mem, const char *value);

#endif
