#include "rest/fill_value.h"

#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "core/uuid.h"
#include "core/wire.h"
#include "rest/instant.h"
#include "rest/shape.h"

/* One value on its way in: where it goes and what it is called. */
struct place {
    struct fill *f;
    const ProtobufCFieldDescriptor *field;
    const struct fill_rule *rule;       /* may be NULL */
    const char *name;
    void *slot;                         /* of the field's type */
};

static enum status refuse(const struct place *at, const char *what) {
    (void)snprintf(at->f->detail, sizeof at->f->detail, "'%s' %s", at->name, what);
    return fail_as(at->f->why, ERR_REQ_FIELD, "%s %s", at->field->name, what);
}

static bool has_limits(const struct fill_rule *rule) {
    return rule && (rule->min || rule->max);
}

static enum status refuse_range(const struct place *at, const char *of) {
    char what[96];
    (void)snprintf(what, sizeof what, "must have %s %" PRId64 " to %" PRId64, of, at->rule->min, at->rule->max);
    return refuse(at, what);
}

static enum status put_integer(const struct place *at, int64_t value) {
    if (has_limits(at->rule) && (value < at->rule->min || value > at->rule->max))
        return refuse_range(at, "a value from");
    switch (at->field->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        *(int64_t *)at->slot = value;
        return ST_OK;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        if (value < 0)
            return refuse(at, "must not be negative");
        *(uint64_t *)at->slot = (uint64_t)value;
        return ST_OK;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (value < 0 || value > UINT32_MAX)
            return refuse(at, "must be an integer of 32 bits that is not negative");
        *(uint32_t *)at->slot = (uint32_t)value;
        return ST_OK;
    default:
        if (value < INT32_MIN || value > INT32_MAX)
            return refuse(at, "must be an integer of 32 bits");
        *(int32_t *)at->slot = (int32_t)value;
        return ST_OK;
    }
}

static enum status put_number(const struct place *at, double value) {
    if (has_limits(at->rule) && (value < (double)at->rule->min || value > (double)at->rule->max))
        return refuse_range(at, "a value from");
    if (at->field->type == PROTOBUF_C_TYPE_FLOAT)
        *(float *)at->slot = (float)value;
    else
        *(double *)at->slot = value;
    return ST_OK;
}

/* Patterns are ours and few; compiling one takes some microseconds of a request that names it. */
static bool matches(const char *pattern, const char *text) {
    regex_t regex;
    if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool is_match = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return is_match;
}

static enum status put_text(const struct place *at, const char *text, size_t len) {
    bool is_limited = has_limits(at->rule) && !shape_is_repeated(at->field);
    if (is_limited && ((int64_t)len < at->rule->min || (int64_t)len > at->rule->max))
        return refuse_range(at, "a length in bytes from");
    char *copy = arena_strndup(at->f->mem, text, len);
    if (strlen(copy) != len)
        return refuse(at, "must not contain the character U+0000");
    if (at->rule && *at->rule->pattern && !matches(at->rule->pattern, copy))
        return refuse(at, "does not have the required form");
    *(char **)at->slot = copy;
    return ST_OK;
}

static enum status put_uuid(const struct place *at, const char *text, size_t len) {
    struct uuid id;
    if (!uuid_parse(text, len, &id))
        return refuse(at, "must be a UUID");
    *(ProtobufCBinaryData *)at->slot = wire_id(at->f->mem, &id);
    return ST_OK;
}

static enum status put_hex(const struct place *at, const char *text, size_t len) {
    uint8_t *bytes = arena_alloc(at->f->mem, len / 2);
    if (!hex_decode(text, len, bytes))
        return refuse(at, "must be hexadecimal");
    *(ProtobufCBinaryData *)at->slot = (ProtobufCBinaryData){ len / 2, bytes };
    return ST_OK;
}

static enum status put_instant(const struct place *at, const char *text, size_t len) {
    if (!instant_parse(text, len, at->slot))
        return refuse(at, "must be a time as in RFC 3339, \"2026-01-31T23:59:59Z\"");
    return ST_OK;
}

static enum status put_enum(const struct place *at, const char *text) {
    const ProtobufCEnumDescriptor *type = at->field->descriptor;
    char name[SHAPE_NAME_BYTES];
    for (unsigned i = 0; i < type->n_values; i++)
        if (str_equal(shape_enum_name(type, type->values[i].name, name), text)) {
            *(int32_t *)at->slot = type->values[i].value;
            return ST_OK;
        }
    return refuse(at, "is not one of the values that are allowed");
}

/* The shapes that are strings in JSON and plain text in a query alike. */
static enum status put_string(const struct place *at, const char *text, size_t len) {
    switch (shape_of(at->field)) {
    case SHAPE_UUID:
        return put_uuid(at, text, len);
    case SHAPE_HEX:
        return put_hex(at, text, len);
    case SHAPE_INSTANT:
        return put_instant(at, text, len);
    case SHAPE_ENUM:
        return put_enum(at, text);
    default:
        return put_text(at, text, len);
    }
}

static void mark_present(ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field) {
    bool is_pointer = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL && !is_pointer)
        *(protobuf_c_boolean *)((char *)msg + field->quantifier_offset) = true;
}

static struct place place_of(struct fill *f, ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, const char *name) {
    return (struct place){ f, field, fill_rule_find(f->rules, msg->descriptor->name, field->name), name,
                           (char *)msg + field->offset };
}

enum status fill_value_text(struct fill *f, ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
                            const char *name, const char *text, size_t len) {
    struct place at = place_of(f, msg, field, name);
    int64_t value;
    mark_present(msg, field);
    switch (shape_of(field)) {
    case SHAPE_INTEGER:
        if (!str_to_i64(arena_strndup(f->mem, text, len), INT64_MIN, INT64_MAX, &value))     /* a path goes on behind it */
            return refuse(&at, "must be an integer");
        return put_integer(&at, value);
    case SHAPE_BOOL:
        if (!str_equal(text, "true") && !str_equal(text, "false"))
            return refuse(&at, "must be true or false");
        *(protobuf_c_boolean *)at.slot = str_equal(text, "true");
        return ST_OK;
    case SHAPE_NUMBER:
    case SHAPE_OBJECT:
    case SHAPE_JSON:
        return refuse(&at, "is not a parameter of this endpoint");
    default:
        return put_string(&at, text, len);
    }
}

static enum status put_object(const struct place *at, const json_t *value, int depth) {
    const ProtobufCMessageDescriptor *type = at->field->descriptor;
    if (!json_is_object(value))
        return refuse(at, "must be an object");
    if (depth >= SHAPE_DEPTH_MAX)
        return refuse(at, "is nested too deeply");
    ProtobufCMessage *inner = arena_alloc(at->f->mem, type->sizeof_message);
    type->message_init(inner);
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member) {
        const ProtobufCFieldDescriptor *field = shape_find(type, key);
        struct place unknown = *at;
        unknown.name = arena_printf(at->f->mem, "%s.%.48s", at->name, field ? key : "?");
        if (!field)
            return refuse(&unknown, "is not a member of this object");
        enum status st = fill_value_json(at->f, inner, field, unknown.name, member, depth + 1);
        if (st != ST_OK)
            return st;
    }
    for (unsigned i = 0; i < type->n_fields; i++) {
        char name[SHAPE_NAME_BYTES];
        const struct fill_rule *rule = fill_rule_find(at->f->rules, type->name, type->fields[i].name);
        if (rule && rule->is_required && !json_object_get(value, shape_name(&type->fields[i], name)))
            return refuse(at, "lacks a member that is required");
    }
    *(ProtobufCMessage **)at->slot = inner;
    return ST_OK;
}

/* The object's own text, compact; what a `*_json` field carries. */
static enum status put_json(const struct place *at, const json_t *value) {
    if (!json_is_object(value))
        return refuse(at, "must be an object");
    size_t len = json_dumpb(value, NULL, 0, JSON_COMPACT);
    char *text = arena_alloc(at->f->mem, len + 1);
    (void)json_dumpb(value, text, len, JSON_COMPACT);
    return put_text(at, text, len);
}

static enum status put_json_value(const struct place *at, const json_t *value, int depth) {
    switch (shape_of(at->field)) {
    case SHAPE_OBJECT:
        return put_object(at, value, depth);
    case SHAPE_JSON:
        return put_json(at, value);
    case SHAPE_INTEGER:
        return json_is_integer(value) ? put_integer(at, json_integer_value(value)) : refuse(at, "must be an integer");
    case SHAPE_NUMBER:
        return json_is_number(value) ? put_number(at, json_number_value(value)) : refuse(at, "must be a number");
    case SHAPE_BOOL:
        if (!json_is_boolean(value))
            return refuse(at, "must be true or false");
        *(protobuf_c_boolean *)at->slot = json_is_true(value);
        return ST_OK;
    default:
        return json_is_string(value) ? put_string(at, json_string_value(value), json_string_length(value))
                                     : refuse(at, "must be a string");
    }
}

static enum status put_array(struct place *at, ProtobufCMessage *msg, const json_t *value, int depth) {
    if (!json_is_array(value))
        return refuse(at, "must be an array");
    size_t count = json_array_size(value), size = shape_size(at->field);
    if (has_limits(at->rule) && ((int64_t)count < at->rule->min || (int64_t)count > at->rule->max))
        return refuse_range(at, "an element count from");
    struct fill_rule element = at->rule ? *at->rule : (struct fill_rule){ .pattern = "" };
    element.min = element.max = 0;      /* they limit how many, not each */
    char *slots = arena_alloc(at->f->mem, count * size);
    for (size_t i = 0; i < count; i++) {
        struct place one = { at->f, at->field, &element, arena_printf(at->f->mem, "%s[%zu]", at->name, i), slots + i * size };
        enum status st = put_json_value(&one, json_array_get(value, i), depth);
        if (st != ST_OK)
            return st;
    }
    *(void **)at->slot = slots;
    *(size_t *)((char *)msg + at->field->quantifier_offset) = count;
    return ST_OK;
}

enum status fill_value_json(struct fill *f, ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
                            const char *name, const json_t *value, int depth) {
    struct place at = place_of(f, msg, field, name);
    if (shape_is_repeated(field))
        return put_array(&at, msg, value, depth);
    mark_present(msg, field);
    return put_json_value(&at, value, depth);
}
