#include "admission.h"

#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "refusals.h"
#include "transact.h"

/* The words that authz.admit(), admit_key() and admit_cookie() refuse with (SQLSTATE 28000), and what the client sees. */
static const struct mint_refusal { const char *word; enum error_code code; } MINT_REFUSALS[] = {
    { "tenant",  ERR_AUTH_TENANT },     /* unknown or suspended; or none, and no role of the platform */
    { "issuer",  ERR_AUTH_TENANT },     /* one that may not speak for this tenant */
    { "user",    ERR_AUTH_TENANT },     /* disabled, deleted, or not invited */
    { "session", ERR_AUTH_TENANT },     /* revoked */
    { "key",     ERR_AUTH_TOKEN },      /* nobody's API key */
    { "cookie",  ERR_AUTH_SESSION },    /* nobody's session */
    { "token",   ERR_AUTH_TOKEN },      /* by the database's clock it has expired meanwhile */
};

static const struct mint_refusal *mint_refusal(const struct why *why) {
    static const char PREFIX[] = "no ticket: ";
    static const struct mint_refusal OTHER = { "database", ERR_AUTH_TENANT };
    const char *said = strstr(why->text, PREFIX);
    for (size_t i = 0; said && i < sizeof MINT_REFUSALS / sizeof *MINT_REFUSALS; i++)
        if (str_equal(said + sizeof PREFIX - 1, MINT_REFUSALS[i].word))
            return &MINT_REFUSALS[i];
    return &OTHER;
}

enum status refuse(struct auth *a, struct call *call, enum error_code code, const char *reason, const char *tenant,
                   const char *remote_address) {
    if (record_refused_token(a, call, code, reason, tenant, remote_address) != ST_OK)
        counter_add(a->unrecorded, 1);
    return fail_as(&call->why, code, "refused: %s", reason);
}

enum status refuse_by_database(struct auth *a, struct call *call, const char *tenant, const char *remote_address) {
    const struct mint_refusal *why = mint_refusal(&call->why);
    counter_add(a->refused_by_database, 1);
    return refuse(a, call, why->code, why->word, tenant, remote_address);
}

const char *admission_tenant(const struct believed *issuer, const struct jwt_claims *claims) {
    if (claims->tenant || issuer->tenant_count != 1 || str_equal(issuer->tenants[0], "*") || str_equal(issuer->tenants[0], "cordon-platform"))
        return claims->tenant;
    return issuer->tenants[0];
}

bool admission_is_strong(const struct auth *a, const struct jwt_claims *claims) {
    return claims->has_mfa || !a->settings->is_mfa_required;
}

/* Did the person log in a moment ago? A token that does not say when was issued when it was issued. */
static bool is_fresh(const struct jwt_claims *claims) {
    int64_t since_s = claims->auth_time_s ? claims->auth_time_s : claims->issued_at_s;
    return since_s && clock_unix_us() / 1000000 - since_s <= ADMISSION_FRESH_S;
}

static struct db_param bytes_or_null(const struct blob *blob) {
    return blob->data ? DB_BYTES(blob->data, blob->len) : DB_NULL;
}

enum status admission_params(struct auth *a, struct call *call, const struct believed *issuer, const struct jwt_claims *claims, int64_t until_s,
                             struct db_param ret_params[ADMISSION_PARAMS]) {
    uint8_t *profile = arena_alloc(call->mem, SHA256_BYTES), *address = arena_alloc(call->mem, SHA256_BYTES);
    struct blob name = { 0 }, email = { 0 };
    directory_profile_blind(a->directory, claims->name, claims->email, profile);
    directory_email_blind(a->directory, claims->email, address);
    enum status st = directory_seal(a->directory, DIRECTORY_NAME, claims->name, call->mem, &name, &call->why);
    if (st == ST_OK)
        st = directory_seal(a->directory, DIRECTORY_EMAIL, claims->email, call->mem, &email, &call->why);
    if (st != ST_OK)
        return st;
    bool is_strong = admission_is_strong(a, claims);
    const struct db_param params[ADMISSION_PARAMS] = { DB_TEXT(issuer->policy.issuer), DB_TEXT(claims->subject), DB_TEXT(claims->token_id),
        DB_TEXT(arena_printf(call->mem, "%lld", (long long)until_s)), DB_TEXT(admission_tenant(issuer, claims)),
        DB_TEXT(text_array(call->mem, issuer->tenants, issuer->tenant_count)), DB_TEXT(text_array(call->mem, claims->roles, claims->roles_count)),
        DB_BOOL(is_strong), DB_BOOL(is_strong && is_fresh(claims)), DB_BOOL(claims->is_email_verified),
        DB_BYTES(profile, SHA256_BYTES), bytes_or_null(&name), bytes_or_null(&email), claims->email ? DB_BYTES(address, SHA256_BYTES) : DB_NULL };
    memcpy(ret_params, params, sizeof params);
    return ST_OK;
}
