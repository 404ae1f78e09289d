/* split-text: prints the chunks that ingest-worker would make of the text on standard input, one per
 * line: first byte, end byte, page_from, page_to. For dev/samples/evaluate.mjs; not part of the product. */
#include <stdio.h>
#include <stdlib.h>

#include "core/buffer.h"
#include "text/splitter.h"

int main(void) {
    struct buffer text;
    char block[65536];
    buffer_init(&text, 64u << 20);
    for (size_t n; (n = fread(block, 1, sizeof block, stdin)) > 0;)
        if (!buffer_add(&text, block, n))
            return EXIT_FAILURE;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    struct text_chunk *chunks = NULL;
    size_t count = 0;
    struct why why = { 0 };
    if (split_text(mem, text.data, text.len, NULL, &chunks, &count, &why) != ST_OK) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < count; i++)
        printf("%zu %zu %u %u\n", chunks[i].start_byte, chunks[i].end_byte, chunks[i].page_from, chunks[i].page_to);
    buffer_end(&text);
    return EXIT_SUCCESS;
}
