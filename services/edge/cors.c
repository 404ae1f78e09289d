#include "cors.h"

#include <string.h>

#include "core/str.h"

bool cors_allows(const char *allowed_origins, const char *origin) {
    if (!origin || !*origin || str_equal(origin, "*") || str_equal(origin, "null"))
        return false;
    size_t len = strlen(origin);
    for (const char *p = allowed_origins; *p;) {
        p += strspn(p, ", ");
        size_t n = strcspn(p, ", ");
        if (n == len && strncmp(p, origin, len) == 0)
            return true;
        p += n;
    }
    return false;
}
