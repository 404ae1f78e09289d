/* retrieval — the passages that a question is about: put on record, embedded, found under the ticket; then named in a
 * committed event, and only then opened. The order is the point. For search and answers alike. Belongs to one call. */
#ifndef CORDON_QUERY_RETRIEVAL_H
#define CORDON_QUERY_RETRIEVAL_H

#include "disclosure.h"
#include "query.pb-c.h"
#include "receipt.h"

enum { TOP_K_MAX = 32, QUESTION_MAX_BYTES = 4000 };

/* A retrieved chunk; text and name are filled in once its key is given. */
struct candidate {
    int row;
    struct uuid chunk_id, document_id;
    double score;
    uint32_t page_from, page_to;
    int64_t start_offset, end_offset;
    char *text, *document_name;
};

struct retrieval {
    PGresult *rows;
    struct candidate *candidates;
    size_t count;
    uint32_t top_k;
    const char *model;          /* whose vectors were compared */
    struct uuid tenant_id;      /* whose they are */
    struct uuid *document_ids;  /* of all that were named in the event, one for each */
    size_t document_count;
};

void retrieval_end(struct retrieval *r);

struct asked {
    const char *question;
    uint32_t top_k;             /* 0: as many as usual */
    const Query__Filter *filter;
    const char *before;         /* the conversation's last question, without which this one may mean nothing; NULL */
    struct uuid answer_id, conversation_id;     /* of the answer that it is for; nil: only hits are wanted */
    struct receipt *receipt;    /* of that answer; NULL: only hits are wanted */
};

/* Record the question, embed it, find the nearest chunks. ST_INVALID REQ_004; failures of the audit log and of the model. */
enum status retrieve(struct query *q, struct call *call, const struct asked *asked, struct retrieval *r) MUST_USE;
/* Put what was found on the record, for the caller or for an answer and the model that writes it; then open its texts. Of
 * documents that were deleted meanwhile nothing is left. Failures of disclosure_begin. */
enum status reveal(struct query *q, struct call *call, const struct asked *asked, struct retrieval *r, struct disclosure *ret_shown) MUST_USE;

#endif
