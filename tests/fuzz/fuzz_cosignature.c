// links: crypto
/* Lines that somebody hands in as a witness's, the setting that names witnesses, and any note. */
#include <stdlib.h>
#include <string.h>

#include "crypto/cosignature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char KEY[] = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
    struct witness w, ignored;
    struct why why = { 0 };
    uint64_t time_s;
    char *text = malloc(size + 1);
    if (!text || witness_read(KEY, strlen(KEY), &w, &why) != ST_OK)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    (void)!witness_read(text, size, &ignored, &why);
    (void)witness_has_signed(&w, "log.example\n1\nAAAA\n\n", text, &time_s);
    (void)witness_has_signed(&w, text, "\xe2\x80\x94 witness.example/w1 qkoJ0QAAAAA=\n", &time_s);
    free(text);
    return 0;
}
