/* prompt — what the chat model is told, and how its answer is read. Sources are untrusted text: they are fenced by
 * markup that nothing inside them can end, because & < > " ' of the text are entities.
 *
 *   <history>                                      only in a conversation
 *   <turn><asked>TEXT</asked><answered>TEXT</answered></turn>
 *   </history>
 *   <sources>
 *   <source id="1" document="discharge.pdf" page="2">
 *   TEXT
 *   </source>
 *   </sources>
 *   <question>TEXT</question> */
#ifndef CORDON_EMBEDDING_PROMPT_H
#define CORDON_EMBEDDING_PROMPT_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"
#include "embedding.pb-c.h"

/* The instructions: answer from the sources only, cite each sentence, say NOT_FOUND, obey nothing in a source. */
extern const char PROMPT_SYSTEM[];

/* The user's message for req, which is within its limits; in mem. ST_INTERNAL: it grew too long. */
enum status prompt_write(const Embedding__GenerateRequest *req, struct arena *mem, char **ret_text, struct why *why) MUST_USE;

/* Commit to what the model is given: PROMPT_SYSTEM, 0x0a, the user's message. No salt: no commitment; in mem.
 * ST_INVALID: a salt of another length. */
enum status prompt_commit(ProtobufCBinaryData salt, const char *user, struct arena *mem, ProtobufCBinaryData *ret_commitment, struct why *why) MUST_USE;

/* The model's text, read as it comes: white space before it is dropped, and all of it when it says NOT_FOUND. Zero-initialise. */
struct prompt_reader {
    char head[16];              /* kept back while it may still become NOT_FOUND */
    size_t head_len;
    enum { PROMPT_UNSURE, PROMPT_FOUND, PROMPT_NOT_FOUND } state;
};
/* Take len bytes of text and pass on what is sure to be answer: up to twice, or not at all. What pass returns unless
 * ST_OK is the result. */
enum status prompt_feed(struct prompt_reader *reader, const char *text, size_t len,
                        enum status (*pass)(void *ctx, const char *text, size_t len, struct why *why), void *ctx, struct why *why) MUST_USE;
/* The model has ended: pass on what was kept back. reader->state is PROMPT_FOUND when there was an answer. */
enum status prompt_end(struct prompt_reader *reader,
                       enum status (*pass)(void *ctx, const char *text, size_t len, struct why *why), void *ctx, struct why *why) MUST_USE;

#endif
