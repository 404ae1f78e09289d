/* issuers — whose tokens this deployment believes, how each is read, and for which tenants. One comes from
 * OIDC_ISSUER_URL and its neighbours; CORDON_ISSUERS, a JSON array, adds others and may say more about the
 * first. docs/identity.md describes its members. Read once at start and never changed; any thread may ask. */
#ifndef CORDON_AUTH_ISSUERS_H
#define CORDON_AUTH_ISSUERS_H

#include <stdbool.h>

#include "core/arena.h"
#include "issuer.h"
#include "core/secret.h"
#include "jwt/claims.h"

enum {
    ISSUERS_MAX = 32, ISSUERS_JSON_MAX_BYTES = 64 << 10,
    ISSUER_TENANTS_MAX = 256, ISSUER_ROLE_RULES_MAX = 256, ISSUER_VALUES_MAX = 32,
};

/* How people log in at an issuer from a browser; secret NULL: they do not. */
struct login_client {
    const char *id, *scopes;
    const struct secret *secret;
    const struct jwt_pair *parameters;      /* more for its authorization endpoint: audience=https://api.example */
};

struct believed {
    struct jwt_policy policy;
    struct login_client login;
    /* Slugs or ids of the tenants that its tokens may be for, ends with NULL. "*": every tenant but the platform,
     * whose slug is cordon-platform. */
    const char *const *tenants;
    size_t tenant_count;
    struct issuer *keys;            /* its thread; NULL until issuers_start */
};

struct issuers {
    struct arena *mem;
    struct believed *items;         /* [0] is OIDC_ISSUER_URL's */
    size_t count;
    struct secret *secrets[ISSUERS_MAX];        /* of the others' clients; the first's is the settings' */
};

struct issuers_settings {
    const char *preset;                                             /* a row of presets.def */
    const char *issuer_url, *audience;
    const char *audience_claim, *tenant_claim, *roles_claim;        /* "": as the preset has them */
    const char *json;                                               /* "": none */
    const char *login_client_id;                                    /* "" or NULL: the audience */
    const struct secret *login_secret;      /* borrowed until issuers_end; NULL: nobody logs in at the first */
    const struct secret *login_secrets;     /* of the others: a JSON object by issuer; NULL: none */
    int64_t leeway_s, max_lifetime_s;
    bool allows_http;
};

/* Everything in settings is copied. ST_INVALID: *why names the member, never its value. */
enum status issuers_read(const struct issuers_settings *settings, struct issuers *ret_issuers, struct why *why) MUST_USE;
/* Start fetching keys; options->url is filled in for each. */
void issuers_start(struct issuers *issuers, const struct issuer_options *options);
void issuers_end(struct issuers *issuers);

/* Of the issuer that the token claims to be from, else the first, whose policy will refuse it. */
const struct believed *issuers_choose(const struct issuers *issuers, struct arena *mem, const char *token);
/* Where to log in: the issuer of this name, or the one that is bound to this tenant, else one that speaks for every tenant;
 * with neither the first at which people log in at all. "" for what nobody said. NULL: there is none. */
const struct believed *issuers_for_login(const struct issuers *issuers, const char *name, const char *tenant);
/* By its exact name; NULL. */
const struct believed *issuers_find(const struct issuers *issuers, const char *name);
/* ST_OK when any issuer's keys are here: one provider that is down must not close the door of the others. */
enum status issuers_check(const struct issuers *issuers, struct why *why) MUST_USE;

#endif
