#include "issuers.h"

#include <string.h>

#include "core/str.h"
#include "json/reader.h"

enum { URL_MAX_BYTES = 512, NAME_MAX_BYTES = 255, VALUE_MAX_BYTES = 512, LEEWAY_MAX_S = 300, LIFETIME_MAX_S = 7 * 24 * 60 * 60 };

static const struct preset {
    const char *name, *audience_claim, *tenant_claim, *roles_claim, *amr_claim, *acr_claim, *required_claim, *required_value;
} PRESETS[] = {
#define PRESET(...) { __VA_ARGS__ },
#include "presets.def"
#undef PRESET
    { 0 }
};

/* RFC 8176 and the policies of OpenID: what says "several factors" unless the configuration says otherwise. */
static const char *const AMR_VALUES[] = { "mfa", "otp", "hwk", "sc", NULL };
static const char *const ACR_VALUES[] = { "http://schemas.openid.net/pape/policies/2007/06/multi-factor", "phr", "phrh", NULL };
static const char *const EVERY_TENANT[] = { "*", "cordon-platform", NULL };

/* offline_access is for the refresh token, without which a session ends with its access token. */
static const char LOGIN_SCOPES[] = "openid profile email offline_access";

static const struct preset *find_preset(const char *name) {
    for (const struct preset *p = PRESETS; p->name; p++)
        if (str_equal(p->name, name))
            return p;
    return NULL;
}

static void apply_preset(struct arena *mem, struct jwt_policy *policy, const struct preset *p) {
    policy->audience_claim = p->audience_claim;
    policy->tenant_claim = p->tenant_claim;
    policy->roles_claim = p->roles_claim;
    policy->amr_claim = p->amr_claim;
    policy->acr_claim = p->acr_claim;
    policy->required = NULL;
    if (!p->required_claim)
        return;
    struct jwt_pair *required = arena_alloc(mem, 2 * sizeof *required);
    required[0] = (struct jwt_pair){ p->required_claim, p->required_value };
    policy->required = required;
}

/* An array of non-empty texts, copied, with NULL at its end. Absent: *ret untouched. */
static enum status read_texts(struct arena *mem, const json_t *object, const char *name, size_t most, const char *const **ret,
                              size_t *ret_count, struct why *why) {
    const json_t *array = NULL;
    enum status st = json_get_array(object, name, JSON_OPTIONAL, most, &array, why);
    if (st != ST_OK || !array)
        return st;
    size_t count = json_array_size(array);
    const char **texts = arena_alloc(mem, (count + 1) * sizeof *texts);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text || !*text || strlen(text) > VALUE_MAX_BYTES)
            return fail(why, ST_INVALID, "'%s' holds something else than short texts", name);
        texts[i] = arena_strdup(mem, text);
    }
    *ret = texts;
    if (ret_count)
        *ret_count = count;
    return ST_OK;
}

static enum status read_text(struct arena *mem, const json_t *object, const char *name, size_t max, const char **ret, struct why *why) {
    const char *text = NULL;
    enum status st = json_get_text(object, name, JSON_OPTIONAL, max, &text, why);
    if (st == ST_OK && text)
        *ret = arena_strdup(mem, text);
    return st;
}

/* {"name": "value"} or, where `is_many`, {"name": ["value", "value"]} too. */
static enum status read_pairs(struct arena *mem, const json_t *object, const char *name, bool is_many, const struct jwt_pair **ret,
                              struct why *why) {
    const json_t *map = NULL;
    enum status st = json_get_object(object, name, JSON_OPTIONAL, &map, why);
    if (st != ST_OK || !map)
        return st;
    struct jwt_pair *pairs = arena_alloc(mem, (ISSUER_ROLE_RULES_MAX + 1) * sizeof *pairs);
    size_t count = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        size_t values = is_many && json_is_array(value) ? json_array_size(value) : 1;
        for (size_t i = 0; i < values; i++) {
            const char *text = json_string_value(json_is_array(value) && is_many ? json_array_get(value, i) : value);
            if (!text || count == ISSUER_ROLE_RULES_MAX || strlen(key) > VALUE_MAX_BYTES || strlen(text) > VALUE_MAX_BYTES)
                return fail(why, ST_INVALID, "'%s': not a map of short texts, or too large", name);
            pairs[count++] = (struct jwt_pair){ arena_strdup(mem, key), arena_strdup(mem, text) };
        }
    }
    *ret = pairs;
    return ST_OK;
}

/* "always", or where and by which values the token tells. */
static enum status read_mfa(struct arena *mem, const json_t *object, struct jwt_policy *policy, struct why *why) {
    static const char *const MEMBERS[] = { "amr_claim", "amr", "acr_claim", "acr", NULL };
    const json_t *mfa = json_object_get(object, "mfa");
    if (!mfa)
        return ST_OK;
    policy->is_mfa_assumed = str_equal(json_string_value(mfa), "always");
    if (policy->is_mfa_assumed)
        return ST_OK;
    enum status st = json_only_members(mfa, MEMBERS, why);
    if (st == ST_OK)
        st = read_text(mem, mfa, "amr_claim", NAME_MAX_BYTES, &policy->amr_claim, why);
    if (st == ST_OK)
        st = read_text(mem, mfa, "acr_claim", NAME_MAX_BYTES, &policy->acr_claim, why);
    if (st == ST_OK)
        st = read_texts(mem, mfa, "amr", ISSUER_VALUES_MAX, &policy->amr_values, NULL, why);
    return st == ST_OK ? read_texts(mem, mfa, "acr", ISSUER_VALUES_MAX, &policy->acr_values, NULL, why) : st;
}

static enum status read_policy(struct arena *mem, const json_t *object, struct jwt_policy *policy, struct why *why) {
    const char *preset = NULL;
    enum status st = json_get_text(object, "preset", JSON_OPTIONAL, NAME_MAX_BYTES, &preset, why);
    if (st == ST_OK && preset && !find_preset(preset))
        return fail(why, ST_INVALID, "'preset' is none that we know");
    if (st == ST_OK && preset)
        apply_preset(mem, policy, find_preset(preset));
    const struct { const char *name; const char **ret; } TEXTS[] = {
        { "audience", &policy->audience }, { "audience_claim", &policy->audience_claim },
        { "tenant_claim", &policy->tenant_claim }, { "roles_claim", &policy->roles_claim },
    };
    for (size_t i = 0; st == ST_OK && i < sizeof TEXTS / sizeof *TEXTS; i++)
        st = read_text(mem, object, TEXTS[i].name, NAME_MAX_BYTES, TEXTS[i].ret, why);
    if (st == ST_OK)
        st = json_get_i64(object, "leeway_s", JSON_OPTIONAL, 1, LEEWAY_MAX_S, &policy->leeway_s, why);
    if (st == ST_OK)
        st = json_get_i64(object, "max_lifetime_s", JSON_OPTIONAL, 60, LIFETIME_MAX_S, &policy->max_lifetime_s, why);
    if (st == ST_OK)
        st = read_pairs(mem, object, "roles", true, &policy->role_map, why);
    if (st == ST_OK)
        st = read_pairs(mem, object, "require", false, &policy->required, why);
    return st == ST_OK ? read_mfa(mem, object, policy, why) : st;
}

/* {"client_id": ..., "scopes": ..., "parameters": {...}} */
static enum status read_login(struct arena *mem, const json_t *object, struct login_client *login, struct why *why) {
    static const char *const MEMBERS[] = { "client_id", "scopes", "parameters", NULL };
    const json_t *member = NULL;
    enum status st = json_get_object(object, "login", JSON_OPTIONAL, &member, why);
    if (st != ST_OK || !member)
        return st;
    st = json_only_members(member, MEMBERS, why);
    if (st == ST_OK)
        st = read_text(mem, member, "client_id", NAME_MAX_BYTES, &login->id, why);
    if (st == ST_OK)
        st = read_text(mem, member, "scopes", VALUE_MAX_BYTES, &login->scopes, why);
    return st == ST_OK ? read_pairs(mem, member, "parameters", false, &login->parameters, why) : st;
}

static bool is_url_allowed(const char *url, bool allows_http) {
    return str_starts_with(url, "https://") || (allows_http && str_starts_with(url, "http://"));
}

/* One member of CORDON_ISSUERS: about an issuer that is there already, or a new one. */
static enum status read_entry(struct issuers *issuers, const json_t *object, const struct issuers_settings *s, struct why *why) {
    static const char *const MEMBERS[] = { "issuer", "preset", "audience", "audience_claim", "tenant_claim", "roles_claim", "roles",
                                           "require", "mfa", "leeway_s", "max_lifetime_s", "tenants", "login", NULL };
    const char *url = NULL;
    enum status st = json_only_members(object, MEMBERS, why);
    if (st == ST_OK)
        st = json_get_text(object, "issuer", JSON_REQUIRED, URL_MAX_BYTES, &url, why);
    if (st != ST_OK)
        return st;
    struct believed *b = NULL;
    for (size_t i = 0; i < issuers->count && !b; i++)
        if (str_equal(issuers->items[i].policy.issuer, url))
            b = &issuers->items[i];
    if (b && b != &issuers->items[0])
        return fail(why, ST_INVALID, "'issuer' is there twice");
    if (!b) {
        if (issuers->count == ISSUERS_MAX)
            return fail(why, ST_INVALID, "more than %d issuers", ISSUERS_MAX);
        b = &issuers->items[issuers->count++];
        *b = (struct believed){ .policy = { .issuer = arena_strdup(issuers->mem, url), .amr_values = AMR_VALUES, .acr_values = ACR_VALUES,
                                            .leeway_s = s->leeway_s, .max_lifetime_s = s->max_lifetime_s },
                                .login = { .id = "", .scopes = LOGIN_SCOPES } };
        apply_preset(issuers->mem, &b->policy, &PRESETS[0]);
    }
    st = read_policy(issuers->mem, object, &b->policy, why);
    if (st == ST_OK)
        st = read_login(issuers->mem, object, &b->login, why);
    if (st == ST_OK)
        st = read_texts(issuers->mem, object, "tenants", ISSUER_TENANTS_MAX, &b->tenants, &b->tenant_count, why);
    if (st != ST_OK)
        return st;
    if (!b->tenant_count)
        return fail(why, ST_INVALID, "'tenants' is missing or empty: an issuer is bound to its tenants");
    if (!b->policy.audience || !*b->policy.audience || !*b->policy.audience_claim || !*b->policy.roles_claim)
        return fail(why, ST_INVALID, "'audience', 'audience_claim' or 'roles_claim' is missing");
    return ST_OK;
}

static enum status read_json(struct issuers *issuers, const struct issuers_settings *s, struct why *why) {
    CLEANUP(json_destroy) json_t *list = NULL;
    enum status st = json_parse(s->json, strlen(s->json), ISSUERS_JSON_MAX_BYTES, &list, why);
    if (st == ST_OK && !json_is_array(list))
        st = fail(why, ST_INVALID, "not an array");
    for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++)
        st = read_entry(issuers, json_array_get(list, i), s, why);
    return st;
}

/* "": as the preset has it. */
static const char *or_preset(struct arena *mem, const char *text, const char *preset) {
    return *text ? arena_strdup(mem, text) : preset;
}

static enum status read_first(struct issuers *issuers, const struct issuers_settings *s, struct why *why) {
    const struct preset *preset = find_preset(s->preset);
    if (!preset)
        return fail(why, ST_INVALID, "CORDON_OIDC_PRESET: none that we know");
    struct arena *mem = issuers->mem;
    struct believed *b = &issuers->items[issuers->count++];
    *b = (struct believed){ .tenants = EVERY_TENANT, .tenant_count = sizeof EVERY_TENANT / sizeof *EVERY_TENANT - 1 };
    apply_preset(mem, &b->policy, preset);
    b->policy.issuer = arena_strdup(mem, s->issuer_url);
    b->policy.audience = arena_strdup(mem, s->audience);
    b->policy.audience_claim = or_preset(mem, s->audience_claim, b->policy.audience_claim);
    b->policy.tenant_claim = or_preset(mem, s->tenant_claim, b->policy.tenant_claim);
    b->policy.roles_claim = or_preset(mem, s->roles_claim, b->policy.roles_claim);
    b->policy.amr_values = AMR_VALUES;
    b->policy.acr_values = ACR_VALUES;
    b->policy.leeway_s = s->leeway_s;
    b->policy.max_lifetime_s = s->max_lifetime_s;
    b->login = (struct login_client){ .id = arena_strdup(mem, s->login_client_id ? s->login_client_id : ""), .scopes = LOGIN_SCOPES,
                                      .secret = s->login_secret };
    return ST_OK;
}

/* {"https://other.example": "its client's secret"} */
static enum status read_secrets(struct issuers *issuers, const struct secret *text, struct why *why) {
    CLEANUP(json_destroy) json_t *map = NULL;
    const char *name;
    json_t *value;
    struct why detail = { 0 };
    if (json_parse(text->bytes, text->len, ISSUERS_JSON_MAX_BYTES, &map, &detail) != ST_OK || !json_is_object(map))
        return fail(why, ST_INVALID, "CORDON_LOGIN_SECRETS: not a JSON object");
    json_object_foreach(map, name, value) {
        size_t i = 1;
        while (i < issuers->count && !str_equal(issuers->items[i].policy.issuer, name))
            i++;
        if (i >= issuers->count || !json_string_length(value))
            return fail(why, ST_INVALID, "CORDON_LOGIN_SECRETS: an issuer that CORDON_ISSUERS does not add, or no text");
        issuers->secrets[i] = secret_new(json_string_value(value), json_string_length(value));
        issuers->items[i].login.secret = issuers->secrets[i];
    }
    return ST_OK;
}

enum status issuers_read(const struct issuers_settings *settings, struct issuers *ret_issuers, struct why *why) {
    struct issuers made = { .mem = arena_new(0) };
    made.items = arena_alloc(made.mem, ISSUERS_MAX * sizeof *made.items);
    enum status st = read_first(&made, settings, why);
    if (st == ST_OK && *settings->json) {
        struct why detail = { 0 };
        st = read_json(&made, settings, &detail);
        if (st != ST_OK)
            (void)!fail(why, ST_INVALID, "CORDON_ISSUERS: %.200s", detail.text);
    }
    if (st == ST_OK && settings->login_secrets)
        st = read_secrets(&made, settings->login_secrets, why);
    for (size_t i = 0; st == ST_OK && i < made.count; i++)
        if (!*made.items[i].login.id)
            made.items[i].login.id = made.items[i].policy.audience;
    for (size_t i = 0; st == ST_OK && i < made.count; i++)
        if (!is_url_allowed(made.items[i].policy.issuer, settings->allows_http))
            st = fail(why, ST_INVALID, "%s: needs https in production", i ? "CORDON_ISSUERS" : "OIDC_ISSUER_URL");
    if (st == ST_OK)
        *ret_issuers = made;
    else
        issuers_end(&made);
    return st == ST_OK ? ST_OK : ST_INVALID;
}

void issuers_start(struct issuers *issuers, const struct issuer_options *options) {
    for (size_t i = 0; i < issuers->count; i++) {
        struct issuer_options own = *options;
        own.url = issuers->items[i].policy.issuer;
        issuers->items[i].keys = issuer_new(&own);
    }
}

void issuers_end(struct issuers *issuers) {
    for (size_t i = 0; i < issuers->count; i++)
        issuer_destroy(&issuers->items[i].keys);
    for (size_t i = 0; i < ISSUERS_MAX; i++)
        secret_destroy(&issuers->secrets[i]);
    arena_destroy(&issuers->mem);
    *issuers = (struct issuers){ 0 };
}

const struct believed *issuers_choose(const struct issuers *issuers, struct arena *mem, const char *token) {
    const char *claimed = issuers->count > 1 ? jws_peek_issuer(mem, token, strlen(token)) : NULL;
    for (size_t i = 1; claimed && i < issuers->count; i++)
        if (str_equal(issuers->items[i].policy.issuer, claimed))
            return &issuers->items[i];
    return &issuers->items[0];
}

const struct believed *issuers_find(const struct issuers *issuers, const char *name) {
    for (size_t i = 0; i < issuers->count; i++)
        if (str_equal(issuers->items[i].policy.issuer, name))
            return &issuers->items[i];
    return NULL;
}

static bool speaks_for(const struct believed *b, const char *tenant) {
    for (size_t i = 0; i < b->tenant_count; i++)
        if (str_equal(b->tenants[i], tenant))
            return true;
    return false;
}

const struct believed *issuers_for_login(const struct issuers *issuers, const char *name, const char *tenant) {
    const struct believed *found = NULL;
    for (size_t i = 0; i < issuers->count; i++) {
        const struct believed *b = &issuers->items[i];
        if (!b->login.secret || (*name && !str_equal(b->policy.issuer, name)))
            continue;
        if (*tenant && speaks_for(b, tenant))
            return b;
        if (!found && (!*tenant || speaks_for(b, "*")))
            found = b;
    }
    return found;
}

enum status issuers_check(const struct issuers *issuers, struct why *why) {
    enum status st = ST_UNAVAILABLE;
    for (size_t i = 0; st != ST_OK && i < issuers->count; i++)
        st = issuer_check(issuers->items[i].keys, why);
    return st;
}
