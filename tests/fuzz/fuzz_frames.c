// links: crypto
/* A part of a sealed file is what was sealed there, wherever it begins and however its bytes come; with one byte altered or
 * left out there is none. The first bytes say how long the file is, which part, which byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/frames.h"

static const char KEY[] = "0123456789abcdef0123456789abcdef";

static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void seal(const struct secret *key, const struct aad *aad, const uint8_t *plain, size_t len, struct buffer *out) {
    CLEANUP(frames_sealer_destroy) struct frames_sealer *sealer = NULL;
    struct why why = { 0 };
    if (frames_seal_begin(key, aad, FRAME_LOG2_MIN, &sealer, &why) != ST_OK || frames_seal_add(sealer, plain, len, out, &why) != ST_OK ||
        frames_seal_end(sealer, out, &why) != ST_OK)
        abort();
}

/* Open length bytes from `from`, fed in portions. */
static enum status open_part(const struct secret *key, const struct aad *aad, const struct buffer *sealed, size_t plain_bytes, size_t from, size_t length,
                             size_t portion, struct buffer *out, size_t *ret_skip) {
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    struct frames_span span;
    struct why why = { 0 };
    enum status st = frames_open_begin(key, aad, &opener, &why);
    if (st == ST_OK)
        st = frames_open_add(opener, sealed->data, FRAMES_HEADER_BYTES, out, &why);
    if (st == ST_OK)
        st = frames_open_seek(opener, plain_bytes, from, length, &span, &why);
    if (st == ST_OK && (span.at > sealed->len || span.len > sealed->len - span.at))
        abort();
    for (size_t at = 0; st == ST_OK && at < span.len; at += portion)
        st = frames_open_add(opener, sealed->data + span.at + at, portion < span.len - at ? portion : span.len - at, out, &why);
    if (st == ST_OK)
        st = frames_open_end(opener, out, &why);
    if (st == ST_OK)
        *ret_skip = span.skip_bytes;
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 9)
        return 0;
    CLEANUP(secret_destroy) struct secret *key = secret_new(KEY, AEAD_KEY_BYTES);
    CLEANUP(buffer_end) struct buffer sealed = { 0 };
    CLEANUP(buffer_end) struct buffer out = { 0 };
    CLEANUP(buffer_end) struct buffer again = { 0 };
    struct aad aad;
    aad_begin(&aad, "fuzz");
    size_t len = u16_at(data) % 8192u, from = u16_at(data + 2), length = u16_at(data + 4), portion = data[6] + 1u, skip = 0;
    uint8_t *plain = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        plain[i] = (uint8_t)(data[i % size] + i / 251);
    seal(key, &aad, plain, len, &sealed);
    if (sealed.len != frames_sealed_bytes(len, FRAME_LOG2_MIN))
        abort();
    bool is_inside = from < len && length > 0 && length <= len - from;
    enum status st = open_part(key, &aad, &sealed, len, from, length, portion, &out, &skip);
    if ((st == ST_OK) != is_inside || (is_inside && (out.len < skip + length || memcmp(out.data + skip, plain + from, length) != 0)))
        abort();
    size_t altered = u16_at(data + 7) % sealed.len;
    sealed.data[altered] = (char)(sealed.data[altered] ^ 1);
    if (is_inside && open_part(key, &aad, &sealed, len, from, length, portion, &again, &skip) == ST_OK &&
        (again.len != out.len || memcmp(again.data, out.data, out.len) != 0))
        abort();
    free(plain);
    return 0;
}
