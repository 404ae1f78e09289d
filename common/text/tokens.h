/* tokens — how many tokens a model will make of a text, without the model's tokenizer.
 *
 * The text is cut into pieces: up to five letters, up to two digits, or one other character; white
 * space is free. A piece counts for 1.3 tokens. On clinical text this errs high, which is the safe
 * side: a chunk is never cut off by the model's limit. Pure functions over valid UTF-8. */
#ifndef CORDON_TEXT_TOKENS_H
#define CORDON_TEXT_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

bool token_is_space(char c);                                /* ASCII white space, form feed included */
/* Bytes of the piece that begins at text, which is not white space; len > 0 bytes are readable. */
size_t token_piece(const char *text, size_t len);
size_t tokens_of_pieces(size_t pieces_count);               /* rounded up */
size_t pieces_of_tokens(size_t tokens_count);               /* most pieces that fit; at least 1 */
size_t tokens_estimate(const char *text, size_t len);

#endif
