/* preflight — may text be sent, and is there anybody to answer? Of the account: where Bedrock copies what is asked, and where
 * inference profiles send it (bedrock_control.h), against what the settings declare. Of each model: something tiny, by the
 * calls that matter. The account is looked at before the process starts; then one thread asks all of it, again soon while the
 * answer is no, and every ten minutes while it is yes. Readiness reads its last word. */
#ifndef CORDON_EMBEDDING_PREFLIGHT_H
#define CORDON_EMBEDDING_PREFLIGHT_H

#include "aws/bedrock.h"

struct preflight;

/* All is borrowed until preflight_destroy. */
struct preflight_options {
    struct aws *aws;
    struct bedrock *bedrock;
    const char *control_endpoint;       /* NULL: there is no control plane to ask, in development */
    const char *log_places, *regions;   /* as in the settings; regions not "" */
    const char *embed_model, *old_embed_model, *chat_model;     /* old "": none */
    const char *guardrail_id, *guardrail_version;
};

/* ST_FORBIDDEN: logging, or a profile, goes where nobody has declared it. Else as bedrock_control.h. */
enum status preflight_account(const struct preflight_options *options, int64_t deadline_ms, struct why *why) MUST_USE;

struct preflight *preflight_new(const struct preflight_options *options);
/* Waits for a question that is on its way, at most 40 s. */
void preflight_destroy(struct preflight **preflight_p);

/* ST_OK: the account is as declared and all models answered. ST_UNAVAILABLE until the first answer. */
enum status preflight_status(struct preflight *preflight, struct why *why) MUST_USE;
/* May text be sent? ST_UNAVAILABLE MODEL_001 since the account was last seen to be otherwise than declared. */
enum status preflight_may_send(struct preflight *preflight, struct why *why) MUST_USE;

#endif
