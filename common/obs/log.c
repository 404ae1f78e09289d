#include "obs/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/str.h"
#include "obs/json_text.h"
#include "obs/trace.h"

enum { LINE_BYTES = 4096, TAIL_BYTES = 8 };

/* The one mutable state of the process outside its service struct: set before threads start. */
static struct { const char *service; enum log_level least; } sink = { "-", LOG_INFO };

static const char *const LEVELS[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error"
};

struct line { char text[LINE_BYTES]; size_t len; };

static void put(struct line *line, const char *text) {
    size_t len = strlen(text);
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

/* One member, or nothing when not even its name fits. */
static void put_member(struct line *line, const struct log_member *m) {
    size_t name_len = strlen(m->name), room = LINE_BYTES - TAIL_BYTES - line->len;
    if (name_len + 32 > room)
        return;
    put(line, ",\"");
    put(line, m->name);
    put(line, "\":");
    if (m->text) {
        line->len += json_text_put(line->text + line->len, LINE_BYTES - TAIL_BYTES - line->len, m->text);
    } else {
        char number[24];
        (void)snprintf(number, sizeof number, "%lld", (long long)m->number);
        put(line, number);
    }
}

void log_open(const char *service, enum log_level least) {
    sink.service = service;
    sink.least = least;
}

bool log_level_from_text(const char *text, enum log_level *ret_level) {
    for (unsigned i = 0; i < sizeof LEVELS / sizeof *LEVELS; i++)
        if (str_equal(text, LEVELS[i])) {
            *ret_level = (enum log_level)i;
            return true;
        }
    return false;
}

/* Whose work this thread is doing, as far as it is known. */
static void put_scope(struct line *line) {
    const struct trace_scope *scope = trace_current();
    char id[UUID_TEXT_BYTES], trace[TRACEPARENT_BYTES];
    if (!scope)
        return;
    if (!uuid_is_nil(&scope->request_id))
        put_member(line, &LOG_TEXT("request_id", uuid_format(&scope->request_id, id)));
    if (!uuid_is_nil(&scope->tenant_id))
        put_member(line, &LOG_TEXT("tenant_id", uuid_format(&scope->tenant_id, id)));
    (void)trace_format(&scope->span.context, trace);
    trace[35] = '\0';                       /* "00-", 32 digits of the trace id, "-..." */
    put_member(line, &LOG_TEXT("trace_id", trace + 3));
}

void log_line(enum log_level level, const char *event, const struct log_member members[]) {
    if (level < sink.least)
        return;
    struct line line = { .len = 0 };
    char now[CLOCK_TEXT_BYTES];
    put(&line, "{\"ts\":\"");
    put(&line, clock_format(clock_unix_us(), now));
    put(&line, "\"");
    put_member(&line, &LOG_TEXT("level", LEVELS[level]));
    put_member(&line, &LOG_TEXT("service", sink.service));
    put_member(&line, &LOG_TEXT("event", event));
    put_scope(&line);
    for (const struct log_member *m = members; m && m->name; m++)
        put_member(&line, m);
    put(&line, "}\n");
    /* A log that cannot be written has nowhere to complain to. */
    if (write(STDERR_FILENO, line.text, line.len) < 0)
        return;
}
