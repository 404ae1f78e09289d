// links: verify_lib
/* The verifier reads what an operator who may be the culprit hands over. */
#include <stdio.h>
#include <stdlib.h>

#include "export.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct verifier KEY = { .name = "test.example/audit", .type = 1, .key_len = 32 };
    struct expected e = { .key = size > 0 && data[0] & 1 ? &KEY : NULL };
    struct report report;
    struct verifier ignored;
    struct checkpoint note;
    FILE *in = size ? fmemopen((void *)data, size, "rb") : NULL;
    if (!in)
        return 0;
    (void)export_check(in, &e, &report);
    (void)fclose(in);
    (void)verifier_read((struct text){ (const char *)data, size }, &ignored);
    (void)checkpoint_read((struct text){ (const char *)data, size }, &note);
    return 0;
}
