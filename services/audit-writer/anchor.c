#include "anchor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "core/clock.h"
#include "core/text_codec.h"
#include "json/reader.h"

enum { LOOKS_MAX = 3, BUCKET_MS = 10000, OBJECT_MAX_BYTES = 64 << 20, NOTE_LINE_MAX_BYTES = 8192, KEY_BYTES = 48 };

static const int64_t DAY_US = INT64_C(86400) * 1000000;

static const char *object_key(char out[KEY_BYTES], int64_t number) {
    (void)snprintf(out, KEY_BYTES, "checkpoints/%012" PRId64 ".jsonl", number);
    return out;
}

static enum status collect(void *ctx, const void *data, size_t len, struct why *why) {
    return buffer_add(ctx, data, len) ? ST_OK : fail(why, ST_INTERNAL, "anchor: an object of more than %d bytes", OBJECT_MAX_BYTES);
}

static enum status get(const struct anchor *anchor, int64_t number, struct buffer *out, struct why *why) {
    char key[KEY_BYTES];
    buffer_init(out, OBJECT_MAX_BYTES);
    return s3_get(anchor->s3, object_key(key, number), 0, 0, collect, out, clock_mono_ms() + BUCKET_MS, why);
}

static enum status is_there(const struct anchor *anchor, int64_t number, bool *ret_is_there, struct why *why) {
    char key[KEY_BYTES];
    struct s3_head head;
    enum status st = s3_head(anchor->s3, object_key(key, number), clock_mono_ms() + BUCKET_MS, &head, why);
    *ret_is_there = st == ST_OK;
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* ST_CONFLICT: there is one already. */
static enum status put(const struct anchor *anchor, int64_t number, const struct buffer *object, struct why *why) {
    char key[KEY_BYTES], until[CLOCK_TEXT_BYTES];
    clock_format(clock_unix_us() + anchor->keep_days * DAY_US, until);
    const struct sigv4_pair headers[] = { { "if-none-match", "*" }, { "x-amz-object-lock-mode", "COMPLIANCE" },
                                          { "x-amz-object-lock-retain-until-date", until }, { NULL, NULL } };
    return s3_put(anchor->s3, object_key(key, number), "application/jsonl", headers, object->data, object->len,
                  clock_mono_ms() + BUCKET_MS, why);
}

/* An answer that our key did not sign says nothing: it was damaged on its way, or the bucket is not ours. */
static enum status check_signed(const struct anchor *anchor, int64_t number, const struct buffer *object, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(json_destroy) json_t *line = NULL;
    struct why ignored = { 0 };
    const char *newline = object->len ? memchr(object->data, '\n', object->len) : NULL, *note = "";
    if (!newline || json_parse(object->data, (size_t)(newline - object->data), NOTE_LINE_MAX_BYTES, &line, &ignored) != ST_OK ||
        json_get_text(line, "note", JSON_REQUIRED, NOTE_LINE_MAX_BYTES, &note, &ignored) != ST_OK || !note_is_signed(anchor->key, note, mem))
        return fail(why, ST_UNAVAILABLE, "the anchor's checkpoint %" PRId64 " is none that our key signed", number);
    return ST_OK;
}

enum status anchor_read(const struct anchor *anchor, int64_t number, struct buffer *out, struct why *why) {
    enum status st = get(anchor, number, out, why);
    return st == ST_OK ? check_signed(anchor, number, out, why) : st;
}

/* "<family>[/<tenant>]\n<size>\n<root>\n": a tenant's head, or the platform's. */
static bool read_note(const struct anchor *anchor, const char *note, struct signed_head *ret_head) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *family = note_origin(anchor->key, "", mem), *size = strchr(note, '\n'), *root = size ? strchr(size + 1, '\n') : NULL,
               *end = root ? strchr(root + 1, '\n') : NULL;
    size_t len = strlen(family), got = 0;
    struct signed_head head = { 0 };
    uint8_t *bytes = NULL;
    if (!end || !note_is_signed(anchor->key, note, mem) || strncmp(note, family, len) != 0)
        return false;
    if (note[len] == '/' ? !uuid_parse(note + len + 1, (size_t)(size - note) - len - 1, &head.tenant_id) : note[len] != '\n')
        return false;
    head.size = strtoull(size + 1, NULL, 10);
    if (!base64_decode(mem, root + 1, (size_t)(end - root) - 1, &bytes, &got) || got != sizeof head.root.bytes)
        return false;
    memcpy(head.root.bytes, bytes, got);
    *ret_head = head;
    return true;
}

enum status anchor_heads(const struct anchor *anchor, int64_t number, struct signed_head **ret_heads, size_t *ret_count, struct why *why) {
    CLEANUP(buffer_end) struct buffer object = { 0 };
    enum status st = anchor_read(anchor, number, &object, why);
    if (st != ST_OK)
        return st;
    size_t lines = 0, count = 0;
    for (size_t i = 0; i < object.len; i++)
        lines += object.data[i] == '\n';
    struct signed_head *heads = xalloc((lines + 1) * sizeof *heads);
    for (char *line = object.data, *end; st == ST_OK && (end = strchr(line, '\n')); line = end + 1) {
        CLEANUP(json_destroy) json_t *object_line = NULL;
        const char *note = "";
        if (json_parse(line, (size_t)(end - line), NOTE_LINE_MAX_BYTES, &object_line, why) != ST_OK ||
            json_get_text(object_line, "note", JSON_REQUIRED, NOTE_LINE_MAX_BYTES, &note, why) != ST_OK || !read_note(anchor, note, &heads[count++]))
            st = fail(why, ST_UNAVAILABLE, "the anchor's checkpoint %" PRId64 " has a line that our key did not sign", number);
    }
    if (st != ST_OK) {
        free(heads);
        return st;
    }
    *ret_heads = heads;
    *ret_count = count;
    return ST_OK;
}

/* What the bucket has under this number is what the database has. */
static enum status compare(const struct anchor *anchor, int64_t number, const struct buffer *ours, struct why *why) {
    CLEANUP(buffer_end) struct buffer theirs = { 0 };
    enum status st = anchor_read(anchor, number, &theirs, why);
    if (st == ST_OK && (theirs.len != ours->len || memcmp(theirs.data, ours->data, ours->len) != 0))
        st = fail(why, ST_CONFLICT, "the anchor's checkpoint %" PRId64 " is not this database's", number);
    return st;
}

static enum status anchor_one(const struct anchor *anchor, struct db_pool *pool, int64_t number, struct why *why) {
    CLEANUP(buffer_end) struct buffer ours = { 0 };
    buffer_init(&ours, OBJECT_MAX_BYTES);
    enum status st = checkpoint_object(pool, number, &ours, why);
    if (st == ST_NOT_FOUND) {           /* numbers that a recovery passed over */
        *why = (struct why){ 0 };
        return ST_OK;
    }
    if (st == ST_OK)
        st = put(anchor, number, &ours, why);
    if (st == ST_CONFLICT)              /* put there before, perhaps by another audit-writer */
        st = compare(anchor, number, &ours, why);
    return st == ST_OK ? checkpoint_anchored(pool, number, why) : st;
}

/* The newest number of the bucket, which has `there`: numbers have no holes behind it. */
static enum status find_newest(const struct anchor *anchor, int64_t there, int64_t *ret_newest, struct why *why) {
    bool is_found = true;
    int64_t step = 1;
    enum status st = ST_OK;
    for (; st == ST_OK && is_found; step *= 2)
        st = is_there(anchor, there + step, &is_found, why);
    int64_t low = there + step / 4, high = there + step / 2;       /* low is there, high is not */
    while (st == ST_OK && high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        st = is_there(anchor, middle, &is_found, why);
        *(is_found ? &low : &high) = middle;
    }
    if (st == ST_OK)
        *ret_newest = low;
    return st;
}

/* The bucket has a number that the database had not when it was asked: is it so still? Another audit-writer may have
 * signed meanwhile; it commits before it puts. */
static enum status confirm_ahead(const struct anchor *anchor, struct db_pool *pool, int64_t next, bool *ret_is_ahead, struct why *why) {
    CLEANUP(buffer_end) struct buffer theirs = { 0 };
    struct anchor_state state = { 0 };
    enum status st = checkpoint_state(pool, &state, why);
    if (st != ST_OK || checkpoint_next(&state) > next)
        return st;
    st = anchor_read(anchor, next, &theirs, why);
    *ret_is_ahead = st == ST_OK;
    return st;
}

/* One look. *ret_next: the number that the database would sign next. */
static enum status look(const struct anchor *anchor, struct db_pool *pool, int64_t *ret_next, bool *ret_is_ahead, struct why *why) {
    struct anchor_state state = { 0 };
    bool is_found = false;
    enum status st = checkpoint_state(pool, &state, why);
    int64_t from = state.anchored > state.recovered ? state.anchored : state.recovered;
    /* the newest once more: a database that was put back and went on has another one there */
    if (from == state.last && from > 0)
        from--;
    *ret_next = checkpoint_next(&state);
    for (int64_t number = from + 1; st == ST_OK && number <= state.last; number++)
        st = anchor_one(anchor, pool, number, why);
    if (st == ST_OK)
        st = is_there(anchor, *ret_next, &is_found, why);
    if (st != ST_OK || !is_found)
        return st;
    st = confirm_ahead(anchor, pool, *ret_next, ret_is_ahead, why);
    return st == ST_OK && !*ret_is_ahead ? fail(why, ST_UNAVAILABLE, "the anchor moved while it was looked at") : st;
}

enum status anchor_check(const struct anchor *anchor, struct db_pool *pool, int64_t *ret_ahead, struct why *why) {
    int64_t next = 0, newest = 0;
    bool is_ahead = false;
    enum status st = ST_UNAVAILABLE;
    for (int i = 0; i < LOOKS_MAX && st == ST_UNAVAILABLE; i++) {
        *why = (struct why){ 0 };
        st = look(anchor, pool, &next, &is_ahead, why);
    }
    if (st != ST_CONFLICT && !is_ahead)
        return st;
    struct why found = *why;
    st = find_newest(anchor, is_ahead ? next : next - 1, &newest, why);
    if (st != ST_OK)
        return st;
    *ret_ahead = newest;
    *why = found;
    return is_ahead ? fail(why, ST_CONFLICT, "the anchor has checkpoint %" PRId64 ", this database ends at %" PRId64, newest, next - 1) : ST_CONFLICT;
}
