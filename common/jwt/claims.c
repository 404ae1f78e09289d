#include "jwt/claims.h"

#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"
#include "core/uuid.h"
#include "json/reader.h"

static const int64_t LATEST_S = 253402300799;           /* 9999-12-31T23:59:59Z */

enum { STEP_MAX_BYTES = 128 };

/* One reference token of a JSON Pointer (RFC 6901, 4), up to the next slash. False: malformed or too long. */
static bool read_step(const char **at, char step[STEP_MAX_BYTES]) {
    size_t len = 0;
    while (**at && **at != '/') {
        char c = *(*at)++;
        if (c == '~') {
            if (**at != '0' && **at != '1')
                return false;
            c = *(*at)++ == '0' ? '~' : '/';
        }
        if (len + 1 == STEP_MAX_BYTES)
            return false;
        step[len++] = c;
    }
    step[len] = '\0';
    return true;
}

static const json_t *claim_at(const json_t *claims, const char *name) {
    if (name[0] != '/')
        return json_object_get(claims, name);
    const json_t *value = claims;
    char step[STEP_MAX_BYTES];
    while (value && *name == '/') {
        name++;
        value = read_step(&name, step) ? json_object_get(value, step) : NULL;       /* NULL of what is no object */
    }
    return value;
}

/* A claim that is a string of 1 to max bytes; NULL otherwise. */
static const char *text_claim(const json_t *claims, const char *name, size_t max) {
    const json_t *value = claim_at(claims, name);
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

static enum jwt_refusal check_times(const json_t *claims, const struct jwt_policy *policy, int64_t now_s,
                                    struct jwt_claims *out) {
    int64_t expires_s, not_before_s = 0, issued_s = now_s, leeway_s = policy->leeway_s ? policy->leeway_s : CLAIMS_LEEWAY_S;
    if (!date_claim(claims, "exp", &expires_s) ||
        (json_object_get(claims, "nbf") && !date_claim(claims, "nbf", &not_before_s)) ||
        (json_object_get(claims, "iat") && !date_claim(claims, "iat", &issued_s)))
        return JWT_TIME;
    if (now_s >= expires_s + leeway_s)
        return JWT_EXPIRED;
    if (not_before_s > now_s + leeway_s || issued_s > now_s + leeway_s)
        return JWT_NOT_YET;
    if (expires_s - issued_s > (policy->max_lifetime_s ? policy->max_lifetime_s : CLAIMS_MAX_LIFETIME_S))
        return JWT_LIFETIME;
    out->accepted_until_s = expires_s + leeway_s;
    out->issued_at_s = json_object_get(claims, "iat") ? issued_s : 0;
    if (json_object_get(claims, "auth_time") && (!date_claim(claims, "auth_time", &out->auth_time_s) || out->auth_time_s > now_s + leeway_s))
        return JWT_TIME;
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
    const json_t *value = *name ? claim_at(claims, name) : NULL;
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

/* One more role, unless it is there already. False: too many or too long. */
static bool add_role(struct arena *mem, struct jwt_claims *out, const char **roles, const char *role) {
    for (size_t i = 0; i < out->roles_count; i++)
        if (str_equal(roles[i], role))
            return true;
    if (out->roles_count == CLAIMS_ROLES_MAX || strlen(role) > CLAIMS_ROLE_MAX_BYTES)
        return false;
    roles[out->roles_count++] = arena_strdup(mem, role);
    return true;
}

/* A value of the claim: a role by itself, or whatever the map makes of it. */
static bool take_value(struct arena *mem, const struct jwt_policy *policy, struct jwt_claims *out, const char **roles, const char *value) {
    if (!policy->role_map)
        return add_role(mem, out, roles, value);
    for (const struct jwt_pair *rule = policy->role_map; rule->name; rule++)
        if (str_equal(rule->name, value) && !add_role(mem, out, roles, rule->value))
            return false;
    return true;
}

/* An array of names, or one string of names between spaces. Absent: no roles. */
static bool read_roles(struct arena *mem, const json_t *claims, const struct jwt_policy *policy, struct jwt_claims *out) {
    const char **roles = arena_alloc(mem, CLAIMS_ROLES_MAX * sizeof *roles);
    size_t most = policy->role_map ? CLAIMS_GROUPS_MAX : CLAIMS_ROLES_MAX, count = 0;
    out->roles = roles;
    const json_t *value = claim_at(claims, policy->roles_claim);
    if (!value)
        return true;
    if (json_is_string(value)) {
        char *rest = arena_strdup(mem, json_string_value(value));
        for (char *role; (role = strsep(&rest, " ")) != NULL; )
            if (*role && (count++ == most || !take_value(mem, policy, out, roles, role)))
                return false;
        return true;
    }
    if (!json_is_array(value) || json_array_size(value) > most)
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        if (!json_is_string(one) || !take_value(mem, policy, out, roles, json_string_value(one)))
            return false;
    }
    return true;
}

static bool is_one_of(const json_t *value, const char *const accepted[]) {
    for (size_t i = 0; accepted && accepted[i]; i++)
        if (str_equal(json_string_value(value), accepted[i]))
            return true;
    return false;
}

/* Does the claim, one text or an array of them, name one of these? What is neither names nothing. */
static bool names_one_of(const json_t *claims, const char *name, const char *const accepted[]) {
    const json_t *value = name ? claim_at(claims, name) : NULL;
    for (size_t i = 0; i < json_array_size(value); i++)
        if (is_one_of(json_array_get(value, i), accepted))
            return true;
    return is_one_of(value, accepted);
}

static bool has_required(const json_t *claims, const struct jwt_pair *required) {
    for (; required && required->name; required++)
        if (!str_equal(json_string_value(claim_at(claims, required->name)), required->value))
            return false;
    return true;
}

static bool is_for_party(const json_t *claims, const char *party) {
    const json_t *azp = json_object_get(claims, "azp");
    return !party || (azp ? str_equal(json_string_value(azp), party) : json_array_size(json_object_get(claims, "aud")) <= 1);
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
    if (!has_audience(claim_at(claims, policy->audience_claim), policy->audience) || !is_for_party(claims, policy->authorized_party))
        return JWT_AUDIENCE;
    if (!has_required(claims, policy->required))
        return JWT_REQUIRED;
    struct jwt_claims made = { 0 };
    enum jwt_refusal refusal = check_times(claims, policy, now_s, &made);
    if (refusal != JWT_ACCEPTED)
        return refusal;
    made.subject = optional_text(mem, claims, "sub");
    if (!made.subject)
        return JWT_SUBJECT;
    if (!read_token_id(mem, claims, jws, &made.token_id))
        return JWT_TOKEN_ID;
    if (!read_tenant(mem, claims, policy->tenant_claim, &made.tenant))
        return JWT_TENANT;
    if (!read_roles(mem, claims, policy, &made))
        return JWT_ROLES;
    made.name = optional_text(mem, claims, "name");
    made.email = optional_text(mem, claims, "email");
    made.is_email_verified = json_is_true(json_object_get(claims, "email_verified"));
    made.has_mfa = policy->is_mfa_assumed || names_one_of(claims, policy->amr_claim, policy->amr_values) ||
                   names_one_of(claims, policy->acr_claim, policy->acr_values);
    *ret_claims = made;
    return JWT_ACCEPTED;
}
