#include "keystore/original.h"

const char *tenant_folder(struct arena *mem, const struct uuid *tenant) {
    char t[UUID_TEXT_BYTES];
    return arena_printf(mem, "tenants/%s/", uuid_format(tenant, t));
}

const char *original_object_key(struct arena *mem, const struct uuid *tenant, const struct uuid *document) {
    char d[UUID_TEXT_BYTES];
    return arena_printf(mem, "%s%s", tenant_folder(mem, tenant), uuid_format(document, d));
}
