#include "transact.h"

#include <string.h>

#include "audit/client.h"
#include "core/buffer.h"
#include "core/text_codec.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "db/cursor.h"

enum status transact(struct auth *a, struct call *call, uint64_t scope, const struct sql *q, const struct db_param params[],
                     PGresult **ret_rows) {
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, scope, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, q, params, &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st == ST_OK && ret_rows) {
        *ret_rows = rows;
        rows = NULL;
    }
    return st;
}

enum status transact_one(struct auth *a, struct call *call, uint64_t scope, const struct sql *q, const struct db_param params[]) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = transact(a, call, scope, q, params, &rows);
    return st == ST_OK && db_affected(rows) == 0 ? fail(&call->why, ST_NOT_FOUND, "%s: no such row", q->name) : st;
}

enum status record_shown(struct call *call, const char *list, int rows) {
    return audit_append(call, &(struct audit_record){ .action = AUDIT_ACCESS_READ, .outcome = AUDIT_SUCCESS,
        .detail_json = arena_printf(call->mem, "{\"list\":\"%s\",\"rows\":%d}", list, rows) }, NULL);
}

const char *text_array(struct arena *mem, const char *const items[], size_t count) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    bool fits = buffer_add_str(&out, "{");
    for (size_t i = 0; i < count; i++) {
        fits &= buffer_add_str(&out, i ? ",\"" : "\"");
        for (const char *c = items[i]; *c; c++)
            fits &= buffer_printf(&out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        fits &= buffer_add_str(&out, "\"");
    }
    fits &= buffer_add_str(&out, "}");
    return arena_strdup(mem, fits ? out.data : "{}");
}

enum status id_array(struct call *call, const ProtobufCBinaryData ids[], size_t count, const char **ret_text) {
    const char **texts = arena_alloc(call->mem, (count + 1) * sizeof *texts);
    for (size_t i = 0; i < count; i++) {
        struct uuid id;
        enum status st = read_id(call, &ids[i], "id", &id);
        if (st != ST_OK)
            return st;
        texts[i] = uuid_format(&id, arena_alloc(call->mem, UUID_TEXT_BYTES));
    }
    *ret_text = text_array(call->mem, texts, count);
    return ST_OK;
}

enum status read_id(struct call *call, const ProtobufCBinaryData *bytes, const char *name, struct uuid *ret_id) {
    return uuid_from_bytes(bytes->data, bytes->len, ret_id) ? ST_OK : fail_as(&call->why, ERR_REQ_FIELD, "%s is no id", name);
}

char **read_texts(struct arena *mem, const PGresult *rows, int row, int column, size_t *ret_count) {
    const char *text;
    size_t len, count = 0;
    while (db_text_item(rows, row, column, (int)count, &text, &len))
        count++;
    char **texts = arena_alloc(mem, (count + 1) * sizeof *texts);
    for (size_t i = 0; i < count && db_text_item(rows, row, column, (int)i, &text, &len); i++)
        texts[i] = arena_strndup(mem, text, len);
    *ret_count = count;
    return texts;
}

enum status read_sealed(struct auth *a, struct call *call, enum directory_field field, const PGresult *rows, int row, int column,
                        char **ret_text) {
    const char *text = "";
    size_t len = 0;
    const uint8_t *sealed = db_bytea(rows, row, column, &len);
    enum status st = directory_open(a->directory, field, sealed, len, call->mem, &text, &call->why);
    if (st == ST_OK)
        *ret_text = arena_strdup(call->mem, text);
    return st;
}

ProtobufCBinaryData id_column(struct arena *mem, const PGresult *rows, int row, int column) {
    struct uuid id = db_uuid(rows, row, column);
    return wire_optional_id(mem, &id);
}

const struct uuid LAST_ID = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };

int page_limit(uint32_t asked) {
    enum { PAGE_DEFAULT = 50, PAGE_MAX = 100 };
    return asked == 0 ? PAGE_DEFAULT : asked < PAGE_MAX ? (int)asked : PAGE_MAX;
}

enum status read_cursor(struct call *call, const char *text, struct uuid *ret_after) {
    bool is_first;
    return cursor_to_uuid(call->mem, text, &is_first, ret_after, &call->why);
}

enum status read_text_cursor(struct call *call, const char *text, const char **ret_after) {
    uint8_t *bytes;
    size_t len;
    if (!*text)
        return ST_OK;
    if (!base64url_decode(call->mem, text, strlen(text), &bytes, &len) || !utf8_is_text((const char *)bytes, len, NULL))
        return fail_as(&call->why, ERR_REQ_CURSOR, "cursor does not decode");
    *ret_after = arena_strndup(call->mem, (const char *)bytes, len);
    return ST_OK;
}

char *write_cursor(struct arena *mem, const ProtobufCBinaryData *last_id) {
    struct uuid id;
    return uuid_from_bytes(last_id->data, last_id->len, &id) ? (char *)cursor_from_uuid(mem, &id) : arena_strdup(mem, "");
}

enum status show_list(struct auth *a, struct call *call, const struct id_list *list, const char *cursor, uint32_t asked, PGresult **ret_rows,
                      int *ret_count, char **ret_next) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    struct uuid after = *list->begins;
    int limit = page_limit(asked);
    enum status st = read_cursor(call, cursor, &after);
    if (st == ST_OK)
        st = transact(a, call, list->scope, &list->sql, (struct db_param[]){ DB_UUID(&after), DB_INT(limit + 1) }, &rows);
    if (st != ST_OK)
        return st;
    int count = db_count(rows) > limit ? limit : db_count(rows);
    st = record_shown(call, list->name, count);
    if (st != ST_OK)
        return st;
    if (db_count(rows) > limit) {
        struct uuid last = db_uuid(rows, count - 1, 0);
        *ret_next = (char *)cursor_from_uuid(call->mem, &last);
    }
    *ret_count = count;
    *ret_rows = rows;
    rows = NULL;
    return ST_OK;
}

char *write_text_cursor(struct arena *mem, const char *last) {
    return base64url_encode(mem, (const uint8_t *)last, strlen(last));
}

bool is_line(const char *text, size_t max) {
    size_t len = strlen(text);
    if (len == 0 || len > max || !utf8_is_text(text, len, NULL))
        return false;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    return true;
}
