#include "core/scopes.h"

#include <string.h>

static const struct { uint64_t bit; const char *text; } SCOPES[] = {
#define SCOPE(id, bit, text) { id, text },
#include "core/scopes.def"
#undef SCOPE
};

uint64_t scope_from_text(const char *text, size_t len) {
    for (size_t i = 0; i < sizeof SCOPES / sizeof *SCOPES; i++)
        if (strlen(SCOPES[i].text) == len && memcmp(SCOPES[i].text, text, len) == 0)
            return SCOPES[i].bit;
    return SCOPE_NONE;
}

const char *scope_text(uint64_t scope) {
    for (size_t i = 0; i < sizeof SCOPES / sizeof *SCOPES; i++)
        if (SCOPES[i].bit == scope)
            return SCOPES[i].text;
    return "";
}
