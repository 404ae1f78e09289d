// links: verify_lib
/* A receipt or certificate, from whoever wants it believed. */
#include <stdlib.h>

#include "record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct text PROMPT = { "prompt", 6 };
    struct record r;
    (void)record_check((struct text){ (const char *)data, size }, NULL, size % 2 ? &PROMPT : NULL, &r);
    free(r.bytes);
    return 0;
}
