/* refusals — what auth puts on the record when somebody is turned away: one by one, or, where they are many of one kind,
 * together (denials.h). ST_OK: recorded, or counted for the record. */
#ifndef CORDON_AUTH_REFUSALS_H
#define CORDON_AUTH_REFUSALS_H

#include "auth.h"
#include "auth.pb-c.h"

/* A request that edge refused before any handler saw it, or a lock-out. Recorded in the tenant of call's ticket, or
 * without a tenant when it has none or one that is no longer good. */
enum status record_denial(struct auth *a, struct call *call, const Auth__DeniedRequest *req) MUST_USE;

/* A token that got no ticket. reason: a word of a closed set; tenant: as claimed by a verified token, or
 * NULL. Without a tenant, as call has no ticket: whoever sends it is nobody yet. */
enum status record_refused_token(struct auth *a, struct call *call, enum error_code code, const char *reason, const char *tenant,
                                 const char *remote_address) MUST_USE;

/* start() and drain() of the service: the thread that records what was held back. */
enum status refusals_start(void *self, struct runtime *rt, struct why *why) MUST_USE;
void refusals_drain(void *self, int64_t deadline_ms);

#endif
