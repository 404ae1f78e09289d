#include <criterion/criterion.h>

#include "citations.h"

static struct arena *mem;

static void set_up(void) { mem = arena_new(0); }
static void tear_down(void) { arena_destroy(&mem); }

TestSuite(citations, .init = set_up, .fini = tear_down);

static struct cited_answer check(const char *text, size_t sources) {
    struct cited_answer a;
    citations_check(mem, text, sources, &a);
    return a;
}

Test(citations, cited_statements_stay_as_they_are) {
    struct cited_answer a = check("Potassium was 4.1 mmol/L. [1] It was repeated on day 3 [2][3].", 3);
    cr_assert_str_eq(a.text, "Potassium was 4.1 mmol/L. [1] It was repeated on day 3 [2][3].");
    cr_assert(a.is_cited[0] && a.is_cited[1] && a.is_cited[2]);
    cr_assert_eq(a.dropped_count + a.uncited_count, 0);
}

Test(citations, citations_of_sources_that_were_not_given_are_dropped_and_counted) {
    struct cited_answer a = check("True [1][9]. Invented [7].", 2);
    cr_assert_str_eq(a.text, "True [1].");
    cr_assert_eq(a.dropped_count, 2);
    cr_assert_eq(a.uncited_count, 1);
    cr_assert_not(a.is_cited[1]);
}

Test(citations, text_without_a_citation_is_dropped) {
    cr_assert_str_eq(check("I think so.", 3).text, "");
    struct cited_answer a = check("Known [1]. And I would add more.", 3);
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
}

Test(citations, brackets_that_are_no_citations_are_text) {
    cr_assert_str_eq(check("Range [3.5-5.1] and [a] and [] [1].", 1).text, "Range [3.5-5.1] and [a] and [] [1].");
    cr_assert_str_eq(check("[99999] [1]", 1).text, "[99999] [1]");
    cr_assert_str_eq(check("", 1).text, "");
    cr_assert_str_eq(check("[1]", 1).text, "");
    cr_assert_str_eq(check("open [", 1).text, "");
}
