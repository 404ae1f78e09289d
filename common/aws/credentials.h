/* credentials — who we are towards AWS. A provider hands out counted snapshots, so that a request signs with one
 * consistent set while another thread refreshes. Never logged, never printed. */
#ifndef CORDON_AWS_CREDENTIALS_H
#define CORDON_AWS_CREDENTIALS_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/secret.h"
#include "core/status.h"

struct credentials {
    char access_key_id[129];
    struct secret *secret_access_key;
    struct secret *session_token;       /* NULL for long-lived credentials */
    int64_t expires_at_us;              /* Unix; 0: never */
    int64_t renew_at_us;                /* Unix; look for others from then on; 0: never */
    atomic_uint refs;                    /* use credentials_hold and credentials_release */
};

/* Copies the secrets; token may be NULL. One reference, the caller's. */
struct credentials *credentials_new(const char *access_key_id, const struct secret *secret_access_key,
                                    const struct secret *session_token, int64_t expires_at_us);
/* The same from texts. token NULL: none. */
struct credentials *credentials_from_texts(const char *access_key_id, const char *secret_access_key, const char *session_token,
                                           int64_t expires_at_us);
struct credentials *credentials_hold(struct credentials *c);
void credentials_release(struct credentials **c_p);

/* Where credentials come from. get: the current ones, with a reference for the caller; any thread.
 * ST_UNAVAILABLE: there are none now. */
struct credentials_provider {
    enum status (*get)(void *ctx, struct credentials **ret_credentials, struct why *why);
    /* Optional: AWS calls these expired; the next get waits for others. */
    void (*reject)(void *ctx, const struct credentials *rejected);
    void *ctx;
};

/* Always the same: from settings. c is borrowed and must outlive the provider. */
struct credentials_provider credentials_static(struct credentials *c);

#endif
