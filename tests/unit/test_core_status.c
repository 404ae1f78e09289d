#include <criterion/criterion.h>
#include <string.h>

#include "core/status.h"

Test(status, failure_carries_the_status_s_own_public_code) {
    struct why why = { 0 };
    cr_assert_eq(fail(&why, ST_NOT_FOUND, "document %d", 7), ST_NOT_FOUND);
    cr_assert_eq(why.code, ERR_NOT_FOUND);
    cr_assert_str_eq(why.text, "document 7");
}

Test(status, precise_failure_returns_the_registry_s_status) {
    struct why why = { 0 };
    cr_assert_eq(fail_as(&why, ERR_DOC_TYPE, "no"), ST_INVALID);
    cr_assert_eq(error_http(why.code), 415);
}

Test(status, long_detail_is_cut_and_terminated) {
    struct why why = { 0 };
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    cr_assert_eq(fail(&why, ST_INTERNAL, "%s", big), ST_INTERNAL);
    cr_assert_eq(strlen(why.text), sizeof why.text - 1);
}

Test(status, every_error_has_its_own_code_and_agrees_with_its_status) {
    for (unsigned i = 0; i < ERROR_CODE_COUNT; i++) {
        enum error_code code = (enum error_code)i;
        cr_expect_eq(error_from_text(error_text_code(code)), code, "%s stands twice", error_text_code(code));
        cr_expect_geq(strlen(error_public_text(code)), 2);
        int http = error_http(code);
        int class_of_status = error_http(status_error(error_status(code))) / 100;
        cr_expect_eq(http / 100, class_of_status, "%s: HTTP %d", error_text_code(code), http);
    }
}

Test(status, every_status_has_a_name_and_a_row_in_the_registry) {
    for (unsigned i = 0; status_is_known(i); i++) {
        cr_expect(strncmp(status_name((enum status)i), "ST_", 3) == 0);
        cr_expect_eq(error_status(status_error((enum status)i)), (enum status)i);
    }
    cr_assert_not(status_is_known(10));
    cr_assert_str_eq(status_name((enum status)99), "ST_?");
    cr_assert_eq(status_error((enum status)99), ERR_INTERNAL);
}

Test(status, unknown_wire_code_reads_as_internal) {
    cr_assert_eq(error_from_text("DOC_999"), ERR_INTERNAL);
    cr_assert_eq(error_from_text(NULL), ERR_INTERNAL);
}
