/* fill_value — one value into one field of a message; the inner half of fill. name is what the client
 * calls the member, for the refusal. */
#ifndef CORDON_REST_FILL_VALUE_H
#define CORDON_REST_FILL_VALUE_H

#include <jansson.h>

#include "rest/fill.h"

/* From decoded UTF-8 text of a path or query parameter. ST_INVALID. */
enum status fill_value_text(struct fill *f, ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
                            const char *name, const char *text, size_t len) MUST_USE;
/* From JSON; depth counts the messages around msg. ST_INVALID. */
enum status fill_value_json(struct fill *f, ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
                            const char *name, const json_t *value, int depth) MUST_USE;

#endif
