/* rig — query with everything around it: a database from the migrations, real buses from edge to query and on, KMS and
 * the document store on loopback, an audit-writer that really commits, and models that say what a test wants. */
#ifndef CORDON_TESTS_QUERY_RIG_H
#define CORDON_TESTS_QUERY_RIG_H

#include <stdatomic.h>

#include "core/buffer.h"
#include "query.h"
#include "query.pb-c.h"
#include "support/pg.h"

enum { RIG_EVENTS_MAX = 512, RIG_DOCUMENTS_MAX = 16, RIG_SOURCES_MAX = 32, RIG_SHARES_MAX = 64 };

#define RIG_MODEL "titan-test"

/* An event as audit-writer took it. */
struct rig_event {
    struct uuid id, resource_id;
    char action[64], detail[1024];
    size_t document_count, chunk_count;
};

struct rig {
    struct arena *mem;              /* replies of the test */
    struct query query;
    struct why why;                 /* of the last call, as edge sees it */

    /* ---- what the others do ---- */
    const char *_Atomic audit_away_for;     /* audit-writer is away for this action; "*": for all; NULL: takes everything */
    const char *deletes;            /* this document is deleted once an event that names it was committed */
    const char *deletes_while_answering;    /* this one while the chat model answers */
    atomic_bool is_kms_disabled, is_store_down, is_object_cut;
    atomic_llong store_bytes;       /* of originals that the document store has given */
    const char *archived, *archived_key;    /* the one object of the anchor bucket; NULL: none */
    Query__ContentWanted *wanted;   /* by the next rig_content; NULL: all of it */
    int64_t damaged_at;             /* a byte of the sealed original that is turned over; -1: none */
    enum error_code embed_failure, generate_failure;    /* ERR_NONE: answers */
    const char *answer;             /* of the chat model, in pieces; NULL: not found */
    enum error_code breaks_off;     /* after the answer; ERR_NONE: it ends well */
    atomic_bool model_hangs;        /* after the answer, until query goes */

    /* ---- what the others saw ---- */
    struct rig_event events[RIG_EVENTS_MAX];
    size_t event_count, embed_count, generate_count, source_count;
    atomic_bool model_was_left;
    size_t turn_count;
    char turns[RIG_SOURCES_MAX][256];       /* "question > answer" of the conversation */
    char sources[RIG_SOURCES_MAX][256];     /* the beginning of each text that the chat model was given */
};

extern struct rig rig;

void rig_open(void);
void rig_close(void);

struct uuid rig_uuid(const char *text);
ProtobufCBinaryData rig_id(const char *text);       /* the 16 bytes, in rig.mem */
const char *rig_id_text(ProtobufCBinaryData id);    /* in rig.mem; "" for none */

/* A document of tenant (PG_TENANT_A or B) with its key, sealed name and sealed original, and no chunks. */
void rig_document(const char *tenant, const char *id, const char *status, const char *name, const void *original, size_t len);
/* A chunk of it on page 2; the smaller `distance` (0 or more), the nearer to every question. */
void rig_chunk(const char *document_id, const char *id, const char *text, double distance);

/* A patient with this record number, whose the document is. */
void rig_subject(const char *tenant, const char *id, const char *mrn, const char *document_id);

/* An answer of a user who has been there, in a conversation of its own, that cites the chunk. Nothing when it is there already. */
void rig_answer(const char *tenant, const char *subject, const char *id, const char *document_id, const char *chunk_id);

/* One call from edge. *ret_reply lives in rig.mem; rig.why is set. */
enum status rig_call(const char *method, const char *ticket, const ProtobufCMessage *req, ProtobufCMessage **ret_reply);
/* Ask for the original; what arrived is in *out. max_parts: the reader goes after so many; 0: reads on. */
enum status rig_content(const char *ticket, const char *document_id, size_t max_parts, Query__ContentHead **ret_head, struct buffer *out);
/* A call whose answer streams, to its end; the parts one behind the other in *out. */
enum status rig_stream(const char *method, const char *ticket, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *want, struct buffer *out);
/* A call whose answer streams, each part to hear. max_parts: the listener goes after so many; 0: it stays. */
enum status rig_listen(const char *method, const char *ticket, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *want,
                       size_t max_parts, void (*hear)(void *ctx, const void *data, size_t len), void *ctx);
void rig_wait(const atomic_bool *flag);
/* Calls that query is serving now. */
double rig_in_flight(void);

/* Make the log's events findable by document, as audit-writer does when it puts them there. */
void rig_index_events(void);

/* How many events of the action were committed; the last of them, which must exist. */
size_t rig_count(const char *action);
const struct rig_event *rig_last(const char *action);

#endif
