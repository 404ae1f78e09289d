/* event_frames — frames of application/vnd.amazon.eventstream, written by hand. For tests that link cordon_aws. */
#ifndef CORDON_TESTS_EVENT_FRAMES_H
#define CORDON_TESTS_EVENT_FRAMES_H

#include <string.h>
#include <zlib.h>

#include "core/buffer.h"

static inline void put_u32(struct buffer *b, uint32_t v) {
    char bytes[] = { (char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v };
    (void)buffer_add(b, bytes, 4);
}

static inline void add_header(struct buffer *b, const char *name, const char *value) {
    char head[] = { (char)strlen(name) };
    (void)buffer_add(b, head, 1);
    (void)buffer_add_str(b, name);
    char len[] = { 7, (char)(strlen(value) >> 8), (char)strlen(value) };
    (void)buffer_add(b, len, 3);
    (void)buffer_add_str(b, value);
}

static inline void add_frame(struct buffer *out, const struct buffer *headers, const char *payload) {
    size_t from = out->len;
    put_u32(out, (uint32_t)(16 + headers->len + strlen(payload)));
    put_u32(out, (uint32_t)headers->len);
    put_u32(out, (uint32_t)crc32(0, (const Bytef *)out->data + from, 8));
    (void)buffer_add(out, headers->data ? headers->data : "", headers->len);
    (void)buffer_add_str(out, payload);
    put_u32(out, (uint32_t)crc32(0, (const Bytef *)out->data + from, (uInt)(out->len - from)));
}

static inline void add_event(struct buffer *out, const char *message_type, const char *type_header, const char *type, const char *payload) {
    CLEANUP(buffer_end) struct buffer headers = { 0 };
    add_header(&headers, type_header, type);
    add_header(&headers, ":content-type", "application/json");
    add_header(&headers, ":message-type", message_type);
    add_frame(out, &headers, payload);
}

#endif
