#include "rig.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "audit/client.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "support/loopback.h"

struct rig rig;
const char *rig_issuers = "";
bool rig_requires_mfa;
int rig_idle_s;
_Atomic(enum rig_keys) rig_keys = RIG_KEYS_GOOD;
static struct loopback *server;
static struct auth_settings settings;
static struct runtime runtime;

/* ---- the audit log ---- */

static enum status note(struct call *call, const struct audit_record *record, bool has_tenant) {
    CLEANUP(json_destroy) json_t *detail = NULL;
    enum status st = audit_record_check(record, &detail, &call->why);
    cr_assert_eq(st, ST_OK, "the record breaks the rules: %s", call->why.text);
    if (has_tenant && rig.refuses_tickets)
        return fail(&call->why, ST_UNAUTHENTICATED, "ticket refused");
    if (rig.audit_answer != ST_OK)
        return fail(&call->why, rig.audit_answer, "audit is down");
    cr_assert_lt(rig.event_count, RIG_EVENTS_MAX);
    struct rig_event *event = &rig.events[rig.event_count++];
    event->action = record->action;
    event->has_tenant = has_tenant;
    (void)snprintf(event->detail, sizeof event->detail, "%s", record->detail_json ? record->detail_json : "");
    return ST_OK;
}

enum status audit_append(struct call *call, const struct audit_record *record, struct uuid *ret_event_id) {
    if (ret_event_id)
        *ret_event_id = uuid_v7();
    return note(call, record, true);
}

enum status audit_append_many(struct call *call, const struct audit_record records[], size_t count, struct uuid ret_event_ids[]) {
    (void)call, (void)records, (void)count, (void)ret_event_ids;
    cr_assert_fail("auth appends one event at a time");
    return ST_INTERNAL;
}

enum status audit_append_without_tenant(struct call *call, const struct audit_record *record) {
    return note(call, record, false);
}

/* ---- the OpenID provider ---- */

static bool answer_discovery(int fd, struct arena *mem, const char *path) {
    return loopback_answer(fd, 200, "Content-Type: application/json\r\n",
                           arena_printf(mem, "{\"issuer\":\"%s%s\",\"jwks_uri\":\"%s%s/keys\",\"authorization_endpoint\":\"%s%s/authorize\","
                                        "\"token_endpoint\":\"%s%s/token\",\"end_session_endpoint\":\"%s%s/logout\",\"revocation_endpoint\":\"%s%s/revoke\"%s}",
                                        rig.issuer, path, rig.issuer, path, rig.issuer, path, rig.issuer, path, rig.issuer, path, rig.issuer, path,
                                        *path ? "" : ",\"authorization_response_iss_parameter_supported\":true"));
}

static bool answer_badly(int fd, struct arena *mem) {
    enum { HUGE_BYTES = 300 << 10 };
    if (rig_keys == RIG_KEYS_PAGE)
        return loopback_answer(fd, 200, "Content-Type: text/html\r\n", signer_jwks(rig.signer, mem, "\"kid\":\"k1\""));
    if (rig_keys == RIG_KEYS_SLOW) {
        nanosleep(&(struct timespec){ .tv_sec = 4 }, NULL);         /* longer than auth waits for an issuer */
        return false;
    }
    char *space = arena_alloc(mem, HUGE_BYTES + 1);
    memset(space, ' ', HUGE_BYTES);
    return loopback_answer(fd, 200, "Content-Type: application/json\r\n", arena_printf(mem, "%s%s", signer_jwks(rig.signer, mem, "\"kid\":\"k1\""), space));
}

static bool answer_keys(int fd, struct arena *mem, const struct signer *signer) {
    if (rig_keys != RIG_KEYS_GOOD)
        return answer_badly(fd, mem);
    if (rig.previous && signer == rig.signer)
        return loopback_answer(fd, 200, "Content-Type: application/jwk-set+json\r\n",
                               arena_printf(mem, "{\"keys\":[%s,%s]}", signer_jwk(rig.previous, mem, "\"kid\":\"k1\""),
                                            signer_jwk(signer, mem, arena_printf(mem, "\"kid\":\"%s\"", rig.key_id))));
    return loopback_answer(fd, 200, "Content-Type: application/json\r\n",
                           signer_jwks(signer, mem, arena_printf(mem, "\"kid\":\"%s\"", rig.key_id)));
}

/* What rig.answer_token says, once for each request; the form is kept. */
static bool answer_token(const struct loopback_request *request, int fd, struct arena *mem) {
    char authorization[256];
    loopback_header(request, "authorization", authorization, sizeof authorization);
    (void)snprintf(rig.form, sizeof rig.form, "%.*s", (int)request->body.len, request->body.data);
    (void)snprintf(rig.form_path, sizeof rig.form_path, "%.60s", request->target);
    rig.form_count++;
    if (!str_equal(authorization, arena_printf(mem, "Basic %s", base64_encode(mem, "cordon-web:" RIG_CLIENT_SECRET, sizeof "cordon-web:" RIG_CLIENT_SECRET - 1))))
        return loopback_answer(fd, 401, "Content-Type: application/json\r\n", "{\"error\":\"invalid_client\"}");
    return loopback_answer(fd, rig.token_status ? rig.token_status : 200, "Content-Type: application/json\r\n", rig.token_answer ? rig.token_answer : "{}");
}

/* ---- AWS ---- */

static struct rig_key *find_key(const char *id) {
    for (unsigned i = 0; i < rig.key_count; i++)
        if (str_equal(rig.keys[i].arn, id) || str_equal(rig.keys[i].alias, id))
            return &rig.keys[i];
    return NULL;
}

static bool aws_error(int fd, struct arena *mem, const char *code) {
    return loopback_answer(fd, 400, "Content-Type: application/x-amz-json-1.1\r\n", arena_printf(mem, "{\"__type\":\"%s\",\"message\":\"no\"}", code));
}

static bool create_key(const json_t *req, int fd, struct arena *mem) {
    struct rig_key *key = &rig.keys[rig.key_count++];
    char *tags = json_dumps(json_object_get(req, "Tags"), JSON_COMPACT);
    (void)snprintf(key->arn, sizeof key->arn, "arn:aws:kms:us-east-1:123456789012:key/%u", rig.key_count);
    (void)snprintf(key->description, sizeof key->description, "%s", json_string_value(json_object_get(req, "Description")));
    (void)snprintf(key->tags, sizeof key->tags, "%s", tags);
    (void)snprintf(key->state, sizeof key->state, "Enabled");
    free(tags);
    return loopback_answer(fd, 200, "", arena_printf(mem, "{\"KeyMetadata\":{\"Arn\":\"%s\",\"KeyId\":\"%u\",\"KeyState\":\"Enabled\"}}", key->arn, rig.key_count));
}

static bool create_alias(const json_t *req, int fd, struct arena *mem) {
    const char *alias = json_string_value(json_object_get(req, "AliasName"));
    struct rig_key *key = find_key(json_string_value(json_object_get(req, "TargetKeyId")));
    cr_assert_not_null(key);
    if (find_key(alias))
        return aws_error(fd, mem, "AlreadyExistsException");
    (void)snprintf(key->alias, sizeof key->alias, "%s", alias);
    return loopback_answer(fd, 200, "", "");
}

static bool describe_key(const json_t *req, int fd, struct arena *mem) {
    const struct rig_key *key = find_key(json_string_value(json_object_get(req, "KeyId")));
    if (!key)
        return aws_error(fd, mem, "NotFoundException");
    return loopback_answer(fd, 200, "", arena_printf(mem, "{\"KeyMetadata\":{\"Arn\":\"%s\",\"Description\":\"%s\",\"KeyState\":\"%s\"}}",
                                                     key->arn, key->description, key->state));
}

static bool generate_data_key(const json_t *req, int fd, struct arena *mem) {
    cr_assert_not_null(find_key(json_string_value(json_object_get(req, "KeyId"))));
    char *context = json_dumps(json_object_get(req, "EncryptionContext"), JSON_COMPACT | JSON_SORT_KEYS);
    (void)snprintf(rig.contexts[rig.data_key_count % RIG_KEYS_MAX], sizeof rig.contexts[0], "%s", context);
    free(context);
    rig.data_key_count++;
    return loopback_answer(fd, 200, "", arena_printf(mem, "{\"CiphertextBlob\":\"%s\"}", base64_encode(mem, "wrapped!", 8)));
}

static bool answer_kms(const struct loopback_request *request, int fd, struct arena *mem) {
    static const struct { const char *target; bool (*answer)(const json_t *req, int fd, struct arena *mem); } CALLS[] = {
        { "TrentService.CreateKey", create_key }, { "TrentService.CreateAlias", create_alias },
        { "TrentService.DescribeKey", describe_key }, { "TrentService.GenerateDataKeyWithoutPlaintext", generate_data_key },
    };
    if (request->body.data && str_starts_with(request->body.data, "Action=GetCallerIdentity"))
        return loopback_answer(fd, 200, "Content-Type: text/xml\r\n", "<Arn>arn:aws:iam::1:user/auth</Arn>");
    char target[128];
    CLEANUP(json_destroy) json_t *req = json_loadb(request->body.data, request->body.len, 0, NULL);
    loopback_header(request, "x-amz-target", target, sizeof target);
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++)
        if (str_equal(CALLS[i].target, target))
            return CALLS[i].answer(req, fd, mem);
    return aws_error(fd, mem, "AccessDeniedException");       /* auth's policy has nothing else */
}

/* Runs on the server's threads: an arena of its own. */
static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    (void)ctx;
    if (str_equal(request->method, "POST") && (str_equal(request->target, "/token") || str_equal(request->target, "/revoke")))
        return answer_token(request, fd, mem);
    if (str_equal(request->method, "POST"))
        return rig.is_kms_down ? loopback_answer(fd, 503, "", "") : answer_kms(request, fd, mem);
    if (rig.is_provider_down)
        return false;
    if (str_equal(request->target, "/.well-known/openid-configuration"))
        return answer_discovery(fd, mem, "");
    if (str_equal(request->target, "/two/.well-known/openid-configuration"))
        return answer_discovery(fd, mem, "/two");
    if (str_equal(request->target, "/keys") || str_equal(request->target, "/two/keys"))
        return answer_keys(fd, mem, str_equal(request->target, "/keys") ? rig.signer : rig.second);
    return loopback_answer(fd, 404, "", "");
}

/* ---- auth ---- */

static const char *replace_all(const char *text, const char *what, const char *with) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    buffer_add_str(&out, "");
    for (const char *at; (at = strstr(text, what)) != NULL; text = at + strlen(what))
        buffer_printf(&out, "%.*s%s", (int)(at - text), text, with);
    buffer_add_str(&out, text);
    return arena_strdup(rig.mem, out.data ? out.data : "");
}

void rig_open(void) {
    rig = (struct rig){ .mem = arena_new(8 << 20), .key_id = "k1", .audit_answer = ST_OK };
    rig.signer = signer_new("ES256", 0);
    rig.second = signer_new("EdDSA", 0);
    rig.metrics = metrics_new();
    server = loopback_start(answer, NULL);
    rig.issuer = loopback_url(server);
    pg_open();
    const char *url = pg_url("cordon_auth"), *secret = "secret";
    settings = (struct auth_settings){ .database_url = live_secret_new(url, strlen(url)), .db_connections_count = 2, .issuer_url = rig.issuer,
        .audience = "cordon", .preset = "standard", .audience_claim = "", .tenant_claim = "", .roles_claim = "", .issuers_json = replace_all(rig_issuers, "%s", rig.issuer),
        .public_url = "https://cordon.example", .login_client_id = "cordon-web", .client_secret = secret_new(RIG_CLIENT_SECRET, sizeof RIG_CLIENT_SECRET - 1),
        .session_idle_s = rig_idle_s ? rig_idle_s : 900, .session_absolute_s = 28800,
        .is_mfa_required = rig_requires_mfa, .directory_key = secret_new(RIG_DIRECTORY_KEY, sizeof RIG_DIRECTORY_KEY - 1),
        .aws = { .region = "us-east-1", .identity = "auth", .access_key_id = "AKIATEST", .secret_access_key = secret_new(secret, strlen(secret)), .proxy = "",
                 .sts_endpoint = rig.issuer },
        .kms_endpoint = rig.issuer };
    runtime = (struct runtime){ .process = "auth", .is_production = false, .metrics = rig.metrics };
    void *self = NULL;
    struct why why = { 0 };
    cr_assert_eq(AUTH.open(&self, &settings, &runtime, &why), ST_OK, "%s", why.text);
    rig.auth = self;
}

void rig_close(void) {
    void *self = rig.auth;
    AUTH.close(&self);
    loopback_stop(&server);
    pg_close();
    live_secret_destroy(&settings.database_url);
    secret_destroy(&settings.directory_key);
    secret_destroy(&settings.client_secret);
    secret_destroy(&settings.aws.secret_access_key);
    signer_destroy(&rig.signer);
    signer_destroy(&rig.second);
    signer_destroy(&rig.previous);
    metrics_destroy(&rig.metrics);
    arena_destroy(&rig.mem);
}

enum status rig_call(const char *method, const char *ticket, const ProtobufCMessage *req, ProtobufCMessage **ret_reply) {
    size_t len = protobuf_c_message_get_packed_size(req);
    uint8_t *body = arena_alloc(rig.mem, len + 1);
    protobuf_c_message_pack(req, body);
    struct call call = { .mem = rig.mem, .request_id = uuid_v7(), .method = method, .ticket = ticket, .traceparent = "", .peer = PEER_EDGE,
                         .attempt = 1, .deadline_ms = clock_mono_ms() + 10000 };
    enum status st = service_dispatch(&AUTH, rig.auth, &call, method, (ProtobufCBinaryData){ len, body }, ret_reply);
    rig.why = call.why;
    return st;
}

const char *rig_token(const char *subject, const char *members) {
    long long now_s = (long long)time(NULL);
    return signer_token(rig.signer, rig.mem, arena_printf(rig.mem, "{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"%s\"}", rig.key_id),
        arena_printf(rig.mem, "{\"iss\":\"%s\",\"aud\":\"cordon\",\"sub\":\"%s\",\"iat\":%lld,\"exp\":%lld%s%s}", rig.issuer, subject, now_s, now_s + 600,
                     *members ? "," : "", members));
}

enum status rig_authenticate(const char *token, Auth__AuthenticateReply **ret_reply) {
    Auth__AuthenticateRequest req = AUTH__AUTHENTICATE_REQUEST__INIT;
    req.bearer_token = (char *)token;
    req.remote_address = "192.0.2.7";
    return rig_call("auth.Authenticate", "", &req.base, (ProtobufCMessage **)ret_reply);
}

const char *rig_platform_ticket(void) {
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(rig_authenticate(rig_token("operator", "\"roles\":[\"platform_admin\"]"), &reply), ST_OK, "%s", rig.why.text);
    return reply->ticket;
}
