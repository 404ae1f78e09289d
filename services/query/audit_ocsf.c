/* audit_ocsf — events in the Open Cybersecurity Schema Framework, version 1.3.0 (schema.ocsf.io): API Activity [6003],
 * Authentication [3002] and Entity Management [3004]. raw_data is the event's canonical text. */
#include <string.h>

#include "audit_forms.h"
#include "core/str.h"
#include "json/writer.h"

enum { CLASS_AUTHENTICATION = 3002, CLASS_ENTITY = 3004, CLASS_API = 6003, ACTIVITY_OTHER = 99 };

/* The first that an action begins with; whatever is not here is use of the interface. */
static const struct { const char *prefix; int class_uid; const char *entity; } CLASSES[] = {
    { "auth.session.", CLASS_AUTHENTICATION, "session" },
    { "auth.",         CLASS_AUTHENTICATION, "session" },
    { "user.",         CLASS_ENTITY,         "user" },
    { "role.",         CLASS_ENTITY,         "role" },
    { "label.",        CLASS_ENTITY,         "label" },
    { "api_key.",      CLASS_ENTITY,         "api_key" },
    { "break_glass.",  CLASS_ENTITY,         "grant" },
    { "tenant.",       CLASS_ENTITY,         "tenant" },
    { "policy.",       CLASS_ENTITY,         "policy" },
    { "ticket_key.",   CLASS_ENTITY,         "key" },
    { "",              CLASS_API,            "" },
};

/* The same numbers in all three classes; of a login they mean other things. */
static const int ACTIVITIES[] = { [VERB_CREATE] = 1, [VERB_READ] = 2, [VERB_QUERY] = 2, [VERB_UPDATE] = 3, [VERB_DELETE] = 4,
                                  [VERB_EXECUTE] = ACTIVITY_OTHER };
static const struct { const char *action; int activity; } LOGINS[] = {
    { "auth.session.start", 1 }, { "auth.session.revoke", 2 }, { "auth.denied", 1 }, { "auth.lockout", 1 },
};

static const char *text_of(const struct audit_entry *e, const char *member) { return audit_entry_text(e->event, member); }

static void put(struct json_writer *w, const char *name, const char *text) {
    json_put_name(w, name);
    json_put_text(w, text);
}

static void put_number(struct json_writer *w, const char *name, int64_t number) {
    json_put_name(w, name);
    json_put_i64(w, number);
}

static void open_object(struct json_writer *w, const char *name) {
    json_put_name(w, name);
    json_open_object(w);
}

/* An object with one text in it. */
static void put_object(struct json_writer *w, const char *name, const char *member, const char *text) {
    open_object(w, name);
    put(w, member, text);
    json_close_object(w);
}

static int activity_of(const struct audit_entry *e, int class_uid) {
    if (class_uid != CLASS_AUTHENTICATION)
        return ACTIVITIES[audit_entry_verb(e->event)];
    for (size_t i = 0; i < sizeof LOGINS / sizeof *LOGINS; i++)
        if (str_equal(LOGINS[i].action, text_of(e, "action")))
            return LOGINS[i].activity;
    return ACTIVITY_OTHER;
}

static void put_metadata(struct json_writer *w, const struct audit_entry *e) {
    open_object(w, "metadata");
    put(w, "version", "1.3.0");
    open_object(w, "product");
    put(w, "name", "Cordon");
    put(w, "vendor_name", "Cordon");
    json_close_object(w);
    put(w, "uid", text_of(e, "event_id"));
    put(w, "event_code", text_of(e, "action"));
    put(w, "original_time", text_of(e, "occurred_at"));
    put(w, "tenant_uid", text_of(e, "tenant_id"));
    put_number(w, "sequence", json_integer_value(json_object_get(e->event, "seq")));
    if (*text_of(e, "request_id"))
        put(w, "correlation_uid", text_of(e, "request_id"));
    json_close_object(w);
}

static void put_actor(struct json_writer *w, const struct audit_entry *e) {
    open_object(w, "actor");
    put(w, "app_name", text_of(e, "reported_by"));
    if (*text_of(e, "actor_id"))
        put_object(w, "user", "uid", text_of(e, "actor_id"));
    if (*text_of(e, "session_id"))
        put_object(w, "session", "uid", text_of(e, "session_id"));
    json_close_object(w);
}

static void put_api(struct json_writer *w, const struct audit_entry *e) {
    const json_t *documents = json_object_get(e->event, "document_ids");
    open_object(w, "api");
    put(w, "operation", text_of(e, "action"));
    put_object(w, "service", "name", text_of(e, "reported_by"));
    if (*text_of(e, "request_id"))
        put_object(w, "request", "uid", text_of(e, "request_id"));
    json_close_object(w);
    put_object(w, "src_endpoint", "svc_name", "edge");       /* the only door; the log keeps no addresses of those who came in */
    json_put_name(w, "resources");
    json_open_array(w);
    for (size_t i = 0; i < json_array_size(documents); i++) {
        json_open_object(w);
        put(w, "uid", json_string_value(json_array_get(documents, i)));
        put(w, "type", "document");
        json_close_object(w);
    }
    json_close_array(w);
}

static void put_class(struct json_writer *w, const struct audit_entry *e, int class_uid, const char *entity) {
    put_actor(w, e);
    if (class_uid == CLASS_API) {
        put_api(w, e);
        return;
    }
    const char *name = class_uid == CLASS_ENTITY ? "entity" : "user", *id = text_of(e, class_uid == CLASS_ENTITY ? "resource_id" : "actor_id");
    open_object(w, name);
    put(w, *id ? "uid" : "name", *id ? id : class_uid == CLASS_ENTITY ? entity : "unknown");
    if (class_uid == CLASS_ENTITY)
        put(w, "type", entity);
    json_close_object(w);
    if (class_uid == CLASS_AUTHENTICATION)
        put_object(w, "service", "name", "cordon");
}

enum status audit_ocsf_put_event(struct buffer *out, const struct audit_entry *e, struct why *why) {
    size_t row = 0;
    while (strncmp(CLASSES[row].prefix, text_of(e, "action"), strlen(CLASSES[row].prefix)) != 0)
        row++;
    int class_uid = CLASSES[row].class_uid, activity = activity_of(e, class_uid);
    bool is_success = str_equal(text_of(e, "outcome"), "success");
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    put_number(&w, "category_uid", class_uid / 1000);
    put_number(&w, "class_uid", class_uid);
    put_number(&w, "activity_id", activity);
    if (activity == ACTIVITY_OTHER)
        put(&w, "activity_name", text_of(e, "action"));
    put_number(&w, "type_uid", class_uid * 100 + activity);
    put_number(&w, "severity_id", is_success ? 1 : 2);
    put_number(&w, "status_id", is_success ? 1 : 2);
    put(&w, "status_detail", text_of(e, "outcome"));
    put_number(&w, "time", e->occurred_at_us / 1000);
    put_metadata(&w, e);
    put_class(&w, e, class_uid, CLASSES[row].entity);
    json_put_name(&w, "raw_data");
    json_put_bytes(&w, e->bytes, e->len);
    json_close_object(&w);
    return json_finish(&w) && buffer_add_str(out, "\n") ? ST_OK : fail(why, ST_INTERNAL, "an OCSF event does not print");
}
