#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/utf8.h"
#include "text/splitter.h"
#include "text/tokens.h"

struct split {
    struct arena *mem;
    const char *text;
    struct text_chunk *chunks;
    size_t count;
};

static struct split split_all(const char *text, size_t len, const struct split_options *opt) {
    struct split s = { .mem = arena_new(4096), .text = text };
    struct why why = { 0 };
    cr_assert_eq(split_text(s.mem, text, len, opt, &s.chunks, &s.count, &why), ST_OK, "%s", why.text);
    return s;
}

static const char *chunk_text(const struct split *s, size_t i) {
    const struct text_chunk *c = &s->chunks[i];
    return arena_strndup(s->mem, s->text + c->start_byte, c->end_byte - c->start_byte);
}

static void split_end(struct split *s) {
    arena_destroy(&s->mem);
}

/* What must hold for any text: see tests/fuzz/fuzz_splitter.c for the same with hostile ones. */
static void assert_sound(const struct split *s, size_t len, size_t max_tokens) {
    size_t covered = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct text_chunk *c = &s->chunks[i];
        cr_assert(c->start_byte < c->end_byte && c->end_byte <= len);
        cr_assert(c->token_count <= max_tokens && c->token_count > 0);
        cr_assert_eq(c->token_count, tokens_estimate(s->text + c->start_byte, c->end_byte - c->start_byte));
        cr_assert_eq(c->start_char, utf8_count(s->text, c->start_byte));
        cr_assert_eq(c->end_char, utf8_count(s->text, c->end_byte));
        for (size_t at = covered; at < c->start_byte; at++)
            cr_assert(token_is_space(s->text[at]), "byte %zu is in no chunk", at);
        cr_assert_gt(c->end_byte, covered, "chunk %zu brings nothing new", i);
        covered = c->end_byte;
    }
    for (size_t at = covered; at < len; at++)
        cr_assert(token_is_space(s->text[at]), "byte %zu is in no chunk", at);
}

Test(splitter, white_space_makes_no_chunks) {
    CLEANUP(split_end) struct split s = split_all(" \n\f \t", 5, NULL);
    cr_assert_eq(s.count, 0);
    CLEANUP(split_end) struct split none = split_all("", 0, NULL);
    cr_assert_eq(none.count, 0);
}

Test(splitter, short_text_is_one_chunk_without_its_margins) {
    const char *text = "\n  Weight 165.2 lb.\n\n";
    CLEANUP(split_end) struct split s = split_all(text, strlen(text), NULL);
    cr_assert_eq(s.count, 1);
    cr_assert_str_eq(chunk_text(&s, 0), "Weight 165.2 lb.");
    cr_assert_eq(s.chunks[0].start_char, 3);
    cr_assert_eq(s.chunks[0].page_from, 1);
}

Test(splitter, prefers_paragraph_then_line_then_sentence_then_word) {
    const struct split_options opt = { .max_tokens = 26 };      /* 20 pieces: breaks at pieces 10..20 */
    const char *paragraph = "a b c d e f g h i j k\n\nl. M n\no p q r s t u v w x y z";
    CLEANUP(split_end) struct split one = split_all(paragraph, strlen(paragraph), &opt);
    cr_assert_str_eq(chunk_text(&one, 0), "a b c d e f g h i j k");
    const char *line = "a b c d e f g h i j k\nL. M n o p q r s t u v w x y z";
    CLEANUP(split_end) struct split two = split_all(line, strlen(line), &opt);
    cr_assert_str_eq(chunk_text(&two, 0), "a b c d e f g h i j k");
    const char *sentence = "a b c d e f g h i j k l. M n o p q r s t u v w x y z";
    CLEANUP(split_end) struct split three = split_all(sentence, strlen(sentence), &opt);
    cr_assert_str_eq(chunk_text(&three, 0), "a b c d e f g h i j k l.");
    const char *word = "a b c d e f g h i j k l m n o p q r s t u v w x y z";
    CLEANUP(split_end) struct split four = split_all(word, strlen(word), &opt);
    cr_assert_str_eq(chunk_text(&four, 0), "a b c d e f g h i j k l m n o p q r s t");
}

Test(splitter, a_title_does_not_end_a_sentence_and_a_wrapped_line_is_only_a_space) {
    const struct split_options opt = { .max_tokens = 26 };
    const char *title = "a b c d e f g h i j seen by k. Then Dr. Voss left the room at noon";
    CLEANUP(split_end) struct split one = split_all(title, strlen(title), &opt);
    cr_assert_str_eq(chunk_text(&one, 0), "a b c d e f g h i j seen by k.");
    const char *wrapped = "a b c d e f g h i j k\nl m n. O p q r s t u v w x y z";
    CLEANUP(split_end) struct split two = split_all(wrapped, strlen(wrapped), &opt);
    cr_assert_str_eq(chunk_text(&two, 0), "a b c d e f g h i j k\nl m n.");
}

Test(splitter, next_chunk_repeats_the_last_sentence) {
    const struct split_options opt = { .max_tokens = 26, .overlap_tokens = 8 };     /* 6 pieces */
    const char *text = "one two three four five six seven. Eight nine ten. Big end of it. And more of it here. Bye now.";
    CLEANUP(split_end) struct split s = split_all(text, strlen(text), &opt);
    cr_assert_eq(s.count, 2);
    cr_assert_str_eq(chunk_text(&s, 0), "one two three four five six seven. Eight nine ten. Big end of it.");
    cr_assert_str_eq(chunk_text(&s, 1), "Big end of it. And more of it here. Bye now.");
    assert_sound(&s, strlen(text), opt.max_tokens);
}

Test(splitter, form_feeds_count_pages) {
    const struct split_options opt = { .max_tokens = 16 };      /* 12 pieces */
    const char *text = "a b c d e f g h\fi j k l m n o p\f\fq r s t u v w x y z";
    CLEANUP(split_end) struct split s = split_all(text, strlen(text), &opt);
    cr_assert_eq(s.count, 3);
    uint32_t want[] = { 1, 2, 4 };
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(s.chunks[i].page_from, want[i]);
        cr_assert_eq(s.chunks[i].page_to, want[i]);
    }
    CLEANUP(split_end) struct split across = split_all("a\fb", 3, NULL);
    cr_assert_eq(across.chunks[0].page_from, 1);
    cr_assert_eq(across.chunks[0].page_to, 2);
}

Test(splitter, offsets_count_characters_too) {
    const struct split_options opt = { .max_tokens = 16, .overlap_tokens = 4 };
    const char *text = "Lucía µ µ µ µ µ µ µ µ. Andrés ≥ 5 µmol/L und 😀 😀 😀 😀. Nyström á é í ó ú.";
    CLEANUP(split_end) struct split s = split_all(text, strlen(text), &opt);
    cr_assert_gt(s.count, 2);
    assert_sound(&s, strlen(text), opt.max_tokens);
}

Test(splitter, a_long_gap_ends_the_chunk) {
    char text[SPLIT_GAP_BYTES + 4];
    memset(text, ' ', sizeof text);
    text[0] = 'a';
    text[sizeof text - 1] = 'b';
    CLEANUP(split_end) struct split s = split_all(text, sizeof text, NULL);
    cr_assert_eq(s.count, 2);
    assert_sound(&s, sizeof text, SPLIT_MAX_TOKENS);
}

Test(splitter, refuses_what_is_not_text) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    struct text_chunk *chunks = NULL;
    size_t count = 7;
    struct why why = { 0 };
    cr_assert_eq(split_text(mem, "ab\xFF", 3, NULL, &chunks, &count, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_DAMAGED);
    cr_assert_eq(split_text(mem, "a\0b", 3, NULL, &chunks, &count, &why), ST_INVALID);
    cr_assert_null(chunks);
    cr_assert_eq(count, 7);
}

Test(splitter, refuses_options_out_of_range_and_too_many_chunks) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    struct text_chunk *chunks = NULL;
    size_t count = 0;
    struct why why = { 0 };
    const struct split_options bad[] = { { 15, 0, 0 }, { 8001, 0, 0 }, { 100, 34, 0 } };
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(split_text(mem, "a", 1, &bad[i], &chunks, &count, &why), ST_INVALID);
    const struct split_options two = { .max_tokens = 16, .max_chunks_count = 2 };
    const char *text = "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n";
    cr_assert_eq(split_text(mem, text, strlen(text), &two, &chunks, &count, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_TOO_COMPLEX);
}

/* 10 MB of the worst kinds: the time is that of reading them, whatever the size of a chunk. */
Test(splitter, hostile_text_takes_linear_time) {
    const struct { const char *unit; size_t len; } units[] = {
        { "x", 1 }, { "\n", 1 }, { "a\n\n", 3 }, { "≥", 3 }, { ". ", 2 }, { "a.", 2 }, { "\f", 1 }, { "7\f", 2 },
    };
    const struct split_options large = { .max_tokens = 8000, .overlap_tokens = 2000 };
    const size_t len = 10u << 20;
    char *text = xalloc(len);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t at = 0; at < len; at++)
            text[at] = units[u].unit[at % units[u].len];
        size_t whole = len / units[u].len * units[u].len;
        for (int k = 0; k < 2; k++) {
            int64_t from_ms = clock_mono_ms();
            struct split s = split_all(text, whole, k ? &large : NULL);
            cr_assert_lt(clock_mono_ms() - from_ms, 10000, "unit %zu took too long", u);
            split_end(&s);
        }
    }
    free(text);
}
