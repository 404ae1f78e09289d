// links: db
/* Where a list shall go on, as a client says it: what is understood is what we would have written. */
#include <stdlib.h>
#include <string.h>

#include "db/cursor.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *text = arena_strndup(mem, (const char *)data, size);
    struct why why = { 0 };
    struct uuid id;
    int64_t number = 0;
    struct list_page page;
    bool is_first = false;
    if (cursor_to_uuid(mem, text, &is_first, &id, &why) == ST_OK && (is_first ? *text != '\0' : strcmp(cursor_from_uuid(mem, &id), text) != 0))
        abort();
    if (cursor_to_number(mem, text, &is_first, &number, &why) == ST_OK &&
        (is_first ? *text != '\0' : strcmp(cursor_from_number(mem, number), text) != 0))
        abort();
    if (list_page_read(mem, text, (uint32_t)size, &page, &why) == ST_OK && (page.limit < 1 || page.limit > PAGE_ROWS_MAX))
        abort();
    return 0;
}
