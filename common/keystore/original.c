#include "keystore/original.h"

const char *original_object_key(struct arena *mem, const struct uuid *tenant, const struct uuid *document) {
    char t[UUID_TEXT_BYTES], d[UUID_TEXT_BYTES];
    return arena_printf(mem, "tenants/%s/%s", uuid_format(tenant, t), uuid_format(document, d));
}
