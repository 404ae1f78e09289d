#include "aws/credentials.h"

#include <stdio.h>
#include <stdlib.h>

#include <string.h>

#include "core/arena.h"
#include "core/clock.h"

#define AHEAD_US (INT64_C(300) * 1000000)

/* Five minutes ahead of the end, but not before half of the time is over. */
static int64_t renew_at_us(int64_t expires_at_us) {
    int64_t now_us = clock_unix_us(), half_us = now_us + (expires_at_us - now_us) / 2;
    return half_us > expires_at_us - AHEAD_US ? half_us : expires_at_us - AHEAD_US;
}

struct credentials *credentials_new(const char *access_key_id, const struct secret *secret_access_key,
                                    const struct secret *session_token, int64_t expires_at_us) {
    struct credentials *c = xalloc(sizeof *c);
    (void)snprintf(c->access_key_id, sizeof c->access_key_id, "%s", access_key_id);
    c->secret_access_key = secret_new(secret_access_key->bytes, secret_access_key->len);
    if (session_token && session_token->len > 0)
        c->session_token = secret_new(session_token->bytes, session_token->len);
    c->expires_at_us = expires_at_us;
    c->renew_at_us = expires_at_us ? renew_at_us(expires_at_us) : 0;
    atomic_init(&c->refs, 1);
    return c;
}

struct credentials *credentials_from_texts(const char *access_key_id, const char *secret_access_key, const char *session_token,
                                           int64_t expires_at_us) {
    CLEANUP(secret_destroy) struct secret *key = secret_new(secret_access_key, strlen(secret_access_key));
    CLEANUP(secret_destroy) struct secret *token = session_token ? secret_new(session_token, strlen(session_token)) : NULL;
    return credentials_new(access_key_id, key, token, expires_at_us);
}

struct credentials *credentials_hold(struct credentials *c) {
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void credentials_release(struct credentials **c_p) {
    struct credentials *c = *c_p;
    *c_p = NULL;
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    secret_destroy(&c->secret_access_key);
    secret_destroy(&c->session_token);
    free(c);
}

static enum status get_static(void *ctx, struct credentials **ret_credentials, struct why *why) {
    if (!ctx)
        return fail(why, ST_UNAVAILABLE, "aws: no credentials");
    *ret_credentials = credentials_hold(ctx);
    return ST_OK;
}

struct credentials_provider credentials_static(struct credentials *c) {
    return (struct credentials_provider){ .get = get_static, .ctx = c };
}
