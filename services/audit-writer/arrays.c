#include "arrays.h"

#include <arpa/inet.h>
#include <endian.h>
#include <string.h>

enum { HEADER_BYTES = 20 };     /* dimensions, has NULL, element type, length, lower bound: 32 bits each */

static const int64_t POSTGRES_EPOCH_US = INT64_C(946684800) * 1000000;      /* 2000-01-01 */

void array_init(struct array *a, enum array_type type) {
    static const char room[HEADER_BYTES];
    *a = (struct array){ .type = type };
    buffer_init(&a->bytes, 0);
    buffer_add(&a->bytes, room, sizeof room);
}

void array_reserve(struct array *a, size_t room_bytes) {
    buffer_reserve(&a->bytes, HEADER_BYTES + room_bytes);
}

void array_end(struct array *a) {
    buffer_end(&a->bytes);
}

void array_add(struct array *a, const void *data, size_t len) {
    uint32_t wire = htonl(data ? (uint32_t)len : UINT32_MAX);
    buffer_add(&a->bytes, &wire, sizeof wire);
    if (data)
        buffer_add(&a->bytes, data, len);
    else
        a->has_null = true;
    a->count++;
}

void array_add_text(struct array *a, const char *text) {
    array_add(a, text, strlen(text));
}

void array_add_uuid(struct array *a, const struct uuid *id) {
    array_add(a, uuid_is_nil(id) ? NULL : id->bytes, UUID_BYTES);
}

void array_add_i64(struct array *a, int64_t value) {
    uint64_t wire = htobe64((uint64_t)value);
    array_add(a, &wire, sizeof wire);
}

void array_add_micros(struct array *a, int64_t unix_us) {
    array_add_i64(a, unix_us - POSTGRES_EPOCH_US);
}

struct db_param array_param(struct array *a) {
    uint32_t header[HEADER_BYTES / 4] = { htonl(a->count > 0), htonl(a->has_null), htonl((uint32_t)a->type),
                                          htonl(a->count), htonl(1) };
    memcpy(a->bytes.data, header, sizeof header);
    return db_bytes_param(a->bytes.data, a->count > 0 ? a->bytes.len : 12);     /* an empty array has no dimension */
}
