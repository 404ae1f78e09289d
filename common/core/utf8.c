#include "core/utf8.h"

#include <stdint.h>
#include <string.h>

static bool is_tail(uint8_t byte) {
    return (byte & 0xC0) == 0x80;
}

/* The table of RFC 3629, section 4. The second byte tells overlong forms, surrogates and what is beyond Unicode. */
size_t utf8_sequence(const char *text, size_t len) {
    const uint8_t *s = (const uint8_t *)text;
    if (len == 0 || s[0] < 0x80)
        return len > 0;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    size_t need = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint8_t low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80, high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (len < need || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if (!is_tail(s[i]))
            return 0;
    return need;
}

/* Eight bytes at once that are all in 0x01..0x7F: nearly every word of our documents. */
static bool is_plain_word(const uint8_t *s) {
    const uint64_t high = 0x8080808080808080U, ones = 0x0101010101010101U;
    uint64_t w;
    memcpy(&w, s, sizeof w);
    return !(w & high) && !((w - ones) & high);
}

bool utf8_is_text(const void *data, size_t len, size_t *ret_bad_offset) {
    const uint8_t *s = data;
    for (size_t at = 0; at < len;) {
        if (len - at >= 8 && is_plain_word(s + at)) {
            at += 8;
            continue;
        }
        size_t n = utf8_sequence((const char *)s + at, len - at);
        if (n == 0 || s[at] == '\0') {
            if (ret_bad_offset)
                *ret_bad_offset = at;
            return false;
        }
        at += n;
    }
    return true;
}

size_t utf8_count(const char *text, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += !is_tail((uint8_t)text[i]);
    return n;
}

size_t utf8_step(const char *text) {
    uint8_t c = (uint8_t)*text;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

size_t utf8_floor(const char *text, size_t len, size_t max_bytes) {
    if (max_bytes >= len)
        return len;
    while (max_bytes > 0 && is_tail((uint8_t)text[max_bytes]))
        max_bytes--;
    return max_bytes;
}
