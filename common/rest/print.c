#include "rest/print.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text_codec.h"
#include "core/uuid.h"
#include "json/reader.h"
#include "rest/shape.h"

static void print_tree(const json_t *value, struct json_writer *w) {
    const char *name;
    json_t *inner;
    size_t i;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        json_open_object(w);
        json_object_foreach((json_t *)value, name, inner) {
            json_put_name(w, name);
            print_tree(inner, w);
        }
        json_close_object(w);
        return;
    case JSON_ARRAY:
        json_open_array(w);
        json_array_foreach(value, i, inner)
            print_tree(inner, w);
        json_close_array(w);
        return;
    case JSON_STRING:
        json_put_bytes(w, json_string_value(value), json_string_length(value));
        return;
    case JSON_INTEGER:
        json_put_i64(w, json_integer_value(value));
        return;
    case JSON_REAL:
        json_put_double(w, json_real_value(value));
        return;
    case JSON_NULL:
        json_put_null(w);
        return;
    default:
        json_put_bool(w, json_is_true(value));
    }
}

static bool print_embedded(const char *text, struct json_writer *w) {
    struct why why = { 0 };
    CLEANUP(json_destroy) json_t *root = NULL;
    size_t len = strlen(text);
    if (json_parse(text, len, len, &root, &why) != ST_OK || !json_is_object(root))
        return false;
    print_tree(root, w);
    return true;
}

static bool print_uuid(const ProtobufCBinaryData *bytes, struct json_writer *w) {
    struct uuid id;
    char text[UUID_TEXT_BYTES];
    if (!uuid_from_bytes(bytes->data, bytes->len, &id))
        return false;
    json_put_text(w, uuid_format(&id, text));
    return true;
}

static void print_hex(const ProtobufCBinaryData *bytes, struct json_writer *w) {
    struct buffer text;
    char pair[3];
    buffer_init(&text, 0);
    for (size_t i = 0; i < bytes->len; i++)
        (void)buffer_add(&text, hex_encode(bytes->data + i, 1, pair), 2);
    json_put_bytes(w, text.data ? text.data : "", text.len);
    buffer_end(&text);
}

static void print_integer(const ProtobufCFieldDescriptor *field, const void *slot, struct json_writer *w) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        json_put_i64(w, *(const int64_t *)slot);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        json_put_u64(w, *(const uint64_t *)slot);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        json_put_u64(w, *(const uint32_t *)slot);
        return;
    default:
        json_put_i64(w, *(const int32_t *)slot);
    }
}

static void print_enum(const ProtobufCEnumDescriptor *type, int value, struct json_writer *w) {
    const ProtobufCEnumValue *row = protobuf_c_enum_descriptor_get_value(type, value);
    char name[SHAPE_NAME_BYTES];
    json_put_text(w, row ? shape_enum_name(type, row->name, name) : "unknown");
}

static bool print_value(const ProtobufCFieldDescriptor *field, const void *slot, struct json_writer *w) {
    char instant[CLOCK_TEXT_BYTES];
    switch (shape_of(field)) {
    case SHAPE_BOOL:
        json_put_bool(w, *(const protobuf_c_boolean *)slot);
        return true;
    case SHAPE_INTEGER:
        print_integer(field, slot, w);
        return true;
    case SHAPE_NUMBER:
        json_put_double(w, field->type == PROTOBUF_C_TYPE_FLOAT ? (double)*(const float *)slot : *(const double *)slot);
        return true;
    case SHAPE_TEXT:
        json_put_text(w, *(const char *const *)slot);
        return true;
    case SHAPE_ENUM:
        print_enum(field->descriptor, *(const int *)slot, w);
        return true;
    case SHAPE_UUID:
        return print_uuid(slot, w);
    case SHAPE_HEX:
        print_hex(slot, w);
        return true;
    case SHAPE_INSTANT:
        json_put_text(w, clock_format(*(const int64_t *)slot, instant));
        return true;
    case SHAPE_JSON:
        return print_embedded(*(const char *const *)slot, w);
    case SHAPE_OBJECT:
        return print_message(*(const ProtobufCMessage *const *)slot, w);
    }
    return false;
}

/* Absent: nothing to print at all. Texts and numbers are never absent, unless the field says `optional`. */
static bool is_absent(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, const void *slot) {
    switch (shape_of(field)) {
    case SHAPE_UUID:
    case SHAPE_HEX:
        return ((const ProtobufCBinaryData *)slot)->len == 0;
    case SHAPE_INSTANT:
        return *(const int64_t *)slot == 0;
    case SHAPE_OBJECT:
        return !*(void *const *)slot;
    case SHAPE_JSON:
        return !*(const char *const *)slot || !**(const char *const *)slot;
    case SHAPE_TEXT:
        return !*(const char *const *)slot;
    default:
        return field->label == PROTOBUF_C_LABEL_OPTIONAL &&
               !*(const protobuf_c_boolean *)((const char *)msg + field->quantifier_offset);
    }
}

static bool print_array(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, struct json_writer *w) {
    size_t count = *(const size_t *)((const char *)msg + field->quantifier_offset);
    const char *slots = *(const char *const *)((const char *)msg + field->offset);
    json_open_array(w);
    for (size_t i = 0; i < count; i++)
        if (!print_value(field, slots + i * shape_size(field), w))
            return false;
    json_close_array(w);
    return true;
}

bool print_message(const ProtobufCMessage *msg, struct json_writer *w) {
    char name[SHAPE_NAME_BYTES];
    json_open_object(w);
    for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
        const void *slot = (const char *)msg + field->offset;
        if (!shape_is_repeated(field) && is_absent(msg, field, slot))
            continue;
        json_put_name(w, shape_name(field, name));
        if (!(shape_is_repeated(field) ? print_array(msg, field, w) : print_value(field, slot, w)))
            return false;
    }
    json_close_object(w);
    return true;
}
