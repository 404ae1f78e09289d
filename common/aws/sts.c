#include "aws/sts.h"

#include <stdio.h>
#include <string.h>

#include "aws/xml.h"
#include "core/str.h"

static const char BODY[] = "Action=GetCallerIdentity&Version=2011-06-15";

enum status sts_identity(struct aws *aws, const char *endpoint, int64_t deadline_ms, struct arena *mem, char **ret_arn,
                         struct why *why) {
    CLEANUP(aws_reply_end) struct aws_reply reply = { 0 };
    struct aws_request request = {
        .service = "sts", .operation = "GetCallerIdentity", .method = "POST", .endpoint = aws_endpoint(aws, mem, endpoint, "sts"),
        .path = "/", .headers = { { "content-type", "application/x-www-form-urlencoded; charset=utf-8" } },
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
