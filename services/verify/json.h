/* json — as much JSON as the verifier reads: one object in a piece of text, looked at in place. Strict: no white space,
 * no member twice, and nothing behind it; an object that says something in two ways is refused rather than
 * guessed at. Nothing is allocated. */
#ifndef VERIFY_JSON_H
#define VERIFY_JSON_H

#include "tree.h"

struct text { const char *data; size_t len; };      /* not terminated */

bool text_is(struct text t, const char *s);

enum { JSON_MEMBERS_MAX = 32 };

/* Members of an object in the order in which they stand. A value is its JSON text: "…" with its quotes. */
struct object { size_t count; struct { struct text name, value; } members[JSON_MEMBERS_MAX]; };

/* is_sorted: names must ascend, as in a canonical event. False: not such an object. */
bool json_object_read(const char *data, size_t len, bool is_sorted, struct object *out);

/* The member's value. False: absent, or not of this kind. */
bool json_u64(const struct object *o, const char *name, uint64_t *out);             /* up to 2^62, no leading zero */
bool json_plain_text(const struct object *o, const char *name, struct text *out);   /* without escapes */
/* With \n, \", \\, \/ and \u00xx undone, into out; its length is *out_len. */
bool json_text(const struct object *o, const char *name, char *out, size_t size, size_t *out_len);
bool json_hash(const struct object *o, const char *name, struct hash *out);         /* 64 hexadecimal digits */
/* An array of hashes; *out_count of them. */
bool json_hashes(const struct object *o, const char *name, struct hash out[], size_t max, size_t *out_count);
bool json_has(const struct object *o, const char *name);
bool json_value(const struct object *o, const char *name, struct text *out);        /* any; its JSON text */
/* Cut the next item off an array's JSON text. False: none is left, or what is there is no array. */
bool json_next_item(struct text *array, struct text *out);
/* A string's JSON text without its quotes and escapes; as json_text. */
bool text_unescape(struct text quoted, char *out, size_t size, size_t *out_len);

bool hex_read(struct text t, uint8_t *out, size_t len);         /* exactly len bytes */

#endif
