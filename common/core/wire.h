/* wire — values as fields of a protobuf message. Copies live in the arena that is given. Pure. */
#ifndef CORDON_CORE_WIRE_H
#define CORDON_CORE_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "core/arena.h"
#include "core/uuid.h"

ProtobufCBinaryData wire_bytes(struct arena *mem, const void *data, size_t len);        /* data may be NULL when len is 0 */
ProtobufCBinaryData wire_id(struct arena *mem, const struct uuid *id);                  /* 16 bytes, also for nil */
ProtobufCBinaryData wire_optional_id(struct arena *mem, const struct uuid *id);         /* no bytes for nil */

#endif
