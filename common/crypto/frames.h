/* frames — a file of any length, encrypted as it streams, in frames that authenticate one by one (the
 * STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizar 2015). Removing, repeating, swapping or
 * altering a frame, cutting the file after any byte and adding to it are all noticed.
 *
 * Layout, version 1:  "CRDN" | u8 version = 1 | u8 log2 of the frame size | 7 bytes random prefix, then frames:
 *                     ciphertext (frame size, the last one 1 to frame size; 0 only in an empty file) | 16 bytes tag
 * Nonce of a frame:   prefix | u32 its number, big endian | u8 1 for the last, else 0.  Associated data: the 13
 *                     bytes of header, then the caller's.
 *
 * What opens is given out frame by frame, so a reader of a cut file has seen a true beginning: it must not
 * call the file complete before frames_open_end returned ST_OK. Each object belongs to one thread. */
#ifndef CORDON_CRYPTO_FRAMES_H
#define CORDON_CRYPTO_FRAMES_H

#include "core/buffer.h"
#include "crypto/aead.h"

enum { FRAMES_HEADER_BYTES = 13, FRAME_LOG2 = 16, FRAME_LOG2_MIN = 10, FRAME_LOG2_MAX = 20 };

struct frames_sealer;
struct frames_opener;

/* Bytes of the sealed file for plain_bytes of plaintext, with frames of 1 << log2. */
uint64_t frames_sealed_bytes(uint64_t plain_bytes, unsigned log2);

/* key (copied) and aad (copied) as for aead. log2: FRAME_LOG2 unless there is a reason. ST_INTERNAL. */
enum status frames_seal_begin(const struct secret *key, const struct aad *aad, unsigned log2,
                              struct frames_sealer **ret_sealer, struct why *why) MUST_USE;
/* Append to out whatever is ready: the header first, then whole frames. ST_INTERNAL: out is full, 2^32 frames. */
enum status frames_seal_add(struct frames_sealer *s, const void *plain, size_t len, struct buffer *out,
                            struct why *why) MUST_USE;
/* Append the last frame. Nothing may be added afterwards. */
enum status frames_seal_end(struct frames_sealer *s, struct buffer *out, struct why *why) MUST_USE;
void frames_sealer_destroy(struct frames_sealer **sealer_p);

enum status frames_open_begin(const struct secret *key, const struct aad *aad, struct frames_opener **ret_opener,
                              struct why *why) MUST_USE;
/* Append to out the plaintext of frames that are complete and followed by more. ST_UNAVAILABLE STORE_003: not
 * such a file, or it does not authenticate; ST_INTERNAL: out is full. The opener then refuses everything. */
enum status frames_open_add(struct frames_opener *o, const void *sealed, size_t len, struct buffer *out,
                            struct why *why) MUST_USE;
/* Append the last frame's plaintext. ST_UNAVAILABLE STORE_003: the file was cut or altered. */
enum status frames_open_end(struct frames_opener *o, struct buffer *out, struct why *why) MUST_USE;

/* Which sealed bytes hold a part of the plaintext. */
struct frames_span {
    uint64_t at, len;           /* of the sealed file */
    size_t skip_bytes;          /* plaintext before the part, in its first frame */
};

/* Open only the frames that hold plain bytes `from` to `from + length - 1` of a file of plain_bytes: once the first
 * FRAMES_HEADER_BYTES were added and nothing else, tell where they lie. Those bytes of the sealed file, and no others, are then
 * added, and frames_open_end says whether all of them came. Each frame is as it was sealed and in its place; that plain_bytes
 * is the file's length is noticed only with its last frame. ST_INTERNAL: the part is empty or outside, or it is not the moment. */
enum status frames_open_seek(struct frames_opener *o, uint64_t plain_bytes, uint64_t from, uint64_t length,
                             struct frames_span *ret_span, struct why *why) MUST_USE;
void frames_opener_destroy(struct frames_opener **opener_p);

#endif
