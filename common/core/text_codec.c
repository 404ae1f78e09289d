#include "core/text_codec.h"

#include <string.h>

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char BASE64URL[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *hex_encode(const void *data, size_t len, char *out) {
    static const char DIGITS[] = "0123456789abcdef";
    const uint8_t *in = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = DIGITS[in[i] >> 4];
        out[2 * i + 1] = DIGITS[in[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, size_t len, void *out) {
    uint8_t *bytes = out;
    if (len % 2)
        return false;
    for (size_t i = 0; i < len; i += 2) {
        int hi = hex_value(text[i]), lo = hex_value(text[i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        bytes[i / 2] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static char *encode(struct arena *mem, const uint8_t *in, size_t len, const char *alphabet, bool is_padded) {
    char *out = arena_alloc(mem, (len / 3 + 1) * 4 + 1), *p = out;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        *p++ = alphabet[v >> 18];
        *p++ = alphabet[v >> 12 & 63];
        if (left > 1)
            *p++ = alphabet[v >> 6 & 63];
        else if (is_padded)
            *p++ = '=';
        if (left > 2)
            *p++ = alphabet[v & 63];
        else if (is_padded)
            *p++ = '=';
    }
    *p = '\0';
    return out;
}

static bool decode(struct arena *mem, const char *text, size_t len, const char *alphabet,
                   uint8_t **ret_data, size_t *ret_len) {
    if (len % 4 == 1)
        return false;
    uint8_t *out = arena_alloc(mem, len / 4 * 3 + 3);
    size_t n = 0;
    uint32_t bits = 0;
    unsigned bit_count = 0;
    for (size_t i = 0; i < len; i++) {
        const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            out[n++] = (uint8_t)(bits >> bit_count);
            bits &= (1u << bit_count) - 1;
        }
    }
    if (bits)                       /* a canonical encoder leaves the unused bits zero */
        return false;
    *ret_data = out;
    *ret_len = n;
    return true;
}

char *base64_encode(struct arena *mem, const void *data, size_t len) {
    return encode(mem, data, len, BASE64, true);
}

char *base64url_encode(struct arena *mem, const void *data, size_t len) {
    return encode(mem, data, len, BASE64URL, false);
}

bool base64_decode(struct arena *mem, const char *text, size_t len, uint8_t **ret_data, size_t *ret_len) {
    if (len % 4)
        return false;
    size_t padding = 0;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    return decode(mem, text, len - padding, BASE64, ret_data, ret_len);
}

bool base64url_decode(struct arena *mem, const char *text, size_t len, uint8_t **ret_data, size_t *ret_len) {
    return decode(mem, text, len, BASE64URL, ret_data, ret_len);
}
