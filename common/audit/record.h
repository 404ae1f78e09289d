/* record — what a process says when it puts something on the audit log, and the check of it. The
 * claims, the time and the place in the log are added by audit-writer from the database (event.h).
 * Borrowed pointers only. */
#ifndef CORDON_AUDIT_RECORD_H
#define CORDON_AUDIT_RECORD_H

#include <jansson.h>
#include <stddef.h>

#include "audit/actions.h"
#include "core/status.h"
#include "core/uuid.h"

enum {
    AUDIT_EVENTS_PER_CALL_MAX = 64,
    AUDIT_DOCUMENTS_MAX = 256,
    AUDIT_CHUNKS_MAX = 1024,
    AUDIT_DETAIL_MAX_BYTES = 8192,
    AUDIT_DETAIL_TEXT_MAX_BYTES = 256,
};

struct audit_record {
    struct uuid event_id;                   /* nil: audit_append() makes one */
    enum audit_action action;
    enum audit_outcome outcome;
    const struct uuid *document_ids;        /* what it disclosed or touched: keys.open gives only these */
    size_t document_count;
    const struct uuid *chunk_ids;
    size_t chunk_count;
    struct uuid resource_id;                /* job, tenant, answer, patient; nil when there is none */
    const char *detail_json;                /* JSON object; NULL or "": none */
};

/* ST_INVALID: too many ids, a nil id among them, an unknown action, or a detail that audit_detail_parse refuses. */
enum status audit_record_check(const struct audit_record *record, json_t **ret_detail, struct why *why) MUST_USE;

/* The rule that keeps PHI out of details: an object, at most four deep, of whole numbers, booleans and
 * texts of visible ASCII without spaces, so ids, hashes, counts and codes but no prose. Members are
 * named in snake_case. *ret_detail is the caller's, NULL when text is NULL, "" or {}. ST_INVALID. */
enum status audit_detail_parse(const char *text, json_t **ret_detail, struct why *why) MUST_USE;

#endif
