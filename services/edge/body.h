/* body — the bytes of a request, read with an end to patience: each read has a deadline, and the bytes
 * that came are counted against what was announced and allowed. */
#ifndef CORDON_EDGE_BODY_H
#define CORDON_EDGE_BODY_H

#include "core/buffer.h"
#include "exchange.h"

/* Is the announced length within max_bytes? ST_INVALID: REQ_005 too large, REQ_006 no length at all. */
enum status body_admit(struct exchange *x, int64_t max_bytes) MUST_USE;
/* Read until size bytes are here or the body ends. *ret_len < size: it has ended, whole. ST_INVALID:
 * REQ_009 cut short, REQ_010 too slow, REQ_005 more than max_bytes. */
enum status body_read(struct exchange *x, void *data, size_t size, int64_t max_bytes, size_t *ret_len) MUST_USE;
/* The whole body into out, whose limit is the route's. */
enum status body_read_all(struct exchange *x, struct buffer *out) MUST_USE;
/* After a refusal: swallow what the client had under way, so that it reads the answer instead of a reset. */
void body_discard(struct exchange *x);

#endif
