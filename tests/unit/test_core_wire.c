#include <criterion/criterion.h>
#include <string.h>

#include "core/wire.h"

Test(wire, ids_have_sixteen_bytes_and_optional_ones_none_for_nil) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct uuid nil = { { 0 } }, id = { { 1, 2, 3 } };
    ProtobufCBinaryData copy = wire_id(mem, &id);
    cr_assert_eq(copy.len, UUID_BYTES);
    cr_assert_neq((void *)copy.data, (void *)id.bytes);
    cr_assert_eq(memcmp(copy.data, id.bytes, UUID_BYTES), 0);
    cr_assert_eq(wire_id(mem, &nil).len, UUID_BYTES);
    cr_assert_eq(wire_optional_id(mem, &id).len, UUID_BYTES);
    cr_assert_eq(wire_optional_id(mem, &nil).len, 0);
    cr_assert_null(wire_optional_id(mem, &nil).data);
    cr_assert_null(wire_bytes(mem, NULL, 0).data);
}
