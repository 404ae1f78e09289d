#include "text/utf8.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the valid sequence at s, 0 when there is none. RFC 3629, table of section 4. */
static size_t sequence(const uint8_t *s, size_t len) {
    uint8_t low = 0x80, high = 0xBF;
    size_t n;
    if (s[0] >= 0x01 && s[0] <= 0x7F)
        return 1;
    if (s[0] >= 0xC2 && s[0] <= 0xDF)
        n = 2;
    else if (s[0] >= 0xE0 && s[0] <= 0xEF)
        n = 3;
    else if (s[0] >= 0xF0 && s[0] <= 0xF4)
        n = 4;
    else
        return 0;
    if (s[0] == 0xE0)
        low = 0xA0;         /* below: overlong */
    else if (s[0] == 0xED)
        high = 0x9F;        /* above: surrogates */
    else if (s[0] == 0xF0)
        low = 0x90;
    else if (s[0] == 0xF4)
        high = 0x8F;        /* above: beyond U+10FFFF */
    if (len < n || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return n;
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
        size_t n = sequence(s + at, len - at);
        if (n == 0) {
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
        n += ((uint8_t)text[i] & 0xC0) != 0x80;
    return n;
}

size_t utf8_step(const char *text) {
    uint8_t c = (uint8_t)*text;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

size_t utf8_floor(const char *text, size_t len, size_t max_bytes) {
    if (max_bytes >= len)
        return len;
    while (max_bytes > 0 && ((uint8_t)text[max_bytes] & 0xC0) == 0x80)
        max_bytes--;
    return max_bytes;
}
