#include "aws/s3.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/s3_client.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "http/backoff.h"

enum { RESUMES = 3 };     /* of one download, each after at least one byte more */

struct s3 *s3_new(struct aws *aws, const char *endpoint, const char *bucket) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct s3 *s3 = xalloc(sizeof *s3);
    s3->aws = aws;
    bool is_own = !endpoint || !*endpoint;
    bool is_by_path = !is_own || strchr(bucket, '.');       /* a dot breaks the certificate of the virtual host */
    s3->endpoint = xstrdup(aws_endpoint(aws, mem, endpoint, is_by_path ? "s3" : arena_printf(mem, "%s.s3", bucket)));
    s3->prefix = xstrdup(is_by_path ? arena_printf(mem, "/%s", bucket) : "");
    return s3;
}

void s3_destroy(struct s3 **s3_p) {
    struct s3 *s3 = *s3_p;
    if (!s3)
        return;
    free(s3->endpoint);
    free(s3->prefix);
    free(s3);
    *s3_p = NULL;
}

void s3_send_aside(struct s3 *s3, int parts) {
    atomic_store(&s3->spare_parts, parts);
}

char *s3_path(const struct s3 *s3, struct arena *mem, const char *key) {
    return arena_printf(mem, "%s/%s", s3->prefix, sigv4_encode(mem, key, true));
}

struct uuid s3_tenant(const char *key) {
    static const char PREFIX[] = "tenants/";
    struct uuid tenant;
    const char *id = str_starts_with(key, PREFIX) ? key + sizeof PREFIX - 1 : "";
    return uuid_parse(id, strcspn(id, "/"), &tenant) ? tenant : (struct uuid){ 0 };
}

char *s3_checksum(struct arena *mem, const void *data, size_t len, uint8_t digest[SHA256_BYTES]) {
    sha256(len ? data : "", len, digest);
    return base64_encode(mem, digest, SHA256_BYTES);
}

enum status s3_check_stored(const struct aws_reply *reply, const char *operation, const char *checksum, struct why *why) {
    const char *etag = http_response_header(&reply->http, "etag"), *stored = http_response_header(&reply->http, "x-amz-checksum-sha256");
    if (!etag || !*etag)
        return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 %s: no ETag", operation);
    if (stored && !str_equal(stored, checksum))
        return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 %s: stored with another checksum", operation);
    return ST_OK;
}

enum status s3_put(struct s3 *s3, const char *key, const char *content_type, const struct sigv4_pair headers[],
                   const void *data, size_t len, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    uint8_t digest[SHA256_BYTES];
    char *checksum = s3_checksum(mem, data, len, digest);
    struct aws_request request = {
        .service = "s3", .operation = "PutObject", .method = "PUT", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key),
        .headers = { { "content-type", content_type }, { "x-amz-checksum-sha256", checksum } },
        .body = data, .body_len = len, .body_sha256 = digest, .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS,
        .may_fail_with_200 = true };
    for (size_t i = 0; headers && headers[i].name; i++) {
        if (i + 3 >= AWS_PAIRS_MAX)
            return fail(why, ST_INTERNAL, "s3: too many headers");
        request.headers[2 + i] = headers[i];
    }
    enum status st = aws_send(s3->aws, &request, &reply, why);
    return st == ST_OK ? s3_check_stored(&reply, "PutObject", checksum, why) : st;
}

enum status s3_put_legal_hold(struct s3 *s3, const char *key, bool is_held, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    uint8_t digest[SHA256_BYTES];
    const char *body = arena_printf(mem, "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>%s</Status></LegalHold>",
                                     is_held ? "ON" : "OFF");
    char *checksum = s3_checksum(mem, body, strlen(body), digest);
    struct aws_request request = {
        .service = "s3", .operation = "PutObjectLegalHold", .method = "PUT", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key), .query = { { "legal-hold", "" } },
        .headers = { { "content-type", "application/xml" }, { "x-amz-checksum-sha256", checksum } },
        .body = body, .body_len = strlen(body), .body_sha256 = digest, .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    return aws_send(s3->aws, &request, &reply, why);
}

/* A download under way, over as many answers as it takes. */
struct download {
    enum status (*sink)(void *ctx, const void *data, size_t len, struct why *why);
    void *sink_ctx;
    int64_t from, length;               /* what is still wanted; length 0: to the end */
    bool is_refused;                    /* by the sink */
    char etag[80];                      /* of the object that has begun */
};

static enum status take(void *ctx, const void *data, size_t len, struct why *why) {
    struct download *d = ctx;
    enum status st = d->sink(d->sink_ctx, data, len, why);
    d->is_refused = st != ST_OK;
    d->from += (int64_t)len;
    if (d->length > 0)
        d->length -= (int64_t)len;
    return st;
}

/* One answer, from where the last one broke off. */
static enum status get_rest(struct s3 *s3, const char *key, struct download *d, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "s3", .operation = "GetObject", .method = "GET", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key), .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS, .sink = take, .sink_ctx = d };
    size_t n = 0;
    if (d->length > 0)
        request.headers[n++] = (struct sigv4_pair){ "range", arena_printf(mem, "bytes=%" PRId64 "-%" PRId64, d->from, d->from + d->length - 1) };
    else if (d->from > 0)
        request.headers[n++] = (struct sigv4_pair){ "range", arena_printf(mem, "bytes=%" PRId64 "-", d->from) };
    if (*d->etag)
        request.headers[n++] = (struct sigv4_pair){ "if-match", d->etag };
    enum status st = aws_send(s3->aws, &request, &reply, why);
    const char *etag = http_response_header(&reply.http, "etag");
    if (etag && !*d->etag)
        (void)snprintf(d->etag, sizeof d->etag, "%s", etag);
    return st;
}

enum status s3_get(struct s3 *s3, const char *key, int64_t from, int64_t length,
                   enum status (*sink)(void *ctx, const void *data, size_t len, struct why *why), void *sink_ctx,
                   int64_t deadline_ms, struct why *why) {
    struct download d = { .sink = sink, .sink_ctx = sink_ctx, .from = from, .length = length };
    struct backoff pause = { .base_ms = 100, .cap_ms = 1000, .deadline_ms = deadline_ms, .attempts = RESUMES + 1 };
    for (;;) {
        int64_t before = d.from;
        enum status st = get_rest(s3, key, &d, deadline_ms, why);
        bool is_worth_it = st == ST_UNAVAILABLE && !d.is_refused && d.from > before && *d.etag && (length == 0 || d.length > 0);
        if (!is_worth_it || !backoff_wait(&pause, 0))
            return st;
    }
}

enum status s3_head(struct s3 *s3, const char *key, int64_t deadline_ms, struct s3_head *ret_head, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "s3", .operation = "HeadObject", .method = "HEAD", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key),
        .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    enum status st = aws_send(s3->aws, &request, &reply, why);
    if (st != ST_OK)
        return st;
    const char *length = http_response_header(&reply.http, "content-length"), *etag = http_response_header(&reply.http, "etag");
    if (!length || !etag || !str_to_i64(length, 0, INT64_MAX, &ret_head->bytes))
        return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 HeadObject: no length or no ETag");
    (void)snprintf(ret_head->etag, sizeof ret_head->etag, "%s", etag);
    return ST_OK;
}

enum status s3_delete(struct s3 *s3, const char *key, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "s3", .operation = "DeleteObject", .method = "DELETE", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key),
        .may_fail_with_200 = true, .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    enum status st = aws_send(s3->aws, &request, &reply, why);
    return st == ST_NOT_FOUND ? ST_OK : st;
}
