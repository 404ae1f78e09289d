// links: rest proto
/* Any text as the body or query string of a request; what is accepted prints and reads back the same. */
#include <stdlib.h>
#include <string.h>

#include "query.pb-c.h"
#include "rest/fill.h"
#include "rest/print.h"

static const struct fill_rule RULES[] = {
    { "query.SearchRequest", "question", true, 1, 4000, "", "" },
    { "query.ListAuditEventsRequest", "action", false, 1, 64, "^[a-z_.]+$", "" },
    { 0 }
};

static bool print(const ProtobufCMessage *msg, struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    return print_message(msg, &w) && json_finish(&w);
}

static void check(const ProtobufCMessageDescriptor *want, const char *text, size_t len, bool is_query) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(1 << 20);
    CLEANUP(buffer_end) struct buffer once = { .limit_bytes = 0 };
    CLEANUP(buffer_end) struct buffer twice = { .limit_bytes = 0 };
    struct why why = { 0 };
    struct fill f;
    fill_init(&f, mem, RULES, want, &why);
    enum status st = is_query ? fill_query(&f, arena_strndup(mem, text, len)) : fill_json(&f, text, len);
    if (st != ST_OK && !*f.detail)
        abort();
    if (st != ST_OK || !print(f.msg, &once))
        return;
    fill_init(&f, mem, NULL, want, &why);       /* what was left out is printed as empty, which a rule may refuse */
    if (fill_json(&f, once.data, once.len) != ST_OK || !print(f.msg, &twice) || strcmp(once.data, twice.data) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    check(&query__search_request__descriptor, (const char *)data, size, false);
    check(&query__search_reply__descriptor, (const char *)data, size, false);
    check(&query__list_audit_events_request__descriptor, (const char *)data, size, true);
    return 0;
}
