// links: rest obs
/* Any text as the value of a header; what is read of it is within bounds and, written again, reads the same. */
#include <stdlib.h>
#include <string.h>

#include "obs/trace.h"
#include "rest/header.h"

#define HOLDS(condition) do { if (!(condition)) abort(); } while (0)

static void check_range(const char *text) {
    struct byte_range range;
    if (!byte_range_parse(text, &range))
        return;
    HOLDS(range.from >= -1 && range.length >= -1);
    HOLDS(range.from >= 0 ? range.length != 0 : range.length >= 0);
}

static void check_etags(const char *text) {
    static const char TAG[] = "\"a\"";
    HOLDS(!etag_matches(text, TAG, true) || etag_matches(text, TAG, false));
}

static void check_digests(struct arena *mem, const char *text) {
    struct digests digests = { 0 }, again;
    if (!digests_parse(mem, text, &digests))
        return;
    again = digests;
    HOLDS(digests_parse(mem, text, &again) && memcmp(&again, &digests, sizeof digests) == 0);
}

static void check_key(struct arena *mem, const char *text) {
    const char *key = idempotency_key_parse(mem, text);
    if (!key)
        return;
    size_t len = strlen(key);
    HOLDS(len >= 1 && len <= IDEMPOTENCY_KEY_MAX_BYTES);
    const char *again = idempotency_key_parse(mem, arena_printf(mem, "\"%s\"", key));
    HOLDS(again && strcmp(again, key) == 0);
}

/* Whatever a document is called, one header says it, and a reader of headers finds it there. */
static void check_disposition(struct arena *mem, const char *text) {
    struct disposition d, again;
    const char *sent = disposition_print(mem, text);
    for (const char *p = sent; *p; p++)
        HOLDS(*p >= ' ' && *p <= '~');
    if (!disposition_parse(text, &d) || !*d.file_name)
        return;
    HOLDS(disposition_parse(disposition_print(mem, d.file_name), &again));
    HOLDS(again.has_file_name && strcmp(again.file_name, d.file_name) == 0);
}

static void check_media_type(const char *text) {
    struct media_type type;
    if (media_type_parse(text, &type))
        HOLDS(strchr(type.text, '/') && strlen(type.boundary) < sizeof type.boundary);
}

static void check_trace(const char *text) {
    struct trace_context context, again;
    char out[TRACEPARENT_BYTES];
    if (!trace_parse(text, &context))
        return;
    HOLDS(trace_parse(trace_format(&context, out), &again) && memcmp(&again, &context, sizeof context) == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *text = arena_strndup(mem, (const char *)data, size);
    check_range(text);
    check_etags(text);
    check_digests(mem, text);
    check_key(mem, text);
    check_disposition(mem, text);
    check_media_type(text);
    check_trace(text);
    return 0;
}
