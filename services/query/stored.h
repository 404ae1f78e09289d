/* stored — answers as they are kept: sealed under the key of their conversation, with their receipt, written once; and
 * shown again only after that was put on the record, to whoever asked, and only while every document that they cite may
 * be seen (ADR 0022). */
#ifndef CORDON_QUERY_STORED_H
#define CORDON_QUERY_STORED_H

#include "disclosure.h"
#include "query.pb-c.h"
#include "receipt.h"
#include "retrieval.h"

enum {
    RECALL_MAX = 8,             /* answers at once: the event names all that they cite */
    ANSWER_LIFE_MS = 300000,    /* longer no answer is in the making: the edge's budget is less */
};

extern const char NOT_FOUND_TEXT[];     /* what an answer says that the documents do not hold */

/* An answer to be stored. Borrowed. */
struct made_answer {
    const struct asked *asked;
    const struct retrieval *found;
    const struct disclosure *shown;             /* that permitted it */
    const struct document_key *conversation_key;    /* of the conversation that it follows; NULL: it begins one */
    struct receipt_answer receipt;
    Query__Citation *const *citations;
    size_t citation_count;
    bool is_interrupted;                        /* the text is what was shown of it */
};

/* Seal it, write its receipt and its row, end its question: one transaction. Failures of sealing, of the share's store, of
 * tenant_tx_run; ST_UNAVAILABLE (ANS_001): a document that it was made from, or its conversation, was deleted meanwhile. */
enum status answer_store(struct query *q, struct call *call, const struct made_answer *made) MUST_USE;
/* There will be no answer to this question. */
enum status question_forget(struct query *q, struct call *call, const struct uuid *answer_id) MUST_USE;

/* Which answers: one, or a conversation's newest before a given one. */
struct recall {
    const struct uuid *answer_id, *conversation_id, *before;    /* NULL: any */
    unsigned limit;                             /* up to RECALL_MAX */
    const char *purpose;                        /* "read", "follow_up": also to the model */
    uint32_t after;                             /* of a stream that goes on */
};
struct recalled {
    Query__StoredAnswer *answers[RECALL_MAX];   /* newest first; withheld ones without texts */
    size_t count;
    bool has_more;
    struct disclosure shown;                    /* with the conversation's key; recalled_end */
};

/* Find, record, open. None found: ST_OK, a count of 0, and nothing is recorded. */
enum status recall(struct query *q, struct call *call, const struct recall *which, struct recalled *ret) MUST_USE;
void recalled_end(struct recalled *r);

#endif
