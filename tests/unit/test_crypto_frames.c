/* crypto/frames: any length in any portions; removed, repeated, swapped, altered and cut frames. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/frames.h"

enum { LOG2 = FRAME_LOG2_MIN, FRAME = 1 << LOG2, WHOLE = FRAME + AEAD_TAG_BYTES };

static struct secret *key;
static struct aad aad;
static struct why why;

static void make_key(void) {
    key = aead_key_new();
    aad_begin(&aad, "frames test");
}

static void drop_key(void) {
    secret_destroy(&key);
}

TestSuite(crypto_frames, .init = make_key, .fini = drop_key);

static void seal(size_t len, size_t portion, struct buffer *out) {
    CLEANUP(frames_sealer_destroy) struct frames_sealer *sealer = NULL;
    char *plain = xalloc(len);
    for (size_t i = 0; i < len; i++)
        plain[i] = (char)(i / FRAME + i);
    cr_assert_eq(frames_seal_begin(key, &aad, LOG2, &sealer, &why), ST_OK);
    for (size_t at = 0; at < len; at += portion)
        cr_assert_eq(frames_seal_add(sealer, plain + at, len - at < portion ? len - at : portion, out, &why), ST_OK);
    cr_assert_eq(frames_seal_end(sealer, out, &why), ST_OK);
    cr_assert_eq(frames_seal_end(sealer, out, &why), ST_INTERNAL);
    free(plain);
}

static enum status open_portions(const char *sealed, size_t len, size_t portion, struct buffer *out) {
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    cr_assert_eq(frames_open_begin(key, &aad, &opener, &why), ST_OK);
    for (size_t at = 0; at < len; at += portion) {
        enum status st = frames_open_add(opener, sealed + at, len - at < portion ? len - at : portion, out, &why);
        if (st != ST_OK)
            return st;
    }
    return frames_open_end(opener, out, &why);
}

static enum status open_all(const char *sealed, size_t len) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    return open_portions(sealed, len, len ? len : 1, &out);
}

Test(crypto_frames, any_length_in_any_portions) {
    static const size_t LENGTHS[] = { 0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 3 * FRAME + 17 };
    static const size_t PORTIONS[] = { 1, 7, FRAME, FRAME + 16, 100000 };
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++)
        for (size_t j = 0; j < sizeof PORTIONS / sizeof *PORTIONS; j++) {
            CLEANUP(buffer_end) struct buffer sealed = { 0 }, plain = { 0 };
            seal(LENGTHS[i], PORTIONS[j], &sealed);
            cr_assert_eq(sealed.len, frames_sealed_bytes(LENGTHS[i], LOG2));
            cr_assert_eq(open_portions(sealed.data, sealed.len, PORTIONS[j], &plain), ST_OK, "%s", why.text);
            cr_assert_eq(plain.len, LENGTHS[i]);
            for (size_t at = 0; at < plain.len; at++)
                cr_assert_eq(plain.data[at], (char)(at / FRAME + at));
            buffer_end(&plain);
        }
}

Test(crypto_frames, a_file_cut_after_any_byte_does_not_end_well) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 };
    seal(2 * FRAME + 5, 999, &sealed);
    for (size_t len = 0; len < sealed.len; len++)
        cr_assert_eq(open_all(sealed.data, len), ST_UNAVAILABLE, "cut at %zu", len);
    cr_assert_eq(why.code, ERR_STORE_DAMAGED);
    cr_assert_eq(open_all(sealed.data, sealed.len), ST_OK);
}

Test(crypto_frames, bytes_after_the_end_are_noticed) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 };
    seal(2 * FRAME, 999, &sealed);
    cr_assert(buffer_add(&sealed, "x", 1));
    cr_assert_eq(open_all(sealed.data, sealed.len), ST_UNAVAILABLE);
}

Test(crypto_frames, any_altered_byte_is_noticed) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 };
    seal(FRAME + 5, 999, &sealed);
    for (size_t i = 0; i < sealed.len; i++) {
        sealed.data[i] ^= 0x10;
        cr_assert_eq(open_all(sealed.data, sealed.len), ST_UNAVAILABLE, "byte %zu", i);
        sealed.data[i] ^= 0x10;
    }
}

Test(crypto_frames, removed_repeated_and_swapped_frames_are_noticed) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 }, changed = { 0 };
    seal(3 * FRAME, 999, &sealed);
    const char *first = sealed.data + FRAMES_HEADER_BYTES;
    cr_assert(buffer_add(&changed, sealed.data, FRAMES_HEADER_BYTES) && buffer_add(&changed, first, WHOLE) &&
              buffer_add(&changed, first + 2 * WHOLE, WHOLE));
    cr_assert_eq(open_all(changed.data, changed.len), ST_UNAVAILABLE, "removed");
    buffer_clear(&changed);
    cr_assert(buffer_add(&changed, sealed.data, FRAMES_HEADER_BYTES) && buffer_add(&changed, first, WHOLE) &&
              buffer_add(&changed, first, 3 * WHOLE));
    cr_assert_eq(open_all(changed.data, changed.len), ST_UNAVAILABLE, "repeated");
    buffer_clear(&changed);
    cr_assert(buffer_add(&changed, sealed.data, FRAMES_HEADER_BYTES) && buffer_add(&changed, first + WHOLE, WHOLE) &&
              buffer_add(&changed, first, WHOLE) && buffer_add(&changed, first + 2 * WHOLE, WHOLE));
    cr_assert_eq(open_all(changed.data, changed.len), ST_UNAVAILABLE, "swapped");
}

Test(crypto_frames, a_frame_of_another_file_under_the_same_key_is_noticed) {
    CLEANUP(buffer_end) struct buffer one = { 0 }, two = { 0 };
    seal(2 * FRAME, 999, &one);
    seal(2 * FRAME, 999, &two);
    memcpy(one.data + FRAMES_HEADER_BYTES, two.data + FRAMES_HEADER_BYTES, WHOLE);
    cr_assert_eq(open_all(one.data, one.len), ST_UNAVAILABLE);
}

Test(crypto_frames, other_associated_data_and_another_key_do_not_open) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 };
    seal(5, 999, &sealed);
    aad_add_text(&aad, "x");
    cr_assert_eq(open_all(sealed.data, sealed.len), ST_UNAVAILABLE);
    aad_begin(&aad, "frames test");
    secret_destroy(&key);
    key = aead_key_new();
    cr_assert_eq(open_all(sealed.data, sealed.len), ST_UNAVAILABLE);
}

Test(crypto_frames, an_output_over_its_limit_is_an_error) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 }, little = { .limit_bytes = FRAME };
    seal(3 * FRAME, 999, &sealed);
    cr_assert_eq(open_portions(sealed.data, sealed.len, 999, &little), ST_INTERNAL);
}

/* ---- a part of a file ---- */

/* Seek to the part, give the opener the bytes that it names out of `sealed`, and compare what it gives. */
static enum status open_part(const struct buffer *sealed, uint64_t plain_bytes, uint64_t from, uint64_t length, struct frames_span *ret_span) {
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(frames_open_begin(key, &aad, &opener, &why), ST_OK);
    cr_assert_eq(frames_open_add(opener, sealed->data, FRAMES_HEADER_BYTES, &out, &why), ST_OK);
    enum status st = frames_open_seek(opener, plain_bytes, from, length, ret_span, &why);
    if (st == ST_OK)
        st = frames_open_add(opener, sealed->data + ret_span->at, ret_span->len, &out, &why);
    if (st == ST_OK)
        st = frames_open_end(opener, &out, &why);
    if (st != ST_OK)
        return st;
    cr_assert_geq(out.len, ret_span->skip_bytes + length);
    for (uint64_t i = 0; i < length; i++)
        cr_assert_eq(out.data[ret_span->skip_bytes + i], (char)((from + i) / FRAME + (from + i)), "from %zu, byte %zu", (size_t)from, (size_t)i);
    return ST_OK;
}

Test(crypto_frames, any_part_opens_from_its_own_frames_alone) {
    static const uint64_t LENGTHS[] = { 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, 3 * FRAME + 17 };
    static const uint64_t EDGES[] = { 0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME - 1, 3 * FRAME, 3 * FRAME + 16 };
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        CLEANUP(buffer_end) struct buffer sealed = { 0 };
        seal(LENGTHS[i], 999, &sealed);
        for (size_t a = 0; a < sizeof EDGES / sizeof *EDGES; a++)
            for (size_t b = a; b < sizeof EDGES / sizeof *EDGES; b++) {
                struct frames_span span;
                if (EDGES[b] >= LENGTHS[i])
                    continue;
                uint64_t length = EDGES[b] - EDGES[a] + 1;
                cr_assert_eq(open_part(&sealed, LENGTHS[i], EDGES[a], length, &span), ST_OK, "%s", why.text);
                cr_expect_leq(span.len, (length / FRAME + 2) * WHOLE, "no more frames than hold it");
                cr_expect_leq(span.at + span.len, sealed.len);
            }
    }
}

Test(crypto_frames, a_part_that_is_damaged_cut_or_elsewhere_does_not_open) {
    CLEANUP(buffer_end) struct buffer sealed = { 0 };
    struct frames_span span;
    seal(4 * FRAME, 999, &sealed);
    cr_assert_eq(open_part(&sealed, 4 * FRAME, FRAME, 2 * FRAME, &span), ST_OK);
    cr_expect_eq(span.at, FRAMES_HEADER_BYTES + WHOLE);
    cr_expect_eq(span.len, 2 * WHOLE);
    sealed.data[FRAMES_HEADER_BYTES + 2 * WHOLE + 5] ^= 1;
    cr_expect_eq(open_part(&sealed, 4 * FRAME, FRAME, 2 * FRAME, &span), ST_UNAVAILABLE);
    cr_expect_eq(why.code, ERR_STORE_DAMAGED);
    cr_expect_eq(open_part(&sealed, 4 * FRAME, FRAME, FRAME, &span), ST_OK, "other frames are not looked at");
    sealed.data[FRAMES_HEADER_BYTES + 2 * WHOLE + 5] ^= 1;

    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert_eq(frames_open_begin(key, &aad, &opener, &why), ST_OK);
    cr_expect_eq(frames_open_seek(opener, 4 * FRAME, 0, 1, &span, &why), ST_INTERNAL, "before the header");
    cr_assert_eq(frames_open_add(opener, sealed.data, FRAMES_HEADER_BYTES, &out, &why), ST_OK);
    cr_expect_eq(frames_open_seek(opener, 4 * FRAME, 0, 0, &span, &why), ST_INTERNAL);
    cr_expect_eq(frames_open_seek(opener, 4 * FRAME, 4 * FRAME, 1, &span, &why), ST_INTERNAL);
    cr_expect_eq(frames_open_seek(opener, 4 * FRAME, 1, 4 * FRAME, &span, &why), ST_INTERNAL);
    cr_assert_eq(frames_open_seek(opener, 4 * FRAME, FRAME, 2 * FRAME, &span, &why), ST_OK);
    cr_expect_eq(frames_open_add(opener, sealed.data + span.at, WHOLE, &out, &why), ST_OK);
    cr_expect_eq(frames_open_end(opener, &out, &why), ST_UNAVAILABLE, "a frame too few");
    cr_expect_eq(open_part(&sealed, 2 * FRAME, FRAME, FRAME, &span), ST_UNAVAILABLE, "a file that is said to end sooner");
    cr_expect_eq(open_part(&sealed, 5 * FRAME, 3 * FRAME, FRAME, &span), ST_UNAVAILABLE, "or later");
}
