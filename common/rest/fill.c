#include "rest/fill.h"

#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "core/utf8.h"
#include "json/reader.h"
#include "rest/fill_value.h"
#include "rest/shape.h"

enum { NAME_SHOWN_BYTES = 48, PARAMETERS_MAX = 32 };

const struct fill_rule *fill_rule_find(const struct fill_rule *rules, const char *message, const char *field) {
    for (const struct fill_rule *r = rules; r && r->message; r++)
        if (str_equal(r->message, message) && str_equal(r->field, field))
            return r;
    return NULL;
}

void fill_init(struct fill *f, struct arena *mem, const struct fill_rule *rules,
               const ProtobufCMessageDescriptor *want, struct why *why) {
    *f = (struct fill){ .mem = mem, .rules = rules, .why = why };
    f->msg = arena_alloc(mem, want->sizeof_message);
    want->message_init(f->msg);
}

/* A name that came from the client, fit to be shown back to it. */
static enum status refuse_name(struct fill *f, const char *name, const char *what) {
    size_t len = strlen(name);
    len = len > NAME_SHOWN_BYTES ? utf8_floor(name, len, NAME_SHOWN_BYTES) : len;
    (void)snprintf(f->detail, sizeof f->detail, "'%.*s' %s", (int)len, name, what);
    return fail_as(f->why, ERR_REQ_FIELD, "%s: a member %s", f->msg->descriptor->name, what);
}

static enum status claim(struct fill *f, const ProtobufCFieldDescriptor *field, const char *name) {
    uint64_t bit = 1ULL << (unsigned)(field - f->msg->descriptor->fields);
    if (f->seen & bit)
        return refuse_name(f, name, "is given twice");
    f->seen |= bit;
    return ST_OK;
}

static const ProtobufCFieldDescriptor *find(const struct fill *f, const char *name) {
    const ProtobufCFieldDescriptor *field = shape_find(f->msg->descriptor, name);
    return field && field - f->msg->descriptor->fields < 64 ? field : NULL;
}

enum status fill_text(struct fill *f, const char *name, const char *text, size_t len) {
    const ProtobufCFieldDescriptor *field = find(f, name);
    if (!field || shape_is_repeated(field) || shape_of(field) == SHAPE_OBJECT || shape_of(field) == SHAPE_JSON)
        return refuse_name(f, name, "is not a parameter of this endpoint");
    enum status st = claim(f, field, name);
    return st == ST_OK ? fill_value_text(f, f->msg, field, name, text, len) : st;
}

/* application/x-www-form-urlencoded, strictly; the result is UTF-8 without NUL. */
static bool percent_decode(struct arena *mem, const char *in, size_t len, char **ret_text, size_t *ret_len) {
    char *out = arena_alloc(mem, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == '%') {
            int hi = len - i > 2 ? hex_value(in[i + 1]) : -1, lo = len - i > 2 ? hex_value(in[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        } else if (c <= 0x20 || c == 0x7f) {
            return false;
        }
        out[n++] = c;
    }
    if (!utf8_is_text(out, n, NULL))
        return false;
    *ret_text = out;
    *ret_len = n;
    return true;
}

static enum status fill_parameter(struct fill *f, const char *pair, size_t len) {
    const char *equals = memchr(pair, '=', len);
    size_t before = equals ? (size_t)(equals - pair) : 0, name_len = 0, text_len = 0;
    char *name = NULL, *text = NULL;
    if (!before || !percent_decode(f->mem, pair, before, &name, &name_len) ||
        !percent_decode(f->mem, equals + 1, len - before - 1, &text, &text_len)) {
        (void)snprintf(f->detail, sizeof f->detail, "The query string is not well formed.");
        return fail_as(f->why, ERR_REQ_FIELD, "query string is not well formed");
    }
    return fill_text(f, name, text, text_len);
}

enum status fill_query(struct fill *f, const char *query) {
    const char *p = query ? query : "";
    for (int count = 0; *p; count++) {
        size_t len = strcspn(p, "&");
        if (count == PARAMETERS_MAX)
            return refuse_name(f, "query", "has too many parameters");
        enum status st = fill_parameter(f, p, len);
        if (st != ST_OK)
            return st;
        p += len;
        if (*p && !*++p)
            return refuse_name(f, "query", "ends in '&'");
    }
    return ST_OK;
}

static enum status parse(struct fill *f, const char *json, size_t len, json_t **ret_root) {
    CLEANUP(json_destroy) json_t *root = NULL;
    enum status st = json_parse(json, len, len, &root, f->why);
    if (st == ST_OK && !json_is_object(root))
        st = fail_as(f->why, ERR_REQ_JSON, "the body is no object");
    if (st != ST_OK) {
        (void)snprintf(f->detail, sizeof f->detail, "The body must be one JSON object in UTF-8 without repeated members.");
        return st;
    }
    *ret_root = root;
    root = NULL;
    return ST_OK;
}

enum status fill_json(struct fill *f, const char *json, size_t len) {
    CLEANUP(json_destroy) json_t *root = NULL;
    enum status st = parse(f, json, len, &root);
    const char *name;
    json_t *value;
    if (st != ST_OK)
        return st;
    json_object_foreach(root, name, value) {
        const ProtobufCFieldDescriptor *field = find(f, name);
        if (!field)
            return refuse_name(f, name, "is not a member of this request");
        st = claim(f, field, name);
        if (st == ST_OK)
            st = fill_value_json(f, f->msg, field, name, value, 0);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status fill_end(struct fill *f) {
    const ProtobufCMessageDescriptor *d = f->msg->descriptor;
    char name[SHAPE_NAME_BYTES];
    for (unsigned i = 0; i < d->n_fields && i < 64; i++) {
        const struct fill_rule *rule = fill_rule_find(f->rules, d->name, d->fields[i].name);
        if (rule && rule->is_required && !(f->seen & 1ULL << i))
            return refuse_name(f, shape_name(&d->fields[i], name), "is required");
    }
    return ST_OK;
}

bool fill_is_text_object(const char *text, size_t len, size_t max_bytes) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *root = NULL;
    const char *name;
    json_t *value;
    if (json_parse(text, len, max_bytes, &root, &why) != ST_OK || !json_is_object(root))
        return false;
    json_object_foreach(root, name, value)
        if (!json_is_string(value))
            return false;
    return true;
}
