/* str — the few questions about C strings that the tree asks everywhere. */
#ifndef CORDON_CORE_STR_H
#define CORDON_CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool str_equal(const char *a, const char *b);               /* NULL equals nothing */
bool str_starts_with(const char *s, const char *prefix);
bool str_ends_with(const char *s, const char *suffix);
/* Whole string as a decimal number within [min, max]; no sign but '-', no spaces. */
bool str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret_value);

#endif
