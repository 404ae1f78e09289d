/* disclosure — evidence before bytes. What is about to be shown is put on the record first; the database
 * gives the wrapped keys only for the documents that the committed event names, under the same ticket.
 * So the order cannot be got wrong: without the event there is nothing to decrypt with. */
#ifndef CORDON_QUERY_DISCLOSURE_H
#define CORDON_QUERY_DISCLOSURE_H

#include "audit/actions.h"
#include "keystore/keystore.h"
#include "query.h"

/* What the event says. Ids are borrowed for the call. */
struct disclosed {
    enum audit_action action;       /* of kind DISCLOSURE */
    const struct uuid *tenant;      /* of the ticket, as the database said where the documents were found: their keys' second
                                     * shares are fetched while the event is committed; NULL: afterwards */
    const struct uuid *document_ids;
    size_t document_count;          /* duplicates are fine */
    const struct uuid *chunk_ids;
    size_t chunk_count;
    const struct uuid *resource_id; /* job, answer; NULL: none */
    const char *detail_json;        /* see audit/record.h; NULL: none */
    bool opens_conversation;        /* resource_id is a conversation or one of its answers: its key too */
    const struct uuid *begins_in;   /* not NULL: the answer resource_id is about to be made in this conversation, which
                                     * app.questions is told in the same transaction as the keys come */
    const char *model_detail_json;  /* not NULL: the texts go to a model too, which is a second event (model.disclose)
                                     * with this detail, committed with the first */
};

struct opened_key { struct uuid document_id; struct document_key *key; };

struct disclosure {
    struct uuid event_id;           /* the committed event */
    struct uuid tenant;
    struct document_key *conversation_key;      /* NULL: none was asked for, or there is none */
    struct tenant_key *tenant_key;  /* the newest data key: for what belongs to no document */
    struct opened_key *keys;
    size_t key_count;
};

/* Commit the event, then open the keys of its documents under a transaction with `scope`.
 * ST_UNAVAILABLE AUDIT_001: not on the record, nothing may be shown; KMS_001, KMS_002 from KMS. */
enum status disclosure_begin(struct disclosure *d, struct query *q, struct call *call, const struct disclosed *what,
                             uint64_t scope) MUST_USE;
void disclosure_end(struct disclosure *d);      /* wipes the keys; may run twice */

/* The documents whose keys came, each once, as an array of PostgreSQL's; in mem. */
const char *disclosure_documents(const struct disclosure *d, struct arena *mem);
/* Did the document's key come? Not when it was deleted after it was found: then it does not exist any more. */
bool disclosure_has_key(const struct disclosure *d, const struct uuid *document_id);
/* The document's key; ST_NOT_FOUND: it has none. Borrowed until disclosure_end. */
enum status disclosure_key(const struct disclosure *d, const struct uuid *document_id, const struct document_key **ret_key,
                           struct why *why) MUST_USE;

/* The field in rows[row][column], sealed under document_id's key, as NUL-terminated text in call->mem. NULL
 * in the database: "". ST_NOT_FOUND: as above. */
enum status disclosure_open_text(const struct disclosure *d, struct call *call, const struct uuid *document_id,
                                 enum field_kind kind, const struct uuid *row_id, const PGresult *rows, int row, int column,
                                 char **ret_text) MUST_USE;

#endif
