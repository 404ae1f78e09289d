#include "text/splitter.h"

#include <stdbool.h>
#include <string.h>

#include "core/utf8.h"
#include "text/tokens.h"

/* What lies before a piece, weakest first. */
enum break_level { BREAK_CHAR, BREAK_WORD, BREAK_SENTENCE, BREAK_LINE, BREAK_PARAGRAPH, BREAK_GAP };

struct piece {
    size_t start_byte, end_byte;
    size_t start_char, end_char;
    uint32_t page;
    enum break_level before;
};

struct reader {
    const char *text;
    size_t len, at_byte, at_char;
    uint32_t page;
};

/* The pieces of the chunk in hand and one more; those before fresh were in the last chunk too. */
struct window {
    struct piece *pieces;
    size_t count, fresh, max, overlap;
};

struct chunk_list {
    struct text_chunk *chunks;
    size_t count, size;
};

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

/* Does text[0, end) end a sentence? "Dr." and its like (up to three letters, the first one a
 * capital, not all of them) do not. Looks back a few bytes only. */
static bool ends_sentence(const char *text, size_t end) {
    while (end > 0 && strchr(")]\"'", text[end - 1]))
        end--;
    if (end == 0 || !strchr(".!?", text[end - 1]))
        return false;
    if (text[end - 1] != '.')
        return true;
    size_t word = end - 1;
    while (word > 0 && end - word <= 5 && (is_lower(text[word - 1]) || is_upper(text[word - 1])))
        word--;
    size_t letters = end - 1 - word;
    return !(letters >= 2 && letters <= 3 && is_upper(text[word]) && is_lower(text[word + 1]));
}

/* The level of the break made by the white space text[from, to), 0 < from < to < len. Where lines
 * are wrapped (pdftotext), a line that goes on in lower case is no break worth more than a space. */
static enum break_level space_level(const char *text, size_t from, size_t to) {
    size_t newlines = 0;
    if (to - from > SPLIT_GAP_BYTES)
        return BREAK_GAP;
    for (size_t i = from; i < to; i++) {
        if (text[i] == '\f')
            return BREAK_PARAGRAPH;
        newlines += text[i] == '\n';
    }
    if (newlines > 1)
        return BREAK_PARAGRAPH;
    if (is_lower(text[to]))
        return BREAK_WORD;
    if (newlines == 1)
        return BREAK_LINE;
    return ends_sentence(text, from) ? BREAK_SENTENCE : BREAK_WORD;
}

/* Next piece of the text; false at its end. */
static bool read_piece(struct reader *r, struct piece *ret_piece) {
    size_t from = r->at_byte, at = from;
    while (at < r->len && token_is_space(r->text[at]))
        r->page += r->text[at++] == '\f';
    if (at == r->len)
        return false;
    size_t bytes = token_piece(r->text + at, r->len - at);
    size_t first = r->at_char + (at - from);
    *ret_piece = (struct piece){
        .start_byte = at, .end_byte = at + bytes,
        .start_char = first, .end_char = first + utf8_count(r->text + at, bytes),
        .page = r->page,
        .before = from == 0 ? BREAK_PARAGRAPH
                : at == from ? BREAK_CHAR : space_level(r->text, from, at),
    };
    r->at_byte = ret_piece->end_byte;
    r->at_char = ret_piece->end_char;
    return true;
}

/* A gap ends the chunk, so nothing is read past one: it is the window's last piece if it is there. */
static bool ends_at_gap(const struct window *w) {
    return w->count > 1 && w->pieces[w->count - 1].before == BREAK_GAP;
}

static void fill(struct window *w, struct reader *r) {
    while (w->count <= w->max && !ends_at_gap(w) && read_piece(r, &w->pieces[w->count]))
        w->count++;
}

/* How many of the window's pieces make the chunk. */
static size_t chunk_end(const struct window *w) {
    if (ends_at_gap(w))
        return w->count - 1;
    if (w->count <= w->max)
        return w->count;
    size_t best = w->max;
    for (size_t i = w->max; i >= w->max / 2 && i > w->fresh; i--)
        if (w->pieces[i].before > w->pieces[best].before)
            best = i;
    return best;
}

/* Where the next chunk begins: at most overlap pieces before end. */
static size_t next_start(const struct window *w, size_t end) {
    if (end < w->count && w->pieces[end].before == BREAK_GAP)
        return end;
    size_t best = end;
    for (size_t i = end; i-- > 1 && end - i <= w->overlap;)
        if (best == end || w->pieces[i].before >= w->pieces[best].before)
            best = i;
    return best;
}

static void add_chunk(struct arena *mem, struct chunk_list *list, const struct window *w,
                      size_t end) {
    if (list->count == list->size) {
        size_t size = list->size ? 2 * list->size : 16;
        struct text_chunk *larger = arena_alloc(mem, size * sizeof *larger);
        if (list->count)
            memcpy(larger, list->chunks, list->count * sizeof *larger);
        list->chunks = larger;
        list->size = size;
    }
    const struct piece *first = &w->pieces[0], *last = &w->pieces[end - 1];
    list->chunks[list->count++] = (struct text_chunk){
        .start_byte = first->start_byte, .end_byte = last->end_byte,
        .start_char = first->start_char, .end_char = last->end_char,
        .page_from = first->page, .page_to = last->page,
        .token_count = (uint32_t)tokens_of_pieces(end),
    };
}

enum status split_text(struct arena *mem, const char *text, size_t len,
                       const struct split_options *opt, struct text_chunk **ret_chunks,
                       size_t *ret_count, struct why *why) {
    static const struct split_options DEFAULTS = { SPLIT_MAX_TOKENS, SPLIT_OVERLAP_TOKENS, 0 };
    size_t bad;
    if (!opt)
        opt = &DEFAULTS;
    if (opt->max_tokens < 16 || opt->max_tokens > 8000 || opt->overlap_tokens > opt->max_tokens / 3)
        return fail(why, ST_INVALID, "split: %zu tokens with overlap of %zu", opt->max_tokens,
                    opt->overlap_tokens);
    if (!utf8_is_text(text, len, &bad))
        return fail_as(why, ERR_DOC_DAMAGED, "split: not UTF-8 text at byte %zu", bad);

    struct reader r = { .text = text, .len = len, .page = 1 };
    struct window w = { .max = pieces_of_tokens(opt->max_tokens) };
    w.overlap = opt->overlap_tokens ? pieces_of_tokens(opt->overlap_tokens) : 0;
    w.pieces = arena_alloc(mem, (w.max + 1) * sizeof *w.pieces);
    struct chunk_list list = { 0 };
    for (fill(&w, &r); w.count > w.fresh; fill(&w, &r)) {
        if (opt->max_chunks_count && list.count == opt->max_chunks_count)
            return fail_as(why, ERR_DOC_TOO_COMPLEX, "split: more than %zu chunks",
                           opt->max_chunks_count);
        size_t end = chunk_end(&w);
        add_chunk(mem, &list, &w, end);
        size_t start = next_start(&w, end);
        memmove(w.pieces, w.pieces + start, (w.count - start) * sizeof *w.pieces);
        w.count -= start;
        w.fresh = end - start;
    }
    *ret_chunks = list.chunks;
    *ret_count = list.count;
    return ST_OK;
}
