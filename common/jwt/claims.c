#include "jwt/claims.h"

#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "core/uuid.h"
#include "json/reader.h"

static const int64_t LATEST_S = 253402300799;           /* 9999-12-31T23:59:59Z */

/* A claim that is a string of 1 to max bytes; NULL otherwise. */
static const char *text_claim(const json_t *claims, const char *name, size_t max) {
    const json_t *value = json_object_get(claims, name);
    size_t len = json_string_length(value);
    return len >= 1 && len <= max ? json_string_value(value) : NULL;
}

/* NumericDate (RFC 7519, 2): seconds, perhaps with a fraction, which is dropped. False: no such date. */
static bool date_claim(const json_t *claims, const char *name, int64_t *ret_s) {
    const json_t *value = json_object_get(claims, name);
    if (json_is_integer(value)) {
        if (json_integer_value(value) < 0 || json_integer_value(value) > LATEST_S)
            return false;
        *ret_s = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value) || !(json_real_value(value) >= 0 && json_real_value(value) <= (double)LATEST_S))
        return false;
    *ret_s = (int64_t)json_real_value(value);
    return true;
}

/* A string, or an array of nothing but strings, that has the expected one. */
static bool has_audience(const json_t *audience, const char *expected) {
    if (json_is_string(audience))
        return str_equal(json_string_value(audience), expected);
    bool is_found = false;
    for (size_t i = 0; i < json_array_size(audience); i++) {
        const json_t *one = json_array_get(audience, i);
        if (!json_is_string(one))
            return false;
        is_found |= str_equal(json_string_value(one), expected);
    }
    return is_found;
}

static enum jwt_refusal check_times(const json_t *claims, int64_t now_s, int64_t *ret_accepted_until_s) {
    int64_t expires_s, not_before_s = 0, issued_s = now_s;
    if (!date_claim(claims, "exp", &expires_s) ||
        (json_object_get(claims, "nbf") && !date_claim(claims, "nbf", &not_before_s)) ||
        (json_object_get(claims, "iat") && !date_claim(claims, "iat", &issued_s)))
        return JWT_TIME;
    if (now_s >= expires_s + CLAIMS_LEEWAY_S)
        return JWT_EXPIRED;
    if (not_before_s > now_s + CLAIMS_LEEWAY_S || issued_s > now_s + CLAIMS_LEEWAY_S)
        return JWT_NOT_YET;
    if (expires_s - issued_s > CLAIMS_MAX_LIFETIME_S)
        return JWT_LIFETIME;
    *ret_accepted_until_s = expires_s + CLAIMS_LEEWAY_S;
    return JWT_ACCEPTED;
}

/* The token's own id; without one, its digest stands in, so that one token is one session. */
static bool read_token_id(struct arena *mem, const json_t *claims, const struct jws *jws, const char **ret_id) {
    if (!json_object_get(claims, "jti")) {
        *ret_id = hex_encode(jws->digest, sizeof jws->digest, arena_alloc(mem, 2 * sizeof jws->digest + 1));
        return true;
    }
    const char *id = text_claim(claims, "jti", CLAIMS_TEXT_MAX_BYTES);
    *ret_id = id ? arena_strdup(mem, id) : NULL;
    return id != NULL;
}

/* A UUID is of these characters too, but for its case; the database knows which of both it is. */
static bool is_tenant_name(const char *text) {
    size_t len = strlen(text);
    return len >= CLAIMS_TENANT_MIN_BYTES && len <= CLAIMS_TENANT_MAX_BYTES &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && text[0] != '-' && text[len - 1] != '-';
}

static bool read_tenant(struct arena *mem, const json_t *claims, const char *name, const char **ret_tenant) {
    const json_t *value = json_object_get(claims, name);
    *ret_tenant = NULL;
    if (!value)
        return true;
    struct uuid id;
    char text[UUID_TEXT_BYTES];
    if (!json_is_string(value))
        return false;
    if (uuid_parse(json_string_value(value), json_string_length(value), &id)) {
        *ret_tenant = arena_strdup(mem, uuid_format(&id, text));
        return true;
    }
    if (!is_tenant_name(json_string_value(value)))
        return false;
    *ret_tenant = arena_strdup(mem, json_string_value(value));
    return true;
}

/* An array of names, or one string of names between spaces. Absent: no roles. */
static bool read_roles(struct arena *mem, const json_t *claims, const char *name, struct jwt_claims *out) {
    const char **roles = arena_alloc(mem, CLAIMS_ROLES_MAX * sizeof *roles);
    out->roles = roles;
    const json_t *value = json_object_get(claims, name);
    if (!value)
        return true;
    if (json_is_string(value)) {
        char *rest = arena_strdup(mem, json_string_value(value));
        for (char *role; (role = strsep(&rest, " ")) != NULL; ) {
            if (!*role)
                continue;
            if (out->roles_count == CLAIMS_ROLES_MAX || strlen(role) > CLAIMS_ROLE_MAX_BYTES)
                return false;
            roles[out->roles_count++] = role;
        }
        return true;
    }
    if (!json_is_array(value) || json_array_size(value) > CLAIMS_ROLES_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        if (!json_is_string(one) || json_string_length(one) > CLAIMS_ROLE_MAX_BYTES)
            return false;
        roles[out->roles_count++] = arena_strdup(mem, json_string_value(one));
    }
    return true;
}

static const char *optional_text(struct arena *mem, const json_t *claims, const char *name) {
    const char *text = text_claim(claims, name, CLAIMS_TEXT_MAX_BYTES);
    return text ? arena_strdup(mem, text) : NULL;
}

enum jwt_refusal jwt_claims_read(struct arena *mem, const struct jws *jws, const struct jwt_policy *policy, int64_t now_s,
                             struct jwt_claims *ret_claims) {
    CLEANUP(json_destroy) json_t *claims = NULL;
    struct why why;         /* the refusal says enough */
    if (json_parse(jws->payload, jws->payload_len, JWS_MAX_BYTES, &claims, &why) != ST_OK || !json_is_object(claims))
        return JWT_CLAIMS;
    if (!str_equal(json_string_value(json_object_get(claims, "iss")), policy->issuer))
        return JWT_ISSUER;
    if (!has_audience(json_object_get(claims, policy->audience_claim), policy->audience))
        return JWT_AUDIENCE;
    struct jwt_claims made = { 0 };
    enum jwt_refusal refusal = check_times(claims, now_s, &made.accepted_until_s);
    if (refusal != JWT_ACCEPTED)
        return refusal;
    made.subject = optional_text(mem, claims, "sub");
    if (!made.subject)
        return JWT_SUBJECT;
    if (!read_token_id(mem, claims, jws, &made.token_id))
        return JWT_TOKEN_ID;
    if (!read_tenant(mem, claims, policy->tenant_claim, &made.tenant))
        return JWT_TENANT;
    if (!read_roles(mem, claims, policy->roles_claim, &made))
        return JWT_ROLES;
    made.name = optional_text(mem, claims, "name");
    made.email = optional_text(mem, claims, "email");
    *ret_claims = made;
    return JWT_ACCEPTED;
}
