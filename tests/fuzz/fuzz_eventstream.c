// links: aws
/* Frames of a model's streamed answer, in portions. The first byte says how large; checksums are mended, so that what is
 * behind them is reached as well. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "aws/eventstream.h"

static enum status take(void *ctx, const struct eventstream_message *message, struct why *why) {
    size_t *seen = ctx;
    (void)why;
    if (strlen(message->type) >= sizeof message->type)
        abort();
    for (size_t i = 0; i < message->len; i++)
        *seen += ((const uint8_t *)message->payload)[i];
    return ST_OK;
}

static void put_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Length and checksums of one frame over all of the input. */
static void mend(uint8_t *data, size_t size) {
    if (size < 16)
        return;
    put_u32(data, (uint32_t)size);
    data[4] = data[5] = 0;
    put_u32(data + 8, (uint32_t)crc32(0, data, 8));
    put_u32(data + size - 4, (uint32_t)crc32(0, data, (uInt)size - 4));
}

static void feed(const uint8_t *data, size_t size, size_t portion) {
    struct eventstream stream;
    struct why why = { 0 };
    size_t seen = 0;
    enum status st = ST_OK;
    eventstream_init(&stream, 4096);
    for (size_t at = 0; st == ST_OK && at < size; at += portion)
        st = eventstream_feed(&stream, data + at, portion < size - at ? portion : size - at, take, &seen, &why);
    eventstream_end(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    size_t portion = data[0] + 1u;
    uint8_t *copy = malloc(size);
    memcpy(copy, data, size);
    feed(copy + 1, size - 1, portion);
    mend(copy + 1, size - 1);
    feed(copy + 1, size - 1, portion);
    free(copy);
    return 0;
}
