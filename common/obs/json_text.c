#include "obs/json_text.h"

#include <stdio.h>
#include <string.h>

/* Length of the well-formed UTF-8 character at s, 0 when there is none (RFC 3629: no overlongs, no
 * surrogates, nothing above U+10FFFF). */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80)
        return 1;
    size_t len = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

/* The JSON form of the character at s; *ret_taken is how many bytes of s it stands for. */
static size_t escape(const unsigned char *s, char out[8], size_t *ret_taken) {
    *ret_taken = 1;
    if (*s == '"' || *s == '\\')
        return (size_t)snprintf(out, 8, "\\%c", *s);
    if (*s < 0x20 || *s == 0x7f)
        return (size_t)snprintf(out, 8, "\\u%04x", *s);
    size_t len = utf8_length(s);
    if (len == 0)
        return (size_t)snprintf(out, 8, "\\ufffd");
    *ret_taken = len;
    memcpy(out, s, len);
    return len;
}

size_t json_text_put(char *out, size_t size, const char *text) {
    size_t len = 0;
    out[len++] = '"';
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        char piece[8];
        size_t taken, piece_len = escape(s, piece, &taken);
        if (len + piece_len + 2 > size)
            break;
        memcpy(out + len, piece, piece_len);
        len += piece_len;
        s += taken;
    }
    out[len++] = '"';
    out[len] = '\0';
    return len;
}
