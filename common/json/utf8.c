#include "json/utf8.h"

#include <stdint.h>

static bool is_tail(uint8_t byte) {
    return (byte & 0xc0) == 0x80;
}

size_t utf8_sequence(const char *s, size_t len) {
    const uint8_t *p = (const uint8_t *)s;
    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size_t need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (len < need)
        return 0;
    for (size_t i = 1; i < need; i++)
        if (!is_tail(p[i]))
            return 0;
    /* The second byte tells overlong forms, surrogates and numbers beyond Unicode. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return need;
}

bool utf8_is_valid(const char *s, size_t len) {
    for (size_t i = 0, step; i < len; i += step)
        if ((step = utf8_sequence(s + i, len - i)) == 0)
            return false;
    return true;
}
