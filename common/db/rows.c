#include "db/rows.h"

#include <assert.h>
#include <string.h>

#include "core/str.h"

/* Microseconds from 1970-01-01 to PostgreSQL's epoch, 2000-01-01. */
static const int64_t POSTGRES_EPOCH_US = INT64_C(946684800) * 1000000;

void pgrows_destroy(PGresult **rows_p) {
    PQclear(*rows_p);
    *rows_p = NULL;
}

int db_count(const PGresult *rows) {
    return rows ? PQntuples(rows) : 0;
}

int64_t db_affected(const PGresult *rows) {
    int64_t n = 0;
    return str_to_i64(PQcmdTuples((PGresult *)rows), 0, INT64_MAX, &n) ? n : 0;
}

bool db_is_null(const PGresult *rows, int row, int column) {
    assert(row < PQntuples(rows) && column < PQnfields(rows));
    return PQgetisnull(rows, row, column) != 0;
}

/* The value's bytes when it is there and has one of the lengths; NULL otherwise. */
static const uint8_t *value_of(const PGresult *rows, int row, int column, int len) {
    if (db_is_null(rows, row, column))
        return NULL;
    assert(PQfformat(rows, column) == 1);
    if (PQgetlength(rows, row, column) != len)
        return NULL;
    return (const uint8_t *)PQgetvalue(rows, row, column);
}

static uint64_t big_endian(const uint8_t *bytes, int len) {
    uint64_t n = 0;
    for (int i = 0; i < len; i++)
        n = n << 8 | bytes[i];
    return n;
}

int64_t db_i64(const PGresult *rows, int row, int column) {
    const uint8_t *v;
    if ((v = value_of(rows, row, column, 8)))
        return (int64_t)big_endian(v, 8);
    if ((v = value_of(rows, row, column, 4)))
        return (int32_t)big_endian(v, 4);
    v = value_of(rows, row, column, 2);
    assert(v);
    return v ? (int16_t)big_endian(v, 2) : 0;
}

double db_f64(const PGresult *rows, int row, int column) {
    const uint8_t *v = value_of(rows, row, column, 8);
    assert(v);
    uint64_t bits = v ? big_endian(v, 8) : 0;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

bool db_bool(const PGresult *rows, int row, int column) {
    const uint8_t *v = value_of(rows, row, column, 1);
    assert(v);
    return v && *v;
}

struct uuid db_uuid(const PGresult *rows, int row, int column) {
    struct uuid id = { 0 };
    const uint8_t *v = value_of(rows, row, column, UUID_BYTES);
    if (v)
        memcpy(id.bytes, v, UUID_BYTES);
    return id;
}

size_t db_uuids(struct arena *mem, const PGresult *rows, int column, struct uuid **ret_ids) {
    int n = db_count(rows);
    struct uuid *ids = arena_alloc(mem, (size_t)n * sizeof *ids);
    size_t count = 0;
    for (int row = 0; row < n; row++) {
        ids[count] = db_uuid(rows, row, column);
        count += count == 0 || !uuid_equal(&ids[count - 1], &ids[count]);
    }
    *ret_ids = ids;
    return count;
}

int64_t db_micros(const PGresult *rows, int row, int column) {
    const uint8_t *v = value_of(rows, row, column, 8);
    int64_t us;
    if (!v || __builtin_add_overflow((int64_t)big_endian(v, 8), POSTGRES_EPOCH_US, &us))
        return 0;                   /* NULL, or infinity */
    return us;
}

const char *db_text(const PGresult *rows, int row, int column) {
    return db_is_null(rows, row, column) ? "" : PQgetvalue(rows, row, column);
}

const uint8_t *db_bytea(const PGresult *rows, int row, int column, size_t *ret_len) {
    *ret_len = 0;
    if (db_is_null(rows, row, column))
        return (const uint8_t *)"";
    assert(PQfformat(rows, column) == 1);
    *ret_len = (size_t)PQgetlength(rows, row, column);
    return (const uint8_t *)PQgetvalue(rows, row, column);
}

/* array_send: int32 dimensions, int32 has-null, oid element, then per dimension int32 length and lower
 * bound, then per element int32 length (-1: NULL) and its bytes. */
bool db_text_item(const PGresult *rows, int row, int column, int index, const char **ret_text, size_t *ret_len) {
    size_t len;
    const uint8_t *at = db_bytea(rows, row, column, &len);
    if (len < 20 || big_endian(at, 4) != 1 || index < 0 || (uint64_t)index >= big_endian(at + 12, 4))
        return false;
    const uint8_t *end = at + len;
    at += 20;
    for (int i = 0; end - at >= 4; i++) {
        uint64_t item = big_endian(at, 4);
        bool is_null = item == UINT32_MAX;
        at += 4;
        if (!is_null && item > (uint64_t)(end - at))
            return false;
        if (i == index) {
            if (is_null)
                return false;
            *ret_text = (const char *)at;
            *ret_len = (size_t)item;
            return true;
        }
        at += is_null ? 0 : item;
    }
    return false;
}
