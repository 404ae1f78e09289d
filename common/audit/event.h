/* event — one entry of the audit log on its way into it: first what was said (audit_event_new, on any
 * thread, before the database is asked), then whose it is and where it goes (audit_event_stamp, under
 * the tree's lock). The canonical form, version 1, is described in docs/AUDIT_FORMAT.md so that others
 * can read and verify it; it is what is hashed, stored and exported. An event belongs to one thread at
 * a time and to whoever made it. */
#ifndef CORDON_AUDIT_EVENT_H
#define CORDON_AUDIT_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "audit/merkle.h"
#include "audit/record.h"
#include "core/buffer.h"

enum { AUDIT_FORMAT_VERSION = 1, AUDIT_EVENT_MAX_BYTES = 256 << 10 };

/* Who put it on the bus. */
struct audit_origin {
    const char *reported_by;        /* "query"; "database" for what came through the outbox */
    struct uuid request_id;         /* nil: none */
    const uint8_t *ticket_digest;   /* SHA-256 of the ticket; NULL: none */
};

/* What only the database knows. */
struct audit_stamp {
    struct uuid tenant_id;          /* nil: the log without a tenant */
    struct uuid actor_id;           /* these four: nil for none */
    struct uuid session_id;
    struct uuid job_id;
    struct uuid grant_id;           /* the broken glass under which it was done */
    int64_t occurred_at_us;
    int64_t recorded_at_us;
    int64_t seq;
};

/* Between which members of what is said the stamped ones go, in the order of names: actor_id; grant_id and job_id;
 * occurred_at; recorded_at; seq, session_id and tenant_id. */
enum audit_cut { CUT_ACTOR, CUT_GRANT, CUT_OCCURRED, CUT_RECORDED, CUT_SEQ, AUDIT_CUTS };

struct audit_event {
    struct uuid event_id;
    enum audit_action action;
    enum audit_outcome outcome;
    struct uuid request_id, resource_id;
    size_t document_count;
    struct uuid *document_ids;
    bool has_ticket;
    uint8_t ticket_digest[MERKLE_HASH_BYTES];   /* SHA-256 of the ticket; not in the canonical form */
    uint8_t content_digest[MERKLE_HASH_BYTES];  /* of what was said and under which ticket: repeats have the same */
    struct buffer said;                         /* the canonical form without the stamp */
    size_t cuts[AUDIT_CUTS];                    /* offsets into it */
    struct audit_stamp stamp;                   /* these three: once stamped */
    struct buffer bytes;
    struct merkle_hash leaf;
};

/* ST_INVALID: audit_record_check refuses it, or the event has no id. */
enum status audit_event_new(const struct audit_record *record, const struct audit_origin *origin,
                            struct audit_event **ret_event, struct why *why) MUST_USE;
void audit_event_destroy(struct audit_event **event_p);

/* Add the stamp, render, hash. An event may be stamped again when its batch is repeated. ST_INTERNAL:
 * it does not render, which audit_event_new should have prevented. */
enum status audit_event_stamp(struct audit_event *event, const struct audit_stamp *stamp, struct why *why) MUST_USE;

#endif
