#include "db/cursor.h"

#include <string.h>

#include "core/text_codec.h"

/* The first byte tells the lists apart, so that one's cursor is refused by the other. */
enum { TAG_UUID = 'u', TAG_NUMBER = 'n', NUMBER_BYTES = 8 };

const char *cursor_from_uuid(struct arena *mem, const struct uuid *last) {
    uint8_t raw[1 + UUID_BYTES] = { TAG_UUID };
    memcpy(raw + 1, last->bytes, UUID_BYTES);
    return base64url_encode(mem, raw, sizeof raw);
}

const char *cursor_from_number(struct arena *mem, int64_t last) {
    uint8_t raw[1 + NUMBER_BYTES] = { TAG_NUMBER };
    for (int i = 0; i < NUMBER_BYTES; i++)
        raw[1 + i] = (uint8_t)((uint64_t)last >> (56 - 8 * i));
    return base64url_encode(mem, raw, sizeof raw);
}

static enum status decode(struct arena *mem, const char *text, uint8_t tag, size_t want_len, bool *ret_is_first,
                          uint8_t **ret_raw, struct why *why) {
    size_t len = 0;
    *ret_is_first = !*text;
    if (*ret_is_first)
        return ST_OK;
    if (!base64url_decode(mem, text, strlen(text), ret_raw, &len) || len != want_len || (*ret_raw)[0] != tag)
        return fail_as(why, ERR_REQ_CURSOR, "cursor does not decode");
    return ST_OK;
}

enum status cursor_to_uuid(struct arena *mem, const char *text, bool *ret_is_first, struct uuid *ret_last, struct why *why) {
    uint8_t *raw = NULL;
    enum status st = decode(mem, text, TAG_UUID, 1 + UUID_BYTES, ret_is_first, &raw, why);
    if (st == ST_OK && !*ret_is_first)
        memcpy(ret_last->bytes, raw + 1, UUID_BYTES);
    return st;
}

enum status cursor_to_number(struct arena *mem, const char *text, bool *ret_is_first, int64_t *ret_last, struct why *why) {
    uint8_t *raw = NULL;
    enum status st = decode(mem, text, TAG_NUMBER, 1 + NUMBER_BYTES, ret_is_first, &raw, why);
    if (st != ST_OK || *ret_is_first)
        return st;
    uint64_t value = 0;
    for (int i = 0; i < NUMBER_BYTES; i++)
        value = value << 8 | raw[1 + i];
    *ret_last = (int64_t)value;
    return ST_OK;
}

enum status list_page_read(struct arena *mem, const char *cursor, uint32_t limit, struct list_page *ret_page, struct why *why) {
    *ret_page = (struct list_page){ .limit = limit ? limit : PAGE_ROWS_DEFAULT };
    if (ret_page->limit > PAGE_ROWS_MAX)
        return fail_as(why, ERR_REQ_FIELD, "limit");
    return cursor_to_uuid(mem, cursor, &ret_page->is_first, &ret_page->last, why);
}

size_t list_page_end(const struct list_page *page, struct arena *mem, const PGresult *rows, int id_column, char **ret_next) {
    size_t count = (size_t)db_count(rows);
    if (count <= page->limit)
        return count;
    struct uuid last = db_uuid(rows, (int)page->limit - 1, id_column);
    *ret_next = (char *)cursor_from_uuid(mem, &last);
    return page->limit;
}
