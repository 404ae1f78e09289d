#include "aws/xml.h"

#include <string.h>

#include "core/str.h"

static const struct { const char *entity; char character; } ENTITIES[] = {
    { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' },
};

/* Bytes of the entity at p and its character; 0 when it is none that we know. */
static size_t entity(const char *p, size_t len, char *ret_character) {
    for (size_t i = 0; i < sizeof ENTITIES / sizeof *ENTITIES; i++) {
        size_t n = strlen(ENTITIES[i].entity);
        if (len >= n && memcmp(p, ENTITIES[i].entity, n) == 0) {
            *ret_character = ENTITIES[i].character;
            return n;
        }
    }
    char digits[8];
    const char *end = memchr(p, ';', len < 8 ? len : 8);
    int64_t number;
    if (len < 4 || p[1] != '#' || !end || end - p < 3)
        return 0;
    memcpy(digits, p + 2, (size_t)(end - p - 2));
    digits[end - p - 2] = '\0';
    if (!str_to_i64(digits, 1, 127, &number))
        return 0;
    *ret_character = (char)number;
    return (size_t)(end - p) + 1;
}

bool xml_text(struct arena *mem, const char *xml, size_t len, const char *name, char **ret_text) {
    const char *open = arena_printf(mem, "<%s>", name);
    const char *from = len ? memmem(xml, len, open, strlen(open)) : NULL;
    if (!from)
        return false;
    from += strlen(open);
    const char *close = arena_printf(mem, "</%s>", name);
    const char *to = memmem(from, len - (size_t)(from - xml), close, strlen(close));
    if (!to || memchr(from, '<', (size_t)(to - from)))
        return false;
    char *text = arena_alloc(mem, (size_t)(to - from) + 1), *out = text;
    while (from < to) {
        if (*from != '&') {
            *out++ = *from++;
            continue;
        }
        size_t n = entity(from, (size_t)(to - from), out);
        if (n == 0)
            return false;
        out++;
        from += n;
    }
    *ret_text = text;
    return true;
}

bool xml_escape(const char *text, struct buffer *out) {
    bool fits = true;
    for (; *text && fits; text++) {
        const char *as = NULL;
        for (size_t i = 0; i < sizeof ENTITIES / sizeof *ENTITIES; i++)
            if (ENTITIES[i].character == *text)
                as = ENTITIES[i].entity;
        fits = as ? buffer_add_str(out, as) : buffer_add(out, text, 1);
    }
    return fits;
}
