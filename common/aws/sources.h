/* sources — the ways in which a process is given AWS credentials, one row of a table each. The first that the settings
 * mean is the one; nobody falls through to another when it fails, since a process that is somebody else than it
 * should be is worse than one that does not start. */
#ifndef CORDON_AWS_SOURCES_H
#define CORDON_AWS_SOURCES_H

#include <stdbool.h>

#include "aws/credentials.h"
#include "aws/settings.h"
#include "aws/sts.h"
#include "http/client.h"

/* What fetching may use; borrowed for the life of the process. */
struct source_context {
    const struct aws_settings *settings;
    struct http_client *http;           /* as for all of AWS */
    struct http_client *metadata;       /* plain http to addresses of this machine and its network link */
    bool allow_plain;                   /* http:// for STS: development only */
};

struct credentials_source {
    const char *name;                   /* "container"; in metrics and failures */
    bool (*is_meant)(const struct aws_settings *settings);
    /* One fetch, which may be repeated. ST_INVALID: the settings cannot work; ST_UNAVAILABLE, ST_TIMEOUT. */
    enum status (*fetch)(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials,
                         struct why *why);
};

extern const struct credentials_source CREDENTIALS_SOURCES[];      /* ends with a name of NULL; in the order of preference */

/* NULL: nothing is set and the instance metadata service is disabled. */
const struct credentials_source *credentials_source_of(const struct aws_settings *settings);

/* The rows' functions. source_files.c, source_metadata.c, source_sts.c */
enum status fetch_from_files(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials, struct why *why) MUST_USE;
enum status fetch_from_web_identity(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials, struct why *why) MUST_USE;
enum status fetch_from_container(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials, struct why *why) MUST_USE;
enum status fetch_from_instance(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials, struct why *why) MUST_USE;

/* Whom role makes of base. ST_UNAVAILABLE, ST_TIMEOUT. source_sts.c */
enum status source_assume(const struct source_context *context, struct credentials *base, const struct sts_role *role,
                          int64_t deadline_ms, struct credentials **ret_credentials, struct why *why) MUST_USE;

/* May credentials be asked for at this URL? https anywhere; http only to loopback and to the link-local addresses of
 * AWS's container and instance endpoints, by number. */
bool metadata_url_is_safe(const char *url);

/* A small file whole, without the white space at its end, at most max_bytes. ST_UNAVAILABLE. */
enum status read_small_file(const char *path, size_t max_bytes, struct buffer *out, struct why *why) MUST_USE;

#endif
