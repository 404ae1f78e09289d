/* actions — the closed list of events, from actions.def, and the words that an event may use. Constant
 * tables; any thread. */
#ifndef CORDON_AUDIT_ACTIONS_H
#define CORDON_AUDIT_ACTIONS_H

#include <stdio.h>

/* AUDIT_KIND(id, text): why an event is on the record. The texts are also a CHECK in the database. */
#define AUDIT_KINDS(KIND) \
    KIND(AUDIT_KIND_MUTATION,   "mutation") \
    KIND(AUDIT_KIND_DISCLOSURE, "disclosure") \
    KIND(AUDIT_KIND_DENIAL,     "denial") \
    KIND(AUDIT_KIND_SESSION,    "session") \
    KIND(AUDIT_KIND_SYSTEM,     "system")

enum audit_kind {
#define KIND(id, text) id,
    AUDIT_KINDS(KIND)
#undef KIND
};

enum audit_action {
#define ACTION(id, name, kind, about) id,
#include "audit/actions.def"
#undef ACTION
    AUDIT_ACTION_COUNT
};

enum audit_outcome { AUDIT_SUCCESS, AUDIT_REFUSED, AUDIT_FAILURE, AUDIT_OUTCOME_COUNT };

const char *audit_action_name(enum audit_action action);            /* "document.create"; static */
enum audit_kind audit_action_kind(enum audit_action action);
const char *audit_action_about(enum audit_action action);
enum audit_action audit_action_find(const char *name);              /* AUDIT_ACTION_COUNT when unknown */

const char *audit_kind_text(enum audit_kind kind);                  /* "mutation"; static */
const char *audit_outcome_text(enum audit_outcome outcome);         /* "success", "denied", "failure"; static */
enum audit_outcome audit_outcome_find(const char *text);            /* AUDIT_OUTCOME_COUNT when unknown */

/* The page docs/AUDIT_EVENTS.md. */
void audit_actions_print_markdown(FILE *out);

#endif
