#ifndef CORDON_TESTS_PLAIN_PARAMETERIZED_H
#define CORDON_TESTS_PLAIN_PARAMETERIZED_H

#include <criterion/criterion.h>

#define ParameterizedTestParameters(s, n) \
    static struct plain_params plain_params_##s##_##n(void)

#define cr_make_param_array(type, array, length) \
    (struct plain_params){ sizeof(type), (array), (length) }

#define ParameterizedTest(param, s, n, ...) \
    static void s##_##n(param); \
    static void plain_run_##s##_##n(void *row) { s##_##n(row); } \
    PLAIN_ADD(s##_##n, .suite = #s, .name = #n, .run = plain_run_##s##_##n, .params = plain_params_##s##_##n, \
              .options = { __VA_ARGS__ }) \
    static void s##_##n(param)

#endif
