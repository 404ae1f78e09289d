#include "aws/sts.h"

#include <stdio.h>
#include <string.h>

#include "aws/time.h"
#include "aws/xml.h"
#include "core/str.h"

#define FORM "application/x-www-form-urlencoded; charset=utf-8"

static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char BODY[] = "Action=GetCallerIdentity&Version=2011-06-15";

enum status sts_identity(struct aws *aws, const char *endpoint, int64_t deadline_ms, struct arena *mem, char **ret_arn,
                         struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "sts", .operation = "GetCallerIdentity", .method = "POST", .endpoint = aws_endpoint(aws, mem, endpoint, "sts"),
        .path = "/", .headers = { { "content-type", FORM } },
        .body = BODY, .body_len = sizeof BODY - 1, .deadline_ms = deadline_ms, .attempt_ms = 3000, .attempts = 3 };
    enum status st = aws_send(aws, &request, &reply, why);
    if (st != ST_OK)
        return st;
    if (!xml_text(mem, reply.http.body.data, reply.http.body.len, "Arn", ret_arn))
        return fail(why, ST_UNAVAILABLE, "sts GetCallerIdentity: the answer has no ARN");
    return ST_OK;
}

bool sts_arn_name(const char *arn, char *out, size_t size) {
    const char *resource = arn;
    for (int colons = 0; resource && colons < 5; colons++)
        resource = (resource = strchr(resource, ':')) ? resource + 1 : NULL;
    if (!str_starts_with(arn, "arn:") || !resource)
        return false;
    const char *name = NULL;
    size_t len = 0;
    if (str_starts_with(resource, "user/")) {
        name = strrchr(resource, '/') + 1;
        len = strlen(name);
    } else if (str_starts_with(resource, "assumed-role/")) {
        name = resource + strlen("assumed-role/");
        len = strcspn(name, "/");
    }
    if (!name || len == 0 || len >= size)
        return false;
    memcpy(out, name, len);
    out[len] = '\0';
    return true;
}

enum status sts_assert(struct aws *aws, const char *endpoint, const char *name, int64_t deadline_ms, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char *arn = NULL, actual[128];
    enum status st = sts_identity(aws, endpoint, deadline_ms, mem, &arn, why);
    if (st != ST_OK)
        return st;
    if (!sts_arn_name(arn, actual, sizeof actual) || strcmp(actual, name) != 0)
        return fail(why, ST_FORBIDDEN, "aws: we are %.100s, not %s", arn, name);
    return ST_OK;
}

/* ---- roles ---- */

static void add(struct buffer *form, const char *name, const char *value) {
    (void)buffer_printf(form, "&%s=", name);
    (void)http_encode(value, strlen(value), false, form);
}

static void begin(struct buffer *form, const char *action, const struct sts_role *role) {
    (void)buffer_printf(form, "Action=%s&Version=2011-06-15", action);
    add(form, "RoleArn", role->arn);
    add(form, "RoleSessionName", role->session_name && *role->session_name ? role->session_name : "cordon");
}

/* <AccessKeyId>, <SecretAccessKey>, <SessionToken>, <Expiration> of either answer. */
static enum status read_credentials(const struct buffer *body, struct credentials **ret_credentials, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char *id = NULL, *key = NULL, *token = NULL, *expires = NULL;
    int64_t expires_at_us = 0;
    if (!xml_text(mem, body->data, body->len, "AccessKeyId", &id) || !xml_text(mem, body->data, body->len, "SecretAccessKey", &key) ||
        !xml_text(mem, body->data, body->len, "SessionToken", &token) || !xml_text(mem, body->data, body->len, "Expiration", &expires) ||
        !aws_time_parse(expires, &expires_at_us) || strlen(id) > 128)
        return fail(why, ST_UNAVAILABLE, "sts: the answer holds no credentials");
    *ret_credentials = credentials_from_texts(id, key, token, expires_at_us);
    return ST_OK;
}

enum status sts_assume_role(struct aws *aws, const char *endpoint, const struct sts_role *role, int64_t deadline_ms,
                            struct credentials **ret_credentials, struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(buffer_end) struct buffer form = { 0 };
    begin(&form, "AssumeRole", role);
    add(&form, "DurationSeconds", "3600");
    if (role->external_id)
        add(&form, "ExternalId", role->external_id);
    for (size_t i = 0; i < sizeof role->tags / sizeof *role->tags && role->tags[i].name; i++) {
        add(&form, arena_printf(mem, "Tags.member.%zu.Key", i + 1), role->tags[i].name);
        add(&form, arena_printf(mem, "Tags.member.%zu.Value", i + 1), role->tags[i].value);
    }
    struct aws_request request = {
        .service = "sts", .operation = "AssumeRole", .method = "POST", .endpoint = aws_endpoint(aws, mem, endpoint, "sts"), .path = "/",
        .headers = { { "content-type", FORM } }, .body = form.data, .body_len = form.len, .deadline_ms = deadline_ms,
        .attempt_ms = 3000, .attempts = 3 };
    enum status st = aws_send(aws, &request, &reply, why);
    return st == ST_OK ? read_credentials(&reply.http.body, ret_credentials, why) : st;
}

enum status sts_assume_with_web_identity(struct http_client *http, const char *region, const char *endpoint, const struct sts_role *role,
                                         const char *token, int64_t deadline_ms, struct credentials **ret_credentials,
                                         struct why *why) {
    CLEANUP(http_response_end) struct http_response response = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(buffer_end) struct buffer form = { 0 };
    begin(&form, "AssumeRoleWithWebIdentity", role);
    add(&form, "WebIdentityToken", token);
    const char *const headers[] = { "Content-Type: " FORM, NULL };
    struct http_request request = {
        .method = "POST", .operation = "sts.AssumeRoleWithWebIdentity", .headers = headers, .body = form.data, .body_len = form.len,
        .url = *endpoint ? endpoint : arena_printf(mem, "https://sts.%s.amazonaws.com/", region), .deadline_ms = deadline_ms };
    enum status st = http_send_idempotent(http, &request, 3, &response, why);
    char *code = NULL;
    if (st == ST_OK && response.status / 100 != 2) {
        bool is_word = xml_text(mem, response.body.data, response.body.len, "Code", &code) && !code[strspn(code, LETTERS)];
        st = fail(why, ST_UNAVAILABLE, "sts AssumeRoleWithWebIdentity: %d %.60s", response.status, is_word ? code : "without a code");
    }
    return st == ST_OK ? read_credentials(&response.body, ret_credentials, why) : st;
}
