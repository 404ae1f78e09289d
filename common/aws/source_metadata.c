/* The two endpoints beside a workload that give out its role: of a container (ECS, EKS Pod Identity) and of an instance
 * (IMDSv2). Both answer the same JSON. */
#include <stdio.h>
#include <string.h>

#include "aws/sources.h"
#include "core/arena.h"
#include "core/str.h"
#include "aws/time.h"
#include "json/reader.h"

enum { ANSWER_MAX_BYTES = 16 << 10, TOKEN_MAX_BYTES = 8 << 10 };

static const char CONTAINER[] = "http://169.254.170.2";
static const char TOKEN_PATH[] = "/latest/api/token", ROLES_PATH[] = "/latest/meta-data/iam/security-credentials/";

bool metadata_url_is_safe(const char *url) {
    static const char *const HOSTS[] = { "127.0.0.1", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]",
                                         "169.254.169.254", "[fd00:ec2::254]", NULL };
    if (str_starts_with(url, "https://"))
        return true;
    if (!str_starts_with(url, "http://"))
        return false;
    const char *host = url + strlen("http://");
    for (const char *const *h = HOSTS; *h; h++) {
        const char *end = host + strlen(*h);
        if (!str_starts_with(host, *h))
            continue;
        if (*end == ':')
            for (end++; *end >= '0' && *end <= '9'; end++)
                continue;
        if (*end == '/' || *end == '\0')
            return true;
    }
    return false;
}

/* One request; a 2xx answer's body is in response. */
static enum status ask(const struct source_context *context, const char *method, const char *url, const char *header,
                       int64_t deadline_ms, struct http_response *response, struct why *why) {
    if (!metadata_url_is_safe(url))
        return fail(why, ST_INVALID, "aws credentials: %.80s is neither https nor an address of this machine", url);
    const char *headers[] = { header, NULL };
    struct http_request request = { .method = method, .operation = "credentials.fetch", .url = url, .headers = header ? headers : NULL,
                                    .max_bytes = ANSWER_MAX_BYTES, .deadline_ms = deadline_ms };
    enum status st = http_send(context->metadata, &request, response, why);
    if (st == ST_OK && response->status / 100 != 2)
        st = fail(why, ST_UNAVAILABLE, "aws credentials: %.80s answers %d", url, response->status);
    return st;
}

/* {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"} */
static enum status read_credentials(const struct http_response *response, struct credentials **ret_credentials, struct why *why) {
    CLEANUP(json_destroy) json_t *json = NULL;
    const char *id = NULL, *key = NULL, *token = NULL, *expires = NULL;
    int64_t expires_at_us = 0;
    enum status st = json_parse(response->body.data, response->body.len, ANSWER_MAX_BYTES, &json, why);
    if (st == ST_OK)
        st = json_get_text(json, "AccessKeyId", JSON_REQUIRED, 128, &id, why);
    if (st == ST_OK)
        st = json_get_text(json, "SecretAccessKey", JSON_REQUIRED, 256, &key, why);
    if (st == ST_OK)
        st = json_get_text(json, "Token", JSON_REQUIRED, TOKEN_MAX_BYTES, &token, why);
    if (st == ST_OK)
        st = json_get_text(json, "Expiration", JSON_REQUIRED, 64, &expires, why);
    if (st != ST_OK || !aws_time_parse(expires, &expires_at_us))
        return fail(why, ST_UNAVAILABLE, "aws credentials: the answer holds none");
    *ret_credentials = credentials_from_texts(id, key, token, expires_at_us);
    return ST_OK;
}

/* "Authorization: <token>", or NULL without one. The file is read each time: it is renewed. */
static enum status container_header(const struct aws_settings *s, struct arena *mem, const char **ret_header, struct why *why) {
    CLEANUP(buffer_end) struct buffer file = { 0 };
    const char *token = secret_text(s->container_token);
    if (*s->container_token_file) {
        enum status st = read_small_file(s->container_token_file, TOKEN_MAX_BYTES, &file, why);
        if (st != ST_OK)
            return st;
        token = file.len ? file.data : "";
    }
    if (strpbrk(token, "\r\n"))
        return fail(why, ST_INVALID, "aws credentials: the container's token has line breaks");
    *ret_header = *token ? arena_printf(mem, "Authorization: %s", token) : NULL;
    return ST_OK;
}

enum status fetch_from_container(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials,
                                 struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(http_response_end) struct http_response response = { 0 };
    const struct aws_settings *s = context->settings;
    bool is_relative = *s->container_relative_uri;
    if (is_relative && *s->container_relative_uri != '/')
        return fail(why, ST_INVALID, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI begins with a slash");
    const char *header = NULL;
    enum status st = container_header(s, mem, &header, why);
    if (st == ST_OK)
        st = ask(context, "GET", is_relative ? arena_printf(mem, "%s%s", CONTAINER, s->container_relative_uri) : s->container_full_uri,
                 header, deadline_ms, &response, why);
    return st == ST_OK ? read_credentials(&response, ret_credentials, why) : st;
}

/* A line of the metadata service: printable, without spaces. */
static bool is_word(const struct buffer *b) {
    for (size_t i = 0; i < b->len; i++)
        if (b->data[i] <= ' ' || b->data[i] >= 0x7f)
            return false;
    return b->len > 0;
}

enum status fetch_from_instance(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials,
                                struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(http_response_end) struct http_response token = { 0 }, role = { 0 }, answer = { 0 };
    const char *base = context->settings->metadata_endpoint, *header;
    enum status st = ask(context, "PUT", arena_printf(mem, "%s%s", base, TOKEN_PATH), "X-aws-ec2-metadata-token-ttl-seconds: 300",
                         deadline_ms, &token, why);
    if (st == ST_OK && !is_word(&token.body))
        st = fail(why, ST_UNAVAILABLE, "aws credentials: the instance gives no token");
    if (st != ST_OK)
        return st;
    header = arena_printf(mem, "X-aws-ec2-metadata-token: %s", token.body.data);
    st = ask(context, "GET", arena_printf(mem, "%s%s", base, ROLES_PATH), header, deadline_ms, &role, why);
    if (st == ST_OK && (!is_word(&role.body) || strpbrk(role.body.data, "/?#%")))
        st = fail(why, ST_UNAVAILABLE, "aws credentials: the instance has no role");
    if (st == ST_OK)
        st = ask(context, "GET", arena_printf(mem, "%s%s%s", base, ROLES_PATH, role.body.data), header, deadline_ms, &answer, why);
    return st == ST_OK ? read_credentials(&answer, ret_credentials, why) : st;
}
