/* shape — how a protobuf field looks in JSON, by its type and its name. The names carry the meaning:
 *   bytes `id`, `*_id`, repeated `*_ids`   UUID text
 *   other bytes                            hexadecimal
 *   int64 `*_at_us`, `from_us`, `to_us`    RFC 3339 text, named without `_us`
 *   string `*_json`                        a JSON object, named without `_json`
 *   enums                                  lower-case names without the enum's own prefix
 * Everything else keeps its name and its natural JSON type. Pure functions over descriptors. */
#ifndef CORDON_REST_SHAPE_H
#define CORDON_REST_SHAPE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

enum shape {
    SHAPE_BOOL, SHAPE_INTEGER, SHAPE_NUMBER, SHAPE_TEXT, SHAPE_ENUM, SHAPE_UUID, SHAPE_HEX, SHAPE_INSTANT,
    SHAPE_JSON, SHAPE_OBJECT
};

enum { SHAPE_NAME_BYTES = 64, SHAPE_DEPTH_MAX = 8 };

enum shape shape_of(const ProtobufCFieldDescriptor *field);
bool shape_is_repeated(const ProtobufCFieldDescriptor *field);
/* The member's name in JSON, into out; returns out. */
const char *shape_name(const ProtobufCFieldDescriptor *field, char out[SHAPE_NAME_BYTES]);
/* The field whose JSON name this is; NULL when there is none. */
const ProtobufCFieldDescriptor *shape_find(const ProtobufCMessageDescriptor *message, const char *name);
/* Bytes of one value of the field's type in memory. */
size_t shape_size(const ProtobufCFieldDescriptor *field);
/* "PURPOSE_QUESTION" of enum Purpose -> "question", into out; returns out. */
const char *shape_enum_name(const ProtobufCEnumDescriptor *type, const char *name, char out[SHAPE_NAME_BYTES]);

#endif
