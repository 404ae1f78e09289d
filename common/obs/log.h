/* log — one JSON object per line on standard error: ts, level, service, event, then request_id, tenant_id and
 * trace_id of the thread's scope (obs/trace.h) where it has one, then members. The writer escapes; callers never
 * build JSON. No PHI, no secrets: members are ids, codes, counts and `why`.
 * Set up once by the skeleton before threads start; log_line may then be called from any thread.
 * Only services/ and the skeleton log; common/ returns statuses. */
#ifndef CORDON_OBS_LOG_H
#define CORDON_OBS_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* "debug", "info", "warn", "error". False, and *ret_level untouched, for anything else. */
bool log_level_from_text(const char *text, enum log_level *ret_level);

/* service: borrowed for ever. */
void log_open(const char *service, enum log_level least);

struct log_member { const char *name; const char *text; int64_t number; };      /* text NULL: number */
#define LOG_TEXT(member, value) ((struct log_member){ (member), (value) ? (value) : "", 0 })
#define LOG_NUMBER(member, value) ((struct log_member){ (member), NULL, (int64_t)(value) })

/* members ends with a name of NULL. One write(2) per line, at most 4 KiB, longer texts are cut. */
void log_line(enum log_level level, const char *event, const struct log_member members[]);

/* log_event(LOG_INFO, "started", LOG_TEXT("version", v), LOG_NUMBER("pid", n)); */
#define log_event(level, event, ...) log_line((level), (event), (const struct log_member[]){ __VA_ARGS__, { 0 } })

#endif
