/* rig — what the audit-writer's tests share: a database, a pool as cordon_audit, calls to append, and an
 * independent check of a tenant's tree. */
#ifndef RIG_H
#define RIG_H

#include <criterion/criterion.h>
#include <string.h>

#include "audit/event.h"
#include "batch.h"
#include "core/clock.h"
#include "support/pg.h"

#define DOCUMENT_A1 "01920000-0000-7000-8000-0000000000a1"
#define DOCUMENT_A2 "01920000-0000-7000-8000-0000000000a2"
#define DOCUMENT_B1 "01920000-0000-7000-8000-0000000000b1"
#define NIL_TENANT  "00000000-0000-0000-0000-000000000000"

void rig_open(void);        /* database with two tenants, documents A1, A2 of A and B1 of B with keys, nothing in the outbox */
void rig_empty_outbox(void);
void rig_close(void);
struct db_pool *rig_pool(void);

struct uuid rig_uuid(const char *text);
const char *rig_text(const struct uuid *id);            /* lives for the process */

/* An event of one document (NULL: none) with a fresh id, unless event_id is given. */
struct audit_event *rig_event(enum audit_action action, const char *ticket, const char *document_id, const struct uuid *event_id);

/* One call of one event, by itself. */
struct rig_call { struct audit_event *event; struct audit_stamp stamp; struct batch_call call; };
void rig_call(struct rig_call *c, enum audit_action action, const char *ticket, const char *document_id, const struct uuid *event_id);
void rig_call_end(struct rig_call *c);
enum status rig_commit(struct rig_call calls[], size_t count);      /* in one batch */

/* Append and expect success; the event's id as text. */
const char *rig_append(enum audit_action action, const char *ticket, const char *document_id);

/* Recompute a tenant's tree from its rows and compare it with the head. Returns its size. */
int64_t rig_check_tree(const char *tenant);

#endif
