#include "json.h"

#include <string.h>

enum { DEPTH_MAX = 16 };

bool text_is(struct text t, const char *s) {
    return t.len == strlen(s) && memcmp(t.data, s, t.len) == 0;
}

/* ---- reading over values; each returns where the value ends, NULL when it is none ---- */

/* Bytes of a string that mean themselves; and what a hexadecimal digit is worth, plus one. */
#define SIXTEEN(n) n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n
static const unsigned char PLAIN[256] = {
    SIXTEEN(0), SIXTEEN(0), 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, SIXTEEN(1), SIXTEEN(1), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1,
    SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1), SIXTEEN(1),
};
static const unsigned char HEX[256] = {
    ['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
    ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static const char *skip_string(const char *p, const char *end) {
    if (p == end || *p != '"')
        return NULL;
    for (p++; p < end; p++) {
        while (p < end && PLAIN[(unsigned char)*p])
            p++;
        if (p == end || (*p != '"' && *p != '\\'))
            return NULL;
        if (*p == '"')
            return p + 1;
        if (++p == end)
            return NULL;
    }
    return NULL;
}

static const char *skip_number(const char *p, const char *end) {
    const char *from = p;
    while (p < end && ((*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == '.' || *p == 'e' || *p == 'E'))
        p++;
    return p == from ? NULL : p;
}

static const char *skip_word(const char *p, const char *end, const char *word) {
    size_t len = strlen(word);
    return (size_t)(end - p) >= len && memcmp(p, word, len) == 0 ? p + len : NULL;
}

static const char *skip_value(const char *p, const char *end);

/* Brackets of what is nested, without recursion. Members inside are not looked at more closely. */
static const char *skip_nested(const char *p, const char *end) {
    char open[DEPTH_MAX];
    int depth = 0;
    do {
        if (p == end)
            return NULL;
        if (*p == '{' || *p == '[') {
            if (depth == DEPTH_MAX)
                return NULL;
            open[depth++] = *p++;
        } else if (*p == '}' || *p == ']') {
            if (open[--depth] != (*p == '}' ? '{' : '['))
                return NULL;
            p++;
        } else if (*p == ',' || *p == ':') {
            p++;
        } else {
            p = skip_value(p, end);
            if (!p)
                return NULL;
        }
    } while (depth > 0);
    return p;
}

static const char *skip_value(const char *p, const char *end) {
    if (p == end)
        return NULL;
    switch (*p) {
    case '"': return skip_string(p, end);
    case '{':
    case '[': return skip_nested(p, end);
    case 't': return skip_word(p, end, "true");
    case 'f': return skip_word(p, end, "false");
    case 'n': return skip_word(p, end, "null");
    default:  return skip_number(p, end);
    }
}

/* ---- objects ---- */

static int compare(struct text a, struct text b) {
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static bool is_new_name(const struct object *o, struct text name, bool is_sorted) {
    if (is_sorted)
        return o->count == 0 || compare(o->members[o->count - 1].name, name) < 0;
    for (size_t i = 0; i < o->count; i++)
        if (compare(o->members[i].name, name) == 0)
            return false;
    return true;
}

bool json_object_read(const char *data, size_t len, bool is_sorted, struct object *out) {
    const char *p = data, *end = data + len;
    out->count = 0;
    if (p == end || *p++ != '{')
        return false;
    while (p < end && *p != '}') {
        if (out->count > 0 && *p++ != ',')
            return false;
        const char *name = p;
        p = skip_string(p, end);
        if (!p || out->count == JSON_MEMBERS_MAX || memchr(name, '\\', (size_t)(p - name)))
            return false;
        struct text t = { name + 1, (size_t)(p - name) - 2 };
        if (!is_new_name(out, t, is_sorted) || p == end || *p++ != ':')
            return false;
        const char *value = p;
        p = skip_value(p, end);
        if (!p)
            return false;
        out->members[out->count].name = t;
        out->members[out->count++].value = (struct text){ value, (size_t)(p - value) };
    }
    return p < end && *p == '}' && p + 1 == end;
}

static bool find(const struct object *o, const char *name, struct text *out) {
    for (size_t i = 0; i < o->count; i++)
        if (text_is(o->members[i].name, name)) {
            *out = o->members[i].value;
            return true;
        }
    return false;
}

bool json_has(const struct object *o, const char *name) {
    struct text t;
    return find(o, name, &t);
}

bool json_u64(const struct object *o, const char *name, uint64_t *out) {
    struct text t;
    uint64_t value = 0;
    if (!find(o, name, &t) || t.len == 0 || t.len > 18 || (t.data[0] == '0' && t.len > 1))
        return false;
    for (size_t i = 0; i < t.len; i++) {
        if (t.data[i] < '0' || t.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(t.data[i] - '0');
    }
    *out = value;
    return true;
}

bool json_plain_text(const struct object *o, const char *name, struct text *out) {
    struct text t;
    if (!find(o, name, &t) || t.data[0] != '"' || memchr(t.data, '\\', t.len))
        return false;
    *out = (struct text){ t.data + 1, t.len - 2 };
    return true;
}

bool hex_read(struct text t, uint8_t *out, size_t len) {
    if (t.len != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned high = HEX[(unsigned char)t.data[2 * i]], low = HEX[(unsigned char)t.data[2 * i + 1]];
        if (!high || !low)
            return false;
        out[i] = (uint8_t)((high - 1) << 4 | (low - 1));
    }
    return true;
}

/* One escaped character behind its backslash; *p is moved over it. -1: not one that we read. */
static int unescape(const char **p, const char *end) {
    uint8_t value;
    switch (*(*p)++) {
    case 'n':  return '\n';
    case 'r':  return '\r';
    case 't':  return '\t';
    case 'b':  return '\b';
    case 'f':  return '\f';
    case '"':  return '"';
    case '\\': return '\\';
    case '/':  return '/';
    case 'u':
        if (end - *p < 4 || memcmp(*p, "00", 2) != 0 || !hex_read((struct text){ *p + 2, 2 }, &value, 1) || value > 0x7f)
            return -1;
        *p += 4;
        return value;
    default:
        return -1;
    }
}

bool text_unescape(struct text quoted, char *out, size_t size, size_t *out_len) {
    size_t len = 0;
    if (quoted.len < 2 || quoted.data[0] != '"')
        return false;
    for (const char *p = quoted.data + 1, *end = quoted.data + quoted.len - 1; p < end;) {
        int c = (unsigned char)*p++;
        if (c == '\\')
            c = p < end ? unescape(&p, end) : -1;
        if (c < 0 || len == size)
            return false;
        out[len++] = (char)c;
    }
    *out_len = len;
    return true;
}

bool json_text(const struct object *o, const char *name, char *out, size_t size, size_t *out_len) {
    struct text t;
    return find(o, name, &t) && text_unescape(t, out, size, out_len);
}

bool json_value(const struct object *o, const char *name, struct text *out) {
    return find(o, name, out);
}

bool json_next_item(struct text *array, struct text *out) {
    const char *p = array->data, *end = p + array->len;
    if (array->len < 2 || (*p != '[' && *p != ',') || p[1] == ']')
        return false;
    const char *item = p + 1;
    p = skip_value(item, end - 1);
    if (!p || p == end || (*p != ',' && !(*p == ']' && p + 1 == end)))
        return false;
    *out = (struct text){ item, (size_t)(p - item) };
    *array = (struct text){ p, (size_t)(end - p) };
    return true;
}

bool json_hash(const struct object *o, const char *name, struct hash *out) {
    struct text t;
    return json_plain_text(o, name, &t) && hex_read(t, out->bytes, HASH_BYTES);
}

bool json_hashes(const struct object *o, const char *name, struct hash out[], size_t max, size_t *out_count) {
    enum { QUOTED_BYTES = 2 * HASH_BYTES + 2 };
    struct text t;
    size_t count = 0;
    if (!find(o, name, &t) || t.len < 2 || t.data[0] != '[')
        return false;
    const char *p = t.data + 1, *end = t.data + t.len - 1;
    while (p < end) {
        if (count > 0 && *p++ != ',')
            return false;
        if (count == max || end - p < QUOTED_BYTES || p[0] != '"' || p[QUOTED_BYTES - 1] != '"' ||
            !hex_read((struct text){ p + 1, 2 * HASH_BYTES }, out[count].bytes, HASH_BYTES))
            return false;
        count++;
        p += QUOTED_BYTES;
    }
    *out_count = count;
    return true;
}
