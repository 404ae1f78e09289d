/* s3 — objects of one bucket. A client is shared by all threads; an upload belongs to one request. Keys are made of
 * ids, never of users' words. Every body is covered by the signature (its SHA-256) and by a checksum that S3
 * verifies before it stores. */
#ifndef CORDON_AWS_S3_H
#define CORDON_AWS_S3_H

#include "aws/aws.h"

/* S3 wants parts of 5 MiB and takes 10,000 of them. An upload's parts begin with S3_PART_BYTES and double every
 * S3_PART_STEP parts, so that memory is bounded by what was sent: 6 MiB up to 12 GB, 96 MiB at the end, 390 GB. */
enum { S3_PART_BYTES = 6 << 20, S3_PART_STEP = 2000, S3_PARTS_MAX = 10000 };
#define S3_UPLOAD_MAX_BYTES ((int64_t)S3_PART_BYTES * S3_PART_STEP * 31)

struct s3;

/* endpoint: "" for AWS's own (https://<bucket>.s3.<region>.amazonaws.com), else addressed by path. */
struct s3 *s3_new(struct aws *aws, const char *endpoint, const char *bucket);
void s3_destroy(struct s3 **s3_p);

/* Whole object from memory. headers: more to send and sign ("x-amz-object-lock-mode", "if-none-match"), ends with a
 * name of NULL; NULL: none. ST_UNAVAILABLE STORE_001; ST_TIMEOUT. Repeated inside deadline_ms. */
enum status s3_put(struct s3 *s3, const char *key, const char *content_type, const struct sigv4_pair headers[],
                   const void *data, size_t len, int64_t deadline_ms, struct why *why) MUST_USE;

/* Say that the object, of a bucket with Object Lock, stays whatever its retention says; or that it does so no more. Failures as s3_put. */
enum status s3_put_legal_hold(struct s3 *s3, const char *key, bool is_held, int64_t deadline_ms, struct why *why) MUST_USE;

/* Stream an object, or length bytes of it from `from` (length 0: to the end), into sink. deadline_ms bounds the
 * whole. An answer that breaks off or stops coming is taken up where it ended, a few times. ST_NOT_FOUND: no
 * such object; ST_UNAVAILABLE STORE_001; ST_TIMEOUT; what sink returned. */
enum status s3_get(struct s3 *s3, const char *key, int64_t from, int64_t length,
                   enum status (*sink)(void *ctx, const void *data, size_t len, struct why *why), void *sink_ctx,
                   int64_t deadline_ms, struct why *why) MUST_USE;

struct s3_head { int64_t bytes; char etag[80]; };

/* ST_NOT_FOUND: no such object. S3 says so only to an identity that has s3:ListBucket, others are refused. */
enum status s3_head(struct s3 *s3, const char *key, int64_t deadline_ms, struct s3_head *ret_head, struct why *why) MUST_USE;
/* ST_OK also when there was none. */
enum status s3_delete(struct s3 *s3, const char *key, int64_t deadline_ms, struct why *why) MUST_USE;

/* Delete every version of the object and every delete marker, so that nothing of it is left in a versioned bucket either.
 * *ret_count: how many there were. Needs s3:ListBucketVersions and s3:DeleteObjectVersion. Failures as s3_put. */
enum status s3_delete_versions(struct s3 *s3, const char *key, int64_t deadline_ms, unsigned *ret_count, struct why *why) MUST_USE;
/* Delete everything under a folder, "tenants/<tenant>/", until nothing is listed there: every version, or in a bucket that has_versions
 * is false of, the objects. *ret_count: how many were deleted, also when the rest could not be. Needs s3:ListBucketVersions, and
 * s3:DeleteObjectVersion or s3:DeleteObject. Failures as s3_put. */
enum status s3_delete_folder(struct s3 *s3, const char *folder, bool has_versions, int64_t deadline_ms, unsigned *ret_count, struct why *why) MUST_USE;

/* A version of an object, or the marker that a deletion left. Borrowed for the call. */
struct s3_version {
    const char *key, *id;
    int64_t bytes;              /* 0 of a marker */
    bool is_latest, is_marker;
};

/* One page of versions, those of keys that begin with prefix and sort behind after_key (""; all): by key, of one key the newest
 * first, about 1000. *ret_has_more: there are more; where the page ends in the middle of a key's versions, ask again behind the key before it.
 * Signed for the tenant that prefix names, if it does. Needs s3:ListBucketVersions. Failures as s3_put, and what sink returned. */
enum status s3_list_versions(struct s3 *s3, const char *prefix, const char *after_key,
                             enum status (*sink)(void *ctx, const struct s3_version *version, struct why *why), void *sink_ctx,
                             int64_t deadline_ms, bool *ret_has_more, struct why *why) MUST_USE;

/* Abort every multipart upload of a key that begins with prefix and that was begun before begun_before_us (Unix time;
 * INT64_MAX: whenever), which a process that died has left, perhaps without having learnt of it. *ret_count: how many.
 * Needs s3:ListBucketMultipartUploads. Failures as s3_put. */
enum status s3_abort_uploads(struct s3 *s3, const char *prefix, int64_t begun_before_us, int64_t deadline_ms, unsigned *ret_count,
                             struct why *why) MUST_USE;

/* ---- an object that comes in portions ---- */

struct s3_upload;

/* Let uploads send parts aside while the next are gathered: up to `parts` of S3_PART_BYTES at a time, all uploads together, and
 * S3_PARTS_ASIDE of one. 0, and so before it is called: one after the other. Before the first upload. */
enum { S3_PARTS_ASIDE = 4 };
void s3_send_aside(struct s3 *s3, int parts);

/* Nothing is sent yet. An object below S3_PART_BYTES becomes one PUT, a larger one a multipart upload; memory is
 * bounded by one part, those that are sent aside, and what is appended between flushes. ST_INVALID REQ_005 from flush: beyond S3_UPLOAD_MAX_BYTES. */
struct s3_upload *s3_upload_new(struct s3 *s3, const char *key, const char *content_type);
/* Append the next bytes here, then flush. Borrowed. */
struct buffer *s3_upload_buffer(struct s3_upload *upload);
/* Send what makes a whole part, or have it sent; then a later call tells what became of it. Failures as s3_put; the upload is
 * then good for s3_upload_destroy only. */
enum status s3_upload_flush(struct s3_upload *upload, int64_t deadline_ms, struct why *why) MUST_USE;
/* Send the rest; on ST_OK the object exists, whole. */
enum status s3_upload_end(struct s3_upload *upload, int64_t deadline_ms, struct why *why) MUST_USE;
int64_t s3_upload_bytes(const struct s3_upload *upload);        /* appended so far, flushed or not */
size_t s3_part_bytes(unsigned n_sent);                  /* of the part after so many */
/* Abort what was begun and not ended. ST_OK: nothing of it is in the store, nor will be, unless it was ended.
 * ST_UNAVAILABLE STORE_001: not known, since a request of it had failed, or the abort did. upload may be NULL. */
enum status s3_upload_abort(struct s3_upload *upload, int64_t deadline_ms, struct why *why) MUST_USE;
/* Aborts too, in at most 5 s, when nobody has. */
void s3_upload_destroy(struct s3_upload **upload_p);

#endif
