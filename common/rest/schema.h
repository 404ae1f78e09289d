/* schema — a protobuf message as JSON Schema 2020-12, as OpenAPI 3.1 uses it: what fill accepts and print
 * writes, said in advance. From the same descriptors and rules, so that it cannot differ from them. */
#ifndef CORDON_REST_SCHEMA_H
#define CORDON_REST_SCHEMA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "json/writer.h"
#include "rest/fill.h"

enum schema_side { SCHEMA_REQUEST, SCHEMA_REPLY };      /* what fill takes; what print gives */

/* Puts the schema of one field, without its description. Messages become references to their short name. */
void schema_put_field(struct json_writer *w, const struct fill_rule *rules, const ProtobufCMessageDescriptor *message,
                      const ProtobufCFieldDescriptor *field);
/* Puts the schema of a whole message as an object. is_left_out(ctx, name): members to pass over; may be NULL. */
void schema_put_message(struct json_writer *w, const struct fill_rule *rules, const ProtobufCMessageDescriptor *message,
                        enum schema_side side, bool (*is_left_out)(const void *ctx, const char *name), const void *ctx);
/* Puts {"$ref": "#/components/schemas/<short name>"}. */
void schema_put_reference(struct json_writer *w, const ProtobufCMessageDescriptor *message);

#endif
