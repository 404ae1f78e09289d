// links: verify_lib
/* A package of evidence, from whoever wants it believed. */
#include <stdio.h>

#include "package.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct package_report r;
    FILE *in = size ? fmemopen((void *)data, size, "rb") : NULL;
    if (!in)
        return 0;
    (void)package_check(in, NULL, &r);
    (void)fclose(in);
    return 0;
}
