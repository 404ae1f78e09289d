#include <stdio.h>
#include <string.h>
#include <time.h>

#include "aws/s3_client.h"
#include "aws/xml.h"
#include "core/str.h"

enum { PAGES_MAX = 1000 };

/* Where the next page of ListMultipartUploads begins; "" at first. */
struct place { const char *key, *id; };

static const char *xml_or_empty(struct arena *mem, const char *xml, size_t len, const char *name) {
    char *text = NULL;
    return xml_text(mem, xml, len, name, &text) ? text : "";
}

/* As S3 writes Initiated, so that the texts compare as the times do; "" for ever. */
static void print_time(int64_t us, char out[24]) {
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;
    out[0] = '\0';
    if (us != INT64_MAX && gmtime_r(&seconds, &tm))
        (void)strftime(out, 24, "%Y-%m-%dT%H:%M:%S", &tm);
}

static enum status list(struct s3 *s3, const char *prefix, const struct place *from, int64_t deadline_ms,
                        struct aws_reply *reply, struct why *why) {
    struct aws_request request = {
        .service = "s3", .operation = "ListMultipartUploads", .method = "GET", .endpoint = s3->endpoint,
        .path = *s3->prefix ? s3->prefix : "/", .query = { { "uploads", "" }, { "prefix", prefix } },
        .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    if (*from->key) {
        request.query[2] = (struct sigv4_pair){ "key-marker", from->key };
        request.query[3] = (struct sigv4_pair){ "upload-id-marker", from->id };
    }
    return aws_send(s3->aws, &request, reply, why);
}

static enum status abort_one(struct s3 *s3, struct arena *mem, const char *key, const char *id, int64_t deadline_ms, struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "s3", .operation = "AbortMultipartUpload", .method = "DELETE", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key), .query = { { "uploadId", id } }, .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    enum status st = aws_send(s3->aws, &request, &reply, why);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* Abort what is old enough among the <Upload>s of one answer. */
static enum status abort_listed(struct s3 *s3, struct arena *mem, const struct buffer *page, const char *prefix, const char *before,
                                int64_t deadline_ms, unsigned *count, struct why *why) {
    static const char OPEN[] = "<Upload>", CLOSE[] = "</Upload>";
    const char *at = page->data, *end = page->data + page->len;
    enum status st = ST_OK;
    while (st == ST_OK && (at = memmem(at, (size_t)(end - at), OPEN, sizeof OPEN - 1))) {
        const char *close = memmem(at, (size_t)(end - at), CLOSE, sizeof CLOSE - 1);
        if (!close)
            return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 ListMultipartUploads: an answer that is cut");
        size_t len = (size_t)(close - at);
        const char *key = xml_or_empty(mem, at, len, "Key"), *id = xml_or_empty(mem, at, len, "UploadId"),
                   *begun = xml_or_empty(mem, at, len, "Initiated");
        at = close;
        /* what does not say what it is, is left alone */
        if (!*key || !*id || strlen(begun) < 19 || strncmp(key, prefix, strlen(prefix)) != 0 || (*before && strncmp(begun, before, 19) >= 0))
            continue;
        st = abort_one(s3, mem, key, id, deadline_ms, why);
        *count += st == ST_OK;
    }
    return st;
}

enum status s3_abort_uploads(struct s3 *s3, const char *prefix, int64_t begun_before_us, int64_t deadline_ms, unsigned *ret_count,
                             struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct place from = { "", "" };
    char before[24];
    unsigned count = 0;
    print_time(begun_before_us, before);
    for (int page = 0; page < PAGES_MAX; page++) {
        CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
        enum status st = list(s3, prefix, &from, deadline_ms, &reply, why);
        const struct buffer *body = &reply.http.body;
        if (st == ST_OK && body->len)
            st = abort_listed(s3, mem, body, prefix, before, deadline_ms, &count, why);
        if (st != ST_OK)
            return st;
        from = (struct place){ xml_or_empty(mem, body->data, body->len, "NextKeyMarker"),
                               xml_or_empty(mem, body->data, body->len, "NextUploadIdMarker") };
        if (!str_equal(xml_or_empty(mem, body->data, body->len, "IsTruncated"), "true") || !*from.key)
            break;
    }
    *ret_count = count;
    return ST_OK;
}

/* ---- versions ---- */

static enum status delete_version(struct s3 *s3, struct arena *mem, const char *key, const char *id, int64_t deadline_ms, struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "s3", .operation = "DeleteObject", .method = "DELETE", .endpoint = s3->endpoint, .path = s3_path(s3, mem, key),
        .tenant = s3_tenant(key), .query = { { "versionId", id } }, .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    enum status st = aws_send(s3->aws, &request, &reply, why);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* The next of the elements <Version> and <DeleteMarker>, which S3 gives in the order of keys, mixed. */
static const char *next_version(const char *at, const char *end, bool *ret_is_marker) {
    static const char VERSION[] = "<Version>", MARKER[] = "<DeleteMarker>";
    const char *version = memmem(at, (size_t)(end - at), VERSION, sizeof VERSION - 1);
    const char *marker = memmem(at, (size_t)((version ? version : end) - at), MARKER, sizeof MARKER - 1);
    *ret_is_marker = marker != NULL;
    return marker ? marker : version;
}

static enum status read_versions(const struct buffer *page, struct arena *mem,
                                 enum status (*sink)(void *ctx, const struct s3_version *version, struct why *why), void *sink_ctx, struct why *why) {
    const char *at = page->data, *end = page->data + page->len;
    enum status st = ST_OK;
    bool is_marker = false;
    while (st == ST_OK && (at = next_version(at, end, &is_marker))) {
        const char *close = is_marker ? "</DeleteMarker>" : "</Version>", *until = memmem(at, (size_t)(end - at), close, strlen(close));
        if (!until)
            return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 ListObjectVersions: an answer that is cut");
        size_t len = (size_t)(until - at);
        struct s3_version version = { .key = xml_or_empty(mem, at, len, "Key"), .id = xml_or_empty(mem, at, len, "VersionId"),
                                      .is_latest = str_equal(xml_or_empty(mem, at, len, "IsLatest"), "true"), .is_marker = is_marker };
        if (!*version.key || !*version.id)
            return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 ListObjectVersions: a version without key or id");
        if (!is_marker && !str_to_i64(xml_or_empty(mem, at, len, "Size"), 0, INT64_MAX, &version.bytes))
            version.bytes = 0;
        st = sink(sink_ctx, &version, why);
        at = until;
    }
    return st;
}

enum status s3_list_versions(struct s3 *s3, const char *prefix, const char *after_key,
                             enum status (*sink)(void *ctx, const struct s3_version *version, struct why *why), void *sink_ctx,
                             int64_t deadline_ms, bool *ret_has_more, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "s3", .operation = "ListObjectVersions", .method = "GET", .endpoint = s3->endpoint, .path = *s3->prefix ? s3->prefix : "/",
        .tenant = s3_tenant(prefix), .query = { { "versions", "" }, { "prefix", prefix } },
        .deadline_ms = deadline_ms, .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS };
    if (*after_key)
        request.query[2] = (struct sigv4_pair){ "key-marker", after_key };
    enum status st = aws_send(s3->aws, &request, &reply, why);
    if (st == ST_OK && reply.http.body.len)
        st = read_versions(&reply.http.body, mem, sink, sink_ctx, why);
    if (st == ST_OK)
        *ret_has_more = str_equal(xml_or_empty(mem, reply.http.body.data, reply.http.body.len, "IsTruncated"), "true");
    return st;
}

/* What is deleted of the versions that are listed: those of one key, for a prefix may be the beginning of others; key NULL: all. */
struct deletion { struct s3 *s3; const char *key; bool has_versions; int64_t deadline_ms; unsigned count; };

static enum status delete_listed(void *ctx, const struct s3_version *version, struct why *why) {
    struct deletion *d = ctx;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    if (d->key && !str_equal(version->key, d->key))
        return ST_OK;
    enum status st = d->has_versions ? delete_version(d->s3, mem, version->key, version->id, d->deadline_ms, why)
                                     : s3_delete(d->s3, version->key, d->deadline_ms, why);
    d->count += st == ST_OK;
    return st;
}

/* Page after page, until one has nothing of it: what was deleted is not listed again. */
static enum status delete_all(struct deletion *d, const char *prefix, struct why *why) {
    for (int page = 0; page < PAGES_MAX; page++) {
        unsigned before = d->count;
        bool has_more = false;
        enum status st = s3_list_versions(d->s3, prefix, "", delete_listed, d, d->deadline_ms, &has_more, why);
        if (st != ST_OK || d->count == before)
            return st;
    }
    return fail_as(why, ERR_STORE_UNAVAILABLE, "s3: versions of what is deleted do not end");
}

enum status s3_delete_versions(struct s3 *s3, const char *key, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    struct deletion d = { s3, key, true, deadline_ms, 0 };
    enum status st = delete_all(&d, key, why);
    if (st == ST_OK)
        *ret_count = d.count;
    return st;
}

enum status s3_delete_folder(struct s3 *s3, const char *folder, bool has_versions, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    struct deletion d = { s3, NULL, has_versions, deadline_ms, 0 };
    enum status st = delete_all(&d, folder, why);
    *ret_count = d.count;
    return st;
}
