/* canonical — the one form of a JSON value that hashes may cover (RFC 8785): no white space, members in
 * order of their names' UTF-16 code units, the shortest escapes. Restricted to what the log holds: texts,
 * whole numbers that every reader keeps exact (at most 2^53 - 1 either way), true, false, null, arrays
 * and objects; a fraction is refused rather than rounded. Pure; any thread that owns the value. */
#ifndef CORDON_JSON_CANONICAL_H
#define CORDON_JSON_CANONICAL_H

#include <jansson.h>
#include <stdbool.h>

#include "core/buffer.h"
#include "core/status.h"

/* Append the canonical form of value to out; on failure out may hold a part of it. ST_INVALID (REQ_004): a
 * number outside the restriction, text that is not UTF-8, deeper than JSON_DEPTH_MAX, or out is full. */
enum status json_canonical(const json_t *value, struct buffer *out, struct why *why) MUST_USE;

/* Is text (len bytes) JSON in canonical form already, byte for byte? */
bool json_is_canonical(const void *text, size_t len);

#endif
