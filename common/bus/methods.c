#include "bus/methods.h"

#include <stddef.h>

#include "core/str.h"

static const char *const REPEATABLE_METHODS[] = {
#define REPEATABLE(method) method,
#include "bus/methods.def"
#undef REPEATABLE
};

bool method_is_repeatable(const char *method) {
    for (size_t i = 0; i < sizeof REPEATABLE_METHODS / sizeof *REPEATABLE_METHODS; i++)
        if (str_equal(method, REPEATABLE_METHODS[i]))
            return true;
    return false;
}
