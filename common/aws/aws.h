/* aws — what the AWS clients of a process share: connections, credentials, region, and one way to sign, send,
 * judge and repeat a request. Thread-safe; each client (s3, kms, sts, bedrock) borrows it. */
#ifndef CORDON_AWS_AWS_H
#define CORDON_AWS_AWS_H

#include "aws/credentials.h"
#include "aws/errors.h"
#include "aws/settings.h"
#include "aws/sigv4.h"
#include "core/uuid.h"
#include "http/client.h"
#include "obs/metrics.h"

struct aws;

struct aws_options {
    const char *region;
    struct credentials_provider credentials;
    bool allow_plain;                   /* http:// endpoints: development only */
    const char *proxy;                  /* NULL or "": none */
    struct metrics *metrics;            /* NULL: nothing is counted */
};

struct aws *aws_new(const struct aws_options *options);
/* The same from settings, which must outlive it: credentials of the first source that they mean, got now and renewed
 * ahead of their end by one thread; plain http unless in production. ST_INVALID: the settings cannot work;
 * ST_UNAVAILABLE, ST_TIMEOUT: the source gives none. */
enum status aws_open(const struct aws_settings *settings, bool is_production, struct metrics *metrics, struct aws **ret_aws,
                     struct why *why) MUST_USE;
/* The same for a few requests before there may be threads: credentials are got once, nothing is counted. */
enum status aws_open_briefly(const struct aws_settings *settings, bool is_production, struct aws **ret_aws, struct why *why) MUST_USE;
void aws_destroy(struct aws **aws_p);
const char *aws_region(const struct aws *aws);

/* endpoint when it is not "", else https://<host>.<region>.amazonaws.com, without a slash at its end; in mem. */
char *aws_endpoint(const struct aws *aws, struct arena *mem, const char *endpoint, const char *host);

enum { AWS_PAIRS_MAX = 12 };

struct aws_request {
    const char *service;                        /* signing name, and who *why blames: "kms" */
    const char *operation;                      /* "Decrypt" */
    const char *method;
    const char *endpoint;                       /* "https://host[:port]" */
    const char *path;                           /* as sent: encoded once */
    struct sigv4_pair query[AWS_PAIRS_MAX];     /* decoded; end with a name of NULL */
    struct sigv4_pair headers[AWS_PAIRS_MAX];   /* without host, date, token, content hash */
    const void *body;
    size_t body_len;
    const uint8_t *body_sha256;                 /* its 32 bytes where the caller has them; NULL: computed */
    size_t max_bytes;                           /* http_request.max_bytes */
    struct uuid tenant;                         /* whose data it is about; nil: nobody's */
    int64_t deadline_ms;
    int64_t attempt_ms;                         /* longest time for one attempt; 0: up to the deadline */
    int64_t stall_ms;                           /* http_request.stall_ms */
    unsigned attempts;                          /* 0 or 1: no repetition */
    bool is_paced;                              /* throttles are not repeated: the caller asks less */
    bool may_fail_with_200;                     /* S3: an <Error> document may come with status 200 */
    enum status (*sink)(void *ctx, const void *data, size_t len, struct why *why);  /* not repeated once it ran */
    void *sink_ctx;
    enum status (*watch)(void *ctx, struct why *why);       /* http_request.watch; not repeated once it ended one */
    void *watch_ctx;
};

/* Zero-initialise, aws_reply_end. */
struct aws_reply {
    struct http_response http;
    char error[64];             /* AWS's code, "NoSuchKey"; "" when it named none */
    enum aws_kind kind;         /* of the failure */
};

void aws_reply_end(struct aws_reply *reply);

/* Sign, send, and repeat while it is worth it. ST_OK: the answer is 2xx. Otherwise reply->error and reply->kind say
 * what AWS meant and *why has the public code of the service: KMS_001/002, STORE_001, MODEL_001/002, RES_001
 * (missing), RES_002 (exists), SRV_002 (no time), SRV_003 (our mistake). *why holds no part of a body; Retry-After, if there was one. */
enum status aws_send(struct aws *aws, const struct aws_request *request, struct aws_reply *reply, struct why *why) MUST_USE;

#endif
