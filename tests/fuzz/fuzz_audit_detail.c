// links: audit
/* A detail that is accepted makes an event that renders canonically, stays within its limit, and reads back. */
#include <stdlib.h>
#include <string.h>

#include "audit/event.h"
#include "json/canonical.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    struct why why = { 0 };
    memcpy(text, data, size);
    text[size] = '\0';
    struct audit_record record = { .event_id = { { 1 } }, .detail_json = text };
    struct audit_origin origin = { .reported_by = "query" };
    struct audit_stamp stamp = { .seq = 1 };
    CLEANUP(audit_event_destroy) struct audit_event *event = NULL;
    if (audit_event_new(&record, &origin, &event, &why) == ST_OK &&
        (audit_event_stamp(event, &stamp, &why) != ST_OK || !json_is_canonical(event->bytes.data, event->bytes.len)))
        abort();
    free(text);
    return 0;
}
