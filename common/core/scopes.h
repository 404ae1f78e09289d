/* scopes — what a verified ticket allows, as bits. */
#ifndef CORDON_CORE_SCOPES_H
#define CORDON_CORE_SCOPES_H

#include <stddef.h>
#include <stdint.h>

enum scope {
    SCOPE_NONE = 0,
#define SCOPE(id, bit, text) id = 1 << (bit),
#include "core/scopes.def"
#undef SCOPE
};

/* The bit of a scope's text (len bytes, not NUL-terminated); SCOPE_NONE when unknown. */
uint64_t scope_from_text(const char *text, size_t len);
/* Text of a single bit; "" when it is none or several. */
const char *scope_text(uint64_t scope);

#endif
