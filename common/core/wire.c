#include "core/wire.h"

ProtobufCBinaryData wire_bytes(struct arena *mem, const void *data, size_t len) {
    return (ProtobufCBinaryData){ len, len > 0 ? arena_memdup(mem, data, len) : NULL };
}

ProtobufCBinaryData wire_id(struct arena *mem, const struct uuid *id) {
    return wire_bytes(mem, id->bytes, UUID_BYTES);
}

ProtobufCBinaryData wire_optional_id(struct arena *mem, const struct uuid *id) {
    return wire_bytes(mem, id->bytes, uuid_is_nil(id) ? 0 : UUID_BYTES);
}
