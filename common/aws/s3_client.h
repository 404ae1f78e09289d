/* s3_client — the inside of an S3 client, for the files of this folder only. */
#ifndef CORDON_AWS_S3_CLIENT_H
#define CORDON_AWS_S3_CLIENT_H

#include "aws/s3.h"

enum { S3_ATTEMPTS = 4, S3_STALL_MS = 20000 };

struct s3 {
    struct aws *aws;
    char *endpoint;         /* host included */
    char *prefix;           /* "/bucket" when addressed by path, else "" */
};

/* Path of a key as it is sent; in mem. */
char *s3_path(const struct s3 *s3, struct arena *mem, const char *key);
/* Whose an object is, by its key: tenants/<tenant>/...; nil for others. */
struct uuid s3_tenant(const char *key);
/* Base64 of the SHA-256 of data, as x-amz-checksum-sha256 wants it; in mem. */
char *s3_checksum(struct arena *mem, const void *data, size_t len);

#endif
