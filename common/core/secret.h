/* secret — a value that must not leave memory: wiped on release, kept out of core dumps and swap
 * where the system allows, compared in constant time, printed as "***" by whoever prints settings. */
#ifndef CORDON_CORE_SECRET_H
#define CORDON_CORE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct secret { size_t len; uint8_t bytes[]; };     /* bytes[len] is NUL, for text */

struct secret *secret_new(const void *bytes, size_t len);   /* copies; own pages, locked, not dumped */
void secret_destroy(struct secret **secret_p);
const char *secret_text(const struct secret *s);            /* borrowed; "" for NULL */
bool secret_equal(const struct secret *s, const void *bytes, size_t len);   /* constant time in the content */

#endif
