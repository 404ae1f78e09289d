#include "aws/secretsmanager.h"

#include <string.h>

#include "json/reader.h"
#include "json/writer.h"

/* A text of 64 KiB may grow sixfold when JSON escapes it. */
enum { ATTEMPTS = 4, ATTEMPT_MS = 3000, ANSWER_MAX_BYTES = 6 * SECRETSMANAGER_TEXT_MAX_BYTES + (16 << 10) };

static void put(struct json_writer *json, const char *name, const char *text) {
    if (!*text)
        return;
    json_put_name(json, name);
    json_put_text(json, text);
}

enum status secretsmanager_get(struct aws *aws, const char *endpoint, const char *id, const char *stage, const char *version_id,
                               int64_t deadline_ms, struct secret **ret_text, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(buffer_end) struct buffer body = { 0 };
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    CLEANUP(json_destroy) json_t *answer = NULL;
    struct json_writer json;
    json_begin(&json, &body);
    json_open_object(&json);
    put(&json, "SecretId", id);
    put(&json, "VersionStage", stage);
    put(&json, "VersionId", version_id);
    json_close_object(&json);
    if (!json_finish(&json))
        return fail(why, ST_INVALID, "secretsmanager GetSecretValue: the ARN is no text");
    struct aws_request request = {
        .service = "secretsmanager", .operation = "GetSecretValue", .method = "POST",
        .endpoint = aws_endpoint(aws, mem, endpoint, "secretsmanager"), .path = "/",
        .headers = { { "content-type", "application/x-amz-json-1.1" }, { "x-amz-target", "secretsmanager.GetSecretValue" } },
        .body = body.data, .body_len = body.len, .max_bytes = ANSWER_MAX_BYTES, .deadline_ms = deadline_ms,
        .attempt_ms = ATTEMPT_MS, .attempts = ATTEMPTS };
    enum status st = aws_send(aws, &request, &reply, why);
    if (st == ST_TIMEOUT)
        return st;
    if (st != ST_OK)        /* refused, missing, ours: to those who wait it is not there now */
        return ST_UNAVAILABLE;
    const char *text = NULL;
    struct why reason = { 0 };
    if (json_parse(reply.http.body.data, reply.http.body.len, ANSWER_MAX_BYTES, &answer, &reason) != ST_OK ||
        json_get_text(answer, "SecretString", JSON_REQUIRED, SECRETSMANAGER_TEXT_MAX_BYTES, &text, &reason) != ST_OK)
        return fail(why, ST_UNAVAILABLE, "secretsmanager GetSecretValue: the answer has no SecretString");
    *ret_text = secret_new(text, strlen(text));
    return ST_OK;
}
