#include "keystore/keystore.h"

const struct sql KEYSTORE_TENANT = { "tenant_keys", "SELECT kind, version, kms_key_id, blob FROM keys.tenant_keys()", 0 };

enum status keystore_rows_tenant(const struct uuid *tenant, const PGresult *rows, struct arena *mem, struct tenant_keys *ret_keys,
                                 struct why *why) {
    size_t n = (size_t)db_count(rows);
    struct tenant_keys keys = { .tenant = *tenant, .rows = arena_alloc(mem, n * sizeof *keys.rows), .count = n };
    for (size_t i = 0; i < n; i++) {
        struct tenant_key_blob *row = &keys.rows[i];
        if (!tenant_key_kind_from_text(db_text(rows, (int)i, 0), &row->kind))
            return fail(why, ST_INTERNAL, "tenant key of an unknown kind");
        row->version = (unsigned)db_i64(rows, (int)i, 1);
        row->kms_key_id = arena_strdup(mem, db_text(rows, (int)i, 2));
        const uint8_t *blob = db_bytea(rows, (int)i, 3, &row->wrapped.len);
        row->wrapped.data = arena_memdup(mem, blob, row->wrapped.len);
    }
    *ret_keys = keys;
    return ST_OK;
}

enum status keystore_read_tenant(struct tenant_tx *tx, struct arena *mem, struct tenant_keys *ret_keys,
                                 struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_run(tx, &KEYSTORE_TENANT, NULL, &rows, why);
    return st == ST_OK ? keystore_rows_tenant(&tx->claims.tenant_id, rows, mem, ret_keys, why) : st;
}

enum status keystore_take_tenant(struct tenant_tx *tx, struct arena *mem, struct tenant_keys *ret_keys, struct why *why) {
    enum status st = keystore_read_tenant(tx, mem, ret_keys, why);
    return st == ST_OK ? tenant_tx_commit(tx, why) : st;
}

enum status keystore_open_tenant(struct keyring *keyring, const struct tenant_keys *keys, enum tenant_key_kind kind,
                                 unsigned version, int64_t deadline_ms, struct tenant_key **ret_key, struct why *why) {
    return keyring_tenant(keyring, &keys->tenant, keys->rows, keys->count, kind, version, deadline_ms, ret_key, why);
}

enum status keystore_open_document(struct shares *shares, const struct tenant_key *key, const struct uuid *tenant,
                                   const struct uuid *document, const void *wrapped, size_t len, int64_t deadline_ms,
                                   struct document_key **ret_key, struct why *why) {
    CLEANUP(secret_destroy) struct secret *share = NULL;
    enum status st = ST_OK;
    if (document_key_has_share(wrapped, len))
        st = shares_get(shares, tenant, document, deadline_ms, &share, why);
    return st == ST_OK ? document_key_open(key, document, wrapped, len, share, ret_key, why) : st;
}
