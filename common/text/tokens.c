#include "text/tokens.h"

#include "core/utf8.h"

enum { LETTERS_PER_PIECE = 5, DIGITS_PER_PIECE = 2 };

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool token_is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

size_t token_piece(const char *text, size_t len) {
    bool (*is_kind)(char) = is_letter(*text) ? is_letter : is_digit(*text) ? is_digit : NULL;
    if (!is_kind)
        return utf8_step(text);
    size_t max = is_kind == is_letter ? LETTERS_PER_PIECE : DIGITS_PER_PIECE, n = 1;
    while (n < max && n < len && is_kind(text[n]))
        n++;
    return n;
}

size_t tokens_of_pieces(size_t pieces_count) {
    return pieces_count / 10 * 13 + (pieces_count % 10 * 13 + 9) / 10;
}

size_t pieces_of_tokens(size_t tokens_count) {
    size_t pieces = tokens_count / 13 * 10 + tokens_count % 13 * 10 / 13;
    return pieces ? pieces : 1;
}

size_t tokens_estimate(const char *text, size_t len) {
    size_t pieces = 0;
    for (size_t at = 0; at < len;)
        if (token_is_space(text[at]))
            at++;
        else {
            at += token_piece(text + at, len - at);
            pieces++;
        }
    return tokens_of_pieces(pieces);
}
