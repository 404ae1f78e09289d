#include "columns.h"

#include "core/wire.h"

ProtobufCBinaryData column_id(struct arena *mem, const PGresult *rows, int row, int column) {
    struct uuid id = db_uuid(rows, row, column);
    return wire_optional_id(mem, &id);
}

ProtobufCBinaryData column_bytes(struct arena *mem, const PGresult *rows, int row, int column) {
    size_t len = 0;
    const uint8_t *data = db_bytea(rows, row, column, &len);
    return wire_bytes(mem, data, len);
}

char *column_text(struct arena *mem, const PGresult *rows, int row, int column) {
    return arena_strdup(mem, db_text(rows, row, column));
}

uint32_t column_count(const PGresult *rows, int row, int column) {
    return db_is_null(rows, row, column) ? 0 : (uint32_t)db_i64(rows, row, column);
}
