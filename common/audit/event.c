#include "audit/event.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "crypto/digest.h"
#include "json/canonical.h"
#include "json/reader.h"

/* Members that are absent are left out: there is one way to say "none". */
static void put_uuid(json_t *object, const char *name, const struct uuid *id) {
    char text[UUID_TEXT_BYTES];
    if (uuid_is_nil(id))
        json_object_del(object, name);
    else
        json_object_set_new(object, name, json_string(uuid_format(id, text)));
}

static void put_uuids(json_t *object, const char *name, const struct uuid *ids, size_t count) {
    char text[UUID_TEXT_BYTES];
    if (count == 0)
        return;
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(uuid_format(&ids[i], text)));
    json_object_set_new(object, name, array);
}

static void put_time(json_t *object, const char *name, int64_t unix_us) {
    char text[CLOCK_TEXT_BYTES];
    json_object_set_new(object, name, json_string(clock_format(unix_us, text)));
}

static json_t *said(const struct audit_record *record, const struct audit_origin *origin, json_t *detail) {
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(AUDIT_FORMAT_VERSION));
    json_object_set_new(object, "action", json_string(audit_action_name(record->action)));
    json_object_set_new(object, "kind", json_string(audit_kind_text(audit_action_kind(record->action))));
    json_object_set_new(object, "outcome", json_string(audit_outcome_text(record->outcome)));
    json_object_set_new(object, "reported_by", json_string(origin->reported_by));
    put_uuid(object, "event_id", &record->event_id);
    put_uuid(object, "request_id", &origin->request_id);
    put_uuid(object, "resource_id", &record->resource_id);
    put_uuids(object, "document_ids", record->document_ids, record->document_count);
    put_uuids(object, "chunk_ids", record->chunk_ids, record->chunk_count);
    if (detail)
        json_object_set(object, "detail", detail);
    return object;
}

/* Render without the stamp, and hash behind the ticket's digest. */
static enum status digest_content(struct audit_event *e, struct why *why) {
    enum status st = json_canonical(e->object, &e->bytes, why);
    if (st != ST_OK)
        return st;
    CLEANUP(sha256_destroy) struct sha256 *digest = sha256_new();
    sha256_update(digest, e->ticket_digest, sizeof e->ticket_digest);
    sha256_update(digest, e->bytes.data, e->bytes.len);
    sha256_peek(digest, e->content_digest);
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
    e->has_ticket = origin->ticket != NULL;
    if (e->has_ticket)
        sha256(origin->ticket, strlen(origin->ticket), e->ticket_digest);
    buffer_init(&e->bytes, AUDIT_EVENT_MAX_BYTES);
    e->object = said(record, origin, detail);
    st = digest_content(e, why);
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
    json_decref(e->object);
    buffer_end(&e->bytes);
    free(e->document_ids);
    free(e);
    *event_p = NULL;
}

enum status audit_event_stamp(struct audit_event *event, const struct audit_stamp *stamp, struct why *why) {
    char tenant[UUID_TEXT_BYTES];
    event->stamp = *stamp;
    json_object_set_new(event->object, "tenant_id", json_string(uuid_format(&stamp->tenant_id, tenant)));
    put_uuid(event->object, "actor_id", &stamp->actor_id);
    put_uuid(event->object, "session_id", &stamp->session_id);
    put_uuid(event->object, "job_id", &stamp->job_id);
    put_uuid(event->object, "grant_id", &stamp->grant_id);
    put_time(event->object, "occurred_at", stamp->occurred_at_us);
    put_time(event->object, "recorded_at", stamp->recorded_at_us);
    json_object_set_new(event->object, "seq", json_integer(stamp->seq));
    buffer_clear(&event->bytes);
    if (json_canonical(event->object, &event->bytes, why) != ST_OK)
        return fail(why, ST_INTERNAL, "audit: event does not render");
    event->leaf = merkle_leaf(event->bytes.data, event->bytes.len);
    return ST_OK;
}
