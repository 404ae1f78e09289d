#include "crypto/frames.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, PREFIX_BYTES = 7, PREFIX_AT = FRAMES_HEADER_BYTES - PREFIX_BYTES };

static const char MAGIC[4] = { 'C', 'R', 'D', 'N' };

/* What sealing and opening share: the position in the file and the frame being gathered. */
struct stream {
    struct gcm_cipher *cipher;
    bool is_sealing;
    uint8_t aad[FRAMES_HEADER_BYTES + AAD_MAX_BYTES];   /* header | caller's */
    size_t aad_len;
    uint32_t number;            /* of the frame being gathered */
    size_t header_len;          /* opening: how much of the header came */
    size_t gathered, frame_bytes;
    uint8_t *frame;             /* frame_bytes (+ tag when opening) */
    bool is_dead;               /* ended or failed */
};

struct frames_sealer { struct stream s; bool has_header; };
struct frames_opener {
    struct stream s;
    bool is_part;               /* frames of the middle, or to the end: frames_open_seek */
    bool has_more;              /* the file goes on behind the part */
    uint32_t last;              /* number of the part's last frame */
};

static void stream_end(struct stream *s) {
    if (s->frame)
        OPENSSL_cleanse(s->frame, s->frame_bytes + AEAD_TAG_BYTES);
    free(s->frame);
    s->frame = NULL;
    gcm_cipher_destroy(&s->cipher);
}

static enum status stream_begin(struct stream *s, const struct secret *key, const struct aad *aad, bool is_sealing, struct why *why) {
    s->is_sealing = is_sealing;
    s->cipher = key && !aad->is_overfull ? gcm_cipher_new(key, is_sealing) : NULL;
    if (!s->cipher)
        return fail(why, ST_INTERNAL, "frames: no usable key or associated data");
    memcpy(s->aad + FRAMES_HEADER_BYTES, aad->bytes, aad->len);
    s->aad_len = FRAMES_HEADER_BYTES + aad->len;
    return ST_OK;
}

static void stream_size(struct stream *s, unsigned log2) {
    s->frame_bytes = (size_t)1 << log2;
    s->frame = xalloc(s->frame_bytes + AEAD_TAG_BYTES);
}

static enum status dead(struct stream *s, struct why *why, const char *text) {
    s->is_dead = true;
    return fail(why, ST_INTERNAL, "frames: %s", text);
}

/* These are not the bytes that were sealed: the store's fault or the way's, who may give the right ones next time. */
static enum status damaged(struct stream *s, struct why *why, const char *text) {
    s->is_dead = true;
    return fail_as(why, ERR_STORE_DAMAGED, "frames: %s", text);
}

/* Seal or open one frame into out and count it. */
static enum status turn(struct stream *s, const uint8_t *frame, size_t len, bool is_last, struct buffer *out, struct why *why) {
    uint8_t nonce[AEAD_NONCE_BYTES];
    memcpy(nonce, s->aad + PREFIX_AT, PREFIX_BYTES);
    for (int i = 0; i < 4; i++)
        nonce[PREFIX_BYTES + i] = (uint8_t)(s->number >> (24 - 8 * i));
    nonce[AEAD_NONCE_BYTES - 1] = is_last;
    struct gcm gcm = { s->cipher, nonce, s->aad, s->aad_len };
    size_t before = out->len, out_len = s->is_sealing ? len + AEAD_TAG_BYTES : len - AEAD_TAG_BYTES;
    uint8_t *at = buffer_grow(out, out_len);
    if (!at)
        return dead(s, why, "the output is over its limit");
    if (s->is_sealing ? !gcm_seal(&gcm, frame, len, at) : !gcm_open(&gcm, frame, len, at)) {
        out->len = before;
        out->data[before] = '\0';
        return s->is_sealing ? dead(s, why, "cannot seal") : damaged(s, why, "a frame does not authenticate");
    }
    if (!is_last && s->number == UINT32_MAX)
        return dead(s, why, "too many frames");
    s->number++;
    return ST_OK;
}

/* The frame that was gathered. */
static enum status turn_gathered(struct stream *s, bool is_last, struct buffer *out, struct why *why) {
    enum status st = turn(s, s->frame, s->gathered, is_last, out, why);
    s->gathered = 0;
    return st;
}

/* Frames out of len bytes; a full one is turned only when more follows, for only then is it known not to be the last. Those
 * that lie whole in data are turned where they are. */
static enum status gather(struct stream *s, const uint8_t *data, size_t len, struct buffer *out, struct why *why) {
    size_t size = s->frame_bytes + (s->is_sealing ? 0 : AEAD_TAG_BYTES);
    enum status st = ST_OK;
    while (st == ST_OK && len > 0) {
        if (s->gathered == size) {
            st = turn_gathered(s, false, out, why);
        } else if (s->gathered == 0 && len > size) {
            st = turn(s, data, size, false, out, why);
            data += size;
            len -= size;
        } else {
            size_t take = size - s->gathered < len ? size - s->gathered : len;
            memcpy(s->frame + s->gathered, data, take);
            s->gathered += take;
            data += take;
            len -= take;
        }
    }
    return st;
}

uint64_t frames_sealed_bytes(uint64_t plain_bytes, unsigned log2) {
    uint64_t frame = UINT64_C(1) << log2;
    uint64_t frames = plain_bytes ? (plain_bytes + frame - 1) / frame : 1;
    return FRAMES_HEADER_BYTES + plain_bytes + frames * AEAD_TAG_BYTES;
}

enum status frames_seal_begin(const struct secret *key, const struct aad *aad, unsigned log2,
                              struct frames_sealer **ret_sealer, struct why *why) {
    if (log2 < FRAME_LOG2_MIN || log2 > FRAME_LOG2_MAX)
        return fail(why, ST_INTERNAL, "frames: no frames of 2^%u bytes", log2);
    CLEANUP(frames_sealer_destroy) struct frames_sealer *sealer = xalloc(sizeof *sealer);
    enum status st = stream_begin(&sealer->s, key, aad, true, why);
    if (st != ST_OK)
        return st;
    stream_size(&sealer->s, log2);
    memcpy(sealer->s.aad, MAGIC, sizeof MAGIC);
    sealer->s.aad[4] = VERSION;
    sealer->s.aad[5] = (uint8_t)log2;
    if (RAND_bytes(sealer->s.aad + PREFIX_AT, PREFIX_BYTES) != 1)
        abort();
    *ret_sealer = sealer;
    sealer = NULL;
    return ST_OK;
}

static enum status put_header(struct frames_sealer *sealer, struct buffer *out, struct why *why) {
    if (sealer->has_header)
        return ST_OK;
    sealer->has_header = true;
    return buffer_add(out, sealer->s.aad, FRAMES_HEADER_BYTES) ? ST_OK
                                                               : dead(&sealer->s, why, "the output is over its limit");
}

enum status frames_seal_add(struct frames_sealer *sealer, const void *plain, size_t len, struct buffer *out,
                            struct why *why) {
    if (sealer->s.is_dead)
        return fail(why, ST_INTERNAL, "frames: added after the end");
    enum status st = put_header(sealer, out, why);
    return st != ST_OK ? st : gather(&sealer->s, plain, len, out, why);
}

enum status frames_seal_end(struct frames_sealer *sealer, struct buffer *out, struct why *why) {
    if (sealer->s.is_dead)
        return fail(why, ST_INTERNAL, "frames: ended twice");
    enum status st = put_header(sealer, out, why);
    if (st != ST_OK)
        return st;
    st = turn_gathered(&sealer->s, true, out, why);
    sealer->s.is_dead = true;
    return st;
}

void frames_sealer_destroy(struct frames_sealer **sealer_p) {
    if (!*sealer_p)
        return;
    stream_end(&(*sealer_p)->s);
    free(*sealer_p);
    *sealer_p = NULL;
}

enum status frames_open_begin(const struct secret *key, const struct aad *aad, struct frames_opener **ret_opener,
                              struct why *why) {
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = xalloc(sizeof *opener);
    enum status st = stream_begin(&opener->s, key, aad, false, why);
    if (st != ST_OK)
        return st;
    *ret_opener = opener;
    opener = NULL;
    return ST_OK;
}

/* Take header bytes from *data; ST_OK with less than a whole header when there are no more. */
static enum status take_header(struct stream *s, const uint8_t **data, size_t *len, struct why *why) {
    size_t missing = FRAMES_HEADER_BYTES - s->header_len;
    size_t take = missing < *len ? missing : *len;
    if (take == 0)
        return ST_OK;
    memcpy(s->aad + s->header_len, *data, take);
    s->header_len += take;
    *data += take;
    *len -= take;
    if (s->header_len < FRAMES_HEADER_BYTES)
        return ST_OK;
    unsigned log2 = s->aad[5];
    if (memcmp(s->aad, MAGIC, sizeof MAGIC) != 0 || s->aad[4] != VERSION || log2 < FRAME_LOG2_MIN || log2 > FRAME_LOG2_MAX)
        return damaged(s, why, "not a sealed file of this version");
    stream_size(s, log2);
    return ST_OK;
}

enum status frames_open_add(struct frames_opener *opener, const void *sealed, size_t len, struct buffer *out,
                            struct why *why) {
    struct stream *s = &opener->s;
    if (s->is_dead)
        return fail(why, ST_INTERNAL, "frames: added after the end");
    const uint8_t *data = sealed;
    enum status st = take_header(s, &data, &len, why);
    if (st != ST_OK || len == 0)
        return st;
    return gather(s, data, len, out, why);
}

enum status frames_open_end(struct frames_opener *opener, struct buffer *out, struct why *why) {
    struct stream *s = &opener->s;
    if (s->is_dead)
        return fail(why, ST_INTERNAL, "frames: ended twice");
    if (s->header_len < FRAMES_HEADER_BYTES || s->gathered < AEAD_TAG_BYTES)
        return damaged(s, why, "the file is cut");
    if (s->gathered == AEAD_TAG_BYTES && s->number > 0)
        return damaged(s, why, "an empty last frame, which no sealer writes");
    if (opener->is_part && s->number != opener->last)
        return damaged(s, why, "frames are missing, or too many");
    enum status st = turn_gathered(s, !opener->has_more, out, why);
    s->is_dead = true;
    return st;
}

enum status frames_open_seek(struct frames_opener *opener, uint64_t plain_bytes, uint64_t from, uint64_t length,
                             struct frames_span *ret_span, struct why *why) {
    struct stream *s = &opener->s;
    bool is_fresh = !s->is_dead && s->header_len == FRAMES_HEADER_BYTES && s->gathered == 0 && s->number == 0 && !opener->is_part;
    if (!is_fresh || length == 0 || from >= plain_bytes || length > plain_bytes - from)
        return fail(why, ST_INTERNAL, "frames: no such part, or not now");
    uint64_t first = from / s->frame_bytes, last = (from + length - 1) / s->frame_bytes, frames = (plain_bytes - 1) / s->frame_bytes + 1;
    if (frames > (uint64_t)UINT32_MAX + 1)
        return fail(why, ST_INTERNAL, "frames: too many frames");
    uint64_t end = last + 1 < frames ? (last + 1) * s->frame_bytes : plain_bytes;
    opener->is_part = true;
    opener->has_more = last + 1 < frames;
    opener->last = (uint32_t)last;
    s->number = (uint32_t)first;
    *ret_span = (struct frames_span){ .at = FRAMES_HEADER_BYTES + first * (s->frame_bytes + AEAD_TAG_BYTES),
                                      .len = end - first * s->frame_bytes + (last - first + 1) * AEAD_TAG_BYTES,
                                      .skip_bytes = (size_t)(from % s->frame_bytes) };
    return ST_OK;
}

void frames_opener_destroy(struct frames_opener **opener_p) {
    if (!*opener_p)
        return;
    stream_end(&(*opener_p)->s);
    free(*opener_p);
    *opener_p = NULL;
}
