/* eventstream — application/vnd.amazon.eventstream, decoded as its bytes come, whatever their portions. A frame, all
 * numbers big endian: total u32, headers' length u32, CRC-32 of those eight bytes, headers, payload, CRC-32 of all
 * before. Both checksums are verified before anything of a frame is believed, and a frame is held only up to a limit.
 * (AWS, "Event stream encoding" in the Transcribe and Smithy documentation.) In place, one thread at a time. */
#ifndef CORDON_AWS_EVENTSTREAM_H
#define CORDON_AWS_EVENTSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/status.h"

enum { EVENTSTREAM_NAME_BYTES = 64 };

struct eventstream {
    struct buffer frame;        /* of the frame that is coming: what there is */
    size_t max_bytes;
    bool is_damaged;            /* why feeding failed: the bytes, not who took them */
};

/* One message; lives until the callback returns. */
struct eventstream_message {
    bool is_exception;                      /* :message-type exception or error */
    char type[EVENTSTREAM_NAME_BYTES];      /* :event-type, :exception-type or :error-code; "" when absent */
    const void *payload;
    size_t len;
};

/* max_bytes: of one frame. */
void eventstream_init(struct eventstream *stream, size_t max_bytes);
void eventstream_end(struct eventstream *stream);

/* Take len more bytes and call take for each frame that is whole. ST_UNAVAILABLE: the bytes are no event stream (a
 * checksum, a length, a header); what take returned unless ST_OK. After a failure nothing more may be fed. */
enum status eventstream_feed(struct eventstream *stream, const void *data, size_t len,
                             enum status (*take)(void *ctx, const struct eventstream_message *message, struct why *why), void *ctx,
                             struct why *why) MUST_USE;
/* No frame has begun and not ended: the stream may stop here. */
bool eventstream_is_between(const struct eventstream *stream);

#endif
