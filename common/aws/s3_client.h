/* s3_client — the inside of an S3 client, for the files of this folder only. */
#ifndef CORDON_AWS_S3_CLIENT_H
#define CORDON_AWS_S3_CLIENT_H

#include <stdatomic.h>

#include "aws/s3.h"
#include "crypto/digest.h"

/* S3 begins to answer within a second; only to put parts together may it take its time. */
enum { S3_ATTEMPTS = 4, S3_STALL_MS = 6000, S3_COMPLETE_STALL_MS = 30000 };

struct s3 {
    struct aws *aws;
    char *endpoint;         /* host included */
    char *prefix;           /* "/bucket" when addressed by path, else "" */
    atomic_int spare_parts; /* that uploads may send aside at present, all together */
};

/* Path of a key as it is sent; in mem. */
char *s3_path(const struct s3 *s3, struct arena *mem, const char *key);
/* Whose an object is, by its key: tenants/<tenant>/...; nil for others. */
struct uuid s3_tenant(const char *key);
/* Base64 of the SHA-256 of data, as x-amz-checksum-sha256 wants it; in mem. The digest itself is the request's
 * body_sha256: a part is hashed once. */
char *s3_checksum(struct arena *mem, const void *data, size_t len, uint8_t digest[SHA256_BYTES]);

/* Has S3 stored what we sent? It says so by an ETag, and by our checksum when it names one. ST_UNAVAILABLE. */
enum status s3_check_stored(const struct aws_reply *reply, const char *operation, const char *checksum, struct why *why) MUST_USE;

#endif
