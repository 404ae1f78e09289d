/* receipt — what an answer was made of, in commitments: while the answer is made, its question, sources, prompt and
 * output are noted here; stored with the answer, the receipt's SHA-256 is on the log (docs/AUDIT_FORMAT.md). The texts
 * are not in it. Belongs to one call; its seeds are wiped with the call's memory. */
#ifndef CORDON_QUERY_RECEIPT_H
#define CORDON_QUERY_RECEIPT_H

#include "crypto/commitment.h"
#include "db/tenant_tx.h"
#include "disclosure.h"

struct receipt_source { struct uuid chunk_id; size_t document; double score; uint8_t commitment[COMMITMENT_BYTES]; };
struct receipt_document { struct uuid id; uint8_t seed[COMMITMENT_SALT_BYTES]; };

struct receipt {
    struct arena *mem;
    uint8_t seed[COMMITMENT_SALT_BYTES];
    struct receipt_source *sources;
    struct receipt_document *documents;         /* in the order in which the sources name them first */
    size_t source_count, document_count, max;
};

/* Fresh seeds, room for so many sources. */
void receipt_begin(struct receipt *r, struct arena *mem, size_t max_sources);
/* The question's commitment in hexadecimal, in mem: for the event that precedes the answer. */
const char *receipt_question(const struct receipt *r, const char *question);
/* A chunk that the answer is made from, in the order of its number; at most max_sources. */
void receipt_add_source(struct receipt *r, const struct uuid *chunk_id, const struct uuid *document_id, double score, const char *text);
/* What the prompt is committed with, once the sources are known: it is lost when any of their documents is. */
void receipt_prompt_salt(const struct receipt *r, uint8_t out[COMMITMENT_SALT_BYTES]);

/* What came of it. */
struct receipt_answer {
    struct uuid id;
    const char *question, *output;              /* the output as it was shown */
    const char *model, *vector_model;           /* "" when none was asked */
    const uint8_t *prompt_commitment;           /* COMMITMENT_BYTES; NULL: no model was asked */
    uint32_t top_k;
    bool is_found;
};

/* Into app.answers, beside the answer; in mem. */
struct receipt_salts { struct blob salt_enc; const char *source_salts_enc; };

/* Write the receipt, in the transaction that stores the answer and before that: the answer's row refers to it. key: the
 * answer's; shown: holds the documents' keys. Statuses of tenant_tx_run and of sealing; ST_NOT_FOUND: a document's key is not there. */
enum status receipt_store(const struct receipt *r, struct tenant_tx *tx, struct call *call, const struct disclosure *shown,
                          const struct document_key *key, const struct receipt_answer *answer, struct receipt_salts *ret_salts) MUST_USE;

#endif
