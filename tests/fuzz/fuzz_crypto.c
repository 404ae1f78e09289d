// links: crypto
/* Sealed files from outside: openers refuse them without reading beyond them. */
#include <stdint.h>

#include "crypto/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct why why = { 0 };
    struct aad aad;
    aad_begin(&aad, "fuzz");
    CLEANUP(secret_destroy) struct secret *key = secret_new("0123456789abcdef0123456789abcdef", AEAD_KEY_BYTES);
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 1 << 20 };
    if (frames_open_begin(key, &aad, &opener, &why) == ST_OK && frames_open_add(opener, data, size / 2, &out, &why) == ST_OK &&
        frames_open_add(opener, data + size / 2, size - size / 2, &out, &why) == ST_OK)
        (void)!frames_open_end(opener, &out, &why);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct blob plain;
    (void)!aead_open(key, &aad, data, size, mem, &plain, &why);
    return 0;
}
