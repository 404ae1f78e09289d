/* multipart — multipart/form-data (RFC 7578) as it streams in: bytes are fed in pieces of any size, parts
 * come out through three functions. Memory is bounded whatever arrives: one part's headers, and no part's
 * content. Strict: nothing before the first delimiter, no nesting, no transfer encodings. One thread. */
#ifndef CORDON_REST_MULTIPART_H
#define CORDON_REST_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"
#include "rest/header.h"

enum { MULTIPART_PARTS_MAX = 16, MULTIPART_HEADERS_MAX_BYTES = 4096 };

struct multipart_part {
    struct disposition disposition;             /* kind is "form-data", name is never "" */
    char content_type[HEADER_TOKEN_BYTES];      /* without parameters; "" when the part has none */
};

/* What takes the parts; a failure ends the parse and comes back from multipart_feed. */
struct multipart_sink {
    void *ctx;
    enum status (*begin)(void *ctx, const struct multipart_part *part, struct why *why);
    enum status (*data)(void *ctx, const void *data, size_t len, struct why *why);
    enum status (*end)(void *ctx, struct why *why);
};

struct multipart;

/* boundary: as media_type_parse accepts it. sink is copied. */
struct multipart *multipart_new(const char *boundary, const struct multipart_sink *sink);
void multipart_destroy(struct multipart **m_p);
/* ST_INVALID (REQ_002): not well formed, or beyond a limit; or what the sink said. Final: feed no more. */
enum status multipart_feed(struct multipart *m, const void *data, size_t len, struct why *why) MUST_USE;
/* Was the closing delimiter there? ST_INVALID (REQ_009). */
enum status multipart_finish(const struct multipart *m, struct why *why) MUST_USE;

#endif
