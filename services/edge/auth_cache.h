/* auth_cache — tickets of tokens that were accepted less than a second ago, so that a burst of requests
 * asks auth once. Keyed by the token's SHA-256, of fixed size, wiped as it ages. Revocation therefore
 * takes at most AUTH_CACHE_MS to be felt. Any thread; a lock per bucket. */
#ifndef CORDON_EDGE_AUTH_CACHE_H
#define CORDON_EDGE_AUTH_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/uuid.h"

enum { AUTH_CACHE_MS = 1000, AUTH_TICKET_MAX_BYTES = 8192 };

/* What auth said of a token. */
struct pass {
    const char *ticket;
    uint64_t scopes;
    struct uuid tenant_id;          /* nil for who acts outside tenants */
    struct uuid user_id;
    int64_t expires_at_us;          /* of the ticket */
    struct uuid session_id;
    uint64_t withheld;              /* the holder's, but for want of a second factor */
};

struct auth_cache;

struct auth_cache *auth_cache_new(void);
void auth_cache_destroy(struct auth_cache **cache_p);

/* The pass that was kept for this token; its ticket is copied into mem. asked_ms: now, clock_mono_ms(). */
bool auth_cache_find(struct auth_cache *cache, const uint8_t key[32], int64_t asked_ms, struct arena *mem, struct pass *ret_pass);
/* Keep a pass. asked_ms is when auth was asked, not when it answered. Longer tickets are not kept. */
void auth_cache_keep(struct auth_cache *cache, const uint8_t key[32], int64_t asked_ms, const struct pass *pass);

/* SHA-256 of a token. */
void auth_cache_key(const char *token, uint8_t ret_key[32]);

#endif
