#include "audit/client.h"

#include <string.h>

#include "audit.pb-c.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/wire.h"
#include "json/reader.h"

/* Whoever waits for the record is told soon that there is none. The record may come all the same: then it says more than
 * was shown, never less. What was done for the call before counts as waiting, but leaves the record some time. */
enum { APPEND_MAX_MS = 800, APPEND_LEAST_MS = 500, RETRY_ADVICE_MS = 1000 };

static int64_t append_until_ms(const struct call *call) {
    int64_t now_ms = clock_mono_ms(), most_ms = (call->received_ms ? call->received_ms : now_ms) + APPEND_MAX_MS, least_ms = now_ms + APPEND_LEAST_MS;
    int64_t until_ms = most_ms > least_ms ? most_ms : least_ms;
    return until_ms < call->deadline_ms ? until_ms : call->deadline_ms;
}

static ProtobufCBinaryData *pack_ids(struct arena *mem, const struct uuid *ids, size_t count) {
    ProtobufCBinaryData *out = arena_alloc(mem, (count + 1) * sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = wire_id(mem, &ids[i]);
    return out;
}

static Audit__Event *pack_event(struct arena *mem, const struct audit_record *record, const struct uuid *event_id) {
    Audit__Event *event = arena_alloc(mem, sizeof *event);
    audit__event__init(event);
    event->event_id = wire_id(mem, event_id);
    event->action = (char *)audit_action_name(record->action);
    event->outcome = (char *)audit_outcome_text(record->outcome);
    event->n_document_ids = record->document_count;
    event->document_ids = pack_ids(mem, record->document_ids, record->document_count);
    event->n_chunk_ids = record->chunk_count;
    event->chunk_ids = pack_ids(mem, record->chunk_ids, record->chunk_count);
    event->resource_id = wire_optional_id(mem, &record->resource_id);
    if (record->detail_json)
        event->detail_json = (char *)record->detail_json;
    return event;
}

/* Whatever kept the event off the record, the answer to the user is the same 503, except that an expired
 * ticket is the user's to renew. A record that audit-writer would refuse is our own bug. */
static enum status explain(struct call *call, enum status st) {
    struct why cause = call->why;
    if (st == ST_OK || st == ST_UNAUTHENTICATED || cause.code == ERR_AUDIT_BEHIND)
        return st;
    if (st == ST_INVALID || st == ST_FORBIDDEN || st == ST_NOT_FOUND)
        return fail(&call->why, ST_INTERNAL, "audit-writer refused the event: %.200s", cause.text);
    st = fail_as(&call->why, ERR_AUDIT_UNAVAILABLE, "audit: %s: %.200s", status_name(st), cause.text);
    call->why.retry_after_ms = cause.retry_after_ms ? cause.retry_after_ms : RETRY_ADVICE_MS;
    return st;
}

static enum status append(struct call *call, const struct audit_record records[], size_t count, bool has_tenant,
                          struct uuid ret_event_ids[]) {
    Audit__AppendRequest req = AUDIT__APPEND_REQUEST__INIT;
    Audit__Event *events[AUDIT_EVENTS_PER_CALL_MAX];
    struct uuid ids[AUDIT_EVENTS_PER_CALL_MAX];
    if (count < 1 || count > AUDIT_EVENTS_PER_CALL_MAX)
        return fail(&call->why, ST_INTERNAL, "audit: %zu events in one call", count);
    for (size_t i = 0; i < count; i++) {
        CLEANUP(json_destroy) json_t *detail = NULL;
        enum status st = audit_record_check(&records[i], &detail, &call->why);
        if (st != ST_OK)
            return explain(call, st);
        ids[i] = uuid_is_nil(&records[i].event_id) ? uuid_v7() : records[i].event_id;
        events[i] = pack_event(call->mem, &records[i], &ids[i]);
    }
    req.n_events = count;
    req.events = events;
    req.without_tenant = !has_tenant;

    ProtobufCMessage *reply = NULL;
    const char *ticket = call->ticket;
    int64_t deadline_ms = call->deadline_ms;
    if (!has_tenant)
        call->ticket = "";
    call->deadline_ms = append_until_ms(call);
    enum status st = bus_ask(call, "audit.Append", &req.base, &audit__append_reply__descriptor, &reply);
    call->ticket = ticket;
    call->deadline_ms = deadline_ms;
    if (st == ST_OK && ((Audit__AppendReply *)reply)->n_seqs != count)
        st = fail(&call->why, ST_INTERNAL, "audit-writer acknowledged another number of events");
    if (st == ST_OK)
        st = fault_status(FAULT_AUDIT_ACKNOWLEDGED, &call->why);
    if (st != ST_OK)
        return explain(call, st);
    if (ret_event_ids)
        memcpy(ret_event_ids, ids, count * sizeof *ids);
    return ST_OK;
}

enum status audit_append(struct call *call, const struct audit_record *record, struct uuid *ret_event_id) {
    return append(call, record, 1, true, ret_event_id);
}

enum status audit_append_many(struct call *call, const struct audit_record records[], size_t count,
                              struct uuid ret_event_ids[]) {
    return append(call, records, count, true, ret_event_ids);
}

enum status audit_append_without_tenant(struct call *call, const struct audit_record *record) {
    return append(call, record, 1, false, NULL);
}
