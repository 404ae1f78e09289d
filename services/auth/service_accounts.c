/* service_accounts — API keys: made with no more than their maker's scopes, shown once, listed without their secret,
 * revoked for good. Each acts as a user of its own. */
#include <string.h>

#include "api_keys.h"
#include "auth.pb-c.h"
#include "core/wire.h"
#include "transact.h"

enum { DAYS_DEFAULT = 90, DAYS_MAX = 366 };

enum status on_list_api_keys(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct id_list LIST = { { "list_api_keys",
        "SELECT k.id, k.name, k.prefix, k.scopes, k.user_id, k.created_by, k.created_at, k.expires_at, k.last_used_at, k.revoked_at "
        "FROM auth.api_keys k WHERE k.tenant_id = authz.tenant() AND k.id < $1 ORDER BY k.id DESC LIMIT $2", 2 }, SCOPE_USERS_MANAGE,
        "api_keys", &LAST_ID };
    const Auth__ListApiKeysRequest *req = (const void *)in;
    Auth__ListApiKeysReply *reply = (void *)out;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    int count = 0;
    enum status st = show_list(self, call, &LIST, req->cursor, req->limit, &rows, &count, &reply->next_cursor);
    if (st != ST_OK)
        return st;
    reply->keys = arena_alloc(call->mem, (size_t)(count + 1) * sizeof *reply->keys);
    for (int i = 0; i < count; i++) {
        Auth__ApiKey *key = arena_alloc(call->mem, sizeof *key);
        auth__api_key__init(key);
        key->id = id_column(call->mem, rows, i, 0);
        key->name = arena_strdup(call->mem, db_text(rows, i, 1));
        key->prefix = arena_strdup(call->mem, db_text(rows, i, 2));
        key->scopes = read_texts(call->mem, rows, i, 3, &key->n_scopes);
        key->user_id = id_column(call->mem, rows, i, 4);
        key->created_by_id = id_column(call->mem, rows, i, 5);
        key->created_at_us = db_micros(rows, i, 6);
        key->expires_at_us = db_micros(rows, i, 7);
        key->last_used_at_us = db_micros(rows, i, 8);
        key->revoked_at_us = db_micros(rows, i, 9);
        reply->keys[reply->n_keys++] = key;
    }
    return ST_OK;
}

/* CreateApiKeyRequest -> CreateApiKeyReply. */
enum status on_create_api_key(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql ADD_USER = { "add_key_user",
        "INSERT INTO auth.users (tenant_id, id, issuer, subject, status) VALUES (authz.tenant(), $1, 'urn:cordon:api-key', $2, 'active')", 2 };
    static const struct sql ADD = { "create_api_key",
        "INSERT INTO auth.api_keys (tenant_id, id, user_id, prefix, secret_hash, name, scopes, created_by, expires_at) "
        "VALUES (authz.tenant(), $1, $2, $3, $4, $5, $6::pg_catalog.text[], authz.user_id(), pg_catalog.now() + $7::pg_catalog.int4 * interval '1 day') "
        "RETURNING expires_at", 7 };
    const Auth__CreateApiKeyRequest *req = (const void *)in;
    Auth__CreateApiKeyReply *reply = (void *)out;
    struct auth *a = self;
    struct uuid id = uuid_v7(), user_id = uuid_v7();
    struct api_key key;
    char text[API_KEY_TEXT_BYTES];
    if (!req->n_scopes || req->days > DAYS_MAX)
        return fail_as(&call->why, ERR_REQ_FIELD, "scopes or days");
    api_key_make(text, &key);
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = tenant_tx_begin(&tx, a->db, call->ticket, &call->request_id, SCOPE_USERS_MANAGE, call->deadline_ms, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ADD_USER, (struct db_param[]){ DB_UUID(&user_id), DB_TEXT(key.prefix) }, NULL, &call->why);
    if (st == ST_OK)
        st = tenant_tx_run(&tx, &ADD, (struct db_param[]){ DB_UUID(&id), DB_UUID(&user_id), DB_TEXT(key.prefix),
            DB_BYTES(key.secret_hash, sizeof key.secret_hash), DB_TEXT(req->name),
            DB_TEXT(text_array(call->mem, (const char *const *)req->scopes, req->n_scopes)), DB_INT(req->days ? req->days : DAYS_DEFAULT) },
            &rows, &call->why);
    if (st == ST_OK)
        st = tenant_tx_commit(&tx, &call->why);
    if (st == ST_OK) {
        reply->key_id = wire_id(call->mem, &id);
        reply->key = arena_strdup(call->mem, text);
        reply->expires_at_us = db_micros(rows, 0, 0);
    }
    explicit_bzero(text, sizeof text);
    return st;
}

enum status on_revoke_api_key(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    static const struct sql REVOKE = { "revoke_api_key",
        "UPDATE auth.api_keys k SET revoked_at = pg_catalog.now() WHERE k.tenant_id = authz.tenant() AND k.id = $1 AND k.revoked_at IS NULL", 1 };
    const Auth__RevokeApiKeyRequest *req = (const void *)in;
    struct uuid id;
    (void)out;
    enum status st = read_id(call, &req->key_id, "key_id", &id);
    return st == ST_OK ? transact_one(self, call, SCOPE_USERS_MANAGE, &REVOKE, (struct db_param[]){ DB_UUID(&id) }) : st;
}
