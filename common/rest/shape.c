#include "rest/shape.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/str.h"

bool shape_is_repeated(const ProtobufCFieldDescriptor *field) {
    return field->label == PROTOBUF_C_LABEL_REPEATED;
}

static bool is_id(const ProtobufCFieldDescriptor *field) {
    if (shape_is_repeated(field))
        return str_equal(field->name, "ids") || str_ends_with(field->name, "_ids");
    return str_equal(field->name, "id") || str_ends_with(field->name, "_id");
}

static bool is_instant(const char *name) {
    return str_ends_with(name, "_at_us") || str_equal(name, "from_us") || str_equal(name, "to_us");
}

enum shape shape_of(const ProtobufCFieldDescriptor *field) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return SHAPE_BOOL;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return SHAPE_NUMBER;
    case PROTOBUF_C_TYPE_ENUM:
        return SHAPE_ENUM;
    case PROTOBUF_C_TYPE_STRING:
        return str_ends_with(field->name, "_json") ? SHAPE_JSON : SHAPE_TEXT;
    case PROTOBUF_C_TYPE_BYTES:
        return is_id(field) ? SHAPE_UUID : SHAPE_HEX;
    case PROTOBUF_C_TYPE_MESSAGE:
        return SHAPE_OBJECT;
    case PROTOBUF_C_TYPE_INT64:
        return is_instant(field->name) ? SHAPE_INSTANT : SHAPE_INTEGER;
    default:
        return SHAPE_INTEGER;
    }
}

const char *shape_name(const ProtobufCFieldDescriptor *field, char out[SHAPE_NAME_BYTES]) {
    size_t len = strlen(field->name);
    enum shape shape = shape_of(field);
    if (shape == SHAPE_INSTANT)
        len -= strlen("_us");
    if (shape == SHAPE_JSON)
        len -= strlen("_json");
    (void)snprintf(out, SHAPE_NAME_BYTES, "%.*s", (int)len, field->name);
    return out;
}

const ProtobufCFieldDescriptor *shape_find(const ProtobufCMessageDescriptor *message, const char *name) {
    char own[SHAPE_NAME_BYTES];
    for (unsigned i = 0; i < message->n_fields; i++)
        if (str_equal(shape_name(&message->fields[i], own), name))
            return &message->fields[i];
    return NULL;
}

size_t shape_size(const ProtobufCFieldDescriptor *field) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(int64_t);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return sizeof(int32_t);
    }
}

/* Does name begin with the enum's own name in UPPER_SNAKE and '_'? Returns what follows. */
static const char *after_prefix(const char *type, const char *name) {
    for (const char *t = type; *t; t++) {
        if (isupper((unsigned char)*t) && t != type && *name++ != '_')
            return NULL;
        if (toupper((unsigned char)*t) != *name++)
            return NULL;
    }
    return *name == '_' ? name + 1 : NULL;
}

const char *shape_enum_name(const ProtobufCEnumDescriptor *type, const char *name, char out[SHAPE_NAME_BYTES]) {
    const char *rest = after_prefix(type->short_name, name);
    (void)snprintf(out, SHAPE_NAME_BYTES, "%s", rest ? rest : name);
    for (char *p = out; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return out;
}
