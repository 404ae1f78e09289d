/* writer — JSON built left to right into a buffer, without a tree. Strings are escaped; bytes that are not
 * UTF-8 become U+FFFD, so that the output is always JSON. Mistakes of the caller (a value where a name
 * belongs, a number that is not finite) and a full buffer are remembered: only json_finish tells.
 *
 *     struct json_writer w;
 *     json_begin(&w, &body);
 *     json_open_object(&w);
 *     json_put_name(&w, "id");
 *     json_put_text(&w, text);
 *     json_close_object(&w);
 *     if (!json_finish(&w)) ... */
#ifndef CORDON_JSON_WRITER_H
#define CORDON_JSON_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"

enum { JSON_WRITER_DEPTH_MAX = 32 };

struct json_writer {
    struct buffer *out;
    unsigned depth;
    bool is_object[JSON_WRITER_DEPTH_MAX];
    bool has_items[JSON_WRITER_DEPTH_MAX + 1];
    bool has_name;              /* a name was put, its value follows */
    bool is_broken;
};

/* out is borrowed until json_finish; what it holds already stays in front. */
void json_begin(struct json_writer *w, struct buffer *out);
/* True when exactly one complete value was written and all of it fits. */
bool json_finish(const struct json_writer *w);

void json_open_object(struct json_writer *w);
void json_close_object(struct json_writer *w);
void json_open_array(struct json_writer *w);
void json_close_array(struct json_writer *w);
void json_put_name(struct json_writer *w, const char *name);
void json_put_text(struct json_writer *w, const char *text);                /* NULL: null */
void json_put_bytes(struct json_writer *w, const char *text, size_t len);   /* a string of len bytes */
void json_put_i64(struct json_writer *w, int64_t number);
void json_put_u64(struct json_writer *w, uint64_t number);
void json_put_double(struct json_writer *w, double number);     /* shortest text that reads back the same */
void json_put_bool(struct json_writer *w, bool value);
void json_put_null(struct json_writer *w);

#endif
