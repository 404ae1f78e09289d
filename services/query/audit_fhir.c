/* audit_fhir — events as FHIR R4 AuditEvents (hl7.org/fhir/R4/auditevent.html). One that is what a profile of IHE's Basic
 * Audit Log Patterns describes says so in meta.profile (profiles.ihe.net/ITI/BALP: Read, Query, Create, Update, Delete,
 * and their Patient forms where the event names the patient). Lines of evidence are Binaries. */
#include <stdlib.h>
#include <string.h>

#include "audit_forms.h"
#include "core/arena.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/writer.h"

#define HL7  "http://terminology.hl7.org/CodeSystem/"
#define DCM  "http://dicom.nema.org/resources/ontology/DCM"
#define BALP "https://profiles.ihe.net/ITI/BALP/"

#define SOURCE      { DCM, "110153" }
#define DESTINATION { DCM, "110152" }
#define APPLICATION { DCM, "110150" }
#define CUSTODIAN   { HL7 "provenance-participant-type", "custodian" }

/* Of a read the data flows from the server to the client; a delete has roles of its own. */
static const struct {
    const char *action, *interaction, *profile;
    struct { const char *system, *code; } client, server;
    const char *user;
} VERBS[] = {
    [VERB_CREATE]  = { "C", "create",    "Create", SOURCE,      DESTINATION, "AUT" },
    [VERB_READ]    = { "R", "read",      "Read",   DESTINATION, SOURCE,      "IRCP" },
    [VERB_QUERY]   = { "E", "search",    "Query",  SOURCE,      DESTINATION, "IRCP" },
    [VERB_UPDATE]  = { "U", "update",    "Update", SOURCE,      DESTINATION, "AUT" },
    [VERB_DELETE]  = { "D", "delete",    "Delete", APPLICATION, CUSTODIAN,   "CST" },
    [VERB_EXECUTE] = { "E", "operation", NULL,     SOURCE,      DESTINATION, "IRCP" },
};

static void put(struct json_writer *w, const char *name, const char *text) {
    json_put_name(w, name);
    json_put_text(w, text);
}

static void open_object(struct json_writer *w, const char *name) {
    if (name)
        json_put_name(w, name);
    json_open_object(w);
}

static void open_list(struct json_writer *w, const char *name) {
    json_put_name(w, name);
    json_open_array(w);
}

static void put_coding(struct json_writer *w, const char *name, const char *system, const char *code) {
    open_object(w, name);
    put(w, "system", system);
    put(w, "code", code);
    json_close_object(w);
}

static void put_concept(struct json_writer *w, const char *name, const char *system, const char *code) {
    open_object(w, name);
    open_list(w, "coding");
    put_coding(w, NULL, system, code);
    json_close_array(w);
    json_close_object(w);
}

/* A Reference by identifier: nothing of ours is a FHIR resource elsewhere. type: NULL for any. */
static void put_reference(struct json_writer *w, const char *name, const char *type, const char *system, const char *value) {
    open_object(w, name);
    if (type)
        put(w, "type", type);
    open_object(w, "identifier");
    put(w, "system", system);
    put(w, "value", value);
    json_close_object(w);
    json_close_object(w);
}

static void put_base64(struct json_writer *w, const char *name, const void *data, size_t len) {
    struct arena *mem = arena_new(4 * len + 4096);
    put(w, name, base64_encode(mem, data, len));
    arena_destroy(&mem);
}

/* ---- agents ---- */

static void put_client(struct json_writer *w, const json_t *event, enum audit_verb verb) {
    const char *session = audit_entry_text(event, "session_id"), *job = audit_entry_text(event, "job_id");
    json_open_object(w);
    put_concept(w, "type", VERBS[verb].client.system, VERBS[verb].client.code);
    put_reference(w, "who", NULL, *session ? "urn:cordon:session" : "urn:cordon:job", *session ? session : *job ? job : "none");
    json_put_name(w, "requestor");
    json_put_bool(w, false);
    open_object(w, "network");          /* the log keeps no addresses of those who were let in */
    open_list(w, "extension");
    json_open_object(w);
    put(w, "url", "http://hl7.org/fhir/StructureDefinition/data-absent-reason");
    put(w, "valueCode", "not-asked");
    json_close_object(w);
    json_close_array(w);
    json_close_object(w);
    json_close_object(w);
}

static void put_server(struct json_writer *w, const json_t *event, enum audit_verb verb) {
    const char *process = audit_entry_text(event, "reported_by");
    json_open_object(w);
    put_concept(w, "type", VERBS[verb].server.system, VERBS[verb].server.code);
    put_reference(w, "who", "Device", "urn:cordon:process", process);
    json_put_name(w, "requestor");
    json_put_bool(w, false);
    open_object(w, "network");
    put(w, "address", process);
    put(w, "type", "1");
    json_close_object(w);
    json_close_object(w);
}

static void put_user(struct json_writer *w, const json_t *event, enum audit_verb verb) {
    if (!*audit_entry_text(event, "actor_id"))
        return;
    json_open_object(w);
    put_concept(w, "type", HL7 "v3-ParticipationType", VERBS[verb].user);
    put_reference(w, "who", NULL, "urn:cordon:user", audit_entry_text(event, "actor_id"));
    json_put_name(w, "requestor");
    json_put_bool(w, true);
    if (*audit_entry_text(event, "grant_id")) {
        put(w, "altId", audit_entry_text(event, "grant_id"));
        open_list(w, "purposeOfUse");
        put_concept(w, NULL, HL7 "v3-ActReason", "BTG");
        json_close_array(w);
    }
    json_close_object(w);
}

/* ---- entities ---- */

/* Leaves the entity open. */
static void open_entity(struct json_writer *w, const char *type_system, const char *type, const char *role) {
    json_open_object(w);
    put_coding(w, "type", type_system, type);
    if (role)
        put_coding(w, "role", HL7 "object-role", role);
}

static void put_thing(struct json_writer *w, const char *type, const char *role, const char *what, const char *system, const char *value) {
    open_entity(w, HL7 "audit-entity-type", type, role);
    put_reference(w, "what", what, system, value);
    json_close_object(w);
}

static void put_query(struct json_writer *w, const json_t *event) {
    char *detail = json_dumps(json_object_get(event, "detail"), JSON_COMPACT);
    const char *asked = detail ? detail : audit_entry_text(event, "action");
    open_entity(w, HL7 "audit-entity-type", "2", "24");
    put_base64(w, "query", asked, strlen(asked));
    json_close_object(w);
    free(detail);
}

/* Does the event name the patient? Those of documents do by their resource, when one was named at the upload. */
static const char *patient_of(const json_t *event) {
    const char *action = audit_entry_text(event, "action");
    return strncmp(action, "document.", 9) == 0 || strncmp(action, "subject.", 8) == 0 ? audit_entry_text(event, "resource_id") : "";
}

/* Of a query the documents are "other" objects: a profile's only system object is what was asked. */
static void put_entities(struct json_writer *w, const struct audit_entry *entry, enum audit_verb verb) {
    const json_t *event = entry->event, *documents = json_object_get(event, "document_ids");
    const char *request = audit_entry_text(event, "request_id"), *patient = patient_of(event);
    open_list(w, "entity");
    if (*request) {
        open_entity(w, BALP "CodeSystem/BasicAuditEntityType", "XrequestId", NULL);
        put_reference(w, "what", NULL, "urn:cordon:request", request);
        json_close_object(w);
    }
    if (verb == VERB_QUERY)
        put_query(w, event);
    for (size_t i = 0; i < json_array_size(documents); i++)
        put_thing(w, verb == VERB_QUERY ? "4" : "2", verb == VERB_QUERY ? "3" : "4", NULL, "urn:cordon:document",
                  json_string_value(json_array_get(documents, i)));
    if (*patient)
        put_thing(w, "1", "1", "Patient", "urn:cordon:subject", patient);
    open_entity(w, HL7 "audit-entity-type", "4", NULL);
    put_reference(w, "what", NULL, "urn:cordon:event", audit_entry_text(event, "event_id"));
    open_list(w, "detail");
    json_open_object(w);
    put(w, "type", "cordon-event");
    put_base64(w, "valueBase64Binary", entry->bytes, entry->len);
    json_close_object(w);
    json_close_array(w);
    json_close_object(w);
    json_close_array(w);
}

/* A profile is claimed for a success of which it has everything: its one object, or what was asked. */
static void put_profile(struct json_writer *w, const json_t *event, enum audit_verb verb) {
    size_t documents = json_array_size(json_object_get(event, "document_ids"));
    if (!VERBS[verb].profile || (verb != VERB_QUERY && documents != 1) || !str_equal(audit_entry_text(event, "outcome"), "success"))
        return;
    open_object(w, "meta");
    open_list(w, "profile");
    CLEANUP(buffer_end) struct buffer profile = { 0 };
    buffer_printf(&profile, BALP "StructureDefinition/IHE.BasicAudit.%s%s", *patient_of(event) ? "Patient" : "", VERBS[verb].profile);
    json_put_text(w, profile.data);
    json_close_array(w);
    json_close_object(w);
}

static const char *outcome_of(const json_t *event) {
    const char *outcome = audit_entry_text(event, "outcome");
    return str_equal(outcome, "success") ? "0" : str_equal(outcome, "denied") ? "4" : "8";
}

static void put_audit_event(struct json_writer *w, const struct audit_entry *entry) {
    const json_t *event = entry->event;
    enum audit_verb verb = audit_entry_verb(event);
    open_object(w, "resource");
    put(w, "resourceType", "AuditEvent");
    put(w, "id", audit_entry_text(event, "event_id"));
    put_profile(w, event, verb);
    put_coding(w, "type", HL7 "audit-event-type", "rest");
    open_list(w, "subtype");
    put_coding(w, NULL, "http://hl7.org/fhir/restful-interaction", VERBS[verb].interaction);
    put_coding(w, NULL, "urn:cordon:action", audit_entry_text(event, "action"));
    json_close_array(w);
    put(w, "action", VERBS[verb].action);
    put(w, "recorded", audit_entry_text(event, "occurred_at"));
    put(w, "outcome", outcome_of(event));
    open_list(w, "agent");
    put_client(w, event, verb);
    put_server(w, event, verb);
    put_user(w, event, verb);
    json_close_array(w);
    open_object(w, "source");
    put_reference(w, "observer", "Device", "urn:cordon:process", audit_entry_text(event, "reported_by"));
    open_list(w, "type");
    put_coding(w, NULL, HL7 "security-source-type", "4");
    json_close_array(w);
    json_close_object(w);
    put_entities(w, entry, verb);
    json_close_object(w);
}

enum status audit_fhir_put_event(struct buffer *out, const struct audit_entry *entry, struct why *why) {
    CLEANUP(buffer_end) struct buffer url = { 0 };
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    buffer_printf(&url, "urn:uuid:%s", audit_entry_text(entry->event, "event_id"));
    put(&w, "fullUrl", url.data);
    put_audit_event(&w, entry);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(why, ST_INTERNAL, "an AuditEvent does not print");
}

enum status audit_fhir_put_line(struct buffer *out, const char *line, size_t len, struct why *why) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    open_object(&w, "resource");
    put(&w, "resourceType", "Binary");
    put(&w, "contentType", "application/jsonl");
    put_base64(&w, "data", line, len);
    json_close_object(&w);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(why, ST_INTERNAL, "a Binary does not print");
}
