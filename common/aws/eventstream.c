#include "aws/eventstream.h"

#include <string.h>
#include <zlib.h>

enum { PRELUDE_BYTES = 12, CRC_BYTES = 4, LEAST_BYTES = PRELUDE_BYTES + CRC_BYTES };

/* Types of header values, and how many bytes each has; -1: a u16 says it. */
static const int VALUE_BYTES[] = { 0 /* true */, 0 /* false */, 1, 2, 4, 8, -1 /* bytes */, -1 /* string */, 8 /* time */, 16 /* uuid */ };
enum { TYPE_STRING = 7 };

static uint32_t u32_at(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool has_crc(const uint8_t *data, size_t len) {
    return crc32(0, data, (uInt)len) == u32_at(data + len);
}

void eventstream_init(struct eventstream *stream, size_t max_bytes) {
    buffer_init(&stream->frame, 0);
    stream->is_damaged = false;
    stream->max_bytes = max_bytes;
}

void eventstream_end(struct eventstream *stream) {
    buffer_end(&stream->frame);
}

bool eventstream_is_between(const struct eventstream *stream) {
    return stream->frame.len == 0;
}

static bool is_name(const uint8_t *name, size_t len, const char *wanted) {
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

/* A string header that we know; others are passed by. False: the value is too long to be one. */
static bool keep_header(struct eventstream_message *m, const uint8_t *name, size_t name_len, const uint8_t *value, size_t len) {
    if (is_name(name, name_len, ":message-type")) {
        m->is_exception = !is_name(value, len, "event");
        return true;
    }
    if (!is_name(name, name_len, ":event-type") && !is_name(name, name_len, ":exception-type") && !is_name(name, name_len, ":error-code"))
        return true;
    if (len >= sizeof m->type || memchr(value, '\0', len))
        return false;
    memcpy(m->type, value, len);
    m->type[len] = '\0';
    return true;
}

static bool read_headers(struct eventstream_message *m, const uint8_t *p, size_t len) {
    const uint8_t *end = p + len;
    while (p < end) {
        size_t name_len = *p++;
        if (name_len == 0 || (size_t)(end - p) < name_len + 1)
            return false;
        const uint8_t *name = p;
        uint8_t type = p[name_len];
        p += name_len + 1;
        if (type >= sizeof VALUE_BYTES / sizeof *VALUE_BYTES)
            return false;
        size_t value_len = (size_t)VALUE_BYTES[type];
        if (VALUE_BYTES[type] < 0) {
            if (end - p < 2)
                return false;
            value_len = (size_t)p[0] << 8 | p[1];
            p += 2;
        }
        if ((size_t)(end - p) < value_len || (type == TYPE_STRING && !keep_header(m, name, name_len, p, value_len)))
            return false;
        p += value_len;
    }
    return true;
}

/* How many bytes the frame wants in all, as far as is known: its prelude first. 0: it is none. */
static size_t wanted_bytes(const struct eventstream *stream) {
    const uint8_t *frame = (const uint8_t *)stream->frame.data;
    if (stream->frame.len < PRELUDE_BYTES)
        return PRELUDE_BYTES;
    size_t total = u32_at(frame), headers = u32_at(frame + 4);
    bool is_frame = has_crc(frame, 8) && total >= LEAST_BYTES && total <= stream->max_bytes && headers <= total - LEAST_BYTES;
    return is_frame ? total : 0;
}

static enum status damaged(struct eventstream *stream, struct why *why, const char *what) {
    stream->is_damaged = true;
    return fail(why, ST_UNAVAILABLE, "event stream: %s", what);
}

enum status eventstream_feed(struct eventstream *stream, const void *data, size_t len,
                             enum status (*take)(void *ctx, const struct eventstream_message *message, struct why *why), void *ctx,
                             struct why *why) {
    const uint8_t *p = data, *end = p + len;
    while (p < end) {
        size_t wanted = wanted_bytes(stream), piece = wanted - stream->frame.len;
        if (piece > (size_t)(end - p))
            piece = (size_t)(end - p);
        (void)buffer_add(&stream->frame, p, piece);     /* fits: wanted is at most max_bytes, or a prelude */
        p += piece;
        wanted = wanted_bytes(stream);
        if (wanted == 0)
            return damaged(stream, why, "a prelude is damaged, or its frame too large");
        if (stream->frame.len < wanted || wanted == PRELUDE_BYTES)
            continue;
        const uint8_t *frame = (const uint8_t *)stream->frame.data;
        size_t headers = u32_at(frame + 4);
        struct eventstream_message message = { .is_exception = true, .payload = frame + PRELUDE_BYTES + headers,
                                               .len = wanted - LEAST_BYTES - headers };
        if (!has_crc(frame, wanted - CRC_BYTES) || !read_headers(&message, frame + PRELUDE_BYTES, headers))
            return damaged(stream, why, "a frame is damaged");
        enum status st = take(ctx, &message, why);
        if (st != ST_OK)
            return st;
        buffer_clear(&stream->frame);
    }
    return ST_OK;
}
