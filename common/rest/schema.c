#include "rest/schema.h"

#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "rest/shape.h"

static void put(struct json_writer *w, const char *name, const char *text) {
    json_put_name(w, name);
    json_put_text(w, text);
}

static void put_number(struct json_writer *w, const char *name, int64_t number) {
    json_put_name(w, name);
    json_put_i64(w, number);
}

static void put_limits(struct json_writer *w, const struct fill_rule *rule, const char *least, const char *most) {
    if (!rule || !(rule->min || rule->max))
        return;
    put_number(w, least, rule->min);
    put_number(w, most, rule->max);
}

/* "^(processing|ready|failed)$" reads better as an enumeration. */
static bool put_alternatives(struct json_writer *w, const char *pattern) {
    size_t len = strlen(pattern);
    if (len < 5 || !str_starts_with(pattern, "^(") || !str_ends_with(pattern, ")$") ||
        strspn(pattern + 2, "abcdefghijklmnopqrstuvwxyz_|") != len - 4)
        return false;
    json_put_name(w, "enum");
    json_open_array(w);
    for (const char *p = pattern + 2, *end = pattern + len - 2; p < end;) {
        size_t n = strcspn(p, "|)");
        json_put_bytes(w, p, n);
        p += n + 1;
    }
    json_close_array(w);
    return true;
}

static void put_text(struct json_writer *w, const struct fill_rule *rule) {
    put(w, "type", "string");
    if (rule && *rule->pattern && put_alternatives(w, rule->pattern))
        return;
    put_limits(w, rule, "minLength", "maxLength");
    if (rule && *rule->pattern)
        put(w, "pattern", rule->pattern);
}

static void put_enum(struct json_writer *w, const ProtobufCEnumDescriptor *type) {
    char name[SHAPE_NAME_BYTES];
    put(w, "type", "string");
    json_put_name(w, "enum");
    json_open_array(w);
    for (unsigned i = 0; i < type->n_values; i++)
        json_put_text(w, shape_enum_name(type, type->values[i].name, name));
    json_close_array(w);
}

static void put_integer(struct json_writer *w, const ProtobufCFieldDescriptor *field, const struct fill_rule *rule) {
    bool is_unsigned = field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_FIXED32 ||
                       field->type == PROTOBUF_C_TYPE_UINT64 || field->type == PROTOBUF_C_TYPE_FIXED64;
    put(w, "type", "integer");
    put(w, "format", shape_size(field) == sizeof(int64_t) || is_unsigned ? "int64" : "int32");
    if (rule && (rule->min || rule->max))
        put_limits(w, rule, "minimum", "maximum");
    else if (is_unsigned)
        put_number(w, "minimum", 0);
}

/* The members of one value's schema, inside an open object. */
static void put_value(struct json_writer *w, const ProtobufCFieldDescriptor *field, const struct fill_rule *rule) {
    char path[128];
    switch (shape_of(field)) {
    case SHAPE_BOOL:
        put(w, "type", "boolean");
        return;
    case SHAPE_INTEGER:
        put_integer(w, field, rule);
        return;
    case SHAPE_NUMBER:
        put(w, "type", "number");
        return;
    case SHAPE_TEXT:
        put_text(w, rule);
        return;
    case SHAPE_ENUM:
        put_enum(w, field->descriptor);
        return;
    case SHAPE_UUID:
        put(w, "type", "string");
        put(w, "format", "uuid");
        return;
    case SHAPE_HEX:
        put(w, "type", "string");
        put(w, "pattern", "^([0-9a-f]{2})*$");
        return;
    case SHAPE_INSTANT:
        put(w, "type", "string");
        put(w, "format", "date-time");
        return;
    case SHAPE_JSON:
        put(w, "type", "object");
        return;
    case SHAPE_OBJECT:
        (void)snprintf(path, sizeof path, "#/components/schemas/%s",
                       ((const ProtobufCMessageDescriptor *)field->descriptor)->short_name);
        put(w, "$ref", path);
        return;
    }
}

static void put_members(struct json_writer *w, const ProtobufCFieldDescriptor *field, const struct fill_rule *rule) {
    if (!shape_is_repeated(field)) {
        put_value(w, field, rule);
        return;
    }
    struct fill_rule element = rule ? *rule : (struct fill_rule){ .pattern = "" };
    element.min = element.max = 0;
    put(w, "type", "array");
    put_limits(w, rule, "minItems", "maxItems");
    json_put_name(w, "items");
    json_open_object(w);
    put_value(w, field, &element);
    json_close_object(w);
}

void schema_put_field(struct json_writer *w, const struct fill_rule *rules, const ProtobufCMessageDescriptor *message,
                      const ProtobufCFieldDescriptor *field) {
    json_open_object(w);
    put_members(w, field, fill_rule_find(rules, message->name, field->name));
    json_close_object(w);
}

void schema_put_reference(struct json_writer *w, const ProtobufCMessageDescriptor *message) {
    char path[128];
    (void)snprintf(path, sizeof path, "#/components/schemas/%s", message->short_name);
    json_open_object(w);
    put(w, "$ref", path);
    json_close_object(w);
}

/* Replies always hold what print never leaves out. */
static bool is_always_there(const ProtobufCFieldDescriptor *field) {
    enum shape shape = shape_of(field);
    bool may_be_absent = shape == SHAPE_UUID || shape == SHAPE_HEX || shape == SHAPE_INSTANT || shape == SHAPE_OBJECT ||
                         shape == SHAPE_JSON || field->label == PROTOBUF_C_LABEL_OPTIONAL;
    return shape_is_repeated(field) || !may_be_absent;
}

void schema_put_message(struct json_writer *w, const struct fill_rule *rules, const ProtobufCMessageDescriptor *message,
                        enum schema_side side, bool (*is_left_out)(const void *ctx, const char *name), const void *ctx) {
    char name[SHAPE_NAME_BYTES];
    json_open_object(w);
    put(w, "type", "object");
    if (side == SCHEMA_REQUEST) {
        json_put_name(w, "additionalProperties");
        json_put_bool(w, false);
    }
    json_put_name(w, "properties");
    json_open_object(w);
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        const struct fill_rule *rule = fill_rule_find(rules, message->name, field->name);
        if (is_left_out && is_left_out(ctx, shape_name(field, name)))
            continue;
        json_put_name(w, shape_name(field, name));
        json_open_object(w);
        if (rule && *rule->help)
            put(w, "description", rule->help);
        put_members(w, field, rule);
        json_close_object(w);
    }
    json_close_object(w);
    unsigned count = 0;
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        const struct fill_rule *rule = fill_rule_find(rules, message->name, field->name);
        bool is_required = side == SCHEMA_REPLY ? is_always_there(field) : rule && rule->is_required;
        if (!is_required || (is_left_out && is_left_out(ctx, shape_name(field, name))))
            continue;
        if (count++ == 0) {
            json_put_name(w, "required");
            json_open_array(w);
        }
        json_put_text(w, shape_name(field, name));
    }
    if (count)
        json_close_array(w);
    json_close_object(w);
}
