/* splitter — cuts a document's text into chunks that are small enough to embed and to cite.
 *
 * A chunk ends at the strongest break in the second half of its room: before a paragraph or page,
 * else a line, else a sentence, else a word, else anywhere between two characters; the next one
 * begins a little earlier, again at the strongest break, so that no statement is seen only in halves.
 * That is the preference of the well-known recursive splitters, in one pass: time is linear and the
 * working memory one chunk's, whatever the text is. Chunks are offsets into the caller's text. */
#ifndef CORDON_TEXT_SPLITTER_H
#define CORDON_TEXT_SPLITTER_H

#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"

enum {
    SPLIT_MAX_TOKENS = 360,         /* defaults of struct split_options: about 160 words */
    SPLIT_OVERLAP_TOKENS = 60,
    SPLIT_GAP_BYTES = 128,          /* white space longer than this always ends a chunk */
};

struct split_options {
    size_t max_tokens;              /* estimated (text/tokens.h); 16 to 8,000 */
    size_t overlap_tokens;          /* at most a third of max_tokens; 0 is none */
    size_t max_chunks_count;        /* more is an error; 0 is no limit */
};

/* [start_byte, end_byte) of the text, without white space at its ends, and the same range counted
 * in code points, which is what clients are told. Pages count from 1; a form feed begins the next. */
struct text_chunk {
    size_t start_byte, end_byte;
    size_t start_char, end_char;
    uint32_t page_from, page_to;
    uint32_t token_count;
};

/* Split text (len bytes, form feeds between pages as pdftotext prints them). opt NULL: the defaults.
 * The chunks live in mem, in the order of the text; text of only white space has none, and every
 * other character is in at least one.
 * ERR_DOC_DAMAGED: not UTF-8 or has a NUL (why names the byte); ST_INVALID: options out of range;
 * ERR_DOC_TOO_COMPLEX: more than max_chunks_count. */
enum status split_text(struct arena *mem, const char *text, size_t len,
                       const struct split_options *opt, struct text_chunk **ret_chunks,
                       size_t *ret_count, struct why *why) MUST_USE;

#endif
