#include "json/writer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

static void add(struct json_writer *w, const char *data, size_t len) {
    if (!w->is_broken && !buffer_add(w->out, data, len))
        w->is_broken = true;
}

/* Before every value: is one allowed here, and does it need a comma? */
static bool begin_value(struct json_writer *w) {
    bool in_object = w->depth > 0 && w->is_object[w->depth - 1];
    if (w->is_broken || in_object != w->has_name || (w->depth == 0 && w->has_items[0])) {
        w->is_broken = true;
        return false;
    }
    if (!in_object && w->has_items[w->depth])
        add(w, ",", 1);
    w->has_items[w->depth] = true;
    w->has_name = false;
    return true;
}

static void open_nested(struct json_writer *w, bool is_object) {
    if (!begin_value(w))
        return;
    if (w->depth == JSON_WRITER_DEPTH_MAX) {
        w->is_broken = true;
        return;
    }
    w->is_object[w->depth++] = is_object;
    w->has_items[w->depth] = false;
    add(w, is_object ? "{" : "[", 1);
}

static void close_nested(struct json_writer *w, bool is_object) {
    if (w->depth == 0 || w->is_object[w->depth - 1] != is_object || w->has_name) {
        w->is_broken = true;
        return;
    }
    w->depth--;
    add(w, is_object ? "}" : "]", 1);
}

static void add_escaped(struct json_writer *w, const char *text, size_t len) {
    size_t plain = 0;       /* start of the run that needs no escape */
    add(w, "\"", 1);
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t step = utf8_sequence(text + i, len - i);
        if (step > 0 && c >= 0x20 && c != '"' && c != '\\') {
            i += step;
            continue;
        }
        add(w, text + plain, i - plain);
        char escape[8];
        if (step == 0)
            (void)snprintf(escape, sizeof escape, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            (void)snprintf(escape, sizeof escape, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            (void)snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else
            (void)snprintf(escape, sizeof escape, "\\u%04x", c);
        add(w, escape, strlen(escape));
        plain = ++i;
    }
    add(w, text + plain, len - plain);
    add(w, "\"", 1);
}

void json_begin(struct json_writer *w, struct buffer *out) {
    *w = (struct json_writer){ .out = out };
}

bool json_finish(const struct json_writer *w) {
    return !w->is_broken && w->depth == 0 && w->has_items[0];
}

void json_open_object(struct json_writer *w) { open_nested(w, true); }
void json_close_object(struct json_writer *w) { close_nested(w, true); }
void json_open_array(struct json_writer *w) { open_nested(w, false); }
void json_close_array(struct json_writer *w) { close_nested(w, false); }

void json_put_name(struct json_writer *w, const char *name) {
    if (w->depth == 0 || !w->is_object[w->depth - 1] || w->has_name) {
        w->is_broken = true;
        return;
    }
    if (w->has_items[w->depth])
        add(w, ",", 1);
    w->has_items[w->depth] = true;
    add_escaped(w, name, strlen(name));
    add(w, ":", 1);
    w->has_name = true;
}

void json_put_bytes(struct json_writer *w, const char *text, size_t len) {
    if (begin_value(w))
        add_escaped(w, text, len);
}

void json_put_text(struct json_writer *w, const char *text) {
    if (text)
        json_put_bytes(w, text, strlen(text));
    else
        json_put_null(w);
}

static void put_literal(struct json_writer *w, const char *literal) {
    if (begin_value(w))
        add(w, literal, strlen(literal));
}

void json_put_i64(struct json_writer *w, int64_t number) {
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRId64, number);
    put_literal(w, text);
}

void json_put_u64(struct json_writer *w, uint64_t number) {
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    put_literal(w, text);
}

void json_put_double(struct json_writer *w, double number) {
    if (!isfinite(number)) {
        w->is_broken = true;
        return;
    }
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, number);
        double back = strtod(text, NULL);
        if (!(back < number) && !(back > number))
            break;
    }
    put_literal(w, text);
}

void json_put_bool(struct json_writer *w, bool value) { put_literal(w, value ? "true" : "false"); }
void json_put_null(struct json_writer *w) { put_literal(w, "null"); }
