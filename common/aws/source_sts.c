/* Credentials that STS gives: for an OpenID token, or for a role that others may take on. */
#include "aws/aws.h"
#include "aws/sources.h"
#include "aws/sts.h"

enum { TOKEN_MAX_BYTES = 16 << 10 };

enum status fetch_from_web_identity(const struct source_context *context, int64_t deadline_ms, struct credentials **ret_credentials,
                                    struct why *why) {
    CLEANUP(buffer_end) struct buffer token = { 0 };
    const struct aws_settings *s = context->settings;
    if (!*s->role_arn)
        return fail(why, ST_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE needs AWS_ROLE_ARN");
    enum status st = read_small_file(s->web_identity_token_file, TOKEN_MAX_BYTES, &token, why);
    if (st == ST_OK && token.len == 0)
        st = fail(why, ST_UNAVAILABLE, "aws credentials: the web identity token's file is empty");
    struct sts_role role = { .arn = s->role_arn, .session_name = s->role_session_name };
    return st == ST_OK ? sts_assume_with_web_identity(context->http, s->region, s->sts_endpoint, &role, token.data, deadline_ms,
                                                      ret_credentials, why) : st;
}

enum status source_assume(const struct source_context *context, struct credentials *base, const struct sts_role *role,
                          int64_t deadline_ms, struct credentials **ret_credentials, struct why *why) {
    const struct aws_settings *s = context->settings;
    CLEANUP(aws_destroy) struct aws *as_base = aws_new(&(struct aws_options){
        .region = s->region, .credentials = credentials_static(base), .allow_plain = context->allow_plain, .proxy = s->proxy });
    return sts_assume_role(as_base, s->sts_endpoint, role, deadline_ms, ret_credentials, why);
}
