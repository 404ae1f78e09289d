#include "json/canonical.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/utf8.h"
#include "json/reader.h"

#define EXACT_MAX ((INT64_C(1) << 53) - 1)

static enum status full(struct why *why) {
    return fail_as(why, ERR_REQ_FIELD, "json: canonical form is over its limit");
}

static enum status put_text(const char *text, size_t len, struct buffer *out, struct why *why) {
    static const char SHORT[] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r' };
    if (!utf8_is_text(text, len, NULL))
        return fail_as(why, ERR_REQ_FIELD, "json: text is not UTF-8");
    bool fits = buffer_add(out, "\"", 1);
    size_t plain = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        fits = fits && buffer_add(out, text + plain, i - plain);
        if (c == '"' || c == '\\')
            fits = fits && buffer_printf(out, "\\%c", c);
        else if (c < sizeof SHORT && SHORT[c])
            fits = fits && buffer_printf(out, "\\%c", SHORT[c]);
        else
            fits = fits && buffer_printf(out, "\\u%04x", c);
        plain = i + 1;
    }
    fits = fits && buffer_add(out, text + plain, len - plain) && buffer_add(out, "\"", 1);
    return fits ? ST_OK : full(why);
}

/* UTF-16 order from UTF-8 bytes: they disagree only where U+E000..U+FFFF (first byte EE, EF) meets what
 * UTF-16 writes with surrogates (first byte F0..F4), which must come first. */
static int rank(unsigned char byte) {
    return byte == 0xee || byte == 0xef ? byte + 0x10 : byte;
}

static int by_utf16(const void *a, const void *b) {
    const unsigned char *x = *(const unsigned char *const *)a, *y = *(const unsigned char *const *)b;
    while (*x && *x == *y)
        x++, y++;
    return rank(*x) - rank(*y);
}

static enum status put_value(const json_t *value, unsigned depth, struct buffer *out, struct why *why);

static enum status put_array(const json_t *array, unsigned depth, struct buffer *out, struct why *why) {
    if (!buffer_add(out, "[", 1))
        return full(why);
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0 && !buffer_add(out, ",", 1))
            return full(why);
        enum status st = put_value(json_array_get(array, i), depth + 1, out, why);
        if (st != ST_OK)
            return st;
    }
    return buffer_add(out, "]", 1) ? ST_OK : full(why);
}

static enum status put_members(const json_t *object, const char *const names[], unsigned depth, struct buffer *out,
                               struct why *why) {
    for (size_t i = 0; i < json_object_size(object); i++) {
        if (i > 0 && !buffer_add(out, ",", 1))
            return full(why);
        enum status st = put_text(names[i], strlen(names[i]), out, why);
        if (st != ST_OK)
            return st;
        if (!buffer_add(out, ":", 1))
            return full(why);
        st = put_value(json_object_get(object, names[i]), depth + 1, out, why);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

static enum status put_object(const json_t *object, unsigned depth, struct buffer *out, struct why *why) {
    if (!buffer_add(out, "{", 1))
        return full(why);
    const char **names = xalloc(json_object_size(object) * sizeof *names);
    size_t n = 0;
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)object, key, member)
        names[n++] = key;
    qsort(names, n, sizeof *names, by_utf16);
    enum status st = put_members(object, names, depth, out, why);
    free(names);
    if (st != ST_OK)
        return st;
    return buffer_add(out, "}", 1) ? ST_OK : full(why);
}

static enum status put_value(const json_t *value, unsigned depth, struct buffer *out, struct why *why) {
    if (!value || depth > JSON_DEPTH_MAX)
        return fail_as(why, ERR_REQ_FIELD, "json: no value, or nested deeper than %d", JSON_DEPTH_MAX);
    switch (json_typeof(value)) {
    case JSON_OBJECT: return put_object(value, depth, out, why);
    case JSON_ARRAY:  return put_array(value, depth, out, why);
    case JSON_STRING: return put_text(json_string_value(value), json_string_length(value), out, why);
    case JSON_TRUE:   return buffer_add_str(out, "true") ? ST_OK : full(why);
    case JSON_FALSE:  return buffer_add_str(out, "false") ? ST_OK : full(why);
    case JSON_NULL:   return buffer_add_str(out, "null") ? ST_OK : full(why);
    case JSON_INTEGER: {
        int64_t number = json_integer_value(value);
        if (number > EXACT_MAX || number < -EXACT_MAX)
            return fail_as(why, ERR_REQ_FIELD, "json: a whole number is beyond 2^53 - 1");
        return buffer_printf(out, "%" PRId64, number) ? ST_OK : full(why);
    }
    case JSON_REAL: break;
    }
    return fail_as(why, ERR_REQ_FIELD, "json: a number is not whole");
}

enum status json_canonical(const json_t *value, struct buffer *out, struct why *why) {
    return put_value(value, 1, out, why);
}

bool json_is_canonical(const void *text, size_t len) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *value = NULL;
    CLEANUP(buffer_end) struct buffer again = { .limit_bytes = len };
    return json_parse(text, len, len, &value, &why) == ST_OK && json_canonical(value, &again, &why) == ST_OK &&
           again.len == len && memcmp(again.data, text, len) == 0;
}
