// links: query_lib
/* A model's text through the citations, cut anywhere: the same as whole, and left as it is when it goes through again. The
 * first byte says how many sources there are, the second how large the portions. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "citations.h"

enum { SOURCES_MAX = 32 };

static void check(const char *text, size_t len, size_t sources, size_t portion, struct buffer *out) {
    struct why why = { 0 };
    bool is_cited[SOURCES_MAX] = { false };
    struct citations c = { .source_count = sources, .is_cited = is_cited };
    for (size_t at = 0; at < len; at += portion)
        if (citations_feed(&c, text + at, portion < len - at ? portion : len - at, &why) != ST_OK)
            abort();
    if (citations_finish(&c, &why) != ST_OK)
        abort();
    (void)buffer_add(out, c.text.data ? c.text.data : "", c.text.len);
    citations_end(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(buffer_end) struct buffer whole = { 0 };
    CLEANUP(buffer_end) struct buffer cut = { 0 };
    CLEANUP(buffer_end) struct buffer again = { 0 };
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 2;
    size_t len = size - 2, sources = data[0] % (SOURCES_MAX + 1);
    check(text, len, sources, len + 1, &whole);
    check(text, len, sources, data[1] % 7 + 1U, &cut);
    check(whole.data, whole.len, sources, 3, &again);
    if (strcmp(whole.data, cut.data) != 0 || strcmp(whole.data, again.data) != 0)
        abort();
    return 0;
}
