#include "refusals.h"

#include <string.h>

#include "audit/client.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "json/writer.h"
#include "obs/log.h"

enum { DETAIL_TEXT_MAX_BYTES = 120, APPEND_MS = 2000, LOOK_MS = 5000 };

/* Details hold visible ASCII only (audit/record.h); what a client could have put in is made so. */
static void put_visible(struct json_writer *w, struct arena *mem, const char *name, const char *text) {
    if (!text || !*text)
        return;
    char *copy = arena_strndup(mem, text, strnlen(text, DETAIL_TEXT_MAX_BYTES));
    for (char *c = copy; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '\\')
            *c = '_';
    json_put_name(w, name);
    json_put_text(w, copy);
}

struct detail_field { const char *name, *text; };

/* {"code": ...} and those of the fields (up to one without a name) that have a text. */
static enum status print_detail(struct call *call, enum error_code code, const struct detail_field fields[], struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    put_visible(&w, call->mem, "code", error_text_code(code));
    for (const struct detail_field *f = fields; f->name; f++)
        put_visible(&w, call->mem, f->name, f->text);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(&call->why, ST_INTERNAL, "detail of a refusal");
}

/* On the record of the ticket's tenant, or, without a ticket or when it has ended, on that without a tenant. */
static enum status append(struct call *call, enum audit_action action, const char *detail) {
    struct audit_record record = { .action = action, .outcome = AUDIT_REFUSED, .detail_json = detail };
    if (call->ticket[0]) {
        enum status st = audit_append(call, &record, NULL);
        if (st != ST_UNAUTHENTICATED)
            return st;
        call->why = (struct why){ 0 };          /* the refusal still happened */
    }
    return audit_append_without_tenant(call, &record);
}

static enum status put(struct auth *a, struct call *call, const ProtobufCBinaryData *user_id, enum audit_action action, enum error_code code,
                       const struct detail_field fields[]) {
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    enum status st = print_detail(call, code, fields, &detail);
    if (st != ST_OK || !denials_admit(a->denials, call, user_id, action, detail.data, clock_mono_ms()))
        return st;
    return append(call, action, detail.data);
}

enum status record_denial(struct auth *a, struct call *call, const Auth__DeniedRequest *req) {
    char seconds[16];
    (void)snprintf(seconds, sizeof seconds, "%u", req->locked_s);
    const struct detail_field fields[] = { { "method", req->http_method }, { "path", req->path }, { "remote_address", req->remote_address },
        { "locked", req->locked_s ? req->locked : NULL }, { "locked_s", req->locked_s ? seconds : NULL }, { 0 } };
    return put(a, call, &req->user_id, req->locked_s ? AUDIT_AUTH_LOCKOUT : AUDIT_AUTH_DENIED, error_from_text(req->code), fields);
}

enum status record_refused_token(struct auth *a, struct call *call, enum error_code code, const char *reason, const char *tenant,
                                 const char *remote_address) {
    const struct detail_field fields[] = { { "reason", reason }, { "tenant", tenant }, { "remote_address", remote_address }, { 0 } };
    return put(a, call, NULL, AUDIT_AUTH_DENIED, code, fields);
}

/* ---- those that were held back ---- */

static void record_held(struct auth *a, struct bus_client *bus, bool is_end) {
    struct denial held;
    while (denials_take(a->denials, is_end, clock_mono_ms(), &held)) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(BUS_BODY_CAP_BYTES);
        struct call call = { .mem = mem, .bus = bus, .request_id = held.request_id, .method = "", .ticket = held.ticket, .traceparent = "",
                             .attempt = 1, .deadline_ms = clock_mono_ms() + APPEND_MS };
        if (append(&call, held.action, held.detail) != ST_OK) {
            counter_add(a->unrecorded, 1);
            log_event(LOG_WARN, "refusals_unrecorded", LOG_TEXT("detail", held.detail), LOG_TEXT("why", call.why.text));
        }
        denial_end(&held);
    }
}

static void *hold_thread(void *arg) {
    struct auth *a = arg;
    struct bus_client *bus = bus_client_new(a->runtime->bus);
    while (!runtime_wait_stop(a->runtime, LOOK_MS))
        record_held(a, bus, false);
    record_held(a, bus, true);
    bus_client_destroy(&bus);
    return NULL;
}

enum status refusals_start(void *self, struct runtime *rt, struct why *why) {
    struct auth *a = self;
    (void)rt;
    a->has_refusals_thread = pthread_create(&a->refusals_thread, NULL, hold_thread, a) == 0;
    return a->has_refusals_thread ? ST_OK : fail(why, ST_UNAVAILABLE, "no thread for refusals");
}

void refusals_drain(void *self, int64_t deadline_ms) {
    struct auth *a = self;
    (void)deadline_ms;                  /* it ends by itself: each append has an end */
    if (a->has_refusals_thread)
        (void)pthread_join(a->refusals_thread, NULL);
    a->has_refusals_thread = false;
}
