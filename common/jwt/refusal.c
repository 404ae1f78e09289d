#include "jwt/refusal.h"

static const struct { const char *name; enum error_code code; } REFUSALS[] = {
#define REFUSAL(id, name, code) [id] = { name, code },
#include "jwt/refusals.def"
#undef REFUSAL
};

const char *jwt_refusal_name(enum jwt_refusal refusal) {
    return (unsigned)refusal < JWT_REFUSAL_COUNT ? REFUSALS[refusal].name : "?";
}

enum error_code jwt_refusal_error(enum jwt_refusal refusal) {
    return (unsigned)refusal < JWT_REFUSAL_COUNT ? REFUSALS[refusal].code : ERR_AUTH_TOKEN;
}
