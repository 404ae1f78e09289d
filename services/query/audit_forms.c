#include "audit_forms.h"

#include <string.h>

#include "core/str.h"

static enum status put_event(struct buffer *out, const struct audit_entry *entry, struct why *why) {
    return buffer_add(out, entry->bytes, entry->len) && buffer_add_str(out, "\n") ? ST_OK : fail(why, ST_INTERNAL, "export: no room");
}

static enum status put_line(struct buffer *out, const char *line, size_t len, struct why *why) {
    return buffer_add(out, line, len) ? ST_OK : fail(why, ST_INTERNAL, "export: no room");
}

static const struct audit_form FORMS[] = {
    { "jsonl", "", "", "", false, put_event, put_line },
    { "fhir", "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[\n", ",\n", "\n]}\n", true, audit_fhir_put_event, audit_fhir_put_line },
    { "ocsf", "", "", "", true, audit_ocsf_put_event, put_line },
};

const struct audit_form *audit_form_find(const char *name) {
    for (size_t i = 0; i < sizeof FORMS / sizeof *FORMS; i++)
        if (str_equal(FORMS[i].name, *name ? name : "jsonl"))
            return &FORMS[i];
    return NULL;
}

static const struct { const char *word; enum audit_verb verb; } WORDS[] = {
    { "create", VERB_CREATE }, { "begin", VERB_CREATE }, { "store", VERB_CREATE }, { "enqueue", VERB_CREATE },
    { "read", VERB_READ }, { "replay", VERB_READ },
    { "list", VERB_QUERY }, { "find", VERB_QUERY }, { "disclose", VERB_QUERY }, { "disclosures", VERB_QUERY }, { "export", VERB_QUERY },
    { "update", VERB_UPDATE }, { "status", VERB_UPDATE }, { "change", VERB_UPDATE }, { "rotate", VERB_UPDATE }, { "complete", VERB_UPDATE },
    { "dead", VERB_UPDATE }, { "cancel", VERB_UPDATE }, { "retry", VERB_UPDATE }, { "request", VERB_UPDATE }, { "end", VERB_UPDATE },
    { "give_up", VERB_UPDATE },
    { "delete", VERB_DELETE }, { "erase", VERB_DELETE }, { "purge", VERB_DELETE },
};

const char *audit_entry_text(const json_t *event, const char *member) {
    const char *text = json_string_value(json_object_get(event, member));
    return text ? text : "";
}

enum audit_verb audit_entry_verb(const json_t *event) {
    const char *action = audit_entry_text(event, "action"), *dot = strrchr(action, '.');
    size_t documents = json_array_size(json_object_get(event, "document_ids"));
    for (size_t i = 0; dot && i < sizeof WORDS / sizeof *WORDS; i++)
        if (str_equal(WORDS[i].word, dot + 1))
            return WORDS[i].verb == VERB_READ && documents > 1 ? VERB_QUERY : WORDS[i].verb;
    return VERB_EXECUTE;
}
