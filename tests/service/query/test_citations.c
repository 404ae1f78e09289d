#include <criterion/criterion.h>
#include <string.h>

#include "citations.h"
#include "core/arena.h"

static struct arena *mem;

static void set_up(void) { mem = arena_new(0); }
static void tear_down(void) { arena_destroy(&mem); }

TestSuite(citations, .init = set_up, .fini = tear_down);

struct checked { const char *text; bool *is_cited; uint32_t dropped_count, uncited_count, statements; };

static enum status gather(void *ctx, const char *text, size_t len, struct why *why) {
    struct buffer *out = ctx;
    (void)why;
    cr_assert_eq(strlen(text), len);
    return buffer_add(out, text, len) ? ST_OK : ST_INTERNAL;
}

/* In portions of so many bytes. What was passed on must be what was kept. */
static struct checked check_in(const char *text, size_t sources, size_t portion) {
    CLEANUP(buffer_end) struct buffer heard = { 0 };
    struct why why = { 0 };
    struct citations c = { .source_count = sources, .is_cited = arena_alloc(mem, sources + 1), .on_statement = gather, .ctx = &heard };
    for (size_t at = 0, len = strlen(text); at < len; at += portion)
        cr_assert_eq(citations_feed(&c, text + at, portion < len - at ? portion : len - at, &why), ST_OK);
    cr_assert_eq(citations_finish(&c, &why), ST_OK);
    struct checked result = { arena_strdup(mem, c.text.data ? c.text.data : ""), c.is_cited, c.dropped_count, c.uncited_count, 0 };
    cr_assert_str_eq(heard.data ? heard.data : "", result.text);
    citations_end(&c);
    return result;
}

/* The same however the text is cut, and the result is left as it is when it goes through again. */
static struct checked check(const char *text, size_t sources) {
    struct checked whole = check_in(text, sources, strlen(text) + 1);
    for (size_t portion = 1; portion < strlen(text); portion++) {
        struct checked cut = check_in(text, sources, portion);
        cr_assert_str_eq(cut.text, whole.text, "in portions of %zu", portion);
        cr_assert(cut.dropped_count == whole.dropped_count && cut.uncited_count == whole.uncited_count, "in portions of %zu", portion);
        cr_assert_eq(memcmp(cut.is_cited, whole.is_cited, sources), 0);
    }
    struct checked again = check_in(whole.text, sources, 3);
    cr_assert_str_eq(again.text, whole.text);
    cr_assert_eq(again.dropped_count + again.uncited_count, 0);
    return whole;
}

Test(citations, cited_statements_stay_as_they_are) {
    struct checked a = check("Potassium was 4.1 mmol/L. [1] It was repeated on day 3 [2][3].", 3);
    cr_assert_str_eq(a.text, "Potassium was 4.1 mmol/L. [1] It was repeated on day 3 [2][3].");
    cr_assert(a.is_cited[0] && a.is_cited[1] && a.is_cited[2]);
    cr_assert_eq(a.dropped_count + a.uncited_count, 0);
}

Test(citations, a_statement_is_passed_on_once_it_is_decided_and_not_before) {
    static const struct { const char *text; size_t kept; } STEPS[] = {
        { "Potassium was 4.1. ", 0 }, { "[1", 0 }, { "]", 0 }, { ".", 23 }, { " Sodium [2] ", 23 }, { "[", 23 }, { "x] and more", 34 } };
    struct why why = { 0 };
    struct citations c = { .source_count = 2, .is_cited = arena_alloc(mem, 2) };
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        cr_assert_eq(citations_feed(&c, STEPS[i].text, strlen(STEPS[i].text), &why), ST_OK);
        cr_expect_eq(c.text.len, STEPS[i].kept, "step %zu: %s", i, c.text.data ? c.text.data : "");
    }
    citations_end(&c);
}

static enum status refuse(void *ctx, const char *text, size_t len, struct why *why) {
    (void)ctx, (void)text, (void)len;
    return fail(why, ST_UNAVAILABLE, "gone");
}

Test(citations, who_does_not_listen_ends_it) {
    struct why why = { 0 };
    struct citations c = { .source_count = 1, .is_cited = arena_alloc(mem, 1), .on_statement = refuse };
    cr_assert_eq(citations_feed(&c, "One [1]. Two [1].", 17, &why), ST_UNAVAILABLE);
    citations_end(&c);
}

Test(citations, citations_of_sources_that_were_not_given_are_dropped_and_counted) {
    struct checked a = check("True [1][9]. Invented [7].", 2);
    cr_assert_str_eq(a.text, "True [1].");
    cr_assert_eq(a.dropped_count, 2);
    cr_assert_eq(a.uncited_count, 1);
    cr_assert_not(a.is_cited[1]);
}

Test(citations, text_without_a_citation_is_dropped) {
    cr_assert_str_eq(check("I think so.", 3).text, "");
    struct checked a = check("Known [1]. And I would add more.", 3);
    cr_assert_str_eq(a.text, "Known [1].");
    cr_assert_eq(a.uncited_count, 1);
}

Test(citations, separated_citations_are_one_group) {
    cr_assert_str_eq(check("Both say so [1], [2].", 2).text, "Both say so [1][2].");
    cr_assert_str_eq(check("Both say so [1] [2].", 2).text, "Both say so [1][2].");
}

Test(citations, links_are_removed) {
    cr_assert_str_eq(check("See https://evil.example/?q=secret now [1].", 1).text, "See (link removed) now [1].");
    cr_assert_str_eq(check("Ends in www.evil.example [1].", 1).text, "Ends in (link removed) [1].");
    cr_assert_str_eq(check("![x](hTTps://evil.example/p.png?d=1) HTTP://a (ftp://b) custom+app://c xhttp://d [1].", 1).text,
                     "![x]((link removed)) (link removed) ((link removed)) (link removed) (link removed) [1].");
    cr_assert_str_eq(check("Go JavaScript:alert(1) data:text/html;base64,x mailto:a@b.c [1].", 1).text,
                     "Go (link removed)(1) (link removed) (link removed) [1].");
}

Test(citations, words_that_look_like_links_are_none) {
    static const char *const PLAIN[] = { "Lab data: sodium 140 [1].", "Metadata:x and 5:30 [1].", "Ratio 1://2 or a:/b [1].", "www. is a prefix [1]." };
    for (size_t i = 0; i < sizeof PLAIN / sizeof *PLAIN; i++)
        cr_expect_str_eq(check(PLAIN[i], 1).text, PLAIN[i]);
}

Test(citations, brackets_that_are_no_citations_are_text) {
    cr_assert_str_eq(check("Range [3.5-5.1] and [a] and [] [1].", 1).text, "Range [3.5-5.1] and [a] and [] [1].");
    cr_assert_str_eq(check("[99999] [1]", 1).text, "[99999] [1]");
    cr_assert_str_eq(check("", 1).text, "");
    cr_assert_str_eq(check("[1]", 1).text, "");
    cr_assert_str_eq(check("open [", 1).text, "");
    cr_assert_str_eq(check("So [1], and then, [", 1).text, "So [1]");
    cr_assert_str_eq(check("So [0] and [1][00001][", 1).text, "and [1]");
}

Test(citations, a_nul_in_the_text_is_dropped) {
    struct why why = { 0 };
    struct citations c = { .source_count = 1, .is_cited = arena_alloc(mem, 1) };
    cr_assert_eq(citations_feed(&c, "So\0me [1\0].", 12, &why), ST_OK);
    cr_assert_eq(citations_finish(&c, &why), ST_OK);
    cr_assert_str_eq(c.text.data, "Some [1].");
    citations_end(&c);
}
