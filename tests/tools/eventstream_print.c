// links: aws
/* eventstream_print [PORTION]: frames of application/vnd.amazon.eventstream from standard input, given to our decoder in
 * portions of so many bytes, one line each: "event|exception TYPE PAYLOAD-AS-HEX". Exit status 1: they are damaged; 3: the
 * input ends within one. So that frames of other codecs can be tried on it. */
#include <stdio.h>
#include <stdlib.h>

#include "aws/eventstream.h"
#include "core/str.h"

enum { FRAME_MAX_BYTES = 1 << 20, PORTION_MAX_BYTES = 4096 };

static enum status print(void *ctx, const struct eventstream_message *message, struct why *why) {
    (void)ctx, (void)why;
    printf("%s %s ", message->is_exception ? "exception" : "event", *message->type ? message->type : "-");
    for (size_t i = 0; i < message->len; i++)
        printf("%02x", ((const unsigned char *)message->payload)[i]);
    printf("\n");
    return ST_OK;
}

int main(int argc, char **argv) {
    struct eventstream stream;
    struct why why = { 0 };
    char portion[PORTION_MAX_BYTES];
    int64_t size = PORTION_MAX_BYTES;
    if (argc > 2 || (argc == 2 && !str_to_i64(argv[1], 1, PORTION_MAX_BYTES, &size)))
        return 2;
    eventstream_init(&stream, FRAME_MAX_BYTES);
    enum status st = ST_OK;
    for (size_t len; st == ST_OK && (len = fread(portion, 1, (size_t)size, stdin)) > 0;)
        st = eventstream_feed(&stream, portion, len, print, NULL, &why);
    bool is_between = eventstream_is_between(&stream);
    eventstream_end(&stream);
    return st != ST_OK ? 1 : is_between ? 0 : 3;
}
