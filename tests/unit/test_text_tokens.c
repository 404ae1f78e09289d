#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "text/tokens.h"

struct token_case { char text[48]; size_t pieces; };

ParameterizedTestParameters(tokens, estimates_pieces_of_words_and_numbers) {
    static struct token_case cases[] = {
        { "", 0 }, { " \n\f\t ", 0 }, { "blood", 1 }, { "bloods", 2 }, { "8,420 pg/mL", 7 },
        { "03/14/1951", 6 }, { "µmol", 2 }, { "≥≥", 2 }, { "Dr. Castellane", 4 },
    };
    return cr_make_param_array(struct token_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct token_case *c, tokens, estimates_pieces_of_words_and_numbers) {
    size_t got = tokens_estimate(c->text, strlen(c->text));
    cr_assert_eq(got, tokens_of_pieces(c->pieces), "'%s': %zu tokens", c->text, got);
}

Test(tokens, pieces_that_fit_never_exceed_the_tokens) {
    for (size_t tokens = 2; tokens < 9000; tokens++) {
        size_t pieces = pieces_of_tokens(tokens);
        cr_assert_leq(tokens_of_pieces(pieces), tokens);
        cr_assert_gt(tokens_of_pieces(pieces + 1), tokens);
    }
}
