#include "audit/event.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "crypto/digest.h"
#include "json/canonical.h"
#include "json/reader.h"

enum { SAID_ROOM_BYTES = 512, STAMPED_ROOM_BYTES = 1024 };     /* most need no more */

/* Members stand in the order of their names, so those that are stamped later have fixed places among those that are
 * said. What is said is rendered once, and where something will be stamped between is noted. Members that are absent
 * are left out: there is one way to say "none". */

static void put_text(struct buffer *b, const char *name, const char *plain) {
    buffer_add_str(b, b->len > 1 ? ",\"" : "\"");
    buffer_add_str(b, name);
    buffer_add_str(b, "\":\"");
    buffer_add_str(b, plain);
    buffer_add_str(b, "\"");
}

static void put_uuid(struct buffer *b, const char *name, const struct uuid *id) {
    char text[UUID_TEXT_BYTES];
    if (!uuid_is_nil(id))
        put_text(b, name, uuid_format(id, text));
}

static void put_uuids(struct buffer *b, const char *name, const struct uuid *ids, size_t count) {
    char text[UUID_TEXT_BYTES];
    if (count == 0)
        return;
    buffer_add_str(b, ",\"");
    buffer_add_str(b, name);
    buffer_add_str(b, "\":[\"");
    for (size_t i = 0; i < count; i++) {
        buffer_add_str(b, i ? "\",\"" : "");
        buffer_add_str(b, uuid_format(&ids[i], text));
    }
    buffer_add_str(b, "\"]");
}

/* value: not negative. */
static void put_number(struct buffer *b, const char *name, int64_t value) {
    assert(value >= 0);
    char digits[20], *at = digits + sizeof digits;
    do
        *--at = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    buffer_add_str(b, ",\"");
    buffer_add_str(b, name);
    buffer_add_str(b, "\":");
    buffer_add(b, at, (size_t)(digits + sizeof digits - at));
}

/* The action and every other text here are words of our own tables: nothing in them needs escaping. */
static enum status say(struct audit_event *e, const struct audit_record *record, const struct audit_origin *origin,
                       const json_t *detail, struct why *why) {
    struct buffer *b = &e->said;
    buffer_add_str(b, "{");
    put_text(b, "action", audit_action_name(record->action));
    e->cuts[CUT_ACTOR] = b->len;
    put_uuids(b, "chunk_ids", record->chunk_ids, record->chunk_count);
    if (detail) {
        buffer_add_str(b, ",\"detail\":");
        enum status st = json_canonical(detail, b, why);
        if (st != ST_OK)
            return st;
    }
    put_uuids(b, "document_ids", record->document_ids, record->document_count);
    put_uuid(b, "event_id", &record->event_id);
    e->cuts[CUT_GRANT] = b->len;
    put_text(b, "kind", audit_kind_text(audit_action_kind(record->action)));
    e->cuts[CUT_OCCURRED] = b->len;
    put_text(b, "outcome", audit_outcome_text(record->outcome));
    e->cuts[CUT_RECORDED] = b->len;
    put_text(b, "reported_by", origin->reported_by);
    put_uuid(b, "request_id", &origin->request_id);
    put_uuid(b, "resource_id", &record->resource_id);
    e->cuts[CUT_SEQ] = b->len;
    put_number(b, "v", AUDIT_FORMAT_VERSION);
    buffer_add_str(b, "}");
    if (b->is_overfull)
        return fail(why, ST_INVALID, "audit: an event of more than %d bytes", AUDIT_EVENT_MAX_BYTES);
    sha256_joined(e->ticket_digest, sizeof e->ticket_digest, b->data, b->len, e->content_digest);
    return ST_OK;
}

enum status audit_event_new(const struct audit_record *record, const struct audit_origin *origin,
                            struct audit_event **ret_event, struct why *why) {
    CLEANUP(json_destroy) json_t *detail = NULL;
    enum status st = audit_record_check(record, &detail, why);
    if (st != ST_OK)
        return st;
    if (uuid_is_nil(&record->event_id))
        return fail(why, ST_INVALID, "audit: an event without an id");

    CLEANUP(audit_event_destroy) struct audit_event *e = xalloc(sizeof *e);
    e->event_id = record->event_id;
    e->action = record->action;
    e->outcome = record->outcome;
    e->request_id = origin->request_id;
    e->resource_id = record->resource_id;
    e->document_count = record->document_count;
    e->document_ids = xalloc((record->document_count + 1) * sizeof *e->document_ids);
    if (record->document_count > 0)
        memcpy(e->document_ids, record->document_ids, record->document_count * sizeof *e->document_ids);
    e->has_ticket = origin->ticket_digest != NULL;
    if (e->has_ticket)
        memcpy(e->ticket_digest, origin->ticket_digest, sizeof e->ticket_digest);
    buffer_init(&e->said, AUDIT_EVENT_MAX_BYTES);
    buffer_init(&e->bytes, AUDIT_EVENT_MAX_BYTES);
    buffer_reserve(&e->said, SAID_ROOM_BYTES);
    buffer_reserve(&e->bytes, STAMPED_ROOM_BYTES);
    st = say(e, record, origin, detail, why);
    if (st != ST_OK)
        return st;
    *ret_event = e;
    e = NULL;
    return ST_OK;
}

void audit_event_destroy(struct audit_event **event_p) {
    struct audit_event *e = *event_p;
    if (!e)
        return;
    buffer_end(&e->said);
    buffer_end(&e->bytes);
    free(e->document_ids);
    free(e);
    *event_p = NULL;
}

/* What was said from the last cut up to this one. */
static void copy_to(struct audit_event *e, enum audit_cut cut) {
    size_t from = cut ? e->cuts[cut - 1] : 0;
    (void)buffer_add(&e->bytes, e->said.data + from, e->cuts[cut] - from);
}

enum status audit_event_stamp(struct audit_event *e, const struct audit_stamp *stamp, struct why *why) {
    struct buffer *b = &e->bytes;
    char text[UUID_TEXT_BYTES], time[CLOCK_TEXT_BYTES];
    e->stamp = *stamp;
    buffer_clear(b);
    copy_to(e, CUT_ACTOR);
    put_uuid(b, "actor_id", &stamp->actor_id);
    copy_to(e, CUT_GRANT);
    put_uuid(b, "grant_id", &stamp->grant_id);
    put_uuid(b, "job_id", &stamp->job_id);
    copy_to(e, CUT_OCCURRED);
    put_text(b, "occurred_at", clock_format(stamp->occurred_at_us, time));
    copy_to(e, CUT_RECORDED);
    put_text(b, "recorded_at", clock_format(stamp->recorded_at_us, time));
    copy_to(e, CUT_SEQ);
    put_number(b, "seq", stamp->seq);
    put_uuid(b, "session_id", &stamp->session_id);
    put_text(b, "tenant_id", uuid_format(&stamp->tenant_id, text));
    (void)buffer_add(b, e->said.data + e->cuts[CUT_SEQ], e->said.len - e->cuts[CUT_SEQ]);
    if (b->is_overfull)
        return fail(why, ST_INTERNAL, "audit: event does not render");
    e->leaf = merkle_leaf(b->data, b->len);
    return ST_OK;
}
