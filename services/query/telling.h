/* telling — an answer as the events of a stream, while it is made or when it is shown again: the same numbers for the same
 * answer. Statements go through citations.h, so what is told is what is kept. Where the caller takes no stream, nothing is
 * sent and the text is gathered all the same. Belongs to one call. */
#ifndef CORDON_QUERY_TELLING_H
#define CORDON_QUERY_TELLING_H

#include "bus/bus.h"
#include "citations.h"
#include "query.pb-c.h"

struct telling {
    struct call *call;
    uint32_t number, after;             /* of the last event; those up to `after` are known and not sent */
    struct citations kept;
    Query__Citation *const *citations;  /* by number - 1, as many as there are sources */
    bool *is_told;                      /* of those: was it sent? */
};

/* citations: borrowed. */
void telling_begin(struct telling *t, struct call *call, Query__Citation *const citations[], size_t count, uint32_t after);
void telling_end(struct telling *t);

/* Send the event that has one member. ST_UNAVAILABLE: the caller is gone. ST_INTERNAL: larger than a part. */
enum status tell(struct telling *t, Query__AnswerEvent *event, struct why *why) MUST_USE;
enum status tell_token(struct telling *t, const char *text, struct why *why) MUST_USE;
/* Nothing yet: the caller learns that it is heard. */
enum status tell_patience(struct telling *t, struct why *why) MUST_USE;

#endif
