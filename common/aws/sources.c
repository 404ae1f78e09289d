#include "aws/sources.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/str.h"

static bool is_set(const char *text) {
    return text && *text;
}

static bool is_environment(const struct aws_settings *s) {
    return is_set(s->access_key_id) || s->secret_access_key;
}

static bool is_web_identity(const struct aws_settings *s) {
    return is_set(s->web_identity_token_file);
}

static bool is_files(const struct aws_settings *s) {
    return is_set(s->credentials_file) || is_set(s->config_file);
}

static bool is_container(const struct aws_settings *s) {
    return is_set(s->container_relative_uri) || is_set(s->container_full_uri);
}

static bool is_instance(const struct aws_settings *s) {
    return !s->is_metadata_disabled;
}

static enum status fetch_from_environment(const struct source_context *context, int64_t deadline_ms,
                                          struct credentials **ret_credentials, struct why *why) {
    (void)deadline_ms;
    const struct aws_settings *s = context->settings;
    if (!is_set(s->access_key_id) || !s->secret_access_key)
        return fail(why, ST_INVALID, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together");
    *ret_credentials = credentials_new(s->access_key_id, s->secret_access_key, s->session_token, 0);
    return ST_OK;
}

const struct credentials_source CREDENTIALS_SOURCES[] = {
    { "environment",  is_environment,  fetch_from_environment },
    { "web_identity", is_web_identity, fetch_from_web_identity },
    { "files",        is_files,        fetch_from_files },
    { "container",    is_container,    fetch_from_container },
    { "instance",     is_instance,     fetch_from_instance },
    { 0 }
};

const struct credentials_source *credentials_source_of(const struct aws_settings *settings) {
    for (const struct credentials_source *s = CREDENTIALS_SOURCES; s->name; s++)
        if (s->is_meant(settings))
            return s;
    return NULL;
}

enum status read_small_file(const char *path, size_t max_bytes, struct buffer *out, struct why *why) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(why, ST_UNAVAILABLE, "%.120s cannot be read", path);
    char piece[4096];
    ssize_t n;
    buffer_init(out, max_bytes);
    while ((n = read(fd, piece, sizeof piece)) > 0 && buffer_add(out, piece, (size_t)n))
        continue;
    explicit_bzero(piece, sizeof piece);
    close(fd);
    if (n != 0)
        return fail(why, ST_UNAVAILABLE, "%.120s cannot be read, or is larger than %zu bytes", path, max_bytes);
    while (out->len > 0 && isspace((unsigned char)out->data[out->len - 1]))
        out->data[--out->len] = '\0';
    return ST_OK;
}
