/* audit_forms — the forms in which the log is exported. Every form carries the canonical bytes of each event and every
 * line of the evidence around them, so that each can be turned back into the JSON Lines that cordon-verify reads
 * (docs/AUDIT_FORMAT.md). Constant tables; any thread. */
#ifndef CORDON_QUERY_AUDIT_FORMS_H
#define CORDON_QUERY_AUDIT_FORMS_H

#include <jansson.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/status.h"

/* An event of the log, borrowed for the call. */
struct audit_entry {
    const char *bytes;              /* canonical */
    size_t len;
    int64_t occurred_at_us;
    const json_t *event;            /* the same, parsed; NULL for a form that does not ask for it */
};

struct audit_form {
    const char *name, *head, *between, *tail;       /* around entries and lines */
    bool wants_parsed;
    enum status (*put_event)(struct buffer *out, const struct audit_entry *entry, struct why *why);
    enum status (*put_line)(struct buffer *out, const char *line, size_t len, struct why *why);
};

/* "" is jsonl; NULL: no such form. */
const struct audit_form *audit_form_find(const char *name);

/* audit_fhir.c, audit_ocsf.c */
enum status audit_fhir_put_event(struct buffer *out, const struct audit_entry *entry, struct why *why) MUST_USE;
enum status audit_fhir_put_line(struct buffer *out, const char *line, size_t len, struct why *why) MUST_USE;
enum status audit_ocsf_put_event(struct buffer *out, const struct audit_entry *entry, struct why *why) MUST_USE;

/* ---- what the vocabularies of others call it ---- */

enum audit_verb { VERB_CREATE, VERB_READ, VERB_QUERY, VERB_UPDATE, VERB_DELETE, VERB_EXECUTE };

/* By the last word of the action's name; VERB_EXECUTE for one that is not known. A read of several things is a query. */
enum audit_verb audit_entry_verb(const json_t *event);
/* The member's text; "" when it has none. */
const char *audit_entry_text(const json_t *event, const char *member);

#endif
