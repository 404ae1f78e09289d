/* extract — text out of an original's bytes, as they arrive. PDF goes through pdftotext in a sandboxed
 * child (cordon-sandbox); UTF-8 text and Markdown are checked in place. The result is UTF-8 with form
 * feeds between pages. One extraction belongs to one thread; it ends by finish or destroy, and destroy
 * kills a child that still runs. */
#ifndef CORDON_INGEST_EXTRACT_H
#define CORDON_INGEST_EXTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/status.h"

struct extract_options {
    const char *sandbox_path;       /* cordon-sandbox */
    const char *pdftotext_path;
    bool is_landlock_required;
    int64_t memory_max_bytes;       /* of the child */
    int64_t time_max_ms;            /* wall clock of the child, but for the time that its bytes take to come */
    size_t text_max_bytes;          /* of the result */
};

struct extraction;

/* Can documents of this media type be ingested? */
bool extract_is_supported(const char *content_type);
/* Does the type have pages? Page numbers of other types are 0. */
bool extract_has_pages(const char *content_type);

/* ST_INVALID DOC_001: unsupported type; ST_INTERNAL: the child cannot be started. options is borrowed. */
enum status extraction_new(const struct extract_options *options, const char *content_type,
                           struct extraction **ret_x, struct why *why) MUST_USE;
/* Have `watch` asked a few times a second while a child works, with the number of pages whose text is here; what it
 * returns but ST_OK ends the extraction. */
void extraction_watch(struct extraction *x, enum status (*watch)(void *ctx, uint32_t pages, struct why *why), void *ctx);
/* ST_INVALID DOC_004: not what the type promises; DOC_006: over a limit of time, memory or text. */
enum status extraction_feed(struct extraction *x, const void *data, size_t len, struct why *why) MUST_USE;
/* All bytes were fed. Moves the text into ret_text (initialised, empty). Failures as feed, and DOC_003
 * when there is no text; ST_INTERNAL when the sandbox could not confine the child; ST_UNAVAILABLE when
 * somebody else told it to stop. */
enum status extraction_finish(struct extraction *x, struct buffer *ret_text, struct why *why) MUST_USE;
void extraction_destroy(struct extraction **x_p);

#endif
