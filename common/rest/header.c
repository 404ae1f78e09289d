#include "rest/header.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "core/utf8.h"

enum { VALUE_BYTES = 1024, PARAMETERS_MAX = 16 };

static bool is_token(char c) {
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_blank(const char *p) {
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Copies the characters that ok accepts, lower-cased; NULL when there is none or it does not fit. */
static const char *take_token(const char *p, bool (*ok)(char), char *out, size_t size) {
    size_t n = 0;
    for (; ok(*p); p++) {
        if (n + 1 >= size)
            return NULL;
        out[n++] = (char)tolower((unsigned char)*p);
    }
    out[n] = '\0';
    return n ? p : NULL;
}

static bool is_main(char c) {
    return is_token(c) || c == '/';
}

/* Browsers escape neither '\' nor much else: only \" and \\ are escapes, "C:\new" is taken as it stands. */
static const char *take_quoted(const char *p, char *out, size_t size) {
    size_t n = 0;
    for (p++; *p != '"'; p++) {
        if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
        if (!*p || n + 1 >= size)
            return NULL;
        out[n++] = *p;
    }
    out[n] = '\0';
    return p + 1;
}

static const char *take_plain(const char *p, char *out, size_t size) {
    size_t n = 0;
    for (; is_token(*p); p++) {
        if (n + 1 >= size)
            return NULL;
        out[n++] = *p;
    }
    out[n] = '\0';
    return n ? p : NULL;
}

/* The next `; name=value` from *p. 1: there is one, 0: the end, -1: malformed. */
static int next_parameter(const char **p, char *name, size_t name_size, char *value, size_t value_size) {
    const char *at = skip_blank(*p);
    if (!*at)
        return 0;
    if (*at != ';')
        return -1;
    at = skip_blank(at + 1);
    if (!*at)
        return 0;                               /* a trailing ';' is common and harmless */
    at = take_token(at, is_token, name, name_size);
    if (!at || *at != '=')
        return -1;
    at = at[1] == '"' ? take_quoted(at + 1, value, value_size) : take_plain(at + 1, value, value_size);
    if (!at)
        return -1;
    *p = at;
    return 1;
}

/* RFC 2046: 1 to 70 characters of a small set, no space at the end. */
static bool is_boundary(const char *text) {
    size_t len = strlen(text);
    if (len < 1 || len > 70 || text[len - 1] == ' ')
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("'()+_,-./:=? ", *text))
            return false;
    return true;
}

bool media_type_parse(const char *value, struct media_type *ret_type) {
    struct media_type type = { .boundary = "" };
    char name[HEADER_NAME_BYTES], text[VALUE_BYTES];
    int more;
    const char *p = take_token(skip_blank(value), is_main, type.text, sizeof type.text);
    const char *slash = p ? strchr(type.text, '/') : NULL;
    if (!slash || slash == type.text || !slash[1] || strchr(slash + 1, '/'))
        return false;
    for (int i = 0; (more = next_parameter(&p, name, sizeof name, text, sizeof text)) > 0; i++) {
        if (i == PARAMETERS_MAX)
            return false;
        if (!str_equal(name, "boundary"))
            continue;
        if (*type.boundary || !is_boundary(text))
            return false;
        memcpy(type.boundary, text, strlen(text) + 1);          /* at most 70: is_boundary said so */
    }
    if (more < 0)
        return false;
    *ret_type = type;
    return true;
}

static bool is_clean(const char *text) {
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return utf8_is_text(text, strlen(text), NULL);
}

static bool keep(const char *text, char *out, size_t size) {
    size_t len = strlen(text);
    if (!is_clean(text) || len >= size)
        return false;
    memcpy(out, text, len + 1);
    return true;
}

static bool keep_file_name(const char *path, char out[HEADER_FILE_BYTES]) {
    const char *last = path;
    for (const char *p = path; *p; p++)
        if (*p == '/' || *p == '\\')
            last = p + 1;
    return keep(last, out, HEADER_FILE_BYTES);
}

/* RFC 8187: UTF-8'language'percent-encoded. */
static bool keep_extended(const char *value, char out[HEADER_FILE_BYTES]) {
    char text[VALUE_BYTES];
    size_t n = 0;
    if (strncasecmp(value, "utf-8'", 6) != 0 || !(value = strchr(value + 6, '\'')))
        return false;
    for (const char *p = value + 1; *p; p++) {
        uint8_t byte = (uint8_t)*p;
        if (*p == '%') {
            if (!p[1] || !p[2] || !hex_decode(p + 1, 2, &byte) || !byte)
                return false;
            p += 2;
        }
        text[n++] = (char)byte;                 /* never longer than what it was decoded from */
    }
    text[n] = '\0';
    return keep_file_name(text, out);
}

bool disposition_parse(const char *value, struct disposition *ret_disposition) {
    struct disposition d = { .name = "" };
    char name[HEADER_NAME_BYTES], text[VALUE_BYTES], extended[HEADER_FILE_BYTES] = "";
    unsigned seen = 0;
    int more;
    const char *p = take_token(skip_blank(value), is_token, d.kind, sizeof d.kind);
    if (!p)
        return false;
    for (int i = 0; (more = next_parameter(&p, name, sizeof name, text, sizeof text)) > 0; i++) {
        unsigned bit = str_equal(name, "name") ? 1 : str_equal(name, "filename") ? 2 : str_equal(name, "filename*") ? 4 : 0;
        if (i == PARAMETERS_MAX || (seen & bit))
            return false;
        seen |= bit;
        if ((bit == 1 && !keep(text, d.name, sizeof d.name)) || (bit == 2 && !keep_file_name(text, d.file_name)) ||
            (bit == 4 && !keep_extended(text, extended)))
            return false;
    }
    if (more < 0)
        return false;
    if (seen & 4)                               /* it wins over the plain one: RFC 6266, section 4.3 */
        (void)snprintf(d.file_name, sizeof d.file_name, "%s", extended);
    d.has_file_name = (seen & 6) != 0;
    *ret_disposition = d;
    return true;
}

char *disposition_print(struct arena *mem, const char *file_name) {
    static const char PLAIN[] = "!#$&+-.^_`|~";     /* attr-char of RFC 8187, besides letters and digits */
    const char *name = *file_name ? file_name : "document";
    size_t len = strlen(name), n = 0, m = 0;
    char *ascii = arena_alloc(mem, len + 1), *encoded = arena_alloc(mem, 3 * len + 1);
    for (const char *p = name; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool is_plain = c < 0x80 && (isalnum(c) || strchr(PLAIN, c));
        /* '%' is left out of the plain form too: some clients decode it there. */
        ascii[n++] = c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '%' ? (char)c : '_';
        if (is_plain) {
            encoded[m++] = (char)c;
        } else {
            (void)snprintf(encoded + m, 4, "%%%02X", c);
            m += 3;
        }
    }
    return arena_printf(mem, "attachment; filename=\"%s\"; filename*=UTF-8''%s", ascii, encoded);
}

/* One algorithm's value: new, or what was said before. */
static bool keep_digest(bool *has, uint8_t *out, size_t size, const uint8_t *bytes, size_t len) {
    bool is_new = !*has;
    if (len != size || (!is_new && memcmp(out, bytes, size) != 0))
        return false;
    *has = true;
    memcpy(out, bytes, size);
    return true;
}

bool digests_parse(struct arena *mem, const char *value, struct digests *digests) {
    char name[HEADER_NAME_BYTES];
    for (const char *p = skip_blank(value);; p = skip_blank(p + 1)) {
        p = take_token(p, is_token, name, sizeof name);
        if (!p || p[0] != '=' || p[1] != ':')
            return false;
        const char *text = p + 2, *end = strchr(text, ':');
        uint8_t *bytes = NULL;
        size_t len = 0;
        if (!end || !base64_decode(mem, text, (size_t)(end - text), &bytes, &len))
            return false;
        if (str_equal(name, "sha-256") && !keep_digest(&digests->has_sha256, digests->sha256, sizeof digests->sha256, bytes, len))
            return false;
        if (str_equal(name, "sha-512") && !keep_digest(&digests->has_sha512, digests->sha512, sizeof digests->sha512, bytes, len))
            return false;
        p = skip_blank(end + 1);
        if (!*p)
            return true;
        if (*p != ',')
            return false;
    }
}

/* Digits as a number that stops at INT64_MAX. NULL: there are none. */
static const char *take_number(const char *p, int64_t *ret_number) {
    const char *from = p;
    int64_t number = 0;
    for (; isdigit((unsigned char)*p); p++)
        number = number > (INT64_MAX - 9) / 10 ? INT64_MAX : 10 * number + (*p - '0');
    *ret_number = number;
    return p == from ? NULL : p;
}

bool byte_range_parse(const char *value, struct byte_range *ret_range) {
    static const char UNIT[] = "bytes=";
    const char *p = skip_blank(value), *next;
    int64_t first = -1, last = -1;
    if (strncasecmp(p, UNIT, sizeof UNIT - 1) != 0)
        return false;
    p = skip_blank(p + sizeof UNIT - 1);
    if ((next = take_number(p, &first)))
        p = next;
    if (*p++ != '-')
        return false;
    bool has_first = next != NULL;
    bool has_last = (next = take_number(p, &last)) != NULL;
    if (*skip_blank(next ? next : p) || (!has_first && !has_last) || (has_first && has_last && last < first))
        return false;
    ret_range->from = has_first ? first : -1;
    ret_range->length = !has_last ? -1 : !has_first ? last : last - first == INT64_MAX ? INT64_MAX : last - first + 1;
    return true;
}

bool etag_matches(const char *list, const char *etag, bool is_strong) {
    const char *p = skip_blank(list);
    if (*p == '*')
        return !*skip_blank(p + 1);
    while (*p) {
        bool is_weak = p[0] == 'W' && p[1] == '/';
        p += is_weak ? 2 : 0;
        const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
        if (!end)
            return false;
        size_t len = (size_t)(end - p) + 1;
        if (len == strlen(etag) && strncmp(p, etag, len) == 0 && !(is_weak && is_strong))
            return true;
        p = skip_blank(end + 1);
        if (*p && *p++ != ',')
            return false;
        p = skip_blank(p);
    }
    return false;
}

const char *idempotency_key_parse(struct arena *mem, const char *value) {
    const char *from = skip_blank(value);
    size_t len = strlen(from);
    while (len && (from[len - 1] == ' ' || from[len - 1] == '\t'))
        len--;
    bool is_quoted = len >= 2 && from[0] == '"' && from[len - 1] == '"';
    if (is_quoted) {
        from++;
        len -= 2;
    }
    if (len < 1 || len > IDEMPOTENCY_KEY_MAX_BYTES)
        return NULL;
    for (size_t i = 0; i < len; i++)
        if (from[i] < 0x21 || from[i] > 0x7e || from[i] == '"' || from[i] == '\\')
            return NULL;            /* an escape in the quoted form would make two texts of one key */
    return arena_strndup(mem, from, len);
}
