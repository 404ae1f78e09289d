/* halfvec — the wire form of ext.halfvec: int16 count, int16 zero, then IEEE 754 binary16, big endian.
 * Used as a binary parameter: a thousand floats in two kilobytes instead of ten of text. */
#ifndef CORDON_DB_HALFVEC_H
#define CORDON_DB_HALFVEC_H

#include <stddef.h>
#include <stdint.h>

#include "db/sql.h"

enum { VECTOR_DIMENSIONS = 1024, HALFVEC_BYTES = 4 + 2 * VECTOR_DIMENSIONS };

/* Encode VECTOR_DIMENSIONS values, rounded to nearest even; larger than binary16 becomes its maximum,
 * NaN becomes 0 (the server refuses both). The parameter borrows out. */
struct db_param db_halfvec_param(const float values[VECTOR_DIMENSIONS], uint8_t out[HALFVEC_BYTES]);

uint16_t half_from_float(float value);

#endif
