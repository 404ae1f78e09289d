/* auth — what the process holds, shared by its handlers. */
#ifndef CORDON_AUTH_AUTH_H
#define CORDON_AUTH_AUTH_H

#include <pthread.h>

#include "aws/kms.h"
#include "aws/sts.h"
#include "db/pool.h"
#include "http/client.h"
#include "denials.h"
#include "directory.h"
#include "issuers.h"
#include "service/service.h"
#include "sweeper.h"

struct auth_settings {
    struct live_secret *database_url, *database_password;
    struct secret *directory_key, *client_secret, *login_secrets;
    int64_t db_connections_count, denials_per_minute;
    const char *preset, *issuer_url, *audience, *audience_claim, *tenant_claim, *roles_claim, *issuers_json;
    const char *public_url, *login_client_id;
    int64_t leeway_s, max_lifetime_s, session_idle_s, session_absolute_s;
    bool is_mfa_required;
    struct aws_settings aws;
    const char *kms_endpoint;
};

struct auth {
    const struct auth_settings *settings;
    const struct runtime *runtime;
    struct issuers issuers;
    struct directory *directory;
    struct db_pool *db;
    struct http_client *http;
    struct aws *aws;
    struct kms *kms;
    struct sweeper *sweeper;                        /* NULL until start() */
    struct denials *denials;
    pthread_t refusals_thread;                      /* records what denials held back */
    bool has_refusals_thread;
    struct counter *accepted;
    struct counter *refused[JWT_REFUSAL_COUNT];     /* by reason */
    struct counter *refused_by_database;
    struct counter *glass_broken;
    struct counter *unrecorded;                     /* refusals that audit-writer did not take */
};

extern const struct service AUTH;

/* One function per rpc of proto/auth.proto; each is a handler_fn. */
enum status on_authenticate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* authenticate.c */
enum status on_denied(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;          /* handlers.c */
enum status on_begin_login(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* login.c */
enum status on_complete_login(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_logout(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* sessions.c */
enum status on_get_me(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_validate_session(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_end_session(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_user_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_end_user_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_check_sessions(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_create_tenant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;   /* tenants.c */
/* key_life.c */
enum status on_approve_offboarding(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_rotate_tenant_key(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_tenants(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_update_tenant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* tenants.c */
enum status on_get_tenant_usage(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_update_access(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_users(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* users.c */
enum status on_invite_user(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_update_user(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_assign_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_unassign_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_roles(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* access.c */
enum status on_put_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_delete_role(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_labels(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_create_label(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_label_grants(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_create_label_grant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_revoke_label_grant(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_api_keys(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* service_accounts.c */
enum status on_create_api_key(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_revoke_api_key(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;    /* break_glass.c */
enum status on_end_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_list_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;
enum status on_review_break_glass(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) MUST_USE;

#endif
