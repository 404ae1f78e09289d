/* client — how auth, ingest-worker and query put events on the audit log. Synchronous: when these
 * return ST_OK the events are committed, and only then may anything be shown. */
#ifndef CORDON_AUDIT_CLIENT_H
#define CORDON_AUDIT_CLIENT_H

#include "audit/record.h"
#include "bus/bus.h"

/* Put one event on the log of the ticket's tenant; waits 800 ms at most, counted from when call was taken, of
 * which it has 500 ms in any case. *ret_event_id (may be NULL) is what keys.open() wants.
 * ST_UNAVAILABLE (AUDIT_001): not on record, or not known to be: show nothing. ST_UNAUTHENTICATED: the
 * ticket has expired or was revoked meanwhile. ST_INTERNAL: the record breaks the rules of record.h. */
enum status audit_append(struct call *call, const struct audit_record *record, struct uuid *ret_event_id) MUST_USE;

/* Several, committed together or not at all; at most AUDIT_EVENTS_PER_CALL_MAX. ret_event_ids has count
 * places or is NULL. */
enum status audit_append_many(struct call *call, const struct audit_record records[], size_t count,
                              struct uuid ret_event_ids[]) MUST_USE;

/* On the log without a tenant: auth only, for those whom nobody knows yet. call->ticket is not sent. */
enum status audit_append_without_tenant(struct call *call, const struct audit_record *record) MUST_USE;

#endif
