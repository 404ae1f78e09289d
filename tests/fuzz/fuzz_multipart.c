// links: rest
/* Any bytes after a first byte that says how they are split; the parts' bytes never exceed the body's. */
#include <stdlib.h>

#include "rest/multipart.h"

static enum status on_begin(void *ctx, const struct multipart_part *part, struct why *why) {
    (void)ctx;
    (void)why;
    if (!*part->disposition.name)
        abort();
    return ST_OK;
}

static enum status on_data(void *ctx, const void *data, size_t len, struct why *why) {
    (void)why;
    const volatile char *bytes = data;
    for (size_t i = 0; i < len; i++)
        (void)bytes[i];
    *(size_t *)ctx += len;
    return ST_OK;
}

static enum status on_end(void *ctx, struct why *why) {
    (void)ctx;
    (void)why;
    return ST_OK;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size < 1)
        return 0;
    size_t given = 0, step = data[0] % 64 + 1U;
    struct multipart_sink sink = { &given, on_begin, on_data, on_end };
    struct multipart *m = multipart_new("b", &sink);
    struct why why = { 0 };
    enum status st = ST_OK;
    for (size_t at = 1; at < size && st == ST_OK; at += step)
        st = multipart_feed(m, data + at, size - at < step ? size - at : step, &why);
    if (given > size)
        abort();
    if (st == ST_OK && multipart_finish(m, &why) != ST_OK && !*why.text)
        abort();
    multipart_destroy(&m);
    return 0;
}
