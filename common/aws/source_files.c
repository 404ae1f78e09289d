/* The shared files of AWS's tools: "[name]" sections of "key = value" lines, "[profile name]" in the configuration file.
 * Read at each fetch, so that a rotated file is noticed. Understood: the three keys of a profile, and role_arn with
 * source_profile. What would run a program (credential_process) is refused. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "aws/sources.h"
#include "aws/sts.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"

enum { FILE_MAX_BYTES = 256 << 10, VALUE_MAX_BYTES = 8 << 10, REREAD_US = 300 * 1000000 };

struct files { struct buffer credentials, config; };

static void files_end(struct files *files) {
    buffer_end(&files->credentials);
    buffer_end(&files->config);
}

static enum status files_read(const struct aws_settings *s, struct files *files, struct why *why) {
    enum status st = ST_OK;
    if (*s->credentials_file)
        st = read_small_file(s->credentials_file, FILE_MAX_BYTES, &files->credentials, why);
    if (st == ST_OK && *s->config_file)
        st = read_small_file(s->config_file, FILE_MAX_BYTES, &files->config, why);
    return st;
}

/* A stretch of text without white space at its ends. */
struct span { const char *at; size_t len; };

static struct span trim(const char *from, const char *to) {
    while (from < to && isspace((unsigned char)*from))
        from++;
    while (to > from && isspace((unsigned char)to[-1]))
        to--;
    return (struct span){ from, (size_t)(to - from) };
}

static bool span_is(struct span s, const char *text) {
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* "[name]", "[profile name]": is it the profile's? */
static bool heads(struct span line, const char *profile) {
    struct span name = trim(line.at + 1, line.at + line.len - 1);
    if (name.len > 8 && memcmp(name.at, "profile", 7) == 0 && isspace((unsigned char)name.at[7]))
        name = trim(name.at + 8, name.at + name.len);
    return span_is(name, profile);
}

/* Value of a key in the profile's section; NULL when absent. In mem. */
static char *find_in(struct arena *mem, const struct buffer *file, const char *profile, const char *key) {
    bool is_ours = false;
    const char *end = file->data ? file->data + file->len : NULL;
    for (const char *line = file->data; line && line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline ? newline : end;
        struct span text = trim(line, line_end);
        const char *equals = text.len ? memchr(text.at, '=', text.len) : NULL;
        line = line_end + 1;
        if (text.len == 0 || *text.at == '#' || *text.at == ';')
            continue;
        if (*text.at == '[' && text.at[text.len - 1] == ']') {
            is_ours = heads(text, profile);
        } else if (is_ours && equals && span_is(trim(text.at, equals), key)) {
            struct span value = trim(equals + 1, text.at + text.len);
            return value.len <= VALUE_MAX_BYTES ? arena_strndup(mem, value.at, value.len) : NULL;
        }
    }
    return NULL;
}

static char *find(struct arena *mem, const struct files *files, const char *profile, const char *key) {
    char *value = find_in(mem, &files->credentials, profile, key);
    return value ? value : find_in(mem, &files->config, profile, key);
}

static enum status keys_of(struct arena *mem, const struct files *files, const char *profile, struct credentials **ret_credentials,
                           struct why *why) {
    const char *id = find(mem, files, profile, "aws_access_key_id"), *key = find(mem, files, profile, "aws_secret_access_key");
    if (!id || !key || strlen(id) > 128)
        return fail(why, ST_INVALID, "aws credentials: profile %.64s has no key in the shared files", profile);
    /* nothing says how long they last: look again now and then */
    *ret_credentials = credentials_from_texts(id, key, find(mem, files, profile, "aws_session_token"), 0);
    (*ret_credentials)->renew_at_us = clock_unix_us() + REREAD_US;
    return ST_OK;
}

enum status fetch_from_files(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials,
                             struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(files_end) struct files files = { 0 };
    CLEANUP(credentials_release) struct credentials *base = NULL;
    const char *profile = context->settings->profile;
    enum status st = files_read(context->settings, &files, why);
    if (st != ST_OK)
        return st;
    if (find(mem, &files, profile, "credential_process"))
        return fail(why, ST_INVALID, "aws credentials: profile %.64s wants to run a program, which Cordon does not", profile);
    const char *role = find(mem, &files, profile, "role_arn"), *source = find(mem, &files, profile, "source_profile");
    if (!role)
        return keys_of(mem, &files, profile, ret_credentials, why);
    if (!source)
        return fail(why, ST_INVALID, "aws credentials: profile %.64s has a role_arn without source_profile", profile);
    st = keys_of(mem, &files, source, &base, why);
    const char *session = find(mem, &files, profile, "role_session_name");
    struct sts_role as = { .arn = role, .session_name = session ? session : context->settings->role_session_name,
                           .external_id = find(mem, &files, profile, "external_id") };
    return st == ST_OK ? source_assume(context, base, &as, deadline_ms, ret_credentials, why) : st;
}
