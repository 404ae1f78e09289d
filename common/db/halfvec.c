#include "db/halfvec.h"

#include <math.h>
#include <string.h>

uint16_t half_from_float(float value) {
    enum { HALF_MAX = 0x7bff };         /* 65504 */
    if (isnan(value))
        return 0;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    int exponent = (int)(bits >> 23 & 0xff) - 127 + 15;
    uint32_t mantissa = bits & 0x7fffff;

    if (exponent >= 31)
        return sign | HALF_MAX;
    unsigned shift = 13;                /* bits of the mantissa that go */
    uint32_t whole;
    if (exponent <= 0) {                /* subnormal: the leading one becomes visible and moves right */
        if (exponent < -10)
            return sign;
        shift += (unsigned)(1 - exponent);
        whole = mantissa | 0x800000;
    } else {
        whole = (uint32_t)exponent << 23 | mantissa;
    }
    uint32_t kept = whole >> shift, rest = whole & ((1u << shift) - 1), half = 1u << (shift - 1);
    if (rest > half || (rest == half && (kept & 1)))
        kept++;                         /* may carry into the exponent, which is right */
    return sign | (uint16_t)(kept > HALF_MAX ? HALF_MAX : kept);
}

struct db_param db_halfvec_param(const float values[VECTOR_DIMENSIONS], uint8_t out[HALFVEC_BYTES]) {
    uint8_t *at = out;
    *at++ = VECTOR_DIMENSIONS >> 8;
    *at++ = VECTOR_DIMENSIONS & 0xff;
    *at++ = 0;
    *at++ = 0;
    for (int i = 0; i < VECTOR_DIMENSIONS; i++) {
        uint16_t half = half_from_float(values[i]);
        *at++ = (uint8_t)(half >> 8);
        *at++ = (uint8_t)half;
    }
    return (struct db_param){ out, HALFVEC_BYTES, true };
}
