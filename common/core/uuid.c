#include "core/uuid.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"
#include "core/text_codec.h"

struct uuid uuid_v7(void) {
    struct uuid id;
    if (getrandom(id.bytes, sizeof id.bytes, 0) != (ssize_t)sizeof id.bytes)
        abort();                                    /* cannot happen for 16 bytes once seeded */
    uint64_t ms = (uint64_t)(clock_unix_us() / 1000);
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | (id.bytes[6] & 0x0f));
    id.bytes[8] = (uint8_t)(0x80 | (id.bytes[8] & 0x3f));
    return id;
}

int64_t uuid_v7_us(const struct uuid *id) {
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    return id->bytes[6] >> 4 == 7 ? ms * 1000 : 0;
}

bool uuid_is_nil(const struct uuid *id) {
    static const struct uuid NIL = { { 0 } };
    return uuid_equal(id, &NIL);
}

bool uuid_equal(const struct uuid *a, const struct uuid *b) {
    return memcmp(a->bytes, b->bytes, UUID_BYTES) == 0;
}

bool uuid_is_among(const struct uuid *id, const struct uuid ids[], size_t count) {
    for (size_t i = 0; i < count; i++)
        if (uuid_equal(&ids[i], id))
            return true;
    return false;
}

static bool is_hyphen_place(size_t i) {
    return i == 8 || i == 13 || i == 18 || i == 23;
}

const char *uuid_format(const struct uuid *id, char out[UUID_TEXT_BYTES]) {
    static const char DIGITS[] = "0123456789abcdef";
    size_t nibble = 0;
    for (size_t i = 0; i < UUID_TEXT_BYTES - 1; i++) {
        if (is_hyphen_place(i)) {
            out[i] = '-';
            continue;
        }
        uint8_t byte = id->bytes[nibble / 2];
        out[i] = DIGITS[nibble % 2 ? byte & 15 : byte >> 4];
        nibble++;
    }
    out[UUID_TEXT_BYTES - 1] = '\0';
    return out;
}

bool uuid_parse(const char *text, size_t len, struct uuid *ret_id) {
    if (len != UUID_TEXT_BYTES - 1)
        return false;
    struct uuid id = { { 0 } };
    size_t nibble = 0;
    for (size_t i = 0; i < len; i++) {
        if (is_hyphen_place(i)) {
            if (text[i] != '-')
                return false;
            continue;
        }
        int v = hex_value(text[i]);
        if (v < 0)
            return false;
        id.bytes[nibble / 2] = (uint8_t)(id.bytes[nibble / 2] << 4 | v);
        nibble++;
    }
    *ret_id = id;
    return true;
}

bool uuid_from_bytes(const void *data, size_t len, struct uuid *ret_id) {
    if (len != UUID_BYTES)
        return false;
    memcpy(ret_id->bytes, data, UUID_BYTES);
    return true;
}
