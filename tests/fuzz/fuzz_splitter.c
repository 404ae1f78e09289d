// links: text
/* Any bytes: refused when they are not UTF-8, else cut so that every character but white space is in
 * a chunk, offsets and pages are right, no chunk is too large and every chunk brings something new.
 * The first two bytes choose the options. */
#include <stdint.h>
#include <stdlib.h>

#include "core/utf8.h"
#include "text/splitter.h"
#include "text/tokens.h"

static void require(bool holds) {
    if (!holds)
        abort();
}

static uint32_t page_at(const char *text, size_t at) {
    uint32_t page = 1;
    for (size_t i = 0; i < at; i++)
        page += text[i] == '\f';
    return page;
}

static void check_chunk(const char *text, size_t covered, const struct text_chunk *c,
                        size_t max_tokens) {
    require(c->start_byte < c->end_byte && c->end_byte > covered);
    require(!token_is_space(text[c->start_byte]) && !token_is_space(text[c->end_byte - 1]));
    require(utf8_is_text(text + c->start_byte, c->end_byte - c->start_byte, NULL));
    require(c->start_char == utf8_count(text, c->start_byte));
    require(c->end_char == utf8_count(text, c->end_byte));
    require(c->page_from == page_at(text, c->start_byte) && c->page_to == page_at(text, c->end_byte));
    require(c->token_count <= max_tokens);
    for (size_t at = covered; at < c->start_byte; at++)
        require(token_is_space(text[at]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 2)
        return 0;
    struct split_options opt = { .max_tokens = 16 + data[0] };
    opt.overlap_tokens = data[1] % (opt.max_tokens / 3 + 1);
    const char *text = (const char *)data + 2;
    len -= 2;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    struct text_chunk *chunks = NULL;
    size_t count = 0, covered = 0;
    struct why why = { 0 };
    enum status st = split_text(mem, text, len, &opt, &chunks, &count, &why);
    require((st == ST_OK) == utf8_is_text(text, len, NULL));
    if (st != ST_OK)
        return 0;
    for (size_t i = 0; i < count; i++) {
        require(chunks[i].end_byte <= len);
        check_chunk(text, covered, &chunks[i], opt.max_tokens);
        covered = chunks[i].end_byte;
    }
    for (size_t at = covered; at < len; at++)
        require(token_is_space(text[at]));
    return 0;
}
