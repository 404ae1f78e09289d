#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aws/s3_client.h"
#include "aws/xml.h"
#include "core/cancel.h"
#include "core/clock.h"

enum { ABORT_MS = 5000, ETAG_BYTES = 128, PART_SLACK_BYTES = 512 << 10 };     /* slack: what one addition passes the part's size by */

struct part { char *etag, *checksum; };

/* A part on its way, by the upload's thread or one of its own. */
struct sending {
    struct s3_upload *upload;
    struct buffer data;
    unsigned number;
    int64_t deadline_ms;
    int cancel_fd, cost;        /* cost: in parts of S3_PART_BYTES, as they are lent */
    char etag[ETAG_BYTES];
    char checksum[48];          /* base64 of 32 bytes */
    enum status status;
    struct why why;
    pthread_t thread;
    bool is_aside;              /* thread runs, or waits to be joined */
    atomic_bool is_done;
};

struct s3_upload {
    struct s3 *s3;
    struct arena *mem;          /* key, id, parts; of the upload's own thread */
    char *path, *key, *content_type;
    char *id;                   /* of the multipart upload; NULL: none was begun */
    struct part *parts;
    unsigned n_parts, parts_size;
    struct buffer gathered;
    struct sending aside[S3_PARTS_ASIDE];
    int64_t sent_bytes;         /* or on their way */
    bool is_over;               /* ended or failed */
    bool is_in_doubt;           /* a request failed, and may yet be done */
    atomic_bool is_given_up;    /* what is on its way shall end */
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

static void keep_part(struct s3_upload *upload, const struct sending *s) {
    if (s->number > upload->parts_size) {
        unsigned size = upload->parts_size ? 2 * upload->parts_size : 16;
        struct part *parts = arena_alloc(upload->mem, size * sizeof *parts);
        if (upload->parts_size)
            memcpy(parts, upload->parts, upload->parts_size * sizeof *parts);
        upload->parts = parts;
        upload->parts_size = size;
    }
    upload->parts[s->number - 1] = (struct part){ arena_strdup(upload->mem, s->etag), arena_strdup(upload->mem, s->checksum) };
}

static enum status look_whether_given_up(void *ctx, struct why *why) {
    const struct s3_upload *upload = ctx;
    return atomic_load(&upload->is_given_up) ? fail_as(why, ERR_STORE_UNAVAILABLE, "s3 UploadPart: the upload was given up") : ST_OK;
}

/* Any thread; touches nothing of the upload but what does not change. */
static enum status put_part(struct sending *s, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct s3_upload *upload = s->upload;
    uint8_t digest[SHA256_BYTES];
    (void)snprintf(s->checksum, sizeof s->checksum, "%s", s3_checksum(mem, s->data.data, s->data.len, digest));
    struct aws_request request = request_of(upload, "UploadPart", "PUT", s->deadline_ms);
    request.query[0] = (struct sigv4_pair){ "partNumber", arena_printf(mem, "%u", s->number) };
    request.query[1] = (struct sigv4_pair){ "uploadId", upload->id };
    request.headers[0] = (struct sigv4_pair){ "x-amz-checksum-sha256", s->checksum };
    request.body = s->data.data;
    request.body_len = s->data.len;
    request.body_sha256 = digest;
    request.watch = look_whether_given_up;
    request.watch_ctx = upload;
    enum status st = aws_send(upload->s3->aws, &request, &reply, why);
    if (st == ST_OK)
        st = s3_check_stored(&reply, "UploadPart", s->checksum, why);
    if (st == ST_OK)
        (void)snprintf(s->etag, sizeof s->etag, "%s", http_response_header(&reply.http, "etag"));
    return st;
}

static void *thread_main(void *arg) {
    struct sending *s = arg;
    cancel_on(s->cancel_fd);
    s->status = put_part(s, &s->why);
    buffer_end(&s->data);
    atomic_store(&s->is_done, true);
    return NULL;
}

/* What became of a part that was sent aside; waits for its thread. */
static enum status collect(struct s3_upload *upload, struct sending *s, struct why *why) {
    (void)pthread_join(s->thread, NULL);
    s->is_aside = false;
    atomic_fetch_add(&upload->s3->spare_parts, s->cost);
    if (s->status == ST_OK)
        keep_part(upload, s);
    else
        *why = s->why;
    return s->status;
}

/* Of those that are done; of all, when it waits. The first failure counts, and after it the others are given up. */
static enum status collect_aside(struct s3_upload *upload, bool waits, struct why *why) {
    enum status st = ST_OK;
    for (int i = 0; i < S3_PARTS_ASIDE; i++) {
        struct sending *s = &upload->aside[i];
        struct why unused = { 0 };
        if (s->is_aside && (waits || atomic_load(&s->is_done))) {
            enum status one = collect(upload, s, st == ST_OK ? why : &unused);
            st = st == ST_OK ? one : st;
        }
        if (st != ST_OK)
            atomic_store(&upload->is_given_up, true);
    }
    return st;
}

static bool borrow(struct s3 *s3, int cost) {
    int has = atomic_load(&s3->spare_parts);
    while (has >= cost)
        if (atomic_compare_exchange_weak(&s3->spare_parts, &has, has - cost))
            return true;
    return false;
}

/* Begin to send what is gathered on a thread of its own. False: none is free, and nothing was done. */
static bool send_aside(struct s3_upload *upload, int64_t deadline_ms) {
    int cost = (int)(upload->gathered.len / S3_PART_BYTES), i = 0;         /* a part is a little longer than it must be */
    while (i < S3_PARTS_ASIDE && upload->aside[i].is_aside)
        i++;
    if (i == S3_PARTS_ASIDE || !borrow(upload->s3, cost))
        return false;
    struct sending *s = &upload->aside[i];
    *s = (struct sending){ .upload = upload, .data = upload->gathered, .number = upload->n_parts + 1, .deadline_ms = deadline_ms,
                           .cancel_fd = cancel_fd(), .cost = cost };
    s->is_aside = pthread_create(&s->thread, NULL, thread_main, s) == 0;
    if (!s->is_aside) {
        atomic_fetch_add(&upload->s3->spare_parts, cost);
        return false;
    }
    upload->gathered = (struct buffer){ 0 };
    buffer_reserve(&upload->gathered, s3_part_bytes(upload->n_parts + 1) + PART_SLACK_BYTES);
    return true;
}

static enum status send_part(struct s3_upload *upload, bool is_last, int64_t deadline_ms, struct why *why) {
    size_t len = upload->gathered.len;
    if (upload->n_parts == S3_PARTS_MAX)
        return fail_as(why, ERR_REQ_BODY_TOO_LARGE, "s3: more than %d parts", S3_PARTS_MAX);
    enum status st = collect_aside(upload, false, why);
    if (st == ST_OK && (is_last || !send_aside(upload, deadline_ms))) {
        struct sending own = { .upload = upload, .data = upload->gathered, .number = upload->n_parts + 1, .deadline_ms = deadline_ms };
        st = put_part(&own, why);
        if (st == ST_OK)
            keep_part(upload, &own);
        buffer_clear(&upload->gathered);
    }
    upload->n_parts++;
    upload->sent_bytes += (int64_t)len;
    return st;
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
    struct why unused = { 0 };
    if (st != ST_OK) {
        upload->is_over = upload->is_in_doubt = true;
        atomic_store(&upload->is_given_up, true);
        (void)!collect_aside(upload, true, &unused);
        buffer_end(&upload->gathered);
    }
    return st;
}

static enum status flush(struct s3_upload *upload, bool is_last, int64_t deadline_ms, struct why *why) {
    if (upload->gathered.is_overfull)
        return fail(why, ST_INTERNAL, "s3: the upload's buffer is over its limit");
    if (!upload->id) {
        enum status st = begin(upload, deadline_ms, why);
        if (st != ST_OK)
            return st;
    }
    return send_part(upload, is_last, deadline_ms, why);
}

enum status s3_upload_flush(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (upload->is_over)
        return fail(why, ST_INTERNAL, "s3: the upload is over");
    return upload->gathered.len < s3_part_bytes(upload->n_parts) ? ST_OK : ended(upload, flush(upload, false, deadline_ms, why));
}

enum status s3_upload_end(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (upload->is_over)
        return fail(why, ST_INTERNAL, "s3: the upload is over");
    enum status st = ST_OK;
    if (!upload->id)
        st = s3_put(upload->s3, upload->key, upload->content_type, NULL, upload->gathered.data, upload->gathered.len, deadline_ms, why);
    else if (upload->gathered.len > 0)
        st = flush(upload, true, deadline_ms, why);
    if (st == ST_OK)
        st = collect_aside(upload, true, why);
    if (st == ST_OK && upload->id)
        st = complete(upload, deadline_ms, why);
    if (st == ST_OK) {
        upload->is_over = true;
        upload->id = NULL;
        upload->sent_bytes += (int64_t)upload->gathered.len;        /* of one PUT */
        buffer_clear(&upload->gathered);
    }
    return ended(upload, st);
}

/* Parts on their way are let arrive, so that none does behind the abort; not for longer than the caller waits. */
static enum status let_arrive(struct s3_upload *upload, int64_t deadline_ms) {
    struct timespec end = { deadline_ms / 1000, deadline_ms % 1000 * 1000000 };
    enum status st = ST_OK;
    for (int i = 0; i < S3_PARTS_ASIDE; i++) {
        struct sending *s = &upload->aside[i];
        if (!s->is_aside)
            continue;
        if (pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &end) != 0) {
            atomic_store(&upload->is_given_up, true);
            (void)pthread_join(s->thread, NULL);
        }
        s->is_aside = false;
        atomic_fetch_add(&upload->s3->spare_parts, s->cost);
        st = st == ST_OK ? s->status : st;
    }
    return st;
}

enum status s3_upload_abort(struct s3_upload *upload, int64_t deadline_ms, struct why *why) {
    if (!upload)
        return ST_OK;
    upload->is_in_doubt = let_arrive(upload, deadline_ms) != ST_OK || upload->is_in_doubt;
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
