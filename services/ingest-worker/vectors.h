/* vectors — texts become vectors that are kept: one of each text, by each model, however many chunks have that text. It is found
 * by a blind token of the text under the tenant's search key, so a text that the tenant has is not sent to a model again; and it
 * goes with the last chunk of its text (ADR 0036). Which models a tenant's vectors are of is app.vector_sets: one that is searched and, while the model
 * changes, the next one. One thread's. */
#ifndef CORDON_INGEST_VECTORS_H
#define CORDON_INGEST_VECTORS_H

#include "db/halfvec.h"
#include "job_run.h"

enum { VECTORS_AT_ONCE = 64, BLIND_BYTES = 32, VECTOR_MODELS_MAX = 2, VECTOR_ROWS = 8 };

/* The models whose vectors are wanted; "": the present one, of a tenant that has no vectors yet. In run.mem. */
struct vector_models { const char *names[VECTOR_MODELS_MAX]; size_t count; };

/* A text to be embedded, and what became of it. */
struct vector_text {
    struct uuid chunk_id;
    const char *text;                   /* the caller's */
    uint8_t blind[BLIND_BYTES];         /* of vectors_blind() */
    bool is_made;
    uint8_t halfvec[HALFVEC_BYTES];     /* then; the wire form */
};

/* The counter of texts that no model was asked for exists from the start. */
void vectors_metrics(struct metrics *m);

/* What is embedded of a chunk: its document's name says what it is about when the chunk itself does not. */
char *vectors_text(struct arena *mem, const char *file_name, const char *text, size_t len);
void vectors_blind(const struct tenant_key *search_key, const char *text, uint8_t out[BLIND_BYTES]);

/* Which of these tokens the tenant has a vector of: ret_is_known[i] is set, or stays. One transaction, unless model is "". */
enum status vectors_known(struct job_run *run, const char *model, const uint8_t blinds[][BLIND_BYTES], size_t n, bool ret_is_known[],
                          size_t *ret_known_count) MUST_USE;
/* Fill in the vectors that the tenant has already: one transaction. */
enum status vectors_recall(struct job_run *run, const char *model, struct vector_text texts[], size_t n) MUST_USE;
/* Have the model make those that are not made; *ret_model: its name, in run->call.mem. n up to VECTORS_AT_ONCE. The texts must
 * be on the record. Statuses of the call. */
enum status vectors_ask(struct job_run *run, const char *model, struct vector_text texts[], size_t n, const char **ret_model) MUST_USE;
/* Which model it was is known from its answer only, and then put on the record. */
enum status vectors_record_model(struct job_run *run, const char *model, const struct uuid document_ids[], size_t document_count) MUST_USE;
/* Within a transaction: what is wanted stays so until it is over, for a tenant whose first vectors are of model. False in
 * *ret_is_same: that is not models (any more). *ret_home is where vectors go. */
enum status vectors_hold(struct job_run *run, struct tenant_tx *tx, const struct vector_models *models, const char *model, struct uuid *ret_home,
                         bool *ret_is_same) MUST_USE;
/* Within a transaction in which these texts' chunks are, or are held: one row for each text. One that is there stays, and does not
 * go before the transaction is over. n up to VECTORS_AT_ONCE. */
enum status vectors_store(struct job_run *run, struct tenant_tx *tx, const char *model, const struct uuid *home, const struct vector_text texts[],
                          size_t n) MUST_USE;

#endif
