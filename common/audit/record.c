#include "audit/record.h"

#include <string.h>

#include "json/reader.h"

enum { DETAIL_DEPTH_MAX = 4, MEMBER_NAME_MAX_BYTES = 64 };

static bool is_member_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > MEMBER_NAME_MAX_BYTES || name[0] < 'a' || name[0] > 'z')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

static bool is_code(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len <= AUDIT_DETAIL_TEXT_MAX_BYTES;
}

static enum status check_value(const json_t *value, int depth, struct why *why) {
    const char *name;
    json_t *child;
    size_t i;
    if (depth > DETAIL_DEPTH_MAX)
        return fail(why, ST_INVALID, "audit detail: deeper than %d", DETAIL_DEPTH_MAX);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        json_object_foreach((json_t *)value, name, child) {
            enum status st = !is_member_name(name) ? fail(why, ST_INVALID, "audit detail: a member's name is not snake_case")
                                                   : check_value(child, depth + 1, why);
            if (st != ST_OK)
                return st;
        }
        return ST_OK;
    case JSON_ARRAY:
        json_array_foreach(value, i, child) {
            enum status st = check_value(child, depth + 1, why);
            if (st != ST_OK)
                return st;
        }
        return ST_OK;
    case JSON_STRING:
        if (!is_code(json_string_value(value), json_string_length(value)))
            return fail(why, ST_INVALID, "audit detail: a text is no id, hash or code");
        return ST_OK;
    case JSON_INTEGER:
    case JSON_TRUE:
    case JSON_FALSE:
        return ST_OK;
    case JSON_REAL:
    case JSON_NULL:
        break;
    }
    return fail(why, ST_INVALID, "audit detail: fractions and null have no place in it");
}

enum status audit_detail_parse(const char *text, json_t **ret_detail, struct why *why) {
    if (!text || !*text) {
        *ret_detail = NULL;
        return ST_OK;
    }
    CLEANUP(json_destroy) json_t *value = NULL;
    enum status st = json_parse(text, strlen(text), AUDIT_DETAIL_MAX_BYTES, &value, why);
    if (st != ST_OK)
        return fail(why, ST_INVALID, "audit detail: not JSON, or too much");
    if (!json_is_object(value))
        return fail(why, ST_INVALID, "audit detail: no object");
    st = check_value(value, 0, why);
    if (st != ST_OK)
        return st;
    if (json_object_size(value) == 0)
        json_destroy(&value);
    *ret_detail = value;
    value = NULL;
    return ST_OK;
}

static bool has_nil(const struct uuid *ids, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (uuid_is_nil(&ids[i]))
            return true;
    return false;
}

enum status audit_record_check(const struct audit_record *record, json_t **ret_detail, struct why *why) {
    if (record->action >= AUDIT_ACTION_COUNT || record->outcome >= AUDIT_OUTCOME_COUNT)
        return fail(why, ST_INVALID, "audit: unknown action or outcome");
    if (record->document_count > AUDIT_DOCUMENTS_MAX || record->chunk_count > AUDIT_CHUNKS_MAX)
        return fail(why, ST_INVALID, "audit: %zu documents and %zu chunks in one event", record->document_count,
                    record->chunk_count);
    if (has_nil(record->document_ids, record->document_count) || has_nil(record->chunk_ids, record->chunk_count))
        return fail(why, ST_INVALID, "audit: a nil id");
    return audit_detail_parse(record->detail_json, ret_detail, why);
}
