#include "refresh.h"

#include "admission.h"
#include "db/plain_tx.h"
#include "provider.h"
#include "tokens.h"
#include "transact.h"

static enum status end_login(struct auth *a, struct call *call, const uint8_t cookie[SHA256_BYTES]) {
    static const struct sql END = { "end_login", "SELECT FROM authz.end_login($1, 'refresh')", 1 };
    enum status st = db_run(a->db, &END, (struct db_param[]){ DB_BYTES(cookie, SHA256_BYTES) }, call->deadline_ms, NULL, &call->why);
    return st == ST_OK ? fail(&call->why, ST_UNAUTHENTICATED, "the provider vouches no longer") : st;
}

/* *ret_is_kept: false when the new word is about another person or tenant. */
static enum status keep(struct auth *a, struct call *call, const uint8_t cookie[SHA256_BYTES], const struct believed *issuer,
                        const struct jwt_claims *claims, const char *refresh, bool *ret_is_kept) {
    static const struct sql KEEP = { "refresh_login",
        "SELECT k FROM authz.refresh_login($1, $2, $3, $4::pg_catalog.text[], $5, pg_catalog.to_timestamp($6::pg_catalog.float8), $7) k", 7 };
    struct blob resealed = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = directory_seal_for(a->directory, DIRECTORY_REFRESH_TOKEN, cookie, refresh, call->mem, &resealed, &call->why);
    if (st == ST_OK)
        st = db_run(a->db, &KEEP, (struct db_param[]){ DB_BYTES(cookie, SHA256_BYTES), DB_TEXT(claims->subject), DB_TEXT(admission_tenant(issuer, claims)),
            DB_TEXT(text_array(call->mem, claims->roles, claims->roles_count)), DB_BOOL(admission_is_strong(a, claims)),
            DB_INT(claims->accepted_until_s), resealed.data ? DB_BYTES(resealed.data, resealed.len) : DB_NULL }, call->deadline_ms, &rows, &call->why);
    if (st == ST_OK)
        *ret_is_kept = db_count(rows) == 1 && db_bool(rows, 0, 0);
    return st;
}

enum status refresh_login(struct auth *a, struct call *call, const uint8_t cookie[SHA256_BYTES], const char *issuer, const void *sealed, size_t len) {
    const struct believed *believed = issuers_find(&a->issuers, issuer);
    struct provider_tokens tokens = { 0 };
    struct jwt_claims claims = { 0 };
    enum jwt_refusal refusal = JWT_ACCEPTED;
    const char *refresh = "";
    bool is_kept = false;
    if (!believed || !believed->login.secret)       /* no longer configured: nobody vouches */
        return end_login(a, call, cookie);
    enum status st = directory_open_for(a->directory, DIRECTORY_REFRESH_TOKEN, cookie, sealed, len, call->mem, &refresh, &call->why);
    if (st == ST_OK)
        st = provider_refresh(a, believed, call, refresh, &tokens);
    if (st == ST_INVALID)
        return end_login(a, call, cookie);
    if (st == ST_OK)
        st = check_token(believed, call, tokens.access, &refusal, &claims);
    if (st == ST_OK && refusal == JWT_ACCEPTED)
        st = keep(a, call, cookie, believed, &claims, tokens.refresh, &is_kept);
    return st == ST_OK && !is_kept ? end_login(a, call, cookie) : st;
}
