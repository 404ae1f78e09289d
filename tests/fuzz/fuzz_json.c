// links: json
/* What parses has one canonical form, and that form is canonical. */
#include <stdint.h>
#include <stdlib.h>

#include "json/canonical.h"
#include "json/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    if (json_parse(data, size, 64 << 10, &value, &why) != ST_OK || json_canonical(value, &out, &why) != ST_OK)
        return 0;
    if (!json_is_canonical(out.data, out.len))
        abort();
    return 0;
}
