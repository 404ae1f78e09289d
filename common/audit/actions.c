#include "audit/actions.h"

#include "core/str.h"

static const struct action {
    const char *name;
    enum audit_kind kind;
    const char *about;
} ACTIONS[] = {
#define ACTION(id, name, kind, about) { name, AUDIT_KIND_##kind, about },
#include "audit/actions.def"
#undef ACTION
};

static const char *const KINDS[] = {
#define KIND(id, text) text,
    AUDIT_KINDS(KIND)
#undef KIND
};

static const struct coverage { const char *what, *actions, *why_none; } COVERAGE[] = {
#define AUDITED(what, actions) { what, actions, NULL },
#define UNAUDITED(what, why) { what, NULL, why },
#include "audit/coverage.def"
#undef AUDITED
#undef UNAUDITED
};

static const char *const OUTCOMES[AUDIT_OUTCOME_COUNT] = { "success", "denied", "failure" };

const char *audit_action_name(enum audit_action action) { return ACTIONS[action].name; }
enum audit_kind audit_action_kind(enum audit_action action) { return ACTIONS[action].kind; }
const char *audit_action_about(enum audit_action action) { return ACTIONS[action].about; }
const char *audit_kind_text(enum audit_kind kind) { return KINDS[kind]; }
const char *audit_outcome_text(enum audit_outcome outcome) { return OUTCOMES[outcome]; }

enum audit_action audit_action_find(const char *name) {
    for (int i = 0; i < AUDIT_ACTION_COUNT; i++)
        if (str_equal(ACTIONS[i].name, name))
            return (enum audit_action)i;
    return AUDIT_ACTION_COUNT;
}

enum audit_outcome audit_outcome_find(const char *text) {
    for (int i = 0; i < AUDIT_OUTCOME_COUNT; i++)
        if (str_equal(OUTCOMES[i], text))
            return (enum audit_outcome)i;
    return AUDIT_OUTCOME_COUNT;
}

void audit_actions_print_markdown(FILE *out) {
    fputs("# Auditable events\n\n"
          "Generated from `common/audit/actions.def` by `cordon-audit-writer --audit-events-markdown`; the form of an event is in\n"
          "[AUDIT_FORMAT.md](AUDIT_FORMAT.md). Text of documents, names and questions is never in an event: ids, counts, hashes and codes are.\n\n"
          "* **mutation**: a change, recorded by a trigger in the change's own transaction.\n"
          "* **disclosure**: something was about to be shown; it is committed first, and only then are keys given out.\n"
          "* **denial**: somebody was refused.  **session**: a login began, changed or ended.  **system**: the system's own keys.\n\n"
          "| action | kind | what happened |\n|---|---|---|\n", out);
    for (int i = 0; i < AUDIT_ACTION_COUNT; i++)
        fprintf(out, "| `%s` | %s | %s |\n", ACTIONS[i].name, KINDS[ACTIONS[i].kind], ACTIONS[i].about);
    fputs("\n## What each request and each job puts on the record\n\n"
          "From `common/audit/coverage.def`, which `tests/lint/audited.sh` compares with the routes and the kinds of jobs. The first action is\n"
          "committed whenever the request succeeds, the others as it goes on; a refusal is `auth.denied`, whatever was asked for.\n\n"
          "| request or work | actions |\n|---|---|\n", out);
    for (size_t i = 0; i < sizeof COVERAGE / sizeof *COVERAGE; i++)
        fprintf(out, "| `%s` | %s |\n", COVERAGE[i].what, COVERAGE[i].actions ? COVERAGE[i].actions : "none");
    fputs("\nNothing is due for those that show nothing of anybody and change nothing:\n\n", out);
    for (size_t i = 0; i < sizeof COVERAGE / sizeof *COVERAGE; i++)
        if (COVERAGE[i].why_none)
            fprintf(out, "* `%s`: %s\n", COVERAGE[i].what, COVERAGE[i].why_none);
}
