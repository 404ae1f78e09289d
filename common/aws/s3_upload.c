#include <stdlib.h>
#include <string.h>

#include "aws/s3_client.h"
#include "aws/xml.h"
#include "core/clock.h"

enum { ABORT_MS = 5000 };

struct part { char *etag, *checksum; };

struct s3_upload {
    struct s3 *s3;
    struct arena *mem;          /* key, id, parts */
    char *path, *key, *content_type;
    char *id;                   /* of the multipart upload; NULL: none was begun */
    struct part *parts;
    unsigned n_parts, parts_size;
    struct buffer gathered;
    int64_t sent_bytes;
    bool is_over;               /* ended or failed */
    bool is_in_doubt;           /* a request failed, and may yet be done */
};

size_t s3_part_bytes(unsigned n_sent) {
    return (size_t)S3_PART_BYTES << n_sent / S3_PART_STEP;
}

struct s3_upload *s3_upload_new(struct s3 *s3, const char *key, const char *content_type) {
    struct s3_upload *upload = xalloc(sizeof *upload);
    upload->s3 = s3;
    upload->mem = arena_new(0);
    upload->key = arena_strdup(upload->mem, key);
    upload->path = s3_path(s3, upload->mem, key);
    upload->content_type = arena_strdup(upload->mem, content_type);
    return upload;
}

struct buffer *s3_upload_buffer(struct s3_upload *upload) {
    return &upload->gathered;
}

int64_t s3_upload_bytes(const struct s3_upload *upload) {
    return upload->sent_bytes + (int64_t)upload->gathered.len;
}

static struct aws_request request_of(const struct s3_upload *upload, const char *operation, const char *method, int64_t deadline_ms) {
    return (struct aws_request){ .service = "s3", .operation = operation, .method = method, .endpoint = upload->s3->endpoint,
                                 .path = upload->path, .tenant = s3_tenant(upload->key), .deadline_ms = deadline_ms,
                                 .stall_ms = S3_STALL_MS, .attempts = S3_ATTEMPTS,
                                 .may_fail_with_200 = true };
}

static enum status begin(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = request_of(upload, "CreateMultipartUpload", "POST", deadline_ms);
    request.query[0] = (struct sigv4_pair){ "uploads", "" };
    request.headers[0] = (struct sigv4_pair){ "content-type", upload->content_type };
    request.headers[1] = (struct sigv4_pair){ "x-amz-checksum-algorithm", "SHA256" };
    enum status st = aws_send(upload->s3->aws, &request, &reply, why);
    if (st != ST_OK)
        return st;
    if (!xml_text(upload->mem, reply.http.body.data, reply.http.body.len, "UploadId", &upload->id))
        return fail_as(why, ERR_STORE_UNAVAILABLE, "s3 CreateMultipartUpload: no UploadId");
    return ST_OK;
}

static void keep_part(struct s3_upload *upload, const char *etag, char *checksum) {
    if (upload->n_parts == upload->parts_size) {
        unsigned size = upload->parts_size ? 2 * upload->parts_size : 16;
        struct part *parts = arena_alloc(upload->mem, size * sizeof *parts);
        if (upload->n_parts)
            memcpy(parts, upload->parts, upload->n_parts * sizeof *parts);
        upload->parts = parts;
        upload->parts_size = size;
    }
    upload->parts[upload->n_parts++] = (struct part){ arena_strdup(upload->mem, etag), checksum };
}

static enum status send_part(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (upload->n_parts == S3_PARTS_MAX)
        return fail_as(why, ERR_REQ_BODY_TOO_LARGE, "s3: more than %d parts", S3_PARTS_MAX);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    uint8_t digest[SHA256_BYTES];
    char *checksum = s3_checksum(upload->mem, upload->gathered.data, upload->gathered.len, digest);
    struct aws_request request = request_of(upload, "UploadPart", "PUT", deadline_ms);
    request.query[0] = (struct sigv4_pair){ "partNumber", arena_printf(upload->mem, "%u", upload->n_parts + 1) };
    request.query[1] = (struct sigv4_pair){ "uploadId", upload->id };
    request.headers[0] = (struct sigv4_pair){ "x-amz-checksum-sha256", checksum };
    request.body = upload->gathered.data;
    request.body_len = upload->gathered.len;
    request.body_sha256 = digest;
    enum status st = aws_send(upload->s3->aws, &request, &reply, why);
    if (st != ST_OK)
        return st;
    st = s3_check_stored(&reply, "UploadPart", checksum, why);
    if (st != ST_OK)
        return st;
    keep_part(upload, http_response_header(&reply.http, "etag"), checksum);
    upload->sent_bytes += (int64_t)upload->gathered.len;
    buffer_clear(&upload->gathered);
    return ST_OK;
}

static bool write_parts(const struct s3_upload *upload, struct buffer *out) {
    bool fits = buffer_add_str(out, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (unsigned i = 0; i < upload->n_parts; i++)
        fits = fits && buffer_printf(out, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1) &&
               xml_escape(upload->parts[i].etag, out) &&
               buffer_printf(out, "</ETag><ChecksumSHA256>%s</ChecksumSHA256></Part>", upload->parts[i].checksum);
    return fits && buffer_add_str(out, "</CompleteMultipartUpload>");
}

/* An answer that was lost leaves the upload completed, and repeating it says NoSuchUpload: look at the object. */
static bool is_stored(struct s3_upload *upload, int64_t deadline_ms) {
    struct why unused = { 0 };
    struct s3_head head;
    return s3_head(upload->s3, upload->key, deadline_ms, &head, &unused) == ST_OK && head.bytes == upload->sent_bytes;
}

static enum status complete(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    CLEANUP(buffer_end) struct buffer body = { 0 };
    (void)write_parts(upload, &body);
    struct aws_request request = request_of(upload, "CompleteMultipartUpload", "POST", deadline_ms);
    request.query[0] = (struct sigv4_pair){ "uploadId", upload->id };
    request.headers[0] = (struct sigv4_pair){ "content-type", "application/xml" };
    request.body = body.data;
    request.body_len = body.len;
    request.stall_ms = S3_COMPLETE_STALL_MS;
    enum status st = aws_send(upload->s3->aws, &request, &reply, why);
    char *etag = NULL;
    bool is_said = st == ST_OK && xml_text(upload->mem, reply.http.body.data, reply.http.body.len, "ETag", &etag);
    if (is_said || (st != ST_OK && st != ST_NOT_FOUND))
        return st;
    return is_stored(upload, deadline_ms) ? ST_OK : fail_as(why, ERR_STORE_UNAVAILABLE, "s3 CompleteMultipartUpload: no such upload, or no ETag");
}

/* After a failure only the abort is left to do. */
static enum status ended(struct s3_upload *upload, enum status st) {
    if (st != ST_OK) {
        upload->is_over = upload->is_in_doubt = true;
        buffer_end(&upload->gathered);
    }
    return st;
}

static enum status flush(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (upload->gathered.is_overfull)
        return fail(why, ST_INTERNAL, "s3: the upload's buffer is over its limit");
    if (!upload->id) {
        enum status st = begin(upload, deadline_ms, why);
        if (st != ST_OK)
            return st;
    }
    return send_part(upload, deadline_ms, why);
}

enum status s3_upload_flush(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (upload->is_over)
        return fail(why, ST_INTERNAL, "s3: the upload is over");
    return upload->gathered.len < s3_part_bytes(upload->n_parts) ? ST_OK : ended(upload, flush(upload, deadline_ms, why));
}

enum status s3_upload_end(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (upload->is_over)
        return fail(why, ST_INTERNAL, "s3: the upload is over");
    enum status st = ST_OK;
    if (!upload->id)
        st = s3_put(upload->s3, upload->key, upload->content_type, NULL, upload->gathered.data, upload->gathered.len, deadline_ms, why);
    else if (upload->gathered.len > 0)
        st = flush(upload, deadline_ms, why);
    if (st == ST_OK && upload->id)
        st = complete(upload, deadline_ms, why);
    if (st == ST_OK) {
        upload->is_over = true;
        upload->id = NULL;
        upload->sent_bytes += (int64_t)upload->gathered.len;
        buffer_clear(&upload->gathered);
    }
    return ended(upload, st);
}

enum status s3_upload_abort(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (!upload)
        return ST_OK;
    if (upload->id) {
        CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
        struct aws_request request = request_of(upload, "AbortMultipartUpload", "DELETE", deadline_ms);
        request.query[0] = (struct sigv4_pair){ "uploadId", upload->id };
        enum status st = aws_send(upload->s3->aws, &request, &reply, why);
        upload->id = NULL;
        upload->is_over = true;
        upload->is_in_doubt = upload->is_in_doubt || (st != ST_OK && st != ST_NOT_FOUND);
    }
    return upload->is_in_doubt ? fail_as(why, ERR_STORE_UNAVAILABLE, "s3: what is left of an upload is not known") : ST_OK;
}

void s3_upload_destroy(struct s3_upload **upload_p) {
    struct s3_upload *upload = *upload_p;
    if (!upload)
        return;
    struct why unused = { 0 };
    (void)!s3_upload_abort(upload, clock_mono_ms() + ABORT_MS, &unused);
    buffer_end(&upload->gathered);
    arena_destroy(&upload->mem);
    free(upload);
    *upload_p = NULL;
}
