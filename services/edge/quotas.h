/* quotas — how much one sender, one user and one tenant may ask for in a minute, and who has failed to log in too often.
 * Counted in this process: with several replicas each grants its share (docs/front-door.md). Memory is fixed. Any thread. */
#ifndef CORDON_EDGE_QUOTAS_H
#define CORDON_EDGE_QUOTAS_H

#include "core/uuid.h"
#include "limit/limit.h"
#include "obs/metrics.h"
#include "routes.h"
#include "sender.h"

struct edge_settings;

enum quota_of { QUOTA_ADDRESS, QUOTA_USER, QUOTA_TENANT, QUOTA_OF_COUNT };

struct quotas {
    struct limits *limits, *logins;                     /* apart, so that a flood of one pushes out none of the other */
    struct quota of[QUOTA_OF_COUNT][RATE_COUNT];        /* an address's is the same for all classes, and one bucket */
    struct lockout_policy lockout;                      /* free_count 0: nobody is locked out */
    struct counter *refused[QUOTA_OF_COUNT], *locked_out;
};

/* What was taken for one request, for RateLimit headers. */
struct quota_use {
    unsigned count;
    struct { enum quota_of of; enum route_rate rate; int64_t units, window_s; struct allowance left; } taken[QUOTA_OF_COUNT];
};

/* ST_INVALID: a list of limits that cannot be read. */
enum status quotas_open(struct quotas *quotas, const struct edge_settings *settings, struct metrics *metrics, struct why *why) MUST_USE;
void quotas_close(struct quotas *quotas);

/* Take one request. ST_LIMITED with why->retry_after_ms; use gets what is left, also then. */
enum status quotas_take_address(struct quotas *quotas, const struct sender *sender, struct quota_use *use, struct why *why) MUST_USE;
enum status quotas_take_user(struct quotas *quotas, enum route_rate rate, const struct uuid *tenant_id, const struct uuid *user_id,
                             struct quota_use *use, struct why *why) MUST_USE;
void quotas_print(const struct quota_use *use, struct buffer *out);
const char *quota_name(enum quota_of of);

/* ---- failed logins ----
 * A credential is known by its SHA-256. Nobody is locked out by what others do with another credential: a locked
 * address still lets those in whom this process let in lately, and no credential is locked but by its own bytes, whose
 * repetition counts against nobody else. */

/* ST_LIMITED (RATE_002): this credential, or this address with a credential that is new here, is locked out. */
enum status quotas_may_log_in(struct quotas *quotas, const struct sender *sender, const uint8_t credential[32], struct why *why) MUST_USE;
void quotas_logged_in(struct quotas *quotas, const uint8_t credential[32]);
/* It was refused. is_guess: nothing about it was right, so it counts against the address too. Returns for how many seconds
 * somebody is locked out from now on, 0: nobody is; *ret_whom "address" or "credential". */
int64_t quotas_login_failed(struct quotas *quotas, const struct sender *sender, const uint8_t credential[32], bool is_guess, const char **ret_whom);

#endif
