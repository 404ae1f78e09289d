#include "json/reader.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Trees hold PHI and keys; jansson would leave them on the heap. */
static void wipe_and_free(void *p) {
    if (p)
        explicit_bzero(p, malloc_usable_size(p));
    free(p);
}

static pthread_once_t memory_once = PTHREAD_ONCE_INIT;

static void set_memory(void) {
    json_set_alloc_funcs(malloc, wipe_and_free);
}

/* jansson's own limit of nesting is 2048 and cannot be set, so count brackets first. Text that is not JSON
 * may be miscounted; jansson refuses it afterwards. */
static bool is_shallow(const char *text, size_t len) {
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

enum status json_parse(const void *text, size_t len, size_t max_bytes, json_t **ret_value, struct why *why) {
    if (len > max_bytes)
        return fail_as(why, ERR_REQ_JSON, "json: %zu bytes, at most %zu are read", len, max_bytes);
    if (!is_shallow(text, len))
        return fail_as(why, ERR_REQ_JSON, "json: nested deeper than %d", JSON_DEPTH_MAX);
    (void)pthread_once(&memory_once, set_memory);
    json_error_t error;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!value)         /* error.text quotes the input: the place is all that may be told */
        return fail_as(why, ERR_REQ_JSON, "json: not valid near byte %d", error.position);
    *ret_value = value;
    return ST_OK;
}

void json_destroy(json_t **value_p) {
    json_decref(*value_p);
    *value_p = NULL;
}

/* The member, or NULL with ST_OK when it is absent and may be. */
static enum status member(const json_t *object, const char *name, enum json_need need, const json_t **ret_member,
                          struct why *why) {
    if (!json_is_object(object))
        return fail_as(why, ERR_REQ_FIELD, "json: no object where '%s' should be", name);
    const json_t *found = json_object_get(object, name);
    if (json_is_null(found))
        found = NULL;
    if (!found && need == JSON_REQUIRED)
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is missing", name);
    *ret_member = found;
    return ST_OK;
}

enum status json_get_text(const json_t *object, const char *name, enum json_need need, size_t max_bytes,
                          const char **ret_text, struct why *why) {
    const json_t *found = NULL;
    enum status st = member(object, name, need, &found, why);
    if (st != ST_OK || !found)
        return st;
    if (!json_is_string(found))
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is not a string", name);
    if (json_string_length(found) > max_bytes)
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is longer than %zu bytes", name, max_bytes);
    *ret_text = json_string_value(found);
    return ST_OK;
}

enum status json_get_i64(const json_t *object, const char *name, enum json_need need, int64_t min, int64_t max,
                         int64_t *ret_number, struct why *why) {
    const json_t *found = NULL;
    enum status st = member(object, name, need, &found, why);
    if (st != ST_OK || !found)
        return st;
    if (!json_is_integer(found))
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is not a whole number", name);
    int64_t number = json_integer_value(found);
    if (number < min || number > max)
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is out of range", name);
    *ret_number = number;
    return ST_OK;
}

enum status json_get_double(const json_t *object, const char *name, enum json_need need, double *ret_number,
                            struct why *why) {
    const json_t *found = NULL;
    enum status st = member(object, name, need, &found, why);
    if (st != ST_OK || !found)
        return st;
    if (!json_is_number(found))
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is not a number", name);
    *ret_number = json_number_value(found);
    return ST_OK;
}

enum status json_get_bool(const json_t *object, const char *name, enum json_need need, bool *ret_value,
                          struct why *why) {
    const json_t *found = NULL;
    enum status st = member(object, name, need, &found, why);
    if (st != ST_OK || !found)
        return st;
    if (!json_is_boolean(found))
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is neither true nor false", name);
    *ret_value = json_is_true(found);
    return ST_OK;
}

enum status json_get_object(const json_t *object, const char *name, enum json_need need, const json_t **ret_object,
                            struct why *why) {
    const json_t *found = NULL;
    enum status st = member(object, name, need, &found, why);
    if (st != ST_OK || !found)
        return st;
    if (!json_is_object(found))
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is not an object", name);
    *ret_object = found;
    return ST_OK;
}

enum status json_get_array(const json_t *object, const char *name, enum json_need need, size_t max_count,
                           const json_t **ret_array, struct why *why) {
    const json_t *found = NULL;
    enum status st = member(object, name, need, &found, why);
    if (st != ST_OK || !found)
        return st;
    if (!json_is_array(found))
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' is not an array", name);
    if (json_array_size(found) > max_count)
        return fail_as(why, ERR_REQ_FIELD, "json: '%s' has more than %zu items", name, max_count);
    *ret_array = found;
    return ST_OK;
}

enum status json_only_members(const json_t *object, const char *const names[], struct why *why) {
    if (!json_is_object(object))
        return fail_as(why, ERR_REQ_FIELD, "json: not an object");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool is_known = false;
        for (size_t i = 0; names[i] && !is_known; i++)
            is_known = strcmp(names[i], key) == 0;
        if (!is_known)      /* its name is the sender's text: not repeated */
            return fail_as(why, ERR_REQ_FIELD, "json: unknown member of %zu bytes", strlen(key));
    }
    return ST_OK;
}
