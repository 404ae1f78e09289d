/* issuer — the public keys of the configured OpenID provider, kept fresh by one thread of their own.
 *
 * The thread reads the discovery document and the key set every few minutes, and sooner when a token
 * names a key that nobody has seen, but at most once per pause for that reason, so that forged tokens
 * cannot make us hammer the provider. Callers never fetch: they take the newest keys, or wait for the
 * one fetch that is under way. While the provider is down the last keys serve for an hour, then
 * nothing does. Everything here may be called from any thread. */
#ifndef CORDON_AUTH_ISSUER_H
#define CORDON_AUTH_ISSUER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/buffer.h"
#include "core/status.h"
#include "jwt/jwks.h"

/* GET url into body (which carries its limit). Called by the issuer's thread only. */
typedef enum status (*issuer_fetch_fn)(void *ctx, const char *url, struct buffer *body, struct why *why);

struct issuer_options {
    const char *url;                /* as in iss, byte for byte; copied */
    bool allows_http;               /* development: keys over plain http */
    issuer_fetch_fn fetch;
    void *fetch_ctx;                /* borrowed until issuer_destroy */
    /* Zero stands for the default. */
    int64_t refresh_ms;             /* 5 min: age at which keys are read again */
    int64_t retry_ms;               /* 1 s, doubled up to 5 s: after a failed fetch */
    int64_t pause_ms;               /* 6 s: in which one more fetch for the sake of unknown keys is earned, */
    int64_t asks_max;               /* 5: and how many may be saved up, so that no stray token is in the way of a new key */
    int64_t stale_ms;               /* 1 h: how long keys serve after their last good fetch */
};

/* Where the issuer logs people in, as its discovery document has it; NULL: it does not say. */
struct issuer_endpoints {
    const char *authorization, *token, *end_session, *revocation;
    bool names_itself;              /* its callbacks carry iss (RFC 9207), always */
    bool wants_secret_in_body;      /* client_secret_post, and not client_secret_basic */
};

enum { ISSUER_WAITERS_MAX = 8 };    /* callers that may wait for a key nobody knows; the others are told to come again */

struct issuer;

/* Starts the thread and the first fetch; never NULL. */
struct issuer *issuer_new(const struct issuer_options *options);
void issuer_destroy(struct issuer **issuer_p);

/* The newest keys, to jwks_destroy, and their edition. Waits until deadline_ms (clock_mono_ms) only when
 * there are none that may still serve. ST_UNAVAILABLE (AUTH_006): none came. */
enum status issuer_keys(struct issuer *issuer, int64_t deadline_ms, struct jwks **ret_keys, uint64_t *ret_edition,
                        struct why *why) MUST_USE;

/* Keys newer than edition, which lacked one: fetched now unless that was tried within the pause.
 * ST_NOT_FOUND: there are none. ST_UNAVAILABLE (AUTH_006): too many callers wait, or the fetch failed. */
enum status issuer_newer_keys(struct issuer *issuer, uint64_t edition, int64_t deadline_ms, struct jwks **ret_keys,
                              struct why *why) MUST_USE;

/* Copied into mem. Waits and fails as issuer_keys. */
enum status issuer_endpoints(struct issuer *issuer, int64_t deadline_ms, struct arena *mem, struct issuer_endpoints *ret_endpoints,
                             struct why *why) MUST_USE;

/* For readiness: ST_OK, or why there are no keys. Does not wait. */
enum status issuer_check(struct issuer *issuer, struct why *why) MUST_USE;

#endif
