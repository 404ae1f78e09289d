/* reader — JSON from outside, read strictly: one value, no duplicate members, UTF-8 only, no U+0000, a
 * cap on size and depth before anything is built. The tree is jansson's, wiped when it goes; one thread at a
 * time uses it.
 * Getters say what they want of a member and explain in *why what they found instead, by the member's
 * name and never by its value. */
#ifndef CORDON_JSON_READER_H
#define CORDON_JSON_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum { JSON_DEPTH_MAX = 32 };

/* Parse len bytes, at most max_bytes, nested at most JSON_DEPTH_MAX, whose outermost value is an object
 * or an array. *ret_value is the caller's, to json_destroy. ST_INVALID (REQ_003). */
enum status json_parse(const void *text, size_t len, size_t max_bytes, json_t **ret_value, struct why *why) MUST_USE;
void json_destroy(json_t **value_p);

enum json_need { JSON_REQUIRED, JSON_OPTIONAL };

/* Each getter reads the member `name` of object. Absent or null: ST_INVALID when required, else ST_OK with
 * the output untouched, so that callers preset it. Wrong type or out of range: ST_INVALID (REQ_004), also
 * when object is no object. Texts, objects and arrays are borrowed from the tree. */
enum status json_get_text(const json_t *object, const char *name, enum json_need need, size_t max_bytes,
                          const char **ret_text, struct why *why) MUST_USE;
enum status json_get_i64(const json_t *object, const char *name, enum json_need need, int64_t min, int64_t max,
                         int64_t *ret_number, struct why *why) MUST_USE;
enum status json_get_double(const json_t *object, const char *name, enum json_need need, double *ret_number,
                            struct why *why) MUST_USE;
enum status json_get_bool(const json_t *object, const char *name, enum json_need need, bool *ret_value,
                          struct why *why) MUST_USE;
enum status json_get_object(const json_t *object, const char *name, enum json_need need, const json_t **ret_object,
                            struct why *why) MUST_USE;
enum status json_get_array(const json_t *object, const char *name, enum json_need need, size_t max_count,
                           const json_t **ret_array, struct why *why) MUST_USE;

/* Refuse members outside names (ends with NULL). ST_INVALID (REQ_004). */
enum status json_only_members(const json_t *object, const char *const names[], struct why *why) MUST_USE;

#endif
