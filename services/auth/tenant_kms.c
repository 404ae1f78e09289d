#include "tenant_kms.h"

#include <string.h>

#include "core/fault.h"
#include "core/str.h"

static const char DESCRIPTION[] = "Cordon tenant ";

/* The key behind the alias, and the tenant that it was made for. ST_NOT_FOUND: there is none. */
static enum status find(struct kms *kms, const char *alias, int64_t deadline_ms, struct arena *mem, struct tenant_kms *made,
                        struct why *why) {
    struct kms_key key = { 0 };
    enum status st = kms_find_key(kms, alias, deadline_ms, mem, &key, why);
    if (st != ST_OK)
        return st;
    const char *id = key.description + sizeof DESCRIPTION - 1;
    if (!str_starts_with(key.description, DESCRIPTION) || !uuid_parse(id, strlen(id), &made->tenant_id))
        return fail(why, ST_CONFLICT, "%s is the alias of a key that is no tenant's", alias);
    if (key.state != KMS_KEY_ENABLED)
        return fail_as(why, ERR_KMS_DISABLED, "the key of %s is not enabled", alias);
    made->key_id = key.arn;
    return ST_OK;
}

static enum status make(struct kms *kms, const char *alias, int64_t deadline_ms, struct arena *mem, struct tenant_kms *made,
                        struct why *why) {
    char id[UUID_TEXT_BYTES];
    made->tenant_id = uuid_v7();
    uuid_format(&made->tenant_id, id);
    /* The policy of our AWS identity demands the first tag at creation and works on keys that have it only. */
    const struct sigv4_pair tags[] = { { "cordon", "tenant-key" }, { "managed-by", "cordon" }, { "tenant_id", id }, { 0 } };
    enum status st = kms_create_key(kms, arena_printf(mem, "%s%s", DESCRIPTION, id), tags, deadline_ms, mem, &made->key_id, why);
    if (st == ST_OK)
        st = fault_status(FAULT_TENANT_KEY_MADE, why);
    return st == ST_OK ? kms_create_alias(kms, alias, made->key_id, deadline_ms, why) : st;
}

enum status tenant_kms_make(struct kms *kms, const char *slug, int64_t deadline_ms, struct arena *mem,
                            struct tenant_kms *ret_made, struct why *why) {
    struct tenant_kms made = { 0 };
    const char *alias = arena_printf(mem, "alias/cordon/%s", slug);
    enum status st = find(kms, alias, deadline_ms, mem, &made, why);
    if (st == ST_NOT_FOUND) {
        st = make(kms, alias, deadline_ms, mem, &made, why);
        if (st == ST_CONFLICT)      /* another attempt made the alias since: its key is the tenant's */
            st = find(kms, alias, deadline_ms, mem, &made, why);
    }
    for (int kind = 0; st == ST_OK && kind < TENANT_KMS_KINDS; kind++)
        st = kms_generate_tenant_key(kms, made.key_id, &made.tenant_id, (enum tenant_key_kind)kind, deadline_ms, mem,
                                     &made.wrapped[kind], why);
    if (st == ST_OK)
        *ret_made = made;
    return st;
}
