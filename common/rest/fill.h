/* fill — a protobuf message from what a client sent: path and query parameters, and a JSON object, by
 * walking the message's descriptor. Strict: unknown, repeated and ill-typed members are refused by name,
 * and a table of rules says what is required, how long and how large. One fill per request and message;
 * everything lives in its arena. */
#ifndef CORDON_REST_FILL_H
#define CORDON_REST_FILL_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"

/* What a field must look like beyond its type; also what documents it. A field without a row is optional. */
struct fill_rule {
    const char *message;        /* "query.SearchRequest"; NULL ends the table */
    const char *field;          /* name in the .proto */
    bool is_required;
    int64_t min, max;           /* integers: the value; text: bytes of UTF-8; repeated: how many; both 0: no limit */
    const char *pattern;        /* extended regular expression, anchored; "" for none */
    const char *help;           /* a sentence for the API's document */
};

/* The row of a field; NULL when it has none. */
const struct fill_rule *fill_rule_find(const struct fill_rule *rules, const char *message, const char *field);

struct fill {
    struct arena *mem;
    const struct fill_rule *rules;
    ProtobufCMessage *msg;
    uint64_t seen;              /* bit i: field i of msg's descriptor was given */
    char detail[200];           /* for the client, after a failure: which member, and what was expected */
    struct why *why;            /* for the log: never a client's bytes */
};

/* A fresh message of type `want` in mem. */
void fill_init(struct fill *f, struct arena *mem, const struct fill_rule *rules,
               const ProtobufCMessageDescriptor *want, struct why *why);
/* One parameter as decoded text. ST_INVALID. */
enum status fill_text(struct fill *f, const char *name, const char *text, size_t len) MUST_USE;
/* A whole query string: strictly percent-decoded ('+' is a space), each name at most once. NULL is "". */
enum status fill_query(struct fill *f, const char *query) MUST_USE;
/* A JSON object of len bytes; members that fill_text has set already are refused. */
enum status fill_json(struct fill *f, const char *json, size_t len) MUST_USE;
/* After the last of them: is everything there that is required? */
enum status fill_end(struct fill *f) MUST_USE;

/* Is text a JSON object of at most max_bytes whose values are all strings? Duplicates are refused. */
bool fill_is_text_object(const char *text, size_t len, size_t max_bytes);

#endif
