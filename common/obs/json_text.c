#include "obs/json_text.h"

#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

/* The JSON form of the character at s; *ret_taken is how many bytes of s it stands for. */
static size_t escape(const char *s, char out[8], size_t *ret_taken) {
    *ret_taken = 1;
    if (*s == '"' || *s == '\\')
        return (size_t)snprintf(out, 8, "\\%c", *s);
    if ((unsigned char)*s < 0x20 || *s == 0x7f)
        return (size_t)snprintf(out, 8, "\\u%04x", (unsigned char)*s);
    size_t len = utf8_sequence(s, strnlen(s, 4));
    if (len == 0)
        return (size_t)snprintf(out, 8, "\\ufffd");
    *ret_taken = len;
    memcpy(out, s, len);
    return len;
}

size_t json_text_put(char *out, size_t size, const char *text) {
    size_t len = 0;
    out[len++] = '"';
    for (const char *s = text; *s;) {
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
