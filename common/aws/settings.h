/* settings — the standard variables that say who a process is towards AWS, and where AWS is. One set of rows, so that
 * every process takes its credentials in every way that AWS's own SDKs know. */
#ifndef CORDON_AWS_SETTINGS_H
#define CORDON_AWS_SETTINGS_H

#include <stdbool.h>

#include "config/config.h"

struct aws_settings {
    const char *region, *proxy;
    const char *access_key_id;                                          /* environment */
    struct secret *secret_access_key, *session_token;
    const char *web_identity_token_file, *role_arn, *role_session_name; /* web identity */
    const char *credentials_file, *config_file, *profile;               /* shared files */
    const char *container_relative_uri, *container_full_uri, *container_token_file;
    struct secret *container_token;                                     /* container */
    bool is_metadata_disabled;                                          /* instance */
    const char *metadata_endpoint;
    const char *assume_role_arn, *tenant_role_arn;                      /* upon whichever it was */
    const char *sts_endpoint, *secrets_endpoint;
    const char *identity;                                               /* who we must be: CORDON_AWS_IDENTITY */
    int64_t secrets_reread_s;
};

/* Rows for a process's settings table; `member` is its struct aws_settings, `name` who it is unless told otherwise.
 * AWS_ENDPOINT_SETTING rows beside. */
#define AWS_SETTINGS(type, member, name) \
    { "CORDON_AWS_IDENTITY", SET_TEXT, name, 1, 64, "", offsetof(type, member.identity), "User or role that AWS must say this process is; it does not start as another." }, \
    { "AWS_REGION", SET_TEXT, NULL, 1, 64, "", offsetof(type, member.region), "AWS region." }, \
    { "AWS_ACCESS_KEY_ID", SET_TEXT, "", 1, 128, "", offsetof(type, member.access_key_id), "AWS identity of this process; when empty, the next source that is set is asked: web identity, shared files, container, instance." }, \
    { "AWS_SECRET_ACCESS_KEY", SET_CREDENTIAL, "", 1, 256, "", offsetof(type, member.secret_access_key), "Its secret." }, \
    { "AWS_SESSION_TOKEN", SET_CREDENTIAL, "", 1, 8192, "", offsetof(type, member.session_token), "For temporary credentials." }, \
    { "AWS_WEB_IDENTITY_TOKEN_FILE", SET_TEXT, "", 1, 1024, "", offsetof(type, member.web_identity_token_file), "File with an OpenID token to be exchanged for AWS_ROLE_ARN (EKS)." }, \
    { "AWS_ROLE_ARN", SET_TEXT, "", 20, 2048, "", offsetof(type, member.role_arn), "Role of AWS_WEB_IDENTITY_TOKEN_FILE." }, \
    { "AWS_ROLE_SESSION_NAME", SET_TEXT, "", 2, 64, "", offsetof(type, member.role_session_name), "Name of assumed sessions; cordon when empty." }, \
    { "AWS_SHARED_CREDENTIALS_FILE", SET_TEXT, "", 1, 1024, "", offsetof(type, member.credentials_file), "Shared credentials file; no file of a home is looked for." }, \
    { "AWS_CONFIG_FILE", SET_TEXT, "", 1, 1024, "", offsetof(type, member.config_file), "Shared configuration file, for role_arn and source_profile." }, \
    { "AWS_PROFILE", SET_TEXT, "default", 1, 128, "", offsetof(type, member.profile), "Profile of the shared files." }, \
    { "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", SET_TEXT, "", 1, 1024, "", offsetof(type, member.container_relative_uri), "Path at the container endpoint 169.254.170.2 (ECS)." }, \
    { "AWS_CONTAINER_CREDENTIALS_FULL_URI", SET_TEXT, "", 8, 1024, "", offsetof(type, member.container_full_uri), "Container endpoint (EKS Pod Identity): https, or http to an address of this machine." }, \
    { "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", SET_TEXT, "", 1, 1024, "", offsetof(type, member.container_token_file), "File with the token for the container endpoint." }, \
    { "AWS_CONTAINER_AUTHORIZATION_TOKEN", SET_CREDENTIAL, "", 1, 8192, "", offsetof(type, member.container_token), "The token itself." }, \
    { "AWS_EC2_METADATA_DISABLED", SET_BOOL, "false", 0, 0, "", offsetof(type, member.is_metadata_disabled), "Do not ask the instance metadata service." }, \
    { "AWS_EC2_METADATA_SERVICE_ENDPOINT", SET_TEXT, "http://169.254.169.254", 8, 256, "", offsetof(type, member.metadata_endpoint), "Where the instance metadata service is; only IMDSv2 is spoken." }, \
    { "CORDON_AWS_ASSUME_ROLE_ARN", SET_TEXT, "", 20, 2048, "", offsetof(type, member.assume_role_arn), "Role to take on with those credentials; all requests are signed as it." }, \
    { "CORDON_AWS_TENANT_ROLE_ARN", SET_TEXT, "", 20, 2048, "", offsetof(type, member.tenant_role_arn), "Role to take on for each tenant's objects and keys, with the session tag tenant_id." }, \
    { "AWS_ENDPOINT_URL_STS", SET_TEXT, "", 1, 256, "", offsetof(type, member.sts_endpoint), "Instead of AWS's own endpoint." }, \
    { "CORDON_AWS_PROXY", SET_TEXT, "", 1, 256, "", offsetof(type, member.proxy), "http://host:port of an allow-listing proxy." }
/* Beside them, where secrets may be named: common/secrets. */
#define AWS_SECRETS_SETTINGS(type, member) \
    AWS_ENDPOINT_SETTING(type, member.secrets_endpoint, "SECRETS_MANAGER"), \
    { "CORDON_SECRETS_REREAD_S", SET_INT, "300", 0, 86400, "s", offsetof(type, member.secrets_reread_s), "How often secrets that are named (..._SECRET_ARN) are read again, a tenth more or less; a password that is refused is read again at once. 0: only then." }
#define AWS_ENDPOINT_SETTING(type, member, service) \
    { "AWS_ENDPOINT_URL_" service, SET_TEXT, "", 1, 256, "", offsetof(type, member), "Instead of AWS's own endpoint." }

#endif
