// links: aws
/* Small XML answers from outside. */
#include <stdint.h>

#include "aws/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char *text;
    (void)xml_text(mem, (const char *)data, size, "Code", &text);
    return 0;
}
