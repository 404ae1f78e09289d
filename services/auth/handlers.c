#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "audit.pb-c.h"
#include "auth.pb-c.h"
#include "core/buffer.h"
#include "core/clock.h"
#include "core/str.h"
#include "db/boot_check.h"
#include "db/plain_tx.h"
#include "db/rows.h"
#include "login.h"
#include "refusals.h"
#include "secrets/secrets.h"

enum { BOOT_MS = 20000, READY_MS = 2000, ISSUER_FETCH_MS = 3000 };

/* DeniedRequest -> {}. ST_UNAVAILABLE: not on record. */
enum status on_denied(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Auth__DeniedRequest *req = (const void *)in;
    (void)out;
    return record_denial(self, call, req);
}

/* RecordStartRequest{} -> RecordStartReply{}: the caller's start, or its end, is on the record. */
static enum status on_record_start(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Audit__RecordStartRequest *req = (const void *)in;
    struct auth *a = self;
    struct uuid instance;
    (void)out;
    if (!uuid_from_bytes(req->instance_id.data, req->instance_id.len, &instance))
        return fail(&call->why, ST_INVALID, "a start without its id");
    if (req->ended)
        return db_record_end(a->db, peer_name(call->peer), &instance, call->deadline_ms, &call->why);
    return db_record_reported_start(a->db, peer_name(call->peer), &instance, req->version, req->settings_sha256, req->settings_changed,
                                    call->deadline_ms, &call->why);
}

static const struct route ROUTES[] = {
    /* method               who may call  scope                  request                                reply                                handler */
    { "auth.Authenticate",  PEER_EDGE,    SCOPE_NONE,            &auth__authenticate_request__descriptor,  &auth__authenticate_reply__descriptor,  on_authenticate },
    { "auth.Denied",        PEER_EDGE,    SCOPE_NONE,            &auth__denied_request__descriptor,        &auth__denied_reply__descriptor,        on_denied },
    { "auth.RecordStart",   PEER_EDGE,    SCOPE_NONE,            &audit__record_start_request__descriptor, &audit__record_start_reply__descriptor, on_record_start },
    { "auth.CheckSessions",    PEER_EDGE,    SCOPE_NONE,               &auth__check_sessions_request__descriptor, &auth__check_sessions_reply__descriptor, on_check_sessions },
    { "auth.BeginLogin",       PEER_EDGE,    SCOPE_NONE,               &auth__begin_login_request__descriptor, &auth__begin_login_reply__descriptor, on_begin_login },
    { "auth.CompleteLogin",    PEER_EDGE,    SCOPE_NONE,               &auth__complete_login_request__descriptor, &auth__complete_login_reply__descriptor, on_complete_login },
    { "auth.Logout",           PEER_EDGE,    SCOPE_NONE,               &auth__logout_request__descriptor, &auth__logout_reply__descriptor, on_logout },
    { "auth.GetMe",            PEER_EDGE,    SCOPE_NONE,               &auth__get_me_request__descriptor, &auth__get_me_reply__descriptor, on_get_me },
    { "auth.ValidateSession",  PEER_EDGE,    SCOPE_NONE,               &auth__validate_session_request__descriptor, &auth__validate_session_reply__descriptor, on_validate_session },
    { "auth.ListSessions",     PEER_EDGE,    SCOPE_NONE,               &auth__list_sessions_request__descriptor, &auth__list_sessions_reply__descriptor, on_list_sessions },
    { "auth.EndSession",       PEER_EDGE,    SCOPE_NONE,               &auth__end_session_request__descriptor, &auth__end_session_reply__descriptor, on_end_session },
    { "auth.ListUserSessions", PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__list_user_sessions_request__descriptor, &auth__list_user_sessions_reply__descriptor, on_list_user_sessions },
    { "auth.EndUserSessions",  PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__end_user_sessions_request__descriptor, &auth__end_user_sessions_reply__descriptor, on_end_user_sessions },
    { "auth.CreateTenant",  PEER_EDGE,    SCOPE_TENANTS_MANAGE,  &auth__create_tenant_request__descriptor, &auth__create_tenant_reply__descriptor, on_create_tenant },
    { "auth.ListTenants",   PEER_EDGE,    SCOPE_TENANTS_MANAGE,  &auth__list_tenants_request__descriptor,  &auth__list_tenants_reply__descriptor,  on_list_tenants },
    { "auth.UpdateTenant",     PEER_EDGE,    SCOPE_TENANTS_MANAGE,     &auth__update_tenant_request__descriptor, &auth__update_tenant_reply__descriptor, on_update_tenant },
    { "auth.ApproveOffboarding", PEER_EDGE, SCOPE_TENANTS_MANAGE, &auth__approve_offboarding_request__descriptor, &auth__approve_offboarding_reply__descriptor, on_approve_offboarding },
    { "auth.RotateTenantKey", PEER_EDGE, SCOPE_KEYS_MANAGE, &auth__rotate_tenant_key_request__descriptor, &auth__rotate_tenant_key_reply__descriptor, on_rotate_tenant_key },
    { "auth.GetTenantUsage",   PEER_EDGE,    SCOPE_TENANTS_MANAGE,     &auth__get_tenant_usage_request__descriptor, &auth__get_tenant_usage_reply__descriptor, on_get_tenant_usage },
    { "auth.UpdateAccess",     PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__update_access_request__descriptor, &auth__update_access_reply__descriptor, on_update_access },
    { "auth.ListUsers",        PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__list_users_request__descriptor, &auth__list_users_reply__descriptor, on_list_users },
    { "auth.InviteUser",       PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__invite_user_request__descriptor, &auth__invite_user_reply__descriptor, on_invite_user },
    { "auth.UpdateUser",       PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__update_user_request__descriptor, &auth__update_user_reply__descriptor, on_update_user },
    { "auth.AssignRole",       PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__assign_role_request__descriptor, &auth__assign_role_reply__descriptor, on_assign_role },
    { "auth.UnassignRole",     PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__unassign_role_request__descriptor, &auth__unassign_role_reply__descriptor, on_unassign_role },
    { "auth.ListRoles",        PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__list_roles_request__descriptor, &auth__list_roles_reply__descriptor, on_list_roles },
    { "auth.PutRole",          PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__put_role_request__descriptor, &auth__put_role_reply__descriptor, on_put_role },
    { "auth.DeleteRole",       PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__delete_role_request__descriptor, &auth__delete_role_reply__descriptor, on_delete_role },
    { "auth.ListLabels",       PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__list_labels_request__descriptor, &auth__list_labels_reply__descriptor, on_list_labels },
    { "auth.CreateLabel",      PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__create_label_request__descriptor, &auth__create_label_reply__descriptor, on_create_label },
    { "auth.ListLabelGrants",  PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__list_label_grants_request__descriptor, &auth__list_label_grants_reply__descriptor, on_list_label_grants },
    { "auth.CreateLabelGrant", PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__create_label_grant_request__descriptor, &auth__create_label_grant_reply__descriptor, on_create_label_grant },
    { "auth.RevokeLabelGrant", PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__revoke_label_grant_request__descriptor, &auth__revoke_label_grant_reply__descriptor, on_revoke_label_grant },
    { "auth.ListApiKeys",      PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__list_api_keys_request__descriptor, &auth__list_api_keys_reply__descriptor, on_list_api_keys },
    { "auth.CreateApiKey",     PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__create_api_key_request__descriptor, &auth__create_api_key_reply__descriptor, on_create_api_key },
    { "auth.RevokeApiKey",     PEER_EDGE,    SCOPE_USERS_MANAGE,       &auth__revoke_api_key_request__descriptor, &auth__revoke_api_key_reply__descriptor, on_revoke_api_key },
    { "auth.BreakGlass",       PEER_EDGE,    SCOPE_BREAKGLASS_REQUEST, &auth__break_glass_request__descriptor, &auth__break_glass_reply__descriptor, on_break_glass },
    { "auth.EndBreakGlass",    PEER_EDGE,    SCOPE_BREAKGLASS_REQUEST, &auth__end_break_glass_request__descriptor, &auth__end_break_glass_reply__descriptor, on_end_break_glass },
    { "auth.ListBreakGlass",   PEER_EDGE,    SCOPE_BREAKGLASS_REVIEW,  &auth__list_break_glass_request__descriptor, &auth__list_break_glass_reply__descriptor, on_list_break_glass },
    { "auth.ReviewBreakGlass", PEER_EDGE,    SCOPE_BREAKGLASS_REVIEW,  &auth__review_break_glass_request__descriptor, &auth__review_break_glass_reply__descriptor, on_review_break_glass },
    { 0 }
};

#define OFF(member) offsetof(struct auth_settings, member)

static const struct setting SETTINGS[] = {
    /* name                            type        default      min max   unit offset                     help */
    { "DATABASE_URL",                  SET_LIVE_SECRET, NULL,        1,  2048, "",  OFF(database_url),         "PostgreSQL as role cordon_auth; sslmode=verify-full in production." },
    { "DATABASE_PASSWORD", SET_LIVE_SECRET, "", 1, 512, "", OFF(database_password), "Its role's password, when it is not in DATABASE_URL; it wins over one that is." },
    { "CORDON_DB_CONNECTIONS",         SET_INT,    "4",         1,  64,   "",  OFF(db_connections_count), "Connections as cordon_auth; about two for each core of the database." },
    { "OIDC_ISSUER_URL",               SET_TEXT,   NULL,        8,  512,  "",  OFF(issuer_url),           "Issuer of access tokens, exactly as in their iss; https in production." },
    { "OIDC_CLIENT_ID",                SET_TEXT,   NULL,        1,  255,  "",  OFF(audience),             "Audience that a token must be for." },
    { "CORDON_OIDC_PRESET",            SET_TEXT,   "standard",  1,  32,   "",  OFF(preset),               "Where its tokens say what: standard, cognito, okta, auth0, entra or keycloak (docs/identity.md)." },
    { "CORDON_JWT_AUDIENCE_CLAIM_NAME", SET_TEXT,  "",          0,  255,  "",  OFF(audience_claim),       "Claim that names the audience; empty: as the preset has it." },
    { "JWT_TENANT_CLAIM_NAME",         SET_TEXT,   "",          0,  255,  "",  OFF(tenant_claim),         "Claim that names the tenant, by slug or id; empty: as the preset has it." },
    { "CORDON_JWT_ROLES_CLAIM_NAME",   SET_TEXT,   "",          0,  255,  "",  OFF(roles_claim),          "Claim that lists the roles, by name or, beginning with a slash, by JSON Pointer; empty: as the preset has it." },
    { "CORDON_JWT_LEEWAY_S",           SET_INT,    "30",        1,  300,  "s", OFF(leeway_s),             "How far an issuer's clock may be from ours." },
    { "CORDON_JWT_MAX_LIFETIME_S",     SET_INT,    "86400",     60, 604800, "s", OFF(max_lifetime_s),     "Tokens that live longer are refused." },
    { "CORDON_ISSUERS",                SET_TEXT,   "",          0,  65536, "", OFF(issuers_json),         "More about the issuer, and other issuers, as a JSON array (docs/identity.md)." },
    { "CORDON_REQUIRE_MFA",            SET_BOOL,   "false",     0,  0,    "",  OFF(is_mfa_required),      "Withhold the scopes to PHI from people whose token does not tell of several factors." },
    { "CORDON_PUBLIC_URL",             SET_TEXT,   "",          0,  255,  "",  OFF(public_url),           "Origin at which browsers reach the edge, such as https://cordon.example; https in production. Empty: nobody logs in from a browser." },
    { "OIDC_CLIENT_SECRET",            SET_SECRET, "",          1,  512,  "",  OFF(client_secret),        "Secret of the client by which people log in at OIDC_ISSUER_URL; without it they do not." },
    { "CORDON_LOGIN_CLIENT_ID",        SET_TEXT,   "",          0,  255,  "",  OFF(login_client_id),      "That client's id; empty: OIDC_CLIENT_ID." },
    { "CORDON_LOGIN_SECRETS",          SET_SECRET, "",          2,  65536, "", OFF(login_secrets),        "Secrets of the clients at the other issuers: a JSON object by issuer." },
    { "CORDON_SESSION_IDLE_S",         SET_INT,    "900",       2,  86400, "s", OFF(session_idle_s),      "Automatic logoff: a browser's session ends when its user does nothing for so long." },
    { "CORDON_SESSION_ABSOLUTE_S",     SET_INT,    "28800",     5,  604800, "s", OFF(session_absolute_s), "A browser's session ends after so long, whatever its user does." },
    { "CORDON_DIRECTORY_KEY",          SET_SECRET, NULL,        64, 64,   "",  OFF(directory_key),        "Key for the names and addresses of users, and the tokens that a browser's session holds: 64 hexadecimal digits, the same in every replica, for good." },
    { "CORDON_DENIALS_PER_MINUTE",     SET_INT,    "10",        0,  100000, "1/min", OFF(denials_per_minute), "Refusals of one kind that go on the audit log one by one; more go on it together, with their number. 0: all one by one." },
    AWS_SETTINGS(struct auth_settings, aws, "auth"),
    AWS_SECRETS_SETTINGS(struct auth_settings, aws),
    AWS_ENDPOINT_SETTING(struct auth_settings, kms_endpoint, "KMS"),
    { 0 }
};

static enum status check_database(void *self, struct why *why) {
    const struct auth *a = self;
    return db_boot_check(a->db, "cordon_auth", a->runtime->is_production, clock_mono_ms() + READY_MS, why);
}

static enum status check_issuer(void *self, struct why *why) {
    const struct auth *a = self;
    return issuers_check(&a->issuers, why);
}

static enum status check_identity(void *self, struct why *why) {
    const struct auth *a = self;
    return sts_assert(a->aws, a->settings->aws.sts_endpoint, a->settings->aws.identity, clock_mono_ms() + READY_MS, why);
}

static const struct ready_check READY[] = {
    { "database", check_database },
    { "issuer_keys", check_issuer },
    { "aws_identity", check_identity },
    { 0 }
};

/* Some providers leave the type out, or send keys as text; a page for people is none of these. */
static bool is_json(const char *content_type) {
    return !content_type || strstr(content_type, "json") || str_starts_with(content_type, "text/plain") ||
           str_starts_with(content_type, "application/octet-stream");
}

/* On an issuer's thread. */
static enum status fetch_document(void *ctx, const char *url, struct buffer *body, struct why *why) {
    static const char *const HEADERS[] = { "Accept: application/json", NULL };
    struct auth *a = ctx;
    CLEANUP(http_response_end) struct http_response response = { 0 };
    struct http_request request = { .method = "GET", .url = url, .headers = HEADERS, .max_bytes = body->limit_bytes,
                                    .operation = "idp.Fetch",
                                    .deadline_ms = clock_mono_ms() + ISSUER_FETCH_MS };
    enum status st = http_send(a->http, &request, &response, why);
    if (st != ST_OK)
        return st;
    if (response.status != 200)
        return fail(why, ST_UNAVAILABLE, "the issuer answered with status %d", response.status);
    if (!is_json(http_response_header(&response, "Content-Type")))
        return fail(why, ST_UNAVAILABLE, "the issuer's answer is not JSON");
    return buffer_add(body, response.body.data, response.body.len) ? ST_OK : fail(why, ST_UNAVAILABLE, "the issuer's answer is too large");
}

static void make_counters(struct auth *a, struct metrics *metrics) {
    static const char NAME[] = "cordon_auth_tokens_total", HELP[] = "Tokens by outcome.";
    char label[64];
    for (int i = 0; i < JWT_REFUSAL_COUNT; i++) {
        (void)snprintf(label, sizeof label, "outcome=\"%s\"", jwt_refusal_name((enum jwt_refusal)i));
        a->refused[i] = metrics_counter(metrics, NAME, HELP, label);
    }
    a->accepted = a->refused[JWT_ACCEPTED];
    a->refused_by_database = metrics_counter(metrics, NAME, HELP, "outcome=\"database\"");
    a->glass_broken = metrics_counter(metrics, "cordon_auth_break_glass_total", "Break-glass grants that were made: somebody must review each.", "");
    a->unrecorded = metrics_counter(metrics, "cordon_auth_refusals_unrecorded_total", "Refusals that the audit log did not take.", "");
}

static void auth_close(void **self_p) {
    struct auth *a = *self_p;
    if (!a)
        return;
    sweeper_destroy(&a->sweeper);
    issuers_end(&a->issuers);
    directory_destroy(&a->directory);
    denials_destroy(&a->denials);
    http_client_destroy(&a->http);
    kms_destroy(&a->kms);
    aws_destroy(&a->aws);
    db_pool_destroy(&a->db);
    free(a);
    *self_p = NULL;
}

static enum status open_database(struct auth *a, struct why *why) {
    const struct auth_settings *s = a->settings;
    struct db_options options = { .live_url = s->database_url, .password = s->database_password, .process = "auth", .metrics = a->runtime->metrics,
                                  .connections = (int)s->db_connections_count, .is_production = a->runtime->is_production };
    enum status st = db_pool_new(&options, &a->db, why);
    if (st == ST_OK)
        st = db_boot_check(a->db, "cordon_auth", a->runtime->is_production, clock_mono_ms() + BOOT_MS, why);
    const struct runtime *rt = a->runtime;
    return st == ST_OK ? db_record_start(a->db, "auth", &rt->instance_id, rt->version,
                             rt->settings_sha256, rt->settings_changed, clock_mono_ms() + BOOT_MS, why) : st;
}

static enum status read_settings(struct auth *a, const struct auth_settings *s, struct why *why) {
    struct issuers_settings issuers = { .preset = s->preset, .issuer_url = s->issuer_url, .audience = s->audience,
        .audience_claim = s->audience_claim, .tenant_claim = s->tenant_claim, .roles_claim = s->roles_claim, .json = s->issuers_json,
        .login_client_id = s->login_client_id, .login_secret = s->client_secret, .login_secrets = s->login_secrets,
        .leeway_s = s->leeway_s, .max_lifetime_s = s->max_lifetime_s, .allows_http = !a->runtime->is_production };
    enum status st = login_check_public_url(s->public_url, a->runtime->is_production, why);
    if (st == ST_OK)
        st = issuers_read(&issuers, &a->issuers, why);
    return st == ST_OK ? directory_new(s->directory_key, &a->directory, why) : st;
}

static enum status auth_open(void **self_p, const void *settings, struct runtime *rt, struct why *why) {
    const struct auth_settings *s = settings;
    struct auth *a = *self_p = xalloc(sizeof *a);
    a->settings = s;
    a->runtime = rt;
    a->denials = denials_new(s->denials_per_minute);
    make_counters(a, rt->metrics);
    enum status st = read_settings(a, s, why);
    if (st == ST_OK)
        st = open_database(a, why);
    if (st == ST_OK)
        st = secrets_open_aws(&s->aws, rt, &a->aws, why);
    if (st != ST_OK)
        return st;
    a->kms = kms_new(a->aws, s->kms_endpoint);
    a->http = http_client_new(&(struct http_options){ .allow_plain = !rt->is_production });
    issuers_start(&a->issuers, &(struct issuer_options){ .allows_http = !rt->is_production, .fetch = fetch_document, .fetch_ctx = a });
    return ST_OK;
}

static enum status auth_start(void *self, struct runtime *rt, struct why *why) {
    struct auth *a = self;
    a->sweeper = sweeper_new(a->db);
    return refusals_start(self, rt, why);
}

static enum status auth_record_end(void *self, const struct runtime *rt, int64_t deadline_ms, struct why *why) {
    struct auth *a = self;
    return db_record_end(a->db, "auth", &rt->instance_id, deadline_ms, why);
}

const struct service AUTH = {
    .name = "auth", .peer = PEER_AUTH, .about = "Says who is asking and for which tenant; makes tenants and their keys.",
    .calls = PEER_AUDIT_WRITER, .settings = SETTINGS, .settings_size = sizeof(struct auth_settings),
    .secrets = &SECRETS_MANAGER, .aws_offset = offsetof(struct auth_settings, aws),
    .routes = ROUTES, .ready = READY, .open = auth_open, .start = auth_start, .drain = refusals_drain, .record_end = auth_record_end, .close = auth_close,
};
