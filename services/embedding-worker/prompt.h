/* prompt — what the chat model is told, and how its answer is read. Sources are untrusted text: they are fenced by
 * markup that nothing inside them can end, because & < > " ' of the text are entities.
 *
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

/* The model's text without white space around it, in mem; "" and *ret_found false when it says NOT_FOUND or nothing. */
char *prompt_read(struct arena *mem, const char *text, bool *ret_found);

#endif
