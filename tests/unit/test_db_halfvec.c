#include <criterion/criterion.h>
#include <math.h>

#include "db/halfvec.h"

/* Values and encodings of IEEE 754-2019 binary16, worked by hand. */
Test(db_halfvec, encodes_known_values) {
    const struct { float value; uint16_t want; } cases[] = {
        { 0.0f, 0x0000 }, { -0.0f, 0x8000 }, { 1.0f, 0x3c00 }, { -2.0f, 0xc000 }, { 0.333251953125f, 0x3555 },
        { 65504.0f, 0x7bff }, { 1e9f, 0x7bff }, { -1e9f, 0xfbff }, { INFINITY, 0x7bff }, { NAN, 0x0000 },
        { 0x1p-14f, 0x0400 },           /* smallest normal */
        { 0x1p-24f, 0x0001 },           /* smallest subnormal */
        { 0x1p-25f, 0x0000 },           /* half of it: to even */
        { 0x1.8p-25f, 0x0001 },         /* more than half: up */
        { 0x1p-40f, 0x0000 },
        { 0x1.ffcp-15f, 0x0400 },       /* rounds from the largest subnormal's neighbour into the normals */
        { 1.00048828125f, 0x3c00 },     /* 1 + half a step: to even, down */
        { 1.00146484375f, 0x3c02 },     /* 1 + one and a half: to even, up */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_eq(half_from_float(cases[i].value), cases[i].want, "%a gave %#x, want %#x", (double)cases[i].value,
                     half_from_float(cases[i].value), cases[i].want);
}

Test(db_halfvec, parameter_has_count_and_big_endian_values) {
    static float values[VECTOR_DIMENSIONS];
    static uint8_t out[HALFVEC_BYTES];
    values[1] = 1.0f;
    struct db_param p = db_halfvec_param(values, out);
    cr_assert_eq(p.len, 2052);
    cr_assert(p.is_binary);
    const uint8_t want[] = { 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3c, 0x00 };
    cr_assert_arr_eq(out, want, sizeof want);
}
