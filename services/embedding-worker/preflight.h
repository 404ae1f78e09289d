/* preflight — do the models of our settings exist, and may we use them? One thread asks each of them something tiny
 * at start, again soon while the answer is no, and every ten minutes while it is yes. Readiness reads its last word. */
#ifndef CORDON_EMBEDDING_PREFLIGHT_H
#define CORDON_EMBEDDING_PREFLIGHT_H

#include "aws/bedrock.h"
#include "service/service.h"

struct preflight;

/* All arguments are borrowed until preflight_destroy. */
struct preflight *preflight_new(struct bedrock *bedrock, const char *embed_model, const char *chat_model, const struct runtime *rt);
/* Waits for a question that is on its way, at most 40 s. */
void preflight_destroy(struct preflight **preflight_p);

/* ST_OK: both models answered. ST_UNAVAILABLE until the first answer. */
enum status preflight_status(struct preflight *preflight, struct why *why) MUST_USE;

/* May text be sent? ST_UNAVAILABLE MODEL_001 while the account's invocation logging writes where it may not. */
enum status preflight_may_send(struct preflight *preflight, struct why *why) MUST_USE;

#endif
